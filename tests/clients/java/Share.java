import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicIdPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Members of a share group that come and go: {@code java Share BOOTSTRAP TOPIC GROUP MEMBERS}. Each takes some thousand records and
 * leaves, and another comes. Most are accepted, some rejected, and some released the first time. Says {@code done PARTITION OFFSET}
 * for what the broker confirmed as accepted or rejected, and {@code unknown PARTITION OFFSET} where it did not say. The order
 * {@code stop} ends it.
 */
public final class Share implements Runnable {
    private static final int RECORDS_OF_A_MEMBER = 3_000;

    private static volatile boolean stopping;

    private final String[] arguments;
    private final int number;

    private Share(String[] arguments, int number) {
        this.arguments = arguments;
        this.number = number;
    }

    public static void main(String[] arguments) throws Exception {
        Program.listen();
        try (Admin admin = Admin.create(Program.properties(arguments[0]))) {
            // The most deliveries that there may be: a record goes to another when its broker is killed, and each counts.
            var configs = List.of(set("share.auto.offset.reset", "earliest"), set("share.delivery.count.limit", "10"));
            admin.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.GROUP, arguments[2]), configs)).all().get();
        }
        List<Thread> threads = new ArrayList<>();
        for (int number = 0; number < Integer.parseInt(arguments[3]); number++) {
            threads.add(new Thread(new Share(arguments, number)));
        }
        threads.forEach(Thread::start);
        while (!"stop".equals(Program.waitForOrder())) {
            // There is no other.
        }
        stopping = true;
        for (Thread thread : threads) {
            thread.join();
        }
        Program.flush();
        System.exit(0);
    }

    private static AlterConfigOp set(String name, String value) {
        return new AlterConfigOp(new ConfigEntry(name, value), AlterConfigOp.OpType.SET);
    }

    @Override
    public void run() {
        while (!stopping) {
            var properties = Program.properties(arguments[0], "group.id", arguments[2], "share.acknowledgement.mode", "explicit",
                "max.poll.records", "200", "client.id", "share-" + number);
            var consumer = new KafkaShareConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
            try {
                consumer.subscribe(List.of(arguments[1]));
                // Not all leave at once.
                for (int taken = number * RECORDS_OF_A_MEMBER / 3; taken < RECORDS_OF_A_MEMBER && !stopping;) {
                    taken += turn(consumer);
                    Program.flush();
                }
            } catch (Throwable unexpected) {
                // That a broker is gone is nothing that a consumer has to be made anew for.
                Program.complain("share-" + number, unexpected);
                Runtime.getRuntime().halt(1);
            }
            try {
                consumer.close();
            } catch (KafkaException failed) {
                Program.complain("share-" + number + ": close", failed);
            }
        }
    }

    private int turn(KafkaShareConsumer<byte[], byte[]> consumer) {
        ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(200));
        List<ConsumerRecord<byte[], byte[]>> ended = new ArrayList<>();
        for (ConsumerRecord<byte[], byte[]> record : records) {
            boolean isFirst = record.deliveryCount().orElse((short) 1) == 1;
            if (record.offset() % 16 == 3 && isFirst) {
                consumer.acknowledge(record, AcknowledgeType.RELEASE);
                continue;
            }
            consumer.acknowledge(record, record.offset() % 64 == 7 ? AcknowledgeType.REJECT : AcknowledgeType.ACCEPT);
            ended.add(record);
        }
        Map<TopicIdPartition, Optional<KafkaException>> told = Map.of();
        try {
            told = consumer.commitSync();
        } catch (KafkaException failed) {
            Program.complain("share-" + number + ": commit", failed);
        }
        for (ConsumerRecord<byte[], byte[]> record : ended) {
            boolean isConfirmed = told.entrySet().stream().anyMatch(one ->
                one.getKey().topic().equals(record.topic()) && one.getKey().partition() == record.partition()
                    && one.getValue().isEmpty());
            Program.say((isConfirmed ? "done " : "unknown ") + record.partition() + " " + record.offset());
        }
        return records.count();
    }
}
