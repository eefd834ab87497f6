import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AbortTransactionSpec;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.TransactionDescription;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;

/** Transactions: all or nothing, offsets with them, fencing, and what administrators see and do. */
final class Transactions {
    static void scenarios(Map<String, Suite.Scenario> all) {
        all.put("transactions", Transactions::commitAndAbort);
        all.put("transactions-open", Transactions::open);
        all.put("transactions-offsets", bootstrap -> offsets(bootstrap, "classic"));
        all.put("transactions-offsets-consumer", bootstrap -> offsets(bootstrap, "consumer"));
        all.put("transactions-fencing", Transactions::fencing);
        all.put("transactions-timeout", Transactions::timeout);
        all.put("admin-transactions", Transactions::administration);
    }

    private static KafkaProducer<String, String> producer(String bootstrap, String id, Object... pairs) {
        List<Object> all = new java.util.ArrayList<>(List.of(pairs));
        all.addAll(List.of("transactional.id", id));
        KafkaProducer<String, String> producer = Records.producer(bootstrap, all.toArray());
        producer.initTransactions();
        return producer;
    }

    /**
     * What committed readers see. That a transaction is committed is settled before its markers are in every partition, with which it is
     * seen.
     */
    private static void committed(String bootstrap, String topic, Set<String> wanted, String what) throws Exception {
        long end = System.nanoTime() + Duration.ofSeconds(30).toNanos();
        Set<String> seen = values(bootstrap, topic, "read_committed");
        while (wanted.containsAll(seen) && seen.size() < wanted.size() && System.nanoTime() < end) {
            seen = values(bootstrap, topic, "read_committed");
        }
        Suite.same(wanted, seen, what);
    }

    private static Set<String> values(String bootstrap, String topic, String isolation) {
        Set<String> values = new TreeSet<>();
        Records.read(bootstrap, topic, "isolation.level", isolation).values()
            .forEach(records -> records.forEach(record -> Suite.holds(values.add(record.value()), "twice: " + record)));
        return values;
    }

    private static void commitAndAbort(String bootstrap) throws Exception {
        String topic = Records.topic(bootstrap, "transactions", 3);
        Set<String> committed = new TreeSet<>();
        Set<String> written = new TreeSet<>();
        try (var producer = producer(bootstrap, Suite.fresh("id"))) {
            for (int transaction = 0; transaction < 20; transaction++) {
                producer.beginTransaction();
                for (int number = 0; number < 10; number++) {
                    String value = transaction + "-" + number;
                    producer.send(new ProducerRecord<>(topic, value, value));
                    written.add(value);
                    if (transaction % 3 != 0) {
                        committed.add(value);
                    }
                }
                if (transaction % 3 == 0) {
                    producer.flush();
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                }
            }
        }
        committed(bootstrap, topic, committed, "what committed readers see");
        Suite.same(written, values(bootstrap, topic, "read_uncommitted"), "what others see");
    }

