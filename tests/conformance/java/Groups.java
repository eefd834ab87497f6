import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.regex.Pattern;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.RebalanceInProgressException;

/** Consumer groups, with the classic protocol and with that of KIP-848. */
final class Groups {
    private static final int PARTITIONS = 6;
    private static final int COUNT = 1_200;

    static void scenarios(Map<String, Suite.Scenario> all) {
        all.put("group-rebalance", bootstrap -> rebalance(bootstrap, "group.protocol", "classic"));
        all.put("group-cooperative", bootstrap -> rebalance(bootstrap, "group.protocol", "classic",
            "partition.assignment.strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"));
        all.put("group-static", bootstrap -> fixed(bootstrap, "classic"));
        all.put("group-commits", bootstrap -> commits(bootstrap, "classic"));
        all.put("group-pattern", bootstrap -> pattern(bootstrap, "classic"));
        all.put("group-consumer-rebalance", bootstrap -> rebalance(bootstrap, "group.protocol", "consumer"));
        all.put("group-consumer-range", bootstrap -> rebalance(bootstrap, "group.protocol", "consumer",
            "group.remote.assignor", "range"));
        all.put("group-consumer-static", bootstrap -> fixed(bootstrap, "consumer"));
        all.put("group-consumer-commits", bootstrap -> commits(bootstrap, "consumer"));
        all.put("group-consumer-pattern", bootstrap -> pattern(bootstrap, "consumer"));
        all.put("group-upgrade", Groups::upgrade);
    }

