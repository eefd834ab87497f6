import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicIntegerArray;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicLongArray;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;

/**
 * The client of the benchmarks for RocketMQ: the modes share, share-at-once, share-end-to-end and due of kbench, with its flags and its
 * answer. Workers are push consumers, which say of each message that it is done; the client notes how far all before are, every five
 * seconds, as it comes. A send that the broker refuses because it is busy is sent again.
 */
public final class RocketBench {
    private static final int STAMP = 16;
    private static final long RESENT_MAX = 10_000_000;

    private final Map<String, String> flags = new HashMap<>();
    private final Map<String, Object> answer = new LinkedHashMap<>();
    private final List<DefaultMQProducer> producers = new ArrayList<>();
    private final List<DefaultMQPushConsumer> consumers = new ArrayList<>();
    private final AtomicLong resent = new AtomicLong();

    /** Messages that came: how often, and when the first time, in nanoseconds of Unix time. */
    private AtomicIntegerArray seen;
    private AtomicLongArray arrived;
    private CountDownLatch left;
    private final AtomicBoolean anyCame = new AtomicBoolean();
    private volatile Clock fromFirst;

    public static void main(String[] arguments) throws Exception {
        RocketBench bench = new RocketBench(arguments);
        switch (bench.flag("mode", "")) {
            case "share" -> bench.share();
            case "share-at-once" -> bench.atOnce();
            case "share-end-to-end" -> bench.endToEnd();
            case "due" -> bench.due();
            default -> throw new IllegalArgumentException("no such mode");
        }
        bench.answer.put("resent", bench.resent.get());
        System.out.println(bench.answer.entrySet().stream()
                .map(entry -> "\"" + entry.getKey() + "\":" + entry.getValue())
                .collect(Collectors.joining(",", "{", "}")));
        for (DefaultMQPushConsumer consumer : bench.consumers) {
            consumer.shutdown();
        }
        for (DefaultMQProducer producer : bench.producers) {
            producer.shutdown();
        }
        // The client's threads would go on.
        System.exit(0);
    }

    private RocketBench(String[] arguments) {
        for (int i = 0; i + 1 < arguments.length; i += 2) {
            flags.put(arguments[i].substring(1), arguments[i + 1]);
        }
    }

    private String flag(String name, String otherwise) {
        return flags.getOrDefault(name, otherwise);
    }

    private int number(String name, int otherwise) {
        return Integer.parseInt(flag(name, String.valueOf(otherwise)));
    }

    private double seconds(String name, String otherwise) {
        return Double.parseDouble(flag(name, otherwise).replace("s", ""));
    }

    private void share() throws Exception {
        int count = number("count", 100_000);
        declare();
        expect(count);
        Clock clock = new Clock();
        sendAll(count);
        clock.rate("in", count);
        work();
        left.await();
        settle();
        fromFirst.rate("out", count);
        tally(count);
    }

    private void atOnce() throws Exception {
        int count = number("count", 100_000);
        declare();
        expect(count);
        work();
        Thread.sleep((long) (seconds("warmup", "4s") * 1e3));
        Clock clock = new Clock();
        sendAll(count);
        left.await();
        settle();
        clock.rate("through", count);
        tally(count);
    }

    private void endToEnd() throws Exception {
        double rate = seconds("rate", "1000");
        int warmups = (int) (rate * seconds("warmup", "4s"));
        int total = warmups + (int) (rate * seconds("duration", "15s"));
        declare();
        expect(total);
        work();
        long began = unixNanos();
        long[] due = new long[total];
        byte[] payload = payload();
        Semaphore window = new Semaphore(number("window", 200_000));
        Clock clock = null;
        for (int i = 0; i < total; i++) {
            due[i] = began + (long) (i * 1e9 / rate);
            sleepUntil(due[i]);
            if (i == warmups) {
                clock = new Clock();
            }
            window.acquire();
            send(producers.get(0), new Message(flag("topic", ""), stamped(payload, due[i], i)), window);
        }
        left.await();
        long[] late = new long[total - warmups];
        for (int i = warmups; i < total; i++) {
            late[i - warmups] = arrived.get(i) - due[i];
        }
        clock.into();
        answer.put("rate", rate);
        percentiles("", late);
        tally(total);
    }

