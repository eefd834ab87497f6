import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Copies a topic, exactly once: {@code java Copy BOOTSTRAP FROM TO PROTOCOL COPIERS}. Copiers are members of one group; each
 * partition goes to the partition of the same number, in transactions that carry the offsets. Every fifth transaction is aborted
 * on purpose. Says {@code begun} after the first. The order {@code stop} lets it end at the topic's end; then it says
 * {@code copied TRANSACTIONS ABORTED}.
 */
public final class Copy implements Runnable {
    private static final int ABORT_EVERY = 5;
    /** How often a step is tried again whose outcome is not known. */
    private static final int TRIES = 30;

    private static final AtomicLong COMMITTED = new AtomicLong();
    private static final AtomicLong ABORTED = new AtomicLong();
    private static volatile boolean stopping;

    private final String[] arguments;
    private final String name;
    private final KafkaConsumer<byte[], byte[]> consumer;
    private KafkaProducer<byte[], byte[]> producer;
    private long transactions;

    private Copy(String[] arguments, int number) {
        this.arguments = arguments;
        name = "copier-" + number;
        var properties = Program.properties(arguments[0], "group.id", "copiers", "group.protocol", arguments[3],
            "isolation.level", "read_committed", "enable.auto.commit", "false", "auto.offset.reset", "earliest",
            "client.id", name, "max.poll.records", "400", "default.api.timeout.ms", "60000");
        consumer = new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    public static void main(String[] arguments) throws Exception {
        Program.listen();
        List<Thread> threads = new ArrayList<>();
        for (int number = 0; number < Integer.parseInt(arguments[4]); number++) {
            threads.add(new Thread(new Copy(arguments, number)));
        }
        threads.forEach(Thread::start);
        while (!"stop".equals(Program.waitForOrder())) {
            // There is no other.
        }
        try (Admin admin = Admin.create(Program.properties(arguments[0]))) {
            while (!isAllCopied(admin, arguments[1])) {
                Thread.sleep(100);
            }
        }
        stopping = true;
        for (Thread thread : threads) {
            thread.join();
        }
        Program.say("copied " + COMMITTED + " " + ABORTED);
        Program.flush();
        System.exit(0);
    }

    @Override
    public void run() {
        try {
            consumer.subscribe(List.of(arguments[1]), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    // Each turn ends its transaction, so there is none here.
                }

                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    // They begin where the group is.
                }
            });
            while (!stopping) {
                turn();
            }
            consumer.close();
            close();
        } catch (Throwable unexpected) {
            Program.complain(name, unexpected);
            Runtime.getRuntime().halt(1);
        }
    }

    /** The group has committed all that there is. */
    private static boolean isAllCopied(Admin admin, String topic) throws InterruptedException {
        try {
            Map<TopicPartition, OffsetSpec> latest = new HashMap<>();
            admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions()
                .forEach(one -> latest.put(new TopicPartition(topic, one.partition()), OffsetSpec.latest()));
            Map<TopicPartition, OffsetAndMetadata> committed =
                admin.listConsumerGroupOffsets("copiers").partitionsToOffsetAndMetadata().get();
            return admin.listOffsets(latest).all().get().entrySet().stream().allMatch(end -> {
                OffsetAndMetadata offset = committed.get(end.getKey());
                return end.getValue().offset() == (offset == null ? 0 : offset.offset());
            });
        } catch (ExecutionException again) {
            Program.complain("how far the copiers are", again);
            return false;
        }
    }

    private void turn() {
        ConsumerRecords<byte[], byte[]> records;
        try {
            records = consumer.poll(Duration.ofMillis(200));
        } catch (KafkaException failed) {
            Program.complain(name + ": poll", failed);
            return;
        }
        if (records.isEmpty()) {
            return;
        }
        try {
            ensureProducer();
            producer.beginTransaction();
            Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();
            for (ConsumerRecord<byte[], byte[]> record : records) {
                producer.send(new ProducerRecord<>(arguments[2], record.partition(), record.key(), record.value()));
                next.put(new TopicPartition(record.topic(), record.partition()), new OffsetAndMetadata(record.offset() + 1));
            }
            producer.sendOffsetsToTransaction(next, consumer.groupMetadata());
            if (++transactions % ABORT_EVERY == 0) {
                producer.flush();
                producer.abortTransaction();
                ABORTED.incrementAndGet();
                goBack(records);
            } else {
                commit();
                if (COMMITTED.incrementAndGet() == 1) {
                    Program.say("begun");
                    Program.flush();
                }
            }
        } catch (KafkaException failed) {
            Program.complain(name + ": transaction", failed);
            ABORTED.incrementAndGet();
            // Whether it was committed is known once the next producer of this name has begun.
            close();
            ensureProducer();
            goBack(records);
        }
    }

    /** Only that a commit took too long leaves it open; it is the same commit that is tried again. */
    private void commit() {
        for (int tried = 1; ; tried++) {
            try {
                producer.commitTransaction();
                return;
            } catch (TimeoutException slow) {
                if (tried == TRIES) {
                    throw slow;
                }
            }
        }
    }

    /** Each partition of these records goes on where the group is. */
    private void goBack(ConsumerRecords<byte[], byte[]> records) {
        for (int tried = 1; ; tried++) {
            try {
                Set<TopicPartition> owned = consumer.assignment();
                Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(records.partitions());
                for (TopicPartition partition : records.partitions()) {
                    if (owned.contains(partition)) {
                        OffsetAndMetadata offset = committed.get(partition);
                        consumer.seek(partition, offset == null ? 0 : offset.offset());
                    }
                }
                return;
            } catch (KafkaException again) {
                Program.complain(name + ": committed", again);
                if (tried == TRIES) {
                    throw again;
                }
            }
        }
    }

    private void ensureProducer() {
        for (int tried = 1; producer == null; tried++) {
            var properties = Program.properties(arguments[0], "transactional.id", name, "client.id", name, "linger.ms", "1",
                "max.block.ms", "20000", "delivery.timeout.ms", "120000", "transaction.timeout.ms", "60000");
            producer = new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer());
            try {
                producer.initTransactions();
            } catch (KafkaException again) {
                Program.complain(name + ": initTransactions", again);
                close();
                if (tried == TRIES) {
                    throw again;
                }
            }
        }
    }

    private void close() {
        if (producer != null) {
            producer.close(Duration.ZERO);
            producer = null;
        }
    }
}