    /** Polls each of them in turn until the condition holds. Each poll is short, so that rebalances get on. */
    @SafeVarargs
    static void until(String what, java.util.function.BooleanSupplier condition,
        java.util.function.Consumer<ConsumerRecord<String, String>> each, KafkaConsumer<String, String>... members) {
        long end = System.nanoTime() + Duration.ofSeconds(60).toNanos();
        while (!condition.getAsBoolean()) {
            Suite.holds(System.nanoTime() < end, "waited for a minute in vain: " + what);
            for (KafkaConsumer<String, String> member : members) {
                member.poll(Duration.ofMillis(50)).forEach(each);
            }
        }
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    /** Looks until the condition holds. */
    static void poll(String what, Condition condition) throws Exception {
        long end = System.nanoTime() + Duration.ofSeconds(60).toNanos();
        while (!condition.holds()) {
            Suite.holds(System.nanoTime() < end, "waited for a minute in vain: " + what);
            Thread.sleep(20);
        }
    }

    private static KafkaConsumer<String, String> member(String bootstrap, String group, Object... pairs) {
        List<Object> all = new ArrayList<>(List.of(pairs));
        all.addAll(List.of("group.id", group));
        return Records.consumer(bootstrap, all.toArray());
    }

    private static void rebalance(String bootstrap, Object... pairs) throws Exception {
        String topic = Records.topic(bootstrap, "rebalance", PARTITIONS);
        String group = Suite.fresh("group");
        Set<String> seen = new HashSet<>();
        try (var first = member(bootstrap, group, pairs); var second = member(bootstrap, group, pairs)) {
            first.subscribe(List.of(topic));
            until("one member has all", () -> first.assignment().size() == PARTITIONS, record -> { }, first);
            Records.fill(bootstrap, topic, COUNT);
            until("half is read", () -> seen.size() >= COUNT / 2, record -> once(seen, record), first);
            ConsumerRebalanceListener commit = new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    first.commitSync();
                }

                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) { }
            };
            first.subscribe(List.of(topic), commit);
            second.subscribe(List.of(topic));
            until("each has half", () -> first.assignment().size() == PARTITIONS / 2
                && second.assignment().size() == PARTITIONS / 2, record -> once(seen, record), first, second);
            until("all is read", () -> seen.size() == COUNT, record -> once(seen, record), first, second);
            until("both have committed", () -> commits(first) && commits(second), record -> once(seen, record), first, second);
            first.unsubscribe();
            until("the other has all again", () -> second.assignment().size() == PARTITIONS,
                record -> once(seen, record), second);
        }
        Suite.same(COUNT, seen.size(), "records seen");
    }

    /** A commit waits for the end of a rebalance, to which a member comes by polling. */
    private static boolean commits(KafkaConsumer<String, String> member) {
        try {
            member.commitSync();
            return true;
        } catch (RebalanceInProgressException rebalancing) {
            return false;
        }
    }

    private static void once(Set<String> seen, ConsumerRecord<String, String> record) {
        Suite.holds(seen.add(record.key()), record.key() + " came twice");
    }

    private static void fixed(String bootstrap, String protocol) throws Exception {
        String topic = Records.topic(bootstrap, "static", 2);
        String group = Suite.fresh("static");
        Object[] properties = {"group.protocol", protocol, "group.instance.id", "one"};
        Set<TopicPartition> before;
        try (var other = member(bootstrap, group, "group.protocol", protocol, "group.instance.id", "two")) {
            AtomicInteger changes = new AtomicInteger();
            try (var member = member(bootstrap, group, properties)) {
                member.subscribe(List.of(topic));
                other.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                    @Override
                    public void onPartitionsRevoked(Collection<TopicPartition> partitions) { }

                    @Override
                    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                        changes.incrementAndGet();
                    }
                });
                until("each has one", () -> member.assignment().size() == 1 && other.assignment().size() == 1,
                    record -> { }, member, other);
                before = Set.copyOf(member.assignment());
            }
            int rebalances = changes.get();
            try (var again = member(bootstrap, group, properties)) {
                again.subscribe(List.of(topic));
                until("it is back", () -> again.assignment().size() == 1, record -> { }, again, other);
                Suite.same(before, Set.copyOf(again.assignment()), "a static member's partitions after it came back");
                Suite.same(rebalances, changes.get(), "rebalances that the other saw");
                if (protocol.equals("classic")) {
                    try (var twin = member(bootstrap, group, properties)) {
                        twin.subscribe(List.of(topic));
                        Suite.fails(FencedInstanceIdException.class, () -> until("the double is fenced", () -> false,
                            record -> { }, twin, again, other));
                    }
                }
            }
        }
    }

    private static void commits(String bootstrap, String protocol) throws Exception {
        String topic = Records.topic(bootstrap, "commits", 1);
        String group = Suite.fresh("commits");
        TopicPartition partition = new TopicPartition(topic, 0);
        Records.fill(bootstrap, topic, 100);
        try (var member = member(bootstrap, group, "group.protocol", protocol, "max.poll.records", "30")) {
            Suite.same(null, member.committed(Set.of(partition)).get(partition), "nothing is committed yet");
            member.subscribe(List.of(topic));
            AtomicInteger read = new AtomicInteger();
            until("some are read", () -> read.get() > 0, record -> read.incrementAndGet(), member);
            member.commitSync(Map.of(partition, new OffsetAndMetadata(30, "thirty")));
            OffsetAndMetadata told = member.committed(Set.of(partition)).get(partition);
            Suite.same(30L, told.offset(), "the committed offset");
            Suite.same("thirty", told.metadata(), "its metadata");
        }
        try (var member = member(bootstrap, group, "group.protocol", protocol)) {
            member.subscribe(List.of(topic));
            List<Long> offsets = new ArrayList<>();
            until("the rest is read", () -> offsets.size() >= 70, record -> offsets.add(record.offset()), member);
            Suite.same(30L, offsets.get(0), "where the next member begins");
        }
        try (var member = member(bootstrap, group, "group.protocol", protocol, "enable.auto.commit", "true",
            "auto.commit.interval.ms", "100")) {
            member.subscribe(List.of(topic));
            until("the offset is committed by itself", () -> {
                OffsetAndMetadata told = member.committed(Set.of(partition)).get(partition);
                return told.offset() == 100;
            }, record -> { }, member);
        }
    }

    private static void pattern(String bootstrap, String protocol) throws Exception {
        String prefix = Suite.fresh("pattern");
        Records.topic(bootstrap, prefix + "-a", 1, Map.of());
        try (var member = member(bootstrap, Suite.fresh("pattern"), "group.protocol", protocol,
            "metadata.max.age.ms", "500")) {
            if (protocol.equals("consumer")) {
                member.subscribe(new org.apache.kafka.clients.consumer.SubscriptionPattern(prefix + "-.*"));
            } else {
                member.subscribe(Pattern.compile(prefix + "-.*"));
            }
            until("it has the topic", () -> member.assignment().size() == 1, record -> { }, member);
            Records.topic(bootstrap, prefix + "-b", 2, Map.of());
            // The server looks at a pattern again when it hears of a new topic, at most every ten seconds.
            until("it has the new topic too", () -> member.assignment().size() == 3, record -> { }, member);
        }
    }

    /** A classic group takes a member of the new protocol in and goes on (KIP-848: online upgrade). */
    private static void upgrade(String bootstrap) throws Exception {
        String topic = Records.topic(bootstrap, "upgrade", 2);
        String group = Suite.fresh("upgrade");
        Records.fill(bootstrap, topic, 100);
        Set<String> seen = new HashSet<>();
        try (var old = member(bootstrap, group, "group.protocol", "classic");
            var fresh = member(bootstrap, group, "group.protocol", "consumer")) {
            old.subscribe(List.of(topic));
            until("the old one reads", () -> seen.size() == 100, record -> once(seen, record), old);
            old.commitSync();
            fresh.subscribe(List.of(topic));
            until("they share", () -> old.assignment().size() == 1 && fresh.assignment().size() == 1,
                record -> once(seen, record), old, fresh);
            old.unsubscribe();
            until("the new one has all", () -> fresh.assignment().size() == 2, record -> once(seen, record), fresh);
        }
    }
}
