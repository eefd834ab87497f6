import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/** An idempotent producer of numbered messages: {@code java Produce BOOTSTRAP TOPIC}. Orders and lines are those of {@code producer.py}. */
public final class Produce {
    public static void main(String[] arguments) throws Exception {
        String topic = arguments[1];
        Program.listen();
        long sent = 0;
        double allowed = 0;
        int rate = 0;
        long since = System.nanoTime();
        var properties = Program.properties(arguments[0], "acks", "all", "enable.idempotence", "true", "linger.ms", "1",
            "delivery.timeout.ms", "300000", "max.block.ms", "300000", "client.id", "java-producer");
        try (var producer = new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer())) {
            while (true) {
                String order = Program.order();
                if ("stop".equals(order)) {
                    break;
                }
                if (order != null) {
                    rate = Integer.parseInt(order.split(" ")[1]);
                    since = System.nanoTime();
                }
                long now = System.nanoTime();
                allowed = Math.min(allowed + rate * ((now - since) / 1e9), sent + (double) rate);
                since = now;
                for (; sent + 1 <= allowed; sent++) {
                    long number = sent;
                    producer.send(new ProducerRecord<>(topic, Numbered.key(number), Numbered.value(number)), (where, error) -> {
                        if (error != null) {
                            Program.complain("message " + number + " failed", error);
                            Runtime.getRuntime().halt(1);
                        }
                        Program.say(number + " " + where.partition() + " " + where.offset());
                    });
                }
                Program.flush();
                Thread.sleep(5);
            }
            producer.flush();
        }
        Program.say("sent " + sent);
        Program.flush();
        System.exit(0);
    }
}
