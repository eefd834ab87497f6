import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.FeatureMetadata;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.admin.UserScramCredentialDeletion;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.quota.ClientQuotaFilterComponent;

/** What {@code Admin} can ask for, but for access control. */
final class Administration {
    interface Work {
        void run(Admin admin, String bootstrap) throws Exception;
    }

    static void scenarios(Map<String, Suite.Scenario> all) {
        Map<String, Work> scenarios = new java.util.LinkedHashMap<>();
        scenarios.put("admin-topics", Administration::topics);
        scenarios.put("admin-topic-errors", Administration::topicErrors);
        scenarios.put("admin-configs", Administration::configs);
        scenarios.put("admin-broker-configs", Administration::brokerConfigs);
        scenarios.put("admin-records", Administration::records);
        scenarios.put("admin-groups", Administration::groups);
        scenarios.put("admin-cluster", Administration::cluster);
        scenarios.put("admin-features", Administration::features);
        scenarios.put("admin-log-dirs", Administration::logDirs);
        scenarios.put("admin-quotas", Administration::quotas);
        scenarios.put("admin-scram", Administration::scram);
        scenarios.put("admin-elections", Administration::elections);
        scenarios.put("admin-client-metrics", Administration::clientMetrics);
        scenarios.forEach((name, work) -> all.put(name, bootstrap -> {
            try (Admin admin = Admin.create(Suite.properties(bootstrap))) {
                work.run(admin, bootstrap);
            }
        }));
    }

    private static void topics(Admin admin, String bootstrap) throws Exception {
        String name = Suite.fresh("admin");
        var made = admin.createTopics(List.of(new NewTopic(name, Optional.of(3), Optional.empty())
            .configs(Map.of("retention.ms", "60000"))));
        made.all().get();
        Suite.same(3, made.numPartitions(name).get(), "partitions that were made");
        Suite.same("60000", made.config(name).get().get("retention.ms").value(), "a configuration that was made");
        TopicDescription told = admin.describeTopics(List.of(name)).allTopicNames().get().get(name);
        Suite.same(3, told.partitions().size(), "partitions");
        Suite.same(made.topicId(name).get(), told.topicId(), "the topic's id");
        Suite.same(false, told.isInternal(), "internal");
        Suite.same(0, told.partitions().get(0).partition(), "the first partition");
        Suite.holds(told.partitions().get(0).leader().id() >= 0, "it has a leader");
        Suite.same(told.topicId(), admin.describeTopics(org.apache.kafka.common.TopicCollection.ofTopicIds(
            List.of(told.topicId()))).allTopicIds().get().get(told.topicId()).topicId(), "described by id");
        Suite.holds(admin.listTopics(new ListTopicsOptions().listInternal(true)).names().get().contains(name), "listed");
        admin.createPartitions(Map.of(name, NewPartitions.increaseTo(5))).all().get();
        Groups.poll("there are more",
            () -> admin.describeTopics(List.of(name)).allTopicNames().get().get(name).partitions().size() == 5);
        admin.deleteTopics(List.of(name)).all().get();
        Groups.poll("it is gone", () -> !admin.listTopics().names().get().contains(name));
        String other = Suite.fresh("admin");
        admin.createTopics(List.of(new NewTopic(other, 1, (short) 1)), new CreateTopicsOptions().validateOnly(true)).all().get();
        Suite.holds(!admin.listTopics().names().get().contains(other), "only validated");
    }

    private static void topicErrors(Admin admin, String bootstrap) throws Exception {
        String name = Records.topic(bootstrap, "errors", 2);
        Suite.fails(TopicExistsException.class, () -> admin.createTopics(List.of(new NewTopic(name, 1, (short) 1))).all().get());
        Suite.fails(InvalidTopicException.class, () -> admin.createTopics(List.of(new NewTopic("a b", 1, (short) 1))).all().get());
        Suite.fails(InvalidPartitionsException.class,
            () -> admin.createTopics(List.of(new NewTopic(Suite.fresh("none"), 0, (short) 1))).all().get());
        Suite.fails(org.apache.kafka.common.errors.InvalidReplicationFactorException.class,
            () -> admin.createTopics(List.of(new NewTopic(Suite.fresh("many"), 1, (short) 9))).all().get());
        Suite.fails(InvalidConfigurationException.class, () -> admin.createTopics(List.of(
            new NewTopic(Suite.fresh("bad"), 1, (short) 1).configs(Map.of("retention.ms", "soon")))).all().get());
        Suite.fails(InvalidPartitionsException.class,
            () -> admin.createPartitions(Map.of(name, NewPartitions.increaseTo(1))).all().get());
        String missing = Suite.fresh("missing");
        Suite.fails(UnknownTopicOrPartitionException.class, () -> admin.describeTopics(List.of(missing)).allTopicNames().get());
        Suite.fails(UnknownTopicOrPartitionException.class, () -> admin.deleteTopics(List.of(missing)).all().get());
        Suite.fails(UnknownTopicOrPartitionException.class,
            () -> admin.createPartitions(Map.of(missing, NewPartitions.increaseTo(2))).all().get());
    }

