import java.io.PrintStream;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * Runs scenarios: {@code pass NAME} or {@code fail NAME: why} is written for each. The arguments are where the brokers are and, unless
 * all shall run, names. The same names mean the same in every language (docs/testing.md).
 */
public final class Suite {
    /** Far above what any scenario takes; one that takes longer hangs. */
    private static final long LIMIT_SECONDS = 90;

    interface Scenario {
        void run(String bootstrap) throws Exception;
    }

    static void run(Map<String, Scenario> scenarios, int atOnce, String[] arguments) throws Exception {
        String bootstrap = arguments[0];
        List<String> wanted = List.of(arguments).subList(1, arguments.length);
        PrintStream out = System.out;
        ExecutorService threads = Executors.newCachedThreadPool(work -> {
            Thread thread = new Thread(work);
            thread.setDaemon(true);
            return thread;
        });
        ExecutorService lanes = Executors.newFixedThreadPool(atOnce);
        List<String> names = new ArrayList<>(scenarios.keySet());
        names.removeIf(name -> !wanted.isEmpty() && !wanted.contains(name));
        CountDownLatch left = new CountDownLatch(names.size());
        for (String name : names) {
            lanes.submit(() -> {
                Thread[] at = new Thread[1];
                Future<?> running = threads.submit(() -> {
                    at[0] = Thread.currentThread();
                    scenarios.get(name).run(bootstrap);
                    return null;
                });
                String verdict = verdict(name, running, at);
                synchronized (out) {
                    out.println(verdict);
                }
                left.countDown();
            });
        }
        left.await();
        System.exit(0);
    }

    private static String verdict(String name, Future<?> running, Thread[] thread) {
        try {
            running.get(LIMIT_SECONDS, TimeUnit.SECONDS);
            return "pass " + name;
        } catch (TimeoutException timeout) {
            return "fail " + name + ": took more than " + LIMIT_SECONDS + " s" + at(thread[0].getStackTrace());
        } catch (Exception failed) {
            Throwable cause = failed.getCause() == null ? failed : failed.getCause();
            return "fail " + name + ": " + String.valueOf(cause).replace('\n', ' ') + at(cause.getStackTrace());
        }
    }

    /** Where in a scenario that is. */
    private static String at(StackTraceElement[] stack) {
        for (StackTraceElement frame : stack) {
            if (frame.getFileName() != null && !frame.getClassName().contains(".")) {
                return " at " + frame;
            }
        }
        return "";
    }

    /** A name that no other scenario uses. */
    static String fresh(String what) {
        return "java-" + what + "-" + Long.toString(System.nanoTime(), 36);
    }

    static Properties properties(String bootstrap, Object... pairs) {
        Properties all = new Properties();
        all.put("bootstrap.servers", bootstrap);
        all.put("enable.metrics.push", "false");
        for (int at = 0; at < pairs.length; at += 2) {
            all.put(pairs[at].toString(), pairs[at + 1].toString());
        }
        return all;
    }

    static void same(Object wanted, Object was, String what) {
        if (wanted == null ? was != null : !wanted.equals(was)) {
            throw new AssertionError(what + ": " + was + ", not " + wanted);
        }
    }

    static void holds(boolean condition, String what) {
        if (!condition) {
            throw new AssertionError(what);
        }
    }

    /** Runs what must fail with this exception, directly or as a cause. */
    static void fails(Class<? extends Throwable> wanted, Action action) {
        try {
            action.run();
        } catch (Throwable thrown) {
            for (Throwable at = thrown; at != null; at = at.getCause()) {
                if (wanted.isInstance(at)) {
                    return;
                }
            }
            throw new AssertionError(thrown + ", not " + wanted.getSimpleName(), thrown);
        }
        throw new AssertionError("it went well instead of failing with " + wanted.getSimpleName());
    }

    interface Action {
        void run() throws Exception;
    }
}
