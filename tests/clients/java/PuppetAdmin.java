import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.config.ConfigResource;

/** Orders to Kafka's administrator. */
final class PuppetAdmin {
    private final Admin admin;

    PuppetAdmin(String bootstrap) {
        admin = Admin.create(Program.properties(bootstrap));
    }

    void works(Map<String, Puppet.Work> works) {
        works.put("topic", this::topic);
        works.put("group", this::group);
        works.put("ends", this::ends);
        works.put("health", this::health);
    }

    private void topic(JsonNode order, ObjectNode answer) throws Exception {
        Map<String, String> config = new HashMap<>();
        order.path("config").properties().forEach(one -> config.put(one.getKey(), one.getValue().asText()));
        var topic = new NewTopic(order.get("name").asText(), Optional.of(order.get("partitions").asInt()), Optional.empty());
        outcome(admin.createTopics(List.of(topic.configs(config))).all(), answer);
    }

    private void group(JsonNode order, ObjectNode answer) throws Exception {
        Collection<AlterConfigOp> changes = new ArrayList<>();
        order.path("config").properties().forEach(one ->
            changes.add(new AlterConfigOp(new ConfigEntry(one.getKey(), one.getValue().asText()), AlterConfigOp.OpType.SET)));
        var group = new ConfigResource(ConfigResource.Type.GROUP, order.get("name").asText());
        outcome(admin.incrementalAlterConfigs(Map.of(group, changes)).all(), answer);
    }

    private static void outcome(KafkaFuture<Void> change, ObjectNode answer) throws InterruptedException {
        try {
            change.get();
        } catch (ExecutionException refused) {
            answer.put("error", Puppet.error(refused.getCause())).put("message", refused.getCause().getMessage());
        }
    }

    /** Where each partition begins and ends. */
    private void ends(JsonNode order, ObjectNode answer) throws Exception {
        String topic = order.get("topic").asText();
        Map<TopicPartition, OffsetSpec> first = new HashMap<>();
        Map<TopicPartition, OffsetSpec> last = new HashMap<>();
        for (int partition = 0; partition < order.get("partitions").asInt(); partition++) {
            first.put(new TopicPartition(topic, partition), OffsetSpec.earliest());
            last.put(new TopicPartition(topic, partition), OffsetSpec.latest());
        }
        var starts = admin.listOffsets(first).all().get();
        var ends = admin.listOffsets(last).all().get();
        ArrayNode told = answer.putArray("partitions");
        for (int partition = 0; partition < first.size(); partition++) {
            TopicPartition at = new TopicPartition(topic, partition);
            told.addObject().put("start", starts.get(at).offset()).put("end", ends.get(at).offset());
        }
    }

    /** How many partitions, of all topics, lack a replica that is in sync or are not led by who is to lead them. */
    private void health(JsonNode order, ObjectNode answer) throws Exception {
        int ailing = 0;
        for (var topic : admin.describeTopics(admin.listTopics().names().get()).allTopicNames().get().values()) {
            for (TopicPartitionInfo partition : topic.partitions()) {
                boolean isLed = partition.leader() != null && partition.leader().id() == partition.replicas().get(0).id();
                ailing += isLed && partition.isr().size() == partition.replicas().size() ? 0 : 1;
            }
        }
        answer.put("ailing", ailing);
    }
}