    private void due() throws Exception {
        int count = number("count", 1_000);
        declare();
        expect(count);
        work();
        // On a whole millisecond, in which times are written.
        long began = System.currentTimeMillis();
        long first = began + (long) (seconds("warmup", "4s") * 1e3);
        double step = seconds("duration", "15s") * 1e3 / count;
        long[] due = new long[count];
        byte[] payload = payload();
        Semaphore window = new Semaphore(window());
        for (int i = 0; i < count; i++) {
            due[i] = (first + (long) (i * step)) * 1_000_000;
            Message message = new Message(flag("topic", ""), stamped(payload, due[i], i));
            message.setDeliverTimeMs(due[i] / 1_000_000);
            window.acquire();
            send(producers.get(i % producers.size()), message, window);
        }
        window.acquire(window());
        double sending = (System.currentTimeMillis() - began) / 1e3;
        if (System.currentTimeMillis() > first) {
            throw new IllegalStateException("sending took " + sending + " s, and -warmup is " + flag("warmup", ""));
        }
        left.await();
        long[] late = new long[count];
        long last = 0;
        int early = 0;
        for (int i = 0; i < count; i++) {
            late[i] = arrived.get(i) - due[i];
            last = Math.max(last, arrived.get(i));
            early += late[i] < 0 ? 1 : 0;
        }
        answer.put("due_per_s", Math.round(count / seconds("duration", "15s")));
        answer.put("released_per_s", Math.round(count / ((last - first * 1_000_000) / 1e9)));
        answer.put("in_per_s", Math.round(count / sending));
        answer.put("early", early);
        percentiles("late_", late);
        tally(count);
    }

    /** Makes the topic with as many queues as others have partitions; waits for a broker that is only starting. */
    private void declare() throws Exception {
        for (int i = 0; i < number("clients", 1); i++) {
            DefaultMQProducer producer = new DefaultMQProducer("bench");
            producer.setNamesrvAddr(flag("address", ""));
            producer.setInstanceName("sender-" + i);
            producer.setSendMsgTimeout(10_000);
            producer.setCompressMsgBodyOverHowmuch(1 << 30);
            producer.start();
            producers.add(producer);
        }
        for (int attempt = 0; ; attempt++) {
            try {
                producers.get(0).createTopic("TBW102", flag("topic", ""), number("partitions", 1), new HashMap<>());
                producers.get(0).fetchPublishMessageQueues(flag("topic", ""));
                return;
            } catch (Exception error) {
                if (attempt == 300) {
                    throw error;
                }
                Thread.sleep(100);
            }
        }
    }

    private void expect(int count) {
        seen = new AtomicIntegerArray(count);
        arrived = new AtomicLongArray(count);
        left = new CountDownLatch(count);
    }

    private int window() {
        // Beyond this the broker refuses most of what it gets as too busy.
        return Math.min(number("window", 10_000), 2_000);
    }

    private void sendAll(int count) throws Exception {
        byte[] payload = payload();
        List<Thread> senders = new ArrayList<>();
        int each = Math.max(window() / producers.size(), 1);
        for (int sender = 0; sender < producers.size(); sender++) {
            int first = sender;
            Thread thread = new Thread(() -> {
                Semaphore window = new Semaphore(each);
                try {
                    for (int i = first; i < count; i += producers.size()) {
                        window.acquire();
                        send(producers.get(first), new Message(flag("topic", ""), stamped(payload, 0, i)), window);
                    }
                    window.acquire(each);
                } catch (InterruptedException ended) {
                    Thread.currentThread().interrupt();
                }
            });
            thread.start();
            senders.add(thread);
        }
        for (Thread thread : senders) {
            thread.join();
        }
    }

    /** Sends until the broker has taken and synced it; then there is room for one more. */
    private void send(DefaultMQProducer producer, Message message, Semaphore window) {
        SendCallback told = new SendCallback() {
            @Override
            public void onSuccess(SendResult result) {
                if (result.getSendStatus() == SendStatus.SEND_OK) {
                    window.release();
                } else {
                    again();
                }
            }

            @Override
            public void onException(Throwable error) {
                again();
            }

            private void again() {
                if (resent.incrementAndGet() > RESENT_MAX) {
                    System.err.println("the broker takes nothing");
                    System.exit(1);
                }
                send(producer, message, window);
            }
        };
        try {
            producer.send(message, told);
        } catch (Exception error) {
            told.onException(error);
        }
    }