    /** An open transaction holds committed readers back at its first record; others read on. */
    private static void open(String bootstrap) throws Exception {
        String topic = Records.topic(bootstrap, "open", 1);
        TopicPartition partition = new TopicPartition(topic, 0);
        try (var producer = producer(bootstrap, Suite.fresh("open")); var plain = Records.producer(bootstrap);
            var committed = Records.consumer(bootstrap, "isolation.level", "read_committed");
            var uncommitted = Records.consumer(bootstrap)) {
            plain.send(new ProducerRecord<>(topic, "before")).get();
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, "inside")).get();
            plain.send(new ProducerRecord<>(topic, "after")).get();
            Suite.same(1L, committed.endOffsets(List.of(partition)).get(partition), "the last stable offset");
            Suite.same(3L, uncommitted.endOffsets(List.of(partition)).get(partition), "the high watermark");
            Suite.same(Set.of("before"), values(bootstrap, topic, "read_committed"), "while it is open");
            Suite.same(Set.of("before", "inside", "after"), values(bootstrap, topic, "read_uncommitted"), "for others");
            producer.commitTransaction();
            committed(bootstrap, topic, Set.of("before", "inside", "after"), "when it is done");
            Suite.same(4L, committed.endOffsets(List.of(partition)).get(partition), "the marker has an offset");
        }
    }

    private static void offsets(String bootstrap, String protocol) throws Exception {
        String from = Records.topic(bootstrap, "from", 1);
        String to = Records.topic(bootstrap, "to", 1);
        String group = Suite.fresh("copier");
        TopicPartition partition = new TopicPartition(from, 0);
        Records.fill(bootstrap, from, 200);
        Set<String> copied = new TreeSet<>();
        try (var consumer = Records.consumer(bootstrap, "group.id", group, "group.protocol", protocol,
                "max.poll.records", "25", "isolation.level", "read_committed");
            var producer = producer(bootstrap, Suite.fresh("copier"))) {
            consumer.subscribe(List.of(from));
            int transactions = 0;
            long end = System.nanoTime() + Duration.ofSeconds(60).toNanos();
            while (copied.size() < 200) {
                Suite.holds(System.nanoTime() < end, "copied only " + copied.size());
                var records = consumer.poll(Duration.ofMillis(200));
                if (records.isEmpty()) {
                    continue;
                }
                producer.beginTransaction();
                Set<String> values = new TreeSet<>();
                long next = 0;
                for (ConsumerRecord<String, String> record : records) {
                    producer.send(new ProducerRecord<>(to, record.key(), record.value()));
                    values.add(record.value());
                    next = record.offset() + 1;
                }
                producer.sendOffsetsToTransaction(Map.of(partition, new OffsetAndMetadata(next)), consumer.groupMetadata());
                if (transactions++ % 2 == 0) {
                    producer.abortTransaction();
                    OffsetAndMetadata committed = consumer.committed(Set.of(partition)).get(partition);
                    consumer.seek(partition, committed == null ? 0 : committed.offset());
                } else {
                    producer.commitTransaction();
                    Suite.same(next, consumer.committed(Set.of(partition)).get(partition).offset(), "the committed offset");
                    copied.addAll(values);
                }
            }
        }
        committed(bootstrap, to, copied, "what was copied");
        Suite.same(200, copied.size(), "records copied");
    }

    private static void fencing(String bootstrap) throws Exception {
        String topic = Records.topic(bootstrap, "fencing", 1);
        String id = Suite.fresh("fenced");
        try (var old = producer(bootstrap, id)) {
            old.beginTransaction();
            old.send(new ProducerRecord<>(topic, "old")).get();
            try (var fresh = producer(bootstrap, id)) {
                fresh.beginTransaction();
                fresh.send(new ProducerRecord<>(topic, "new"));
                fresh.commitTransaction();
                Suite.fails(InvalidProducerEpochException.class, () -> old.send(new ProducerRecord<>(topic, "late")).get());
                Suite.fails(KafkaException.class, old::commitTransaction);
            }
        }
        committed(bootstrap, topic, Set.of("new"), "what is committed");
    }

    private static void timeout(String bootstrap) throws Exception {
        String topic = Records.topic(bootstrap, "timeout", 1);
        try (var producer = producer(bootstrap, Suite.fresh("timeout"), "transaction.timeout.ms", "1000")) {
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, "lost")).get();
            // The coordinator looks for those that took too long every ten seconds.
            Groups.poll("the transaction is aborted", () -> values(bootstrap, topic, "read_committed").isEmpty()
                && stable(bootstrap, topic) == 2);
            Suite.fails(KafkaException.class, () -> {
                producer.send(new ProducerRecord<>(topic, "late")).get();
                producer.commitTransaction();
            });
        }
    }

    private static long stable(String bootstrap, String topic) {
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaConsumer<String, String> consumer = Records.consumer(bootstrap, "isolation.level", "read_committed")) {
            return consumer.endOffsets(List.of(partition)).get(partition);
        }
    }

    private static void administration(String bootstrap) throws Exception {
        String topic = Records.topic(bootstrap, "watched", 1);
        TopicPartition partition = new TopicPartition(topic, 0);
        String id = Suite.fresh("watched");
        try (Admin admin = Admin.create(Suite.properties(bootstrap)); var producer = producer(bootstrap, id)) {
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, "value")).get();
            TransactionDescription told = admin.describeTransactions(List.of(id)).description(id).get();
            Suite.same(TransactionState.ONGOING, told.state(), "its state");
            Suite.same(Set.of(partition), told.topicPartitions(), "its partitions");
            Map<String, TransactionState> listed = new HashMap<>();
            admin.listTransactions().all().get().forEach(one -> listed.put(one.transactionalId(), one.state()));
            Suite.same(TransactionState.ONGOING, listed.get(id), "its state in the list");
            List<ProducerState> producers = admin.describeProducers(List.of(partition)).partitionResult(partition).get()
                .activeProducers();
            Suite.same(1, producers.size(), "producers");
            Suite.same(0L, producers.get(0).currentTransactionStartOffset().orElse(-1), "where the transaction began");
            Suite.same(told.producerId(), producers.get(0).producerId(), "its producer");
            admin.abortTransaction(new AbortTransactionSpec(partition, told.producerId(), (short) told.producerEpoch(),
                producers.get(0).coordinatorEpoch().orElse(0))).all().get();
            Groups.poll("the transaction is aborted", () -> stable(bootstrap, topic) == 2);
            Suite.same(Set.of(), values(bootstrap, topic, "read_committed"), "what is committed");
            admin.fenceProducers(List.of(id)).all().get();
            Suite.fails(KafkaException.class, () -> {
                producer.send(new ProducerRecord<>(topic, "late")).get();
                producer.commitTransaction();
            });
        }
    }
}
