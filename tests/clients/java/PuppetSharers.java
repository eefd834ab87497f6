import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicIdPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Orders to members of share groups, which acknowledge each record by itself. */
final class PuppetSharers {
    private static final Duration RENEWED = Duration.ofSeconds(1);

    private final String bootstrap;
    private final Map<String, Member> members = new ConcurrentHashMap<>();

    PuppetSharers(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    void works(Map<String, Puppet.Work> works) {
        works.put("share-open", this::open);
        works.put("share-poll", this::poll);
        works.put("share-settle", this::settle);
        works.put("share-close", (order, answer) -> members.remove(order.get("as").asText()).consumer.close());
    }

    /** A member, what it has out, by place, and what came while another order was carried out. */
    private record Member(KafkaShareConsumer<String, String> consumer, Map<String, ConsumerRecord<String, String>> out,
        List<ConsumerRecord<String, String>> kept) {

        ConsumerRecords<String, String> poll(Duration limit) {
            ConsumerRecords<String, String> records = consumer.poll(limit);
            records.forEach(record -> out.put(place(record.topic(), record.partition(), record.offset()), record));
            return records;
        }
    }

    private Member member(JsonNode order) {
        return members.get(order.get("as").asText());
    }

    private void poll(JsonNode order, ObjectNode answer) {
        var member = member(order);
        if (member.kept.isEmpty()) {
            Puppet.tell(member.poll(Duration.ofMillis(order.get("ms").asLong())), answer);
        } else {
            Puppet.tell(member.kept, answer);
            member.kept.clear();
        }
    }

    private void open(JsonNode order, ObjectNode answer) {
        Properties properties = Program.properties(bootstrap, "group.id", order.get("group").asText(), "client.id", order.get("as").asText(),
            "share.acknowledgement.mode", "explicit");
        if (order.has("credit")) {
            properties.put("share.acquire.mode", "record_limit");
            properties.put("max.poll.records", order.get("credit").asText());
        }
        var member = new KafkaShareConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
        List<String> topics = new ArrayList<>();
        order.get("topics").forEach(topic -> topics.add(topic.asText()));
        member.subscribe(topics);
        members.put(order.get("as").asText(), new Member(member, new HashMap<>(), new ArrayList<>()));
    }

    private void settle(JsonNode order, ObjectNode answer) {
        var member = member(order);
        Set<String> asked = new HashSet<>();
        Set<String> renewed = new HashSet<>();
        for (JsonNode one : order.get("records")) {
            // One whose renewal failed is this member's no more.
            var record = member.out.remove(place(one));
            if (record != null) {
                AcknowledgeType type = AcknowledgeType.valueOf(one.get("kind").asText().toUpperCase(Locale.ROOT));
                member.consumer.acknowledge(record, type);
                asked.add(place(one));
                if (type == AcknowledgeType.RENEW) {
                    renewed.add(place(one));
                }
            }
        }
        Map<TopicIdPartition, Optional<KafkaException>> told = member.consumer.commitSync(Duration.ofSeconds(30));
        ArrayNode stored = answer.putArray("stored");
        for (JsonNode one : order.get("records")) {
            stored.add(asked.contains(place(one)) && told.entrySet().stream().anyMatch(partition ->
                partition.getKey().topic().equals(one.get("topic").asText())
                    && partition.getKey().partition() == one.get("partition").asInt() && partition.getValue().isEmpty()));
        }
        if (!renewed.isEmpty()) {
            // This client hands out once more what was renewed, before that is settled.
            member.poll(RENEWED).forEach(record -> {
                if (!renewed.contains(place(record.topic(), record.partition(), record.offset()))) {
                    member.kept.add(record);
                }
            });
        }
    }

    private static String place(JsonNode record) {
        return place(record.get("topic").asText(), record.get("partition").asInt(), record.get("offset").asLong());
    }

    private static String place(String topic, int partition, long offset) {
        return topic + " " + partition + " " + offset;
    }
}
