import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Properties;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

/** What these programs have in common: orders on standard input, lines on standard output, clients that notice soon. */
final class Program {
    private static final BlockingQueue<String> ORDERS = new LinkedBlockingQueue<>();
    private static final PrintStream OUT = new PrintStream(System.out, false, StandardCharsets.UTF_8);

    private Program() {
    }

    /** Begins to read orders; the end of input is the order to stop. */
    static void listen() {
        Thread thread = new Thread(() -> {
            try (BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
                for (String line = input.readLine(); line != null; line = input.readLine()) {
                    ORDERS.add(line);
                }
            } catch (java.io.IOException unreadable) {
                System.err.println(unreadable);
            }
            ORDERS.add("stop");
        });
        thread.setDaemon(true);
        thread.start();
    }

    /** The next order, if there is one. */
    static String order() {
        return ORDERS.poll();
    }

    static String waitForOrder() throws InterruptedException {
        return ORDERS.take();
    }

    static void say(String line) {
        synchronized (OUT) {
            OUT.println(line);
        }
    }

    static void flush() {
        synchronized (OUT) {
            OUT.flush();
        }
    }

    static void complain(String what, Throwable why) {
        System.err.println(what + ": " + why);
    }

    /** Settings of all clients: brokers are frozen and cut off here, and a client is to look elsewhere within seconds. */
    static Properties properties(String bootstrap, Object... pairs) {
        Properties all = new Properties();
        all.put("bootstrap.servers", bootstrap);
        all.put("enable.metrics.push", "false");
        all.put("request.timeout.ms", "2500");
        all.put("socket.connection.setup.timeout.ms", "1000");
        all.put("socket.connection.setup.timeout.max.ms", "2000");
        all.put("reconnect.backoff.max.ms", "500");
        all.put("retry.backoff.max.ms", "500");
        for (int at = 0; at < pairs.length; at += 2) {
            all.put(pairs[at].toString(), pairs[at + 1].toString());
        }
        return all;
    }
}