    private void work() throws Exception {
        for (int i = 0; i < number("workers", 4); i++) {
            DefaultMQPushConsumer consumer = new DefaultMQPushConsumer("workers-of-" + flag("topic", ""));
            consumer.setNamesrvAddr(flag("address", ""));
            consumer.setInstanceName("worker-" + i);
            consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
            consumer.setPullBatchSize(number("prefetch", 500));
            consumer.setConsumeMessageBatchMaxSize(1);
            consumer.subscribe(flag("topic", ""), "*");
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                for (MessageExt message : messages) {
                    saw(message.getBody());
                }
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
            consumer.start();
            consumers.add(consumer);
        }
    }

    private void saw(byte[] body) {
        if (anyCame.compareAndSet(false, true)) {
            fromFirst = new Clock();
        }
        int sequence = (int) ByteBuffer.wrap(body).getLong(8);
        if (seen.getAndIncrement(sequence) == 0) {
            arrived.set(sequence, unixNanos());
            left.countDown();
        }
    }

    private void settle() {
        for (DefaultMQPushConsumer consumer : consumers) {
            consumer.getDefaultMQPushConsumerImpl().persistConsumerOffset();
        }
    }

    private void tally(int count) {
        int again = 0;
        for (int i = 0; i < count; i++) {
            again += Math.max(seen.get(i) - 1, 0);
        }
        answer.put("redelivered", again);
    }

    private void percentiles(String prefix, long[] nanos) {
        Arrays.sort(nanos);
        double[] shares = {.5, .99, .999, 1};
        String[] names = {"p50_ms", "p99_ms", "p999_ms", "max_ms"};
        for (int i = 0; i < shares.length; i++) {
            long value = nanos[Math.min((int) (shares[i] * nanos.length), nanos.length - 1)];
            answer.put(prefix + names[i], rounded(value / 1e6));
        }
    }

    private byte[] payload() {
        byte[] payload = new byte[Math.max(number("size", 1024), STAMP)];
        Random random = new Random();
        for (int i = 0; i < payload.length; i++) {
            payload[i] = (byte) ('A' + random.nextInt(26));
        }
        return payload;
    }

    private static byte[] stamped(byte[] payload, long due, long sequence) {
        byte[] body = payload.clone();
        ByteBuffer.wrap(body).putLong(due).putLong(sequence);
        return body;
    }

    private static long unixNanos() {
        java.time.Instant now = java.time.Instant.now();
        return now.getEpochSecond() * 1_000_000_000 + now.getNano();
    }

    private static void sleepUntil(long due) throws InterruptedException {
        long wait = due - unixNanos();
        if (wait > 50_000) {
            Thread.sleep(wait / 1_000_000, (int) (wait % 1_000_000));
        }
    }

    private static double rounded(double value) {
        return Math.round(value * 1e3) / 1e3;
    }

    /** Time, and what the brokers burned meanwhile. */
    private final class Clock {
        private final long started = System.nanoTime();
        private final double burned = brokers(true);

        private void rate(String name, int count) {
            double seconds = (System.nanoTime() - started) / 1e9;
            answer.put(name + "_per_s", Math.round(count / seconds));
            answer.put(name + "_cpu_s_per_million", rounded((brokers(true) - burned) / count * 1e6));
            answer.put("broker_rss_mib", rounded(brokers(false)));
        }

        private void into() {
            answer.put("seconds", rounded((System.nanoTime() - started) / 1e9));
            answer.put("broker_cpu_s", rounded(brokers(true) - burned));
            answer.put("broker_rss_mib", rounded(brokers(false)));
        }

        private double brokers(boolean cpu) {
            double all = 0;
            for (String pid : flag("pids", "").split(",")) {
                try {
                    String stat = Files.readString(Path.of("/proc", pid, "stat"));
                    String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
                    all += cpu
                            ? (Double.parseDouble(fields[11]) + Double.parseDouble(fields[12])) / 100
                            : Double.parseDouble(fields[21]) * 4096 / (1 << 20);
                } catch (Exception gone) {
                    // Nothing of a process that is not there.
                }
            }
            return all;
        }
    }
}
