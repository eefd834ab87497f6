import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

/** A worker of {@code orders.yaml}: {@code java -cp 'jars/*' Orders.java [HOST:PORT]}, with the jars of kafka-clients 4.2 or newer. */
public class Orders {
    public static void main(String[] arguments) throws Exception {
        String text = "org.apache.kafka.common.serialization.String";
        Map<String, Object> client = Map.of("bootstrap.servers", arguments.length > 0 ? arguments[0] : "127.0.0.1:9092",
            "key.serializer", text + "Serializer", "value.serializer", text + "Serializer",
            "key.deserializer", text + "Deserializer", "value.deserializer", text + "Deserializer");

        try (var producer = new KafkaProducer<String, String>(client)) {
            for (String order : List.of("book", "lamp", "unicorn")) {
                producer.send(new ProducerRecord<>("orders", order));
            }
        }
        try (var worker = new KafkaShareConsumer<String, String>(with(client, "workers", "share.acknowledgement.mode", "explicit"))) {
            worker.subscribe(List.of("orders"));
            for (int done = 0; done < 3; worker.commitSync()) {
                for (var order : worker.poll(Duration.ofSeconds(1))) {
                    boolean isFirst = order.deliveryCount().orElse((short) 1) == 1;
                    switch (order.value()) {
                        case "unicorn" -> {
                            System.out.println("unicorn: there is no such thing");
                            worker.acknowledge(order, AcknowledgeType.REJECT);
                            done++;
                        }
                        case "lamp" -> {
                            System.out.println(isFirst ? "lamp: not in stock, tried again in a second" : "lamp: shipped at last");
                            worker.acknowledge(order, isFirst ? AcknowledgeType.RELEASE : AcknowledgeType.ACCEPT);
                            done += isFirst ? 0 : 1;
                        }
                        default -> {
                            System.out.println(order.value() + ": shipped");
                            worker.acknowledge(order, AcknowledgeType.ACCEPT);
                            done++;
                        }
                    }
                }
            }
        }
        try (var reader = new KafkaConsumer<String, String>(with(client, "clerks", "auto.offset.reset", "earliest"))) {
            reader.subscribe(List.of("dlq.orders"));
            for (boolean isFound = false; !isFound;) {
                for (var letter : reader.poll(Duration.ofSeconds(1))) {
                    byte[] tries = letter.headers().lastHeader("__dlq.errors.delivery.count").value();
                    System.out.println("dead letter: " + letter.value() + ", delivered " + new String(tries) + " time(s)");
                    isFound = true;
                }
            }
        }
    }

    private static Map<String, Object> with(Map<String, Object> client, String group, String name, String value) {
        var all = new java.util.HashMap<>(client);
        all.putAll(Map.of("group.id", group, name, value));
        return all;
    }
}
