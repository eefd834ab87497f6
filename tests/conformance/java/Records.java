import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Records: how they are packed, what they carry, where they are found. */
final class Records {
    private static final int COUNT = 2_000;

    static void scenarios(Map<String, Suite.Scenario> all) {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            all.put("produce-" + codec, bootstrap -> roundTrip(bootstrap, "compression.type", codec));
        }
        all.put("produce-acks-0", bootstrap -> roundTrip(bootstrap, "acks", "0", "enable.idempotence", "false"));
        all.put("produce-acks-1", bootstrap -> roundTrip(bootstrap, "acks", "1", "enable.idempotence", "false"));
        all.put("produce-idempotent", bootstrap -> roundTrip(bootstrap, "enable.idempotence", "true", "batch.size", "200"));
        all.put("record-shape", Records::shape);
        all.put("record-too-large", Records::tooLarge);
        all.put("offsets-by-time", Records::byTime);
        all.put("log-append-time", Records::logAppendTime);
    }

    static KafkaProducer<String, String> producer(String bootstrap, Object... pairs) {
        Properties properties = Suite.properties(bootstrap, pairs);
        return new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer());
    }

    static KafkaConsumer<String, String> consumer(String bootstrap, Object... pairs) {
        Properties properties = Suite.properties(bootstrap, pairs);
        properties.putIfAbsent("auto.offset.reset", "earliest");
        properties.putIfAbsent("enable.auto.commit", "false");
        return new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
    }

    static void topic(String bootstrap, String name, int partitions, Map<String, String> configs) throws Exception {
        try (Admin admin = Admin.create(Suite.properties(bootstrap))) {
            admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1).configs(configs))).all().get();
        }
    }

    static String topic(String bootstrap, String what, int partitions) throws Exception {
        String name = Suite.fresh(what);
        topic(bootstrap, name, partitions, Map.of());
        return name;
    }

    /** Everything that is in a topic now, by partition. */
    static Map<Integer, List<ConsumerRecord<String, String>>> read(String bootstrap, String topic, Object... pairs) {
        Map<Integer, List<ConsumerRecord<String, String>>> found = new HashMap<>();
        try (KafkaConsumer<String, String> consumer = consumer(bootstrap, pairs)) {
            List<TopicPartition> partitions = new ArrayList<>();
            consumer.partitionsFor(topic).forEach(one -> partitions.add(new TopicPartition(topic, one.partition())));
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            while (partitions.stream().anyMatch(one -> consumer.position(one) < ends.get(one))) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                    found.computeIfAbsent(record.partition(), one -> new ArrayList<>()).add(record);
                }
            }
        }
        return found;
    }

    static void fill(String bootstrap, String topic, int count, Object... pairs) throws Exception {
        try (KafkaProducer<String, String> producer = producer(bootstrap, pairs)) {
            for (int number = 0; number < count; number++) {
                producer.send(new ProducerRecord<>(topic, "key-" + number, "value-" + number));
            }
        }
    }

    private static void roundTrip(String bootstrap, Object... pairs) throws Exception {
        boolean acknowledged = !List.of(pairs).contains("0");
        String topic = topic(bootstrap, "round-trip", 3);
        if (!acknowledged) {
            // Nobody sends again what a leader is not ready for. A consumer is told of ends by who leads.
            read(bootstrap, topic);
        }
        Map<String, RecordMetadata> sent = new HashMap<>();
        try (KafkaProducer<String, String> producer = producer(bootstrap, pairs)) {
            List<Exception> errors = new ArrayList<>();
            for (int number = 0; number < COUNT; number++) {
                String key = "key-" + number;
                producer.send(new ProducerRecord<>(topic, key, "value-" + number), (metadata, error) -> {
                    synchronized (sent) {
                        sent.put(key, metadata);
                        if (error != null) {
                            errors.add(error);
                        }
                    }
                });
            }
            producer.flush();
            Suite.same(List.of(), errors, "errors");
        }
        int read = 0;
        // What nobody acknowledges may still be on its way.
        for (int look = 0; look < 100 && read < COUNT; look++) {
            read = 0;
            for (List<ConsumerRecord<String, String>> partition : read(bootstrap, topic).values()) {
                long next = 0;
                for (ConsumerRecord<String, String> record : partition) {
                    Suite.same(next++, record.offset(), "offsets have no gaps");
                    Suite.same(record.key().replace("key", "value"), record.value(), "the value of a key");
                    if (acknowledged) {
                        Suite.same(sent.get(record.key()).offset(), record.offset(), "the acknowledged offset");
                    }
                    read++;
                }
            }
        }
        Suite.same(COUNT, read, "records");
    }

    private static void shape(String bootstrap) throws Exception {
        String topic = topic(bootstrap, "shape", 1);
        long time = 1_700_000_000_123L;
        try (KafkaProducer<String, String> producer = producer(bootstrap)) {
            ProducerRecord<String, String> full = new ProducerRecord<>(topic, 0, time, "key", "value");
            full.headers().add("a", "1".getBytes(StandardCharsets.UTF_8)).add("a", null).add("", new byte[0]);
            RecordMetadata first = producer.send(full).get();
            Suite.same(0L, first.offset(), "offset");
            Suite.same(time, first.timestamp(), "acknowledged timestamp");
            producer.send(new ProducerRecord<>(topic, 0, null, null)).get();
            producer.send(new ProducerRecord<>(topic, 0, "", "")).get();
        }
        List<ConsumerRecord<String, String>> records = read(bootstrap, topic).get(0);
        ConsumerRecord<String, String> full = records.get(0);
        Suite.same(time, full.timestamp(), "timestamp");
        Header[] headers = full.headers().toArray();
        Suite.same(3, headers.length, "headers");
        Suite.same("1", new String(headers[0].value(), StandardCharsets.UTF_8), "a header's value");
        Suite.same(null, headers[1].value(), "a header without a value");
        Suite.same(0, headers[2].value().length, "an empty header");
        Suite.same(null, records.get(1).key(), "no key");
        Suite.same(null, records.get(1).value(), "no value");
        Suite.same("", records.get(2).value(), "an empty value");
        Suite.same(0, full.leaderEpoch().orElse(-1), "the leader's epoch");
    }

    private static void tooLarge(String bootstrap) throws Exception {
        String topic = Suite.fresh("small");
        topic(bootstrap, topic, 1, Map.of("max.message.bytes", "1000"));
        try (KafkaProducer<String, String> producer = producer(bootstrap)) {
            Suite.fails(RecordTooLargeException.class,
                () -> producer.send(new ProducerRecord<>(topic, "x".repeat(2_000))).get());
            producer.send(new ProducerRecord<>(topic, "x".repeat(100))).get();
        }
    }

    private static void byTime(String bootstrap) throws Exception {
        String topic = topic(bootstrap, "by-time", 1);
        long start = 1_700_000_000_000L;
        try (KafkaProducer<String, String> producer = producer(bootstrap)) {
            for (int number = 0; number < 10; number++) {
                producer.send(new ProducerRecord<>(topic, 0, start + number * 1_000L, null, "v")).get();
            }
        }
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaConsumer<String, String> consumer = consumer(bootstrap)) {
            var found = consumer.offsetsForTimes(Map.of(partition, start + 4_500)).get(partition);
            Suite.same(5L, found.offset(), "the first at or after a time");
            Suite.same(start + 5_000, found.timestamp(), "its time");
            Suite.same(null, consumer.offsetsForTimes(Map.of(partition, start + 9_001)).get(partition), "after the last");
            Collection<TopicPartition> only = List.of(partition);
            Suite.same(0L, consumer.beginningOffsets(only).get(partition), "the beginning");
            Suite.same(10L, consumer.endOffsets(only).get(partition), "the end");
        }
    }

    private static void logAppendTime(String bootstrap) throws Exception {
        String topic = Suite.fresh("append-time");
        topic(bootstrap, topic, 1, Map.of("message.timestamp.type", "LogAppendTime"));
        long before = System.currentTimeMillis();
        try (KafkaProducer<String, String> producer = producer(bootstrap)) {
            long told = producer.send(new ProducerRecord<>(topic, 0, 5L, "key", "value")).get().timestamp();
            Suite.holds(told >= before, "the acknowledged timestamp is the broker's: " + told);
            ConsumerRecord<String, String> record = read(bootstrap, topic).get(0).get(0);
            Suite.same(told, record.timestamp(), "the record's timestamp");
            Suite.same("LogAppendTime", record.timestampType().toString(), "its type");
        }
    }
}
