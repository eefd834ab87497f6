import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Orders to consumers that belong to no group: each reads a topic from its beginning. */
final class PuppetReaders {
    private final String bootstrap;
    private final Map<String, KafkaConsumer<String, String>> readers = new ConcurrentHashMap<>();

    PuppetReaders(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    void works(Map<String, Puppet.Work> works) {
        works.put("read-open", this::open);
        works.put("read-poll", (order, answer) ->
            Puppet.tell(readers.get(order.get("as").asText()).poll(Duration.ofMillis(order.get("ms").asLong())), answer));
        works.put("read-close", (order, answer) -> readers.remove(order.get("as").asText()).close());
    }

    private void open(JsonNode order, ObjectNode answer) {
        String isolation = order.path("isolation").asText("read_committed");
        var reader = new KafkaConsumer<>(Program.properties(bootstrap, "isolation.level", isolation, "auto.offset.reset", "earliest"),
            new StringDeserializer(), new StringDeserializer());
        List<TopicPartition> partitions = new ArrayList<>();
        for (int partition = 0; partition < order.get("partitions").asInt(); partition++) {
            partitions.add(new TopicPartition(order.get("topic").asText(), partition));
        }
        reader.assign(partitions);
        reader.seekToBeginning(partitions);
        readers.put(order.get("as").asText(), reader);
    }
}