    private static Config config(Admin admin, ConfigResource resource) throws Exception {
        return admin.describeConfigs(List.of(resource)).all().get().get(resource);
    }

    private static void alter(Admin admin, ConfigResource resource, String name, String value, OpType kind) throws Exception {
        Collection<AlterConfigOp> changes = List.of(new AlterConfigOp(new ConfigEntry(name, value), kind));
        admin.incrementalAlterConfigs(Map.of(resource, changes)).all().get();
    }

    private static void configs(Admin admin, String bootstrap) throws Exception {
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, Records.topic(bootstrap, "configs", 1));
        ConfigEntry before = config(admin, topic).get("retention.ms");
        Suite.same("604800000", before.value(), "the default");
        Suite.holds(before.isDefault(), "it is a default: " + before.source());
        alter(admin, topic, "retention.ms", "1000", OpType.SET);
        ConfigEntry after = config(admin, topic).get("retention.ms");
        Suite.same("1000", after.value(), "what was set");
        Suite.same(ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, after.source(), "its source");
        alter(admin, topic, "cleanup.policy", "compact", OpType.APPEND);
        Suite.same(Set.of("delete", "compact"),
            new TreeSet<>(Arrays.asList(config(admin, topic).get("cleanup.policy").value().split(","))), "appended");
        alter(admin, topic, "cleanup.policy", "compact", OpType.SUBTRACT);
        Suite.same("delete", config(admin, topic).get("cleanup.policy").value(), "subtracted");
        alter(admin, topic, "retention.ms", null, OpType.DELETE);
        Suite.same("604800000", config(admin, topic).get("retention.ms").value(), "the default again");
        Suite.fails(InvalidConfigurationException.class, () -> alter(admin, topic, "retention.ms", "soon", OpType.SET));
        Suite.fails(InvalidConfigurationException.class, () -> alter(admin, topic, "no.such.thing", "1", OpType.SET));
        Suite.fails(UnknownTopicOrPartitionException.class, () -> config(admin,
            new ConfigResource(ConfigResource.Type.TOPIC, Suite.fresh("missing"))));
        // Every configuration of a topic that Kafka knows is told, and nothing that it does not know.
        Set<String> told = new TreeSet<>();
        config(admin, topic).entries().forEach(entry -> told.add(entry.name()));
        Set<String> known = new TreeSet<>(Set.of("cleanup.policy", "compression.type", "delete.retention.ms",
            "file.delete.delay.ms", "index.interval.bytes", "max.compaction.lag.ms", "max.message.bytes",
            "message.timestamp.after.max.ms", "message.timestamp.before.max.ms", "message.timestamp.type",
            "min.cleanable.dirty.ratio", "min.compaction.lag.ms", "min.insync.replicas", "preallocate", "retention.bytes",
            "retention.ms", "segment.bytes", "segment.index.bytes", "segment.jitter.ms", "segment.ms"));
        known.removeAll(told);
        Suite.same(Set.of(), known, "configurations that are not told");
    }

    private static void brokerConfigs(Admin admin, String bootstrap) throws Exception {
        String id = admin.describeCluster().nodes().get().iterator().next().idString();
        ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, id);
        Config told = config(admin, broker);
        for (String name : List.of("num.partitions", "log.retention.ms", "message.max.bytes", "offsets.retention.minutes",
            "group.max.session.timeout.ms", "auto.create.topics.enable", "default.replication.factor", "log.dirs")) {
            Suite.holds(told.get(name) != null, name + " is told");
        }
        ConfigResource all = new ConfigResource(ConfigResource.Type.BROKER, "");
        alter(admin, all, "log.retention.bytes", "7000000000000", OpType.SET);
        Groups.poll("the broker knows", () -> "7000000000000".equals(config(admin, broker).get("log.retention.bytes").value()));
        Suite.same(ConfigEntry.ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG, config(admin, broker).get("log.retention.bytes").source(),
            "its source");
        alter(admin, all, "log.retention.bytes", null, OpType.DELETE);
    }

    private static void records(Admin admin, String bootstrap) throws Exception {
        String topic = Records.topic(bootstrap, "records", 1);
        TopicPartition partition = new TopicPartition(topic, 0);
        Records.fill(bootstrap, topic, 10);
        Suite.same(4L, admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(4))).lowWatermarks().get(partition)
            .get().lowWatermark(), "the low watermark");
        Suite.same(4L, offset(admin, partition, OffsetSpec.earliest()), "the earliest offset");
        Suite.same(10L, offset(admin, partition, OffsetSpec.latest()), "the latest offset");
        Suite.holds(offset(admin, partition, OffsetSpec.maxTimestamp()) >= 0, "an offset of the largest timestamp");
        Suite.same(4L, offset(admin, partition, OffsetSpec.forTimestamp(0)), "the first by time");
        Suite.same(6, Records.read(bootstrap, topic).get(0).size(), "records left");
        Suite.fails(OffsetOutOfRangeException.class,
            () -> admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(11))).all().get());
        admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(-1))).all().get();
        Suite.same(10L, offset(admin, partition, OffsetSpec.earliest()), "nothing is left");
    }

    private static long offset(Admin admin, TopicPartition partition, OffsetSpec which) throws Exception {
        return admin.listOffsets(Map.of(partition, which)).partitionResult(partition).get().offset();
    }

    private static void groups(Admin admin, String bootstrap) throws Exception {
        String topic = Records.topic(bootstrap, "grouped", 2);
        TopicPartition partition = new TopicPartition(topic, 0);
        String group = Suite.fresh("grouped");
        try (var member = Records.consumer(bootstrap, "group.id", group, "client.id", "me", "group.protocol", "classic")) {
            member.subscribe(List.of(topic));
            Groups.until("it has both", () -> member.assignment().size() == 2, record -> { }, member);
            var told = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            Suite.same(GroupState.STABLE, told.groupState(), "its state");
            Suite.same("range", told.partitionAssignor(), "its assignor");
            Suite.same(1, told.members().size(), "members");
            var one = told.members().iterator().next();
            Suite.same("me", one.clientId(), "the client's id");
            Suite.same("/127.0.0.1", one.host(), "its host");
            Suite.same(2, one.assignment().topicPartitions().size(), "its partitions");
            member.commitSync(Map.of(partition, new OffsetAndMetadata(0)));
        }
        Groups.poll("it is empty", () -> admin.describeConsumerGroups(List.of(group)).all().get().get(group).groupState()
            == GroupState.EMPTY);
        Set<String> listed = new HashSet<>();
        admin.listGroups().all().get().forEach(one -> listed.add(one.groupId() + " " + one.protocol()));
        Suite.holds(listed.contains(group + " consumer"), "it is listed: " + listed);
        admin.alterConsumerGroupOffsets(group, Map.of(partition, new OffsetAndMetadata(7, "seven"))).all().get();
        var offsets = admin.listConsumerGroupOffsets(Map.of(group, new ListConsumerGroupOffsetsSpec())).all().get().get(group);
        Suite.same(new OffsetAndMetadata(7, "seven"), offsets.get(partition), "the offset that was set");
        admin.deleteConsumerGroupOffsets(group, Set.of(partition)).all().get();
        Suite.same(Map.of(), admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get(), "offsets left");
        admin.deleteConsumerGroups(List.of(group)).all().get();
        Suite.fails(GroupIdNotFoundException.class, () -> admin.describeConsumerGroups(List.of(group)).all().get());
        Suite.fails(GroupIdNotFoundException.class, () -> admin.deleteConsumerGroups(List.of(group)).all().get());
    }

    private static void cluster(Admin admin, String bootstrap) throws Exception {
        var told = admin.describeCluster();
        Suite.holds(!told.clusterId().get().isEmpty(), "it has an id");
        Suite.holds(told.nodes().get().size() >= 1, "it has brokers");
        Suite.holds(told.nodes().get().contains(told.controller().get()), "its controller is one of them");
        var quorum = admin.describeMetadataQuorum().quorumInfo().get();
        Suite.holds(quorum.voters().size() >= 1, "it has voters");
        Suite.holds(quorum.leaderEpoch() > 0, "its leader has an epoch");
    }

    private static void features(Admin admin, String bootstrap) throws Exception {
        FeatureMetadata told = admin.describeFeatures().featureMetadata().get();
        for (String feature : List.of("group.version", "transaction.version", "metadata.version", "share.version")) {
            Suite.holds(told.finalizedFeatures().containsKey(feature), feature + " is finalized: " + told);
            Suite.holds(told.supportedFeatures().containsKey(feature), feature + " is supported: " + told);
        }
        Suite.same((short) 2, told.finalizedFeatures().get("transaction.version").maxVersionLevel(), "transactions");
        Suite.same((short) 1, told.finalizedFeatures().get("group.version").maxVersionLevel(), "groups");
    }

    private static void logDirs(Admin admin, String bootstrap) throws Exception {
        String topic = Records.topic(bootstrap, "log-dirs", 1);
        Records.fill(bootstrap, topic, 100);
        TopicPartition partition = new TopicPartition(topic, 0);
        int id = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().get(0).leader().id();
        var dirs = admin.describeLogDirs(List.of(id)).allDescriptions().get().get(id);
        Suite.same(1, dirs.size(), "directories");
        var dir = dirs.values().iterator().next();
        Suite.holds(dir.replicaInfos().get(partition).size() > 1_000, "its size: " + dir.replicaInfos().get(partition));
        Suite.holds(dir.totalBytes().orElse(0) > 0 && dir.usableBytes().orElse(0) > 0, "the volume's size");
    }

    private static void quotas(Admin admin, String bootstrap) throws Exception {
        String user = Suite.fresh("user");
        ClientQuotaEntity entity = new ClientQuotaEntity(Map.of(ClientQuotaEntity.USER, user));
        admin.alterClientQuotas(List.of(new ClientQuotaAlteration(entity,
            List.of(new ClientQuotaAlteration.Op("producer_byte_rate", 1_000_000.0))))).all().get();
        ClientQuotaFilter filter = ClientQuotaFilter.containsOnly(
            List.of(ClientQuotaFilterComponent.ofEntity(ClientQuotaEntity.USER, user)));
        Groups.poll("it is told", () -> !admin.describeClientQuotas(filter).entities().get().isEmpty());
        Suite.same(Map.of(entity, Map.of("producer_byte_rate", 1_000_000.0)),
            admin.describeClientQuotas(filter).entities().get(), "the quota");
        admin.alterClientQuotas(List.of(new ClientQuotaAlteration(entity,
            List.of(new ClientQuotaAlteration.Op("producer_byte_rate", null))))).all().get();
        Groups.poll("it is gone", () -> admin.describeClientQuotas(filter).entities().get().isEmpty());
    }

    private static void scram(Admin admin, String bootstrap) throws Exception {
        String user = Suite.fresh("user");
        ScramCredentialInfo info = new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096);
        admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion(user, info, "secret"))).all().get();
        Groups.poll("it is told", () -> admin.describeUserScramCredentials().users().get().contains(user));
        Suite.same(List.of(info), admin.describeUserScramCredentials(List.of(user)).all().get().get(user).credentialInfos(),
            "its credentials");
        admin.alterUserScramCredentials(List.of(new UserScramCredentialDeletion(user, ScramMechanism.SCRAM_SHA_256))).all().get();
        Groups.poll("it is gone", () -> !admin.describeUserScramCredentials().users().get().contains(user));
    }

    private static void elections(Admin admin, String bootstrap) throws Exception {
        String topic = Records.topic(bootstrap, "elections", 1);
        TopicPartition partition = new TopicPartition(topic, 0);
        Suite.fails(ElectionNotNeededException.class,
            () -> admin.electLeaders(ElectionType.PREFERRED, Set.of(partition)).partitions().get().get(partition)
                .ifPresent(Administration::raise));
        Suite.same(Map.of(), admin.listPartitionReassignments(Set.of(partition)).reassignments().get(), "reassignments");
        int leader = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().get(0).leader().id();
        admin.alterPartitionReassignments(Map.of(partition, Optional.of(new NewPartitionReassignment(List.of(leader))))).all().get();
        Suite.fails(org.apache.kafka.common.errors.NoReassignmentInProgressException.class,
            () -> admin.alterPartitionReassignments(Map.of(partition, Optional.empty())).all().get());
    }

    private static void raise(Throwable error) {
        throw new RuntimeException(error);
    }

    private static void clientMetrics(Admin admin, String bootstrap) throws Exception {
        String name = Suite.fresh("metrics");
        ConfigResource resource = new ConfigResource(ConfigResource.Type.CLIENT_METRICS, name);
        alter(admin, resource, "interval.ms", "60000", OpType.SET);
        Map<String, ConfigResource.Type> listed = new HashMap<>();
        Groups.poll("it is listed", () -> {
            admin.listConfigResources(Set.of(ConfigResource.Type.CLIENT_METRICS), new org.apache.kafka.clients.admin
                .ListConfigResourcesOptions()).all().get().forEach(one -> listed.put(one.name(), one.type()));
            return listed.containsKey(name);
        });
        Suite.same("60000", config(admin, resource).get("interval.ms").value(), "its interval");
        alter(admin, resource, "interval.ms", null, OpType.DELETE);
    }
}
