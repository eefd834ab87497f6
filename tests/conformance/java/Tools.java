import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Apache Kafka's command-line tools, with exactly what they print: {@code java Tools BOOTSTRAP [NAME...]}. */
public final class Tools {
    private static final String TOOLS = "org.apache.kafka.tools.";
    private static final String NUMBER = "<[0-9]+>";

    private final String bootstrap;
    private final String topic = Suite.fresh("tool");
    private final String group = Suite.fresh("tool-group");

    private Tools(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    interface Script {
        void run(Tools tools) throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, Script> scripts = new LinkedHashMap<>();
        scripts.put("tool-topics", Tools::topics);
        scripts.put("tool-configs", Tools::configs);
        scripts.put("tool-quotas", Tools::quotas);
        scripts.put("tool-group-configs", Tools::groupConfigs);
        scripts.put("tool-console", Tools::console);
        scripts.put("tool-performance", Tools::performance);
        scripts.put("tool-verifiable", tools -> tools.verifiable("classic"));
        scripts.put("tool-verifiable-consumer", tools -> tools.verifiable("consumer"));
        scripts.put("tool-get-offsets", Tools::offsets);
        scripts.put("tool-consumer-groups", Tools::consumerGroups);
        scripts.put("tool-groups", Tools::groups);
        scripts.put("tool-delete-records", Tools::deleteRecords);
        scripts.put("tool-log-dirs", Tools::logDirs);
        scripts.put("tool-transactions", Tools::transactions);
        scripts.put("tool-share-groups", Tools::shareGroups);
        scripts.put("tool-share-consumers", Tools::shareConsumers);
        scripts.put("tool-api-versions", Tools::apiVersions);
        scripts.put("tool-features", Tools::features);
        scripts.put("tool-quorum", Tools::quorum);
        scripts.put("tool-cluster", Tools::cluster);
        scripts.put("tool-leader-election", Tools::leaderElection);
        scripts.put("tool-reassign", Tools::reassign);
        scripts.put("tool-client-metrics", Tools::clientMetrics);
        scripts.put("tool-acls", Tools::acls);
        Map<String, Suite.Scenario> scenarios = new LinkedHashMap<>();
        scripts.forEach((name, script) -> scenarios.put(name, bootstrap -> script.run(new Tools(bootstrap))));
        Suite.run(scenarios, 1, arguments);
    }

    /** A tool that is told where the brokers are. */
    private Tool run(String tool, String... arguments) throws Exception {
        return fed("", tool, arguments);
    }

    private Tool fed(String input, String tool, String... arguments) throws Exception {
        List<String> all = new ArrayList<>(List.of("--bootstrap-server", bootstrap));
        all.addAll(List.of(arguments));
        return Tool.fed(input, tool.startsWith("kafka.") ? tool : TOOLS + tool, all.toArray(String[]::new));
    }

    private void make(int partitions) throws Exception {
        run("TopicCommand", "--create", "--topic", topic, "--partitions", "" + partitions).says("Created topic " + topic + ".");
    }

    private void fill(String... lines) throws Exception {
        fed(String.join("\n", lines) + "\n", "ConsoleProducer", "--topic", topic, "--reader-property", "parse.key=true",
            "--reader-property", "key.separator=:").says();
    }

    private void topics() throws Exception {
        run("TopicCommand", "--create", "--topic", topic, "--partitions", "2", "--config", "retention.ms=100000")
            .says("Created topic " + topic + ".");
        run("TopicCommand", "--create", "--topic", topic, "--partitions", "2")
            .writes("Error while executing topic command : Topic '" + topic + "' already exists.");
        run("TopicCommand", "--describe", "--topic", topic).says(
            "Topic: " + topic + " TopicId: <[A-Za-z0-9_-]{22}> PartitionCount: 2 ReplicationFactor: 1 Configs:"
                + " <(min.insync.replicas=1,)?>retention.ms=100000",
            "Topic: " + topic + " Partition: 0 Leader: <([0-9]+) Replicas: \\1 Isr: \\1> Elr: LastKnownElr:",
            "Topic: " + topic + " Partition: 1 Leader: <([0-9]+) Replicas: \\1 Isr: \\1> Elr: LastKnownElr:");
        run("TopicCommand", "--alter", "--topic", topic, "--partitions", "3").says();
        run("TopicCommand", "--alter", "--topic", topic, "--partitions", "3")
            .writes("Error while executing topic command : Topic already has 3 partition(s).");
        run("TopicCommand", "--list").has(topic);
        run("TopicCommand", "--list", "--topic", topic).says(topic);
        run("TopicCommand", "--describe", "--under-replicated-partitions").says();
        run("TopicCommand", "--delete", "--topic", topic).says();
        run("TopicCommand", "--describe", "--topic", topic)
            .writes("Error while executing topic command : Topic '" + topic + "' does not exist as expected");
    }

    private void configs() throws Exception {
        make(1);
        String config = "kafka.admin.ConfigCommand";
        String done = "Completed updating config for topic " + topic + ".";
        run(config, "--describe", "--topic", topic).says("Dynamic configs for topic " + topic + " are:");
        run(config, "--alter", "--topic", topic, "--add-config", "retention.ms=5000,cleanup.policy=[compact,delete]").says(done);
        run(config, "--describe", "--topic", topic).says(
            "Dynamic configs for topic " + topic + " are:",
            "cleanup.policy=compact,delete sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:cleanup.policy=compact,delete,"
                + " DEFAULT_CONFIG:log.cleanup.policy=delete}",
            "retention.ms=5000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=5000"
                + "<(, DEFAULT_CONFIG:log.retention.ms=604800000)?>}");
        run(config, "--describe", "--all", "--topic", topic)
            .has("All configs for topic " + topic + " are:")
            .has("segment.bytes=1073741824 sensitive=false synonyms={DEFAULT_CONFIG:log.segment.bytes=1073741824}")
            .has("max.message.bytes=1048588 sensitive=false synonyms={DEFAULT_CONFIG:message.max.bytes=1048588}")
            .has("compression.type=producer sensitive=false synonyms={DEFAULT_CONFIG:compression.type=producer}")
            .has("retention.bytes=-1 sensitive=false synonyms={DEFAULT_CONFIG:log.retention.bytes=-1}");
        run(config, "--alter", "--topic", topic, "--delete-config", "retention.ms,cleanup.policy").says(done);
        run(config, "--describe", "--topic", topic).says("Dynamic configs for topic " + topic + " are:");
        run(config, "--alter", "--topic", topic, "--add-config", "nope=1")
            .has("Caused by: org.apache.kafka.common.errors.InvalidConfigurationException: Unknown topic config name: nope");
        run(config, "--describe", "--entity-type", "brokers", "--entity-default")
            .has("Default configs for brokers in the cluster are:");
    }

    private void quotas() throws Exception {
        String config = "kafka.admin.ConfigCommand";
        String user = Suite.fresh("user");
        run(config, "--alter", "--entity-type", "users", "--entity-name", user, "--add-config", "producer_byte_rate=1024")
            .says("Completed updating config for user " + user + ".");
        run(config, "--describe", "--entity-type", "users", "--entity-name", user)
            .says("Quota configs for user-principal '" + user + "' are producer_byte_rate=1024.0");
        run(config, "--alter", "--entity-type", "users", "--entity-name", user, "--delete-config", "producer_byte_rate")
            .says("Completed updating config for user " + user + ".");
        run(config, "--describe", "--entity-type", "users", "--entity-name", user).says();
    }

    private void groupConfigs() throws Exception {
        String config = "kafka.admin.ConfigCommand";
        run(config, "--alter", "--group", group, "--add-config", "consumer.session.timeout.ms=50000")
            .says("Completed updating config for group " + group + ".");
        run(config, "--describe", "--group", group).says("Dynamic configs for group " + group + " are:",
            "consumer.session.timeout.ms=50000 sensitive=false synonyms={DYNAMIC_GROUP_CONFIG:consumer.session.timeout.ms=50000,"
                + " DEFAULT_CONFIG:group.consumer.session.timeout.ms=45000}");
    }

    private void console() throws Exception {
        make(1);
        fill("k1:v1", "k2:v2");
        run("consumer.ConsoleConsumer", "--topic", topic, "--from-beginning", "--max-messages", "2", "--timeout-ms", "20000",
            "--formatter-property", "print.key=true", "--formatter-property", "print.offset=true").says(
            "<The consumer rebalance protocol .*>", "Offset:0 k1 v1", "Offset:1 k2 v2", "Processed a total of 2 messages");
    }

    private void performance() throws Exception {
        make(3);
        Tool.run(TOOLS + "ProducerPerformance", "--topic", topic, "--num-records", "5000", "--record-size", "100",
            "--throughput", "-1", "--command-property", "bootstrap.servers=" + bootstrap).says("5000 records sent, <.*>");
        run("ConsumerPerformance", "--topic", topic, "--num-records", "5000", "--group", group)
            .has("<.*>, 0.4768, <.*>, 5000, <.*>");
        run("EndToEndLatency", "--topic", topic, "--num-records", "10", "--producer-acks", "all", "--record-size", "20")
            .has("Avg latency: <.*> ms");
    }

    private void verifiable(String protocol) throws Exception {
        make(1);
        Tool.apart(TOOLS + "VerifiableProducer", "--bootstrap-server", bootstrap, "--topic", topic, "--max-messages", "100").has(
            "{\"timestamp\":" + NUMBER + ",\"name\":\"tool_data\",\"sent\":100,\"acked\":100,<.*>}");
        run("VerifiableConsumer", "--topic", topic, "--group-id", group, "--max-messages", "100", "--reset-policy", "earliest",
            "--group-protocol", protocol)
            .has("<.*>\"partitions_assigned\",\"partitions\":[{\"topic\":\"" + topic + "\",\"partition\":0}]}")
            .has("<.*>\"offsets_committed\",\"offsets\":[{\"topic\":\"" + topic + "\",\"partition\":0,\"offset\":100}],"
                + "\"success\":true}");
    }

    private void offsets() throws Exception {
        make(2);
        run("GetOffsetShell", "--topic", topic).says(topic + ":0:0", topic + ":1:0");
        fill("a:1", "b:2", "c:3");
        Tool latest = run("GetOffsetShell", "--topic", topic).says(topic + ":0:" + NUMBER, topic + ":1:" + NUMBER);
        long sum = latest.lines().stream().mapToLong(line -> Long.parseLong(line.substring(line.lastIndexOf(':') + 1))).sum();
        Suite.same(3L, sum, "records");
        run("GetOffsetShell", "--topic", topic, "--time", "-2").says(topic + ":0:0", topic + ":1:0");
        run("GetOffsetShell", "--topic", topic, "--time", "0", "--partitions", "0").says(topic + ":0:" + NUMBER);
    }

    private void consumerGroups() throws Exception {
        make(1);
        fill("a:1", "b:2", "c:3");
        run("consumer.ConsoleConsumer", "--topic", topic, "--from-beginning", "--max-messages", "3", "--timeout-ms", "20000",
            "--group", group).has("Processed a total of 3 messages");
        String command = "consumer.group.ConsumerGroupCommand";
        String idle = "Consumer group '" + group + "' has no active members.";
        run(command, "--list").has(group);
        run(command, "--list", "--state").has(group + " Empty");
        run(command, "--describe", "--group", group).says(idle,
            "GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID",
            group + " " + topic + " 0 3 3 0 - - -");
        run(command, "--describe", "--group", group, "--state").says(idle,
            "GROUP COORDINATOR (ID) ASSIGNMENT-STRATEGY STATE #MEMBERS",
            group + " " + bootstrap + " (" + NUMBER + ") - Empty 0");
        run(command, "--describe", "--group", group, "--members").says(idle,
            "GROUP CONSUMER-ID HOST CLIENT-ID #PARTITIONS");
        run(command, "--reset-offsets", "--group", group, "--topic", topic, "--to-earliest", "--dry-run")
            .says("GROUP TOPIC PARTITION NEW-OFFSET", group + " " + topic + " 0 0");
        run(command, "--reset-offsets", "--group", group, "--topic", topic, "--shift-by", "-1", "--execute")
            .says("GROUP TOPIC PARTITION NEW-OFFSET", group + " " + topic + " 0 2");
        run(command, "--describe", "--group", group, "--offsets").has(group + " " + topic + " 0 2 3 1 - - -");
        run(command, "--delete-offsets", "--group", group, "--topic", topic).says(
            "Request succeeded for deleting offsets from group " + group + ".", "TOPIC PARTITION STATUS", topic + " 0 Successful");
        run(command, "--delete", "--group", group)
            .says("Deletion of requested consumer groups ('" + group + "') was successful.");
        run(command, "--delete", "--group", group).writes("Error: Deletion of some consumer groups failed:",
            "* Group '" + group + "' could not be deleted due to:"
                + " org.apache.kafka.common.errors.GroupIdNotFoundException: <.*>");
        run(command, "--describe", "--group", group).has("Error: Executing consumer group command failed due to"
            + " org.apache.kafka.common.errors.GroupIdNotFoundException: Group " + group + " not found.");
    }

    private void groups() throws Exception {
        make(1);
        fill("a:1");
        for (String protocol : List.of("classic", "consumer")) {
            run("consumer.ConsoleConsumer", "--topic", topic, "--from-beginning", "--max-messages", "1", "--timeout-ms", "20000",
                "--group", group + protocol, "--command-property", "group.protocol=" + protocol)
                .has("Processed a total of 1 messages");
        }
        run("GroupsCommand", "--list").has("GROUP TYPE PROTOCOL").has(group + "classic Classic consumer")
            .has(group + "consumer Consumer consumer");
    }

    private void deleteRecords() throws Exception {
        make(1);
        fill("a:1", "b:2", "c:3");
        Path file = Files.createTempFile("delete", ".json");
        Files.writeString(file, "{\"partitions\":[{\"topic\":\"" + topic + "\",\"partition\":0,\"offset\":2}],\"version\":1}");
        run("DeleteRecordsCommand", "--offset-json-file", file.toString()).says("Executing records delete operation",
            "Records delete operation completed:", "partition: " + topic + "-0 low_watermark: 2");
        Files.delete(file);
        run("GetOffsetShell", "--topic", topic, "--time", "-2").says(topic + ":0:2");
    }

    private void logDirs() throws Exception {
        make(1);
        fill("a:1");
        run("LogDirsCommand", "--describe", "--topic-list", topic).says("Querying brokers for log directories information",
            "Received log directory information from brokers " + NUMBER,
            "{\"brokers\":[{\"broker\":" + NUMBER + ",\"logDirs\":[{\"partitions\":[{\"partition\":\"" + topic
                + "-0\",\"size\":<[1-9][0-9]+>,\"offsetLag\":0,\"isFuture\":false}],\"error\":null,\"logDir\":\"<[^\"]+>\"}]}],"
                + "\"version\":1}");
    }

    private void transactions() throws Exception {
        make(1);
        fill(Collections.nCopies(20, "key:value").toArray(String[]::new));
        String id = Suite.fresh("copier");
        Tool.apart(TOOLS + "TransactionalMessageCopier", "--broker-list", bootstrap, "--input-topic", topic, "--input-partition", "0",
            "--output-topic", topic, "--transactional-id", id, "--consumer-group", group, "--transaction-size", "10",
            "--max-messages", "20").has("<.*>\"stage\":\"ShutdownComplete\",<.*>\"totalProcessed\":20,<.*>");
        String command = "TransactionsCommand";
        run(command, "list").has("TransactionalId Coordinator ProducerId TransactionState")
            .has(id + " " + NUMBER + " " + NUMBER + " CompleteCommit");
        run(command, "describe", "--transactional-id", id).says("CoordinatorId TransactionalId ProducerId ProducerEpoch"
                + " TransactionState TransactionTimeoutMs CurrentTransactionStartTimeMs TransactionDurationMs TopicPartitions",
            NUMBER + " " + id + " " + NUMBER + " 2 CompleteCommit 60000 <[0-9]+ [0-9]+>");
        run(command, "describe", "--transactional-id", id + "no").has("Failed to describe transaction state of transactional-id `"
            + id + "no`: DescribeTransactions request for transactionalId `" + id + "no` failed because the ID could not be"
            + " found.<.*>");
        run(command, "describe-producers", "--topic", topic, "--partition", "0").has("ProducerId ProducerEpoch"
            + " LatestCoordinatorEpoch LastSequence LastTimestamp CurrentTransactionStartOffset");
        run(command, "find-hanging", "--topic", topic)
            .says("Topic Partition ProducerId ProducerEpoch CoordinatorEpoch StartOffset LastTimestamp Duration(min)");
    }

    private void shareGroups() throws Exception {
        make(1);
        fill("a:1", "b:2", "c:3");
        run("kafka.admin.ConfigCommand", "--alter", "--group", group, "--add-config", "share.auto.offset.reset=earliest")
            .says("Completed updating config for group " + group + ".");
        run("consumer.ConsoleShareConsumer", "--topic", topic, "--max-messages", "3", "--group", group, "--timeout-ms", "20000")
            .says("1", "2", "3", "Processed a total of 3 messages");
        String command = "consumer.group.ShareGroupCommand";
        String idle = "Share group '" + group + "' has no active members.";
        run(command, "--list").has(group);
        run(command, "--describe", "--group", group, "--state").says(idle, "GROUP COORDINATOR (ID) STATE #MEMBERS",
            group + " " + bootstrap + " (" + NUMBER + ") Empty 0");
        run(command, "--describe", "--group", group).has("GROUP TOPIC PARTITION START-OFFSET LAG")
            .has(group + " " + topic + " 0 " + NUMBER + " 0");
        run(command, "--reset-offsets", "--group", group, "--topic", topic, "--to-earliest", "--execute")
            .says("GROUP TOPIC PARTITION NEW-OFFSET", group + " " + topic + " 0 0");
        run(command, "--delete-offsets", "--group", group, "--topic", topic).says("TOPIC STATUS", topic + " Successful");
        run(command, "--delete", "--group", group)
            .says("Deletion of requested share groups ('" + group + "') was successful.");
    }

    private void shareConsumers() throws Exception {
        make(1);
        fill("a:1", "b:2", "c:3");
        run("VerifiableShareConsumer", "--topic", topic, "--group-id", group, "--max-messages", "3",
            "--offset-reset-strategy", "earliest")
            .has("<.*>\"records_consumed\",\"count\":3,<.*>").has("<.*>\"offsets_acknowledged\",\"count\":3,<.*>");
    }

    /** All that a broker of Apache Kafka 4.4 serves to clients is served, in as many versions as these tools know. */
    private void apiVersions() throws Exception {
        Tool told = run("BrokerApiVersionsCommand");
        Suite.same(0, told.status(), "the exit status");
        List<String> unsupported = new ArrayList<>();
        for (String line : told.lines()) {
            boolean optional = line.contains("Telemetry") || line.contains("Raft") || line.contains("DelegationToken")
                || line.contains("Streams") || line.contains("Sasl");
            if (line.contains("UNSUPPORTED") && !optional) {
                unsupported.add(line);
            }
        }
        Suite.same(List.of(), unsupported, "what is not served");
        told.has("Produce(0): 0 to 13 [usable: 13],").has("Fetch(1): 4 to 18 [usable: 18],")
            .has("ApiVersions(18): 0 to <[45]> [usable: 4],").has("Metadata(3): 0 to 13 [usable: 13],");
    }

    private void features() throws Exception {
        run("FeatureCommand", "describe")
            .has("Feature: group.version SupportedMinVersion: 0 SupportedMaxVersion: 1 FinalizedVersionLevel: 1 Epoch: " + NUMBER)
            .has("Feature: transaction.version SupportedMinVersion: 0 SupportedMaxVersion: 2 FinalizedVersionLevel: 2 Epoch: "
                + NUMBER);
    }

    private void quorum() throws Exception {
        run("MetadataQuorumCommand", "describe", "--status").has("LeaderId: " + NUMBER).has("MaxFollowerLag: 0")
            .has("CurrentVoters: [{\"id\": " + NUMBER + ", <.*>}]").has("CurrentObservers: []");
        run("MetadataQuorumCommand", "describe", "--replication")
            .has("NodeId DirectoryId LogEndOffset Lag LastFetchTimestamp LastCaughtUpTimestamp Status")
            .has(NUMBER + " <[A-Za-z0-9_-]{22}> " + NUMBER + " 0 " + NUMBER + " " + NUMBER + " Leader");
    }

    private void cluster() throws Exception {
        Tool.run(TOOLS + "ClusterTool", "cluster-id", "--bootstrap-server", bootstrap).says("Cluster ID: <[A-Za-z0-9_-]{22}>");
        Tool.run(TOOLS + "ClusterTool", "list-endpoints", "--bootstrap-server", bootstrap).says(
            "ID HOST PORT RACK STATE ENDPOINT_TYPE", NUMBER + " 127.0.0.1 " + NUMBER + " null unfenced broker");
    }

    private void leaderElection() throws Exception {
        make(1);
        run("LeaderElectionCommand", "--election-type", "preferred", "--topic", topic, "--partition", "0")
            .says("Valid replica already elected for partitions " + topic + "-0");
    }

    private void reassign() throws Exception {
        run("reassign.ReassignPartitionsCommand", "--list").says("No partition reassignments found.");
    }

    private void clientMetrics() throws Exception {
        String name = Suite.fresh("metrics");
        String command = "ClientMetricsCommand";
        run(command, "--alter", "--name", name, "--metrics", "org.apache.kafka.", "--interval", "60000")
            .says("Altered client metrics config for " + name + ".");
        run(command, "--describe", "--name", name).says("Client metrics configs for " + name + " are:", "interval.ms=60000",
            "match=", "metrics=org.apache.kafka.");
        run(command, "--list").has(name);
        run(command, "--delete", "--name", name).says("Deleted client metrics config for " + name + ".");
    }

    /** Without access control, as with Kafka that has no authorizer. */
    private void acls() throws Exception {
        run("AclCommand", "--list").has("Error while executing ACL command:"
            + " org.apache.kafka.common.errors.SecurityDisabledException: No Authorizer is configured on the broker");
    }
}
