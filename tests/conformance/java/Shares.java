import java.time.Duration;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListShareGroupOffsetsSpec;
import org.apache.kafka.clients.admin.SharePartitionOffsetInfo;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Share groups (KIP-932). */
final class Shares {
    static void scenarios(Map<String, Suite.Scenario> all) {
        all.put("share-group", Shares::twoMembers);
        all.put("share-group-acknowledge", Shares::acknowledge);
        all.put("admin-share-groups", Shares::administration);
    }

    private static KafkaShareConsumer<String, String> member(String bootstrap, String group, Object... pairs) {
        Properties properties = Suite.properties(bootstrap, pairs);
        properties.put("group.id", group);
        return new KafkaShareConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
    }

    private static String group(String bootstrap, String what) throws Exception {
        String group = Suite.fresh(what);
        try (Admin admin = Admin.create(Suite.properties(bootstrap))) {
            admin.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.GROUP, group), List.of(
                new AlterConfigOp(new ConfigEntry("share.auto.offset.reset", "earliest"), AlterConfigOp.OpType.SET))))
                .all().get();
        }
        return group;
    }

    private static void twoMembers(String bootstrap) throws Exception {
        String topic = Records.topic(bootstrap, "shared", 1);
        String group = group(bootstrap, "share");
        Records.fill(bootstrap, topic, 1_000);
        Set<String> seen = new HashSet<>();
        try (var first = member(bootstrap, group, "max.poll.records", "50");
            var second = member(bootstrap, group, "max.poll.records", "50")) {
            first.subscribe(List.of(topic));
            second.subscribe(List.of(topic));
            Groups.poll("all is read", () -> {
                for (var member : List.of(first, second)) {
                    for (ConsumerRecord<String, String> record : member.poll(Duration.ofMillis(100))) {
                        Suite.holds(seen.add(record.key()), record.key() + " came twice");
                        Suite.same((short) 1, record.deliveryCount().orElse((short) 0), "deliveries");
                    }
                }
                return seen.size() == 1_000;
            });
        }
    }

    private static void acknowledge(String bootstrap) throws Exception {
        String topic = Records.topic(bootstrap, "acknowledge", 1);
        String group = group(bootstrap, "acknowledge");
        Records.fill(bootstrap, topic, 30);
        Map<String, Integer> times = new HashMap<>();
        try (var member = member(bootstrap, group, "share.acknowledgement.mode", "explicit")) {
            member.subscribe(List.of(topic));
            Groups.poll("what is released comes again", () -> {
                for (ConsumerRecord<String, String> record : member.poll(Duration.ofMillis(100))) {
                    int number = Integer.parseInt(record.key().substring(4));
                    int time = times.merge(record.key(), 1, Integer::sum);
                    Suite.same((short) time, record.deliveryCount().orElse((short) 0), "deliveries of " + record.key());
                    if (number % 3 == 0 && time == 1) {
                        member.acknowledge(record, AcknowledgeType.RELEASE);
                    } else {
                        member.acknowledge(record, number % 3 == 1 ? AcknowledgeType.REJECT : AcknowledgeType.ACCEPT);
                    }
                }
                member.commitSync().forEach((partition, error) -> Suite.holds(error.isEmpty(), "" + error));
                return times.values().stream().mapToInt(Integer::intValue).sum() == 40;
            });
        }
        times.forEach((key, time) -> Suite.same(Integer.parseInt(key.substring(4)) % 3 == 0 ? 2 : 1, time, key));
    }

    private static void administration(String bootstrap) throws Exception {
        String topic = Records.topic(bootstrap, "share-admin", 1);
        TopicPartition partition = new TopicPartition(topic, 0);
        String group = group(bootstrap, "share-admin");
        Records.fill(bootstrap, topic, 10);
        try (Admin admin = Admin.create(Suite.properties(bootstrap))) {
            Set<String> seen = new HashSet<>();
            try (var member = member(bootstrap, group)) {
                member.subscribe(List.of(topic));
                Groups.poll("all is read", () -> {
                    member.poll(Duration.ofMillis(100)).forEach(record -> seen.add(record.key()));
                    return seen.size() == 10;
                });
                member.commitSync();
                var told = admin.describeShareGroups(List.of(group)).all().get().get(group);
                Suite.same(GroupState.STABLE, told.groupState(), "its state");
                Suite.same(1, told.members().size(), "members");
                Suite.same(Set.of(partition), told.members().iterator().next().assignment().topicPartitions(), "assigned");
            }
            Groups.poll("the group is empty", () -> state(admin, group) == GroupState.EMPTY);
            Groups.poll("nothing is left to read", () -> offset(admin, group, partition).lag().orElse(-1L) == 0);
            admin.alterShareGroupOffsets(group, Map.of(partition, 5L)).all().get();
            Suite.same(5L, offset(admin, group, partition).startOffset(), "the start offset that was set");
            admin.deleteShareGroupOffsets(group, Set.of(topic)).all().get();
            admin.deleteShareGroups(List.of(group)).all().get();
            Suite.holds(admin.listGroups().all().get().stream().noneMatch(one -> one.groupId().equals(group)), "it is gone");
        }
    }

    private static GroupState state(Admin admin, String group) throws Exception {
        return admin.describeShareGroups(List.of(group)).all().get().get(group).groupState();
    }

    private static SharePartitionOffsetInfo offset(Admin admin, String group, TopicPartition partition) throws Exception {
        var offsets = admin.listShareGroupOffsets(Map.of(group, new ListShareGroupOffsetsSpec()
            .topicPartitions(List.of(partition)))).all().get().get(group);
        return offsets.get(partition);
    }
}
