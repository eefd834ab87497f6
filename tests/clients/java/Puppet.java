import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Kafka's own clients, doing what they are told: {@code java Puppet BOOTSTRAP}. Each line of standard input is an order, each of standard
 * output what became of the one with the same {@code id}; orders are carried out at the same time. What there is to be ordered, and in which
 * words, is the same in every language: {@code tests/src/puppet.rs}.
 */
public final class Puppet {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final String bootstrap;
    private final Map<String, KafkaProducer<String, String>> producers = new ConcurrentHashMap<>();

    interface Work {
        void carryOut(JsonNode order, ObjectNode answer) throws Exception;
    }

    private Puppet(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    public static void main(String[] arguments) throws Exception {
        Puppet puppet = new Puppet(arguments[0]);
        Map<String, Work> works = new TreeMap<>();
        works.put("produce", puppet::produce);
        new PuppetAdmin(arguments[0]).works(works);
        new PuppetReaders(arguments[0]).works(works);
        new PuppetSharers(arguments[0]).works(works);
        ExecutorService hands = Executors.newCachedThreadPool();
        Program.listen();
        for (String line = Program.waitForOrder(); !"stop".equals(line); line = Program.waitForOrder()) {
            JsonNode order = JSON.readTree(line);
            hands.submit(() -> obey(works, order));
        }
        System.exit(0);
    }

    private static void obey(Map<String, Work> works, JsonNode order) {
        ObjectNode answer = JSON.createObjectNode().put("id", order.get("id").asLong());
        try {
            works.get(order.get("do").asText()).carryOut(order, answer);
        } catch (Throwable failed) {
            StackTraceElement at = null;
            for (StackTraceElement frame : failed.getStackTrace()) {
                if (at == null && frame.getClassName().startsWith("Puppet")) {
                    at = frame;
                }
            }
            answer.put("failed", failed + " at " + at);
        }
        Program.say(answer.toString());
        Program.flush();
    }

    private void produce(JsonNode order, ObjectNode answer) throws Exception {
        String batches = order.path("single").asBoolean() ? "0" : "16384";
        KafkaProducer<String, String> producer = producers.computeIfAbsent(order.get("as").asText(), as ->
            new KafkaProducer<>(Program.properties(bootstrap, "acks", "all", "linger.ms", "0", "batch.size", batches, "max.block.ms", "120000",
                "delivery.timeout.ms", "120000", "client.id", "java-" + as), new StringSerializer(), new StringSerializer()));
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (JsonNode one : order.get("records")) {
            var record = new ProducerRecord<>(order.get("topic").asText(), one.has("partition") ? one.get("partition").asInt() : null,
                one.has("timestamp") ? one.get("timestamp").asLong() : null, one.path("key").textValue(), one.path("value").textValue());
            one.path("headers").properties().forEach(header ->
                record.headers().add(header.getKey(), header.getValue().asText().getBytes(StandardCharsets.UTF_8)));
            sent.add(producer.send(record));
        }
        ArrayNode results = answer.putArray("results");
        for (Future<RecordMetadata> one : sent) {
            try {
                RecordMetadata where = one.get();
                results.addObject().put("partition", where.partition()).put("offset", where.offset());
            } catch (ExecutionException refused) {
                results.addObject().put("error", error(refused.getCause())).put("message", String.valueOf(refused.getCause().getMessage()));
            }
        }
    }

    /** The name that the protocol has for an error. */
    static String error(Throwable thrown) {
        return Errors.forException(thrown).name();
    }

    /** Records as orders for reading are answered, with the time when they were here. */
    static void tell(Iterable<ConsumerRecord<String, String>> records, ObjectNode answer) {
        long at = System.currentTimeMillis();
        ArrayNode told = answer.putArray("records");
        for (ConsumerRecord<String, String> record : records) {
            ObjectNode one = told.addObject().put("topic", record.topic()).put("partition", record.partition())
                .put("offset", record.offset()).put("key", record.key()).put("value", record.value())
                .put("timestamp", record.timestamp()).put("deliveries", record.deliveryCount().orElse((short) 0)).put("at", at);
            ObjectNode headers = one.putObject("headers");
            record.headers().forEach(header ->
                headers.put(header.key(), header.value() == null ? null : new String(header.value(), StandardCharsets.UTF_8)));
        }
    }
}
