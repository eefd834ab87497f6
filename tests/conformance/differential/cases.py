"""What is asked. Each case runs in the lowest and in the highest version of the APIs that it names, on fresh names."""

from compare import each
from protocol import NULL_UUID, batch

STRANGE_UUID = "00000000-0000-0000-0000-00000000beef"


def make(side, name, partitions=1, **configs):
    """Creates a topic and waits until its leaders answer; returns its id."""
    configs = [{"Name": key.replace("_", "."), "Value": value} for key, value in configs.items()]
    topic = {"Name": name, "NumPartitions": partitions, "ReplicationFactor": 1, "Configs": configs}
    side.ask("CreateTopics", 7, {"Topics": [topic], "timeoutMs": 30000}, keep=False)
    ready = lambda answer: all(p["ErrorCode"] == 0 for t in answer["Topics"] for p in [t, *t["Partitions"]])  # noqa: E731
    answer = side.until("Metadata", 12, {"Topics": [{"Name": name}], "AllowAutoTopicCreation": False}, ready)
    side.until("ListOffsets", 7, offsets(name, -1), lambda answer: answer["Topics"][0]["Partitions"][0]["ErrorCode"] == 0)
    return answer["Topics"][0]["TopicId"]


def produce(side, name, *batches, partition=0, acks=-1, **rest):
    for records in batches:
        side.ask("Produce", 9, produced(name, records, partition, acks), keep=False, **rest)


def produced(name, records, partition=0, acks=-1, topic_id=NULL_UUID, transaction=None):
    data = {"Name": name, "TopicId": topic_id, "PartitionData": [{"Index": partition, "Records": records}]}
    return {"Acks": acks, "TimeoutMs": 30000, "TopicData": [data], "TransactionalId": transaction}


def offsets(name, time, partition=0, epoch=-1):
    only = {"PartitionIndex": partition, "Timestamp": time, "CurrentLeaderEpoch": epoch}
    return {"ReplicaId": -1, "Topics": [{"Name": name, "Partitions": [only]}]}


def fetched(name, offset, partition=0, topic_id=NULL_UUID, epoch=-1, wait=0, largest=1 << 20, session=0, session_epoch=-1, isolation=0):
    only = {"Partition": partition, "FetchOffset": offset, "PartitionMaxBytes": largest, "CurrentLeaderEpoch": epoch}
    topic = {"Topic": name, "TopicId": topic_id, "Partitions": [only]}
    return {
        "MaxWaitMs": wait, "MinBytes": 1, "MaxBytes": largest, "IsolationLevel": isolation, "SessionId": session,
        "SessionEpoch": session_epoch, "Topics": [topic],
    }  # fmt: skip


def coordinator(side, group):
    """Waits until a group's coordinator is there."""
    ready = lambda answer: answer["Coordinators"][0]["ErrorCode"] == 0  # noqa: E731
    side.until("FindCoordinator", 4, {"KeyType": 0, "CoordinatorKeys": [group]}, ready)
    ready = lambda answer: answer["Groups"][0]["ErrorCode"] not in (14, 15, 16)  # noqa: E731
    side.until("DescribeGroups", 5, {"Groups": [group]}, ready)


# ---- who is there


@each("ApiVersions")
def versions(side, version):
    software = {"ClientSoftwareName": "diff", "ClientSoftwareVersion": "1"}
    answer = side.ask("ApiVersions", version, software if version >= 3 else {}, keep=False)
    answer["ApiKeys"] = [{"ApiKey": one["ApiKey"], "Versions": f"{one['MinVersion']} to {one['MaxVersion']}"} for one in answer["ApiKeys"]]
    side.answers.append((f"ApiVersions:{version}", answer))


@each("ApiVersions")
def strange_software(side, version):
    if version >= 3:
        side.ask("ApiVersions", version, {"ClientSoftwareName": "no good!", "ClientSoftwareVersion": ""})


@each("Metadata")
def metadata(side, version):
    name = side.name("topic")
    topic_id = make(side, name, 3)
    topics = [{"Name": name}, {"Name": side.name("missing")}]
    side.ask("Metadata", version, {"Topics": topics, "AllowAutoTopicCreation": False}, "some")
    if version >= 1:
        side.ask("Metadata", version, {"Topics": [], "AllowAutoTopicCreation": False}, "none")
        side.ask("Metadata", version, {"Topics": [{"Name": "a b"}], "AllowAutoTopicCreation": False}, "bad name")
    if version >= 8:
        asks = {"IncludeTopicAuthorizedOperations": True, "AllowAutoTopicCreation": False}
        side.ask("Metadata", version, {"Topics": [{"Name": name}], **asks}, "operations")
    if version >= 12:
        side.ask("Metadata", version, {"Topics": [{"Name": None, "TopicId": topic_id}]}, "by id")
        side.ask("Metadata", version, {"Topics": [{"Name": None, "TopicId": STRANGE_UUID}]}, "by a strange id")


@each("DescribeCluster")
def cluster(side, version):
    side.ask("DescribeCluster", version, {"IncludeClusterAuthorizedOperations": True})
    if version >= 1:
        side.ask("DescribeCluster", version, {"EndpointType": 2}, "controllers")
        side.ask("DescribeCluster", version, {"EndpointType": 3}, "a strange type")


@each("DescribeTopicPartitions")
def topic_partitions(side, version):
    name = side.name("topic")
    make(side, name, 3)
    both = [{"Name": name}, {"Name": side.name("missing")}]
    side.ask("DescribeTopicPartitions", version, {"Topics": both, "Cursor": None})
    side.ask("DescribeTopicPartitions", version, {"Topics": both[:1], "ResponsePartitionLimit": 2, "Cursor": None}, "limit")
    at = {"TopicName": name, "PartitionIndex": 2}
    side.ask("DescribeTopicPartitions", version, {"Topics": both[:1], "Cursor": at}, "cursor")


@each("FindCoordinator")
def find_coordinator(side, version):
    coordinator(side, side.name("group"))
    for kind, note in [(0, "group"), (1, "transaction"), (7, "a strange type")]:
        if version == 0 and kind:
            continue
        key = side.name("group")
        body = {"Key": key} if version < 4 else {"CoordinatorKeys": [key, ""]}
        if version >= 1:
            body["KeyType"] = kind
        if kind == 1:
            done = lambda answer: all(c["ErrorCode"] != 15 for c in answer.get("Coordinators", [answer]) if c.get("Key") != "")  # noqa: E731
            side.until("FindCoordinator", version, body, done)
        side.ask("FindCoordinator", version, body, note)


# ---- topics


@each("CreateTopics")
def create_topics(side, version):
    def ask(note, validate=False, **topic):
        topic = {"Name": side.name("topic"), "NumPartitions": 2, "ReplicationFactor": 1, **topic}
        side.ask("CreateTopics", version, {"Topics": [topic], "timeoutMs": 30000, "validateOnly": validate}, note)

    def configs(**pairs):
        return [{"Name": key.replace("_", "."), "Value": value} for key, value in pairs.items()]

    ask("only validated", True)
    ask("it is new", Configs=configs(retention_ms="1000"))
    ask("it is there")
    ask("it is there, only validated", True)
    ask("bad name", Name="a b")
    ask("no name", Name="")
    ask("a dot", Name=".")
    ask("long name", Name="x" * 250)
    ask("internal", Name="__consumer_offsets")
    ask("no partitions", Name=side.name("none"), NumPartitions=0)
    ask("negative partitions", Name=side.name("none"), NumPartitions=-2)
    ask("too many replicas", Name=side.name("many"), ReplicationFactor=3)
    ask("no replicas", Name=side.name("many"), ReplicationFactor=0)
    ask("strange configuration", Name=side.name("strange"), Configs=configs(nope="1"))
    ask("bad configuration", Name=side.name("bad"), Configs=configs(retention_ms="soon"))
    ask("empty configuration", Name=side.name("empty"), Configs=configs(cleanup_policy=""))
    ask("no value", Name=side.name("null"), Configs=[{"Name": "retention.ms", "Value": None}])
    placed = [{"PartitionIndex": 0, "BrokerIds": [0]}, {"PartitionIndex": 1, "BrokerIds": [0]}]
    ask("placed", Name=side.name("placed"), NumPartitions=-1, ReplicationFactor=-1, Assignments=placed)
    ask("placed and counted", Name=side.name("placed2"), Assignments=placed)
    ask("placed nowhere", Name=side.name("placed3"), NumPartitions=-1, ReplicationFactor=-1, Assignments=[{"PartitionIndex": 0, "BrokerIds": [7]}])
    ask("placed with a gap", Name=side.name("placed4"), NumPartitions=-1, ReplicationFactor=-1, Assignments=[{"PartitionIndex": 1, "BrokerIds": [0]}])
    ask("placed twice", Name=side.name("placed5"), NumPartitions=-1, ReplicationFactor=-1, Assignments=[{"PartitionIndex": 0, "BrokerIds": [0, 0]}])
    twice = {"Name": side.name("twice"), "NumPartitions": 1, "ReplicationFactor": 1}
    side.ask("CreateTopics", version, {"Topics": [twice, twice], "timeoutMs": 30000}, "named twice")
    if version >= 4:
        ask("defaults", Name=side.name("defaults"), NumPartitions=-1, ReplicationFactor=-1)


@each("DeleteTopics")
def delete_topics(side, version):
    name = side.name("topic")
    topic_id = make(side, name)

    def ask(note, name=None, topic_id=NULL_UUID):
        body = {"TopicNames": [name]} if version < 6 else {"Topics": [{"Name": name, "TopicId": topic_id}]}
        side.ask("DeleteTopics", version, {**body, "TimeoutMs": 30000}, note)

    ask("missing", side.name("missing"))
    ask("there", name)
    ask("gone", name)
    if version >= 6:
        ask("strange id", None, STRANGE_UUID)
        ask("gone id", None, topic_id)
        ask("name and id", name, topic_id)


@each("CreatePartitions")
def create_partitions(side, version):
    make(side, side.name("topic"), 2)

    def ask(note, validate=False, **topic):
        topic = {"Name": side.name("topic"), "Count": 3, "Assignments": None, **topic}
        side.ask("CreatePartitions", version, {"Topics": [topic], "TimeoutMs": 30000, "ValidateOnly": validate}, note)

    ask("only validated", True)
    ask("more")
    ask("as many")
    ask("fewer", Count=1)
    ask("none", Count=0)
    ask("missing", Name=side.name("missing"))
    ask("placed", Count=4, Assignments=[{"BrokerIds": [0]}])
    ask("placed nowhere", Count=5, Assignments=[{"BrokerIds": [7]}])
    ask("placed too few", Count=7, Assignments=[{"BrokerIds": [0]}])


# ---- configurations


def resource(kind, name, **rest):
    return {"ResourceType": kind, "ResourceName": name, **rest}


@each("DescribeConfigs")
def describe_configs(side, version):
    name = side.name("topic")
    make(side, name, retention_ms="1000", cleanup_policy="compact")

    def ask(note, *resources, **rest):
        side.ask("DescribeConfigs", version, {"Resources": list(resources), **rest}, note)

    ask("all of a topic", resource(2, name, ConfigurationKeys=None), IncludeSynonyms=True)
    ask("one of a topic", resource(2, name, ConfigurationKeys=["retention.ms", "nope"]), IncludeSynonyms=False)
    ask("missing topic", resource(2, side.name("missing"), ConfigurationKeys=None))
    ask("bad name", resource(2, "a b", ConfigurationKeys=None))
    ask("some of a broker", resource(4, "0", ConfigurationKeys=["num.partitions", "message.max.bytes", "log.retention.ms"]))
    ask("strange broker", resource(4, "77", ConfigurationKeys=["num.partitions"]))
    ask("no number", resource(4, "x", ConfigurationKeys=["num.partitions"]))
    ask("all brokers", resource(4, "", ConfigurationKeys=["message.max.bytes"]))
    ask("strange type", resource(77, "x", ConfigurationKeys=None))
    ask("group", resource(32, side.name("group"), ConfigurationKeys=None), IncludeSynonyms=True)
    ask("metrics", resource(16, side.name("metrics"), ConfigurationKeys=None))


@each("AlterConfigs")
def alter_configs(side, version):
    name = side.name("topic")
    make(side, name)

    def ask(note, kind, name, validate=False, **configs):
        configs = [{"Name": key.replace("_", "."), "Value": value} for key, value in configs.items()]
        side.ask("AlterConfigs", version, {"Resources": [resource(kind, name, Configs=configs)], "ValidateOnly": validate}, note)

    ask("set", 2, name, retention_ms="1000")
    ask("validate", 2, name, True, retention_ms="2000")
    ask("bad value", 2, name, retention_ms="soon")
    ask("null value", 2, name, retention_ms=None)
    ask("strange name", 2, name, nope="1")
    ask("missing topic", 2, side.name("missing"), retention_ms="1")
    ask("strange type", 77, "x", retention_ms="1")
    side.ask("DescribeConfigs", 4, {"Resources": [resource(2, name, ConfigurationKeys=["retention.ms"])]}, "after")


@each("IncrementalAlterConfigs")
def incremental_alter_configs(side, version):
    name = side.name("topic")
    make(side, name)

    def ask(note, kind, name, *changes, validate=False):
        configs = [{"Name": key, "ConfigOperation": operation, "Value": value} for operation, key, value in changes]
        side.ask("IncrementalAlterConfigs", version, {"Resources": [resource(kind, name, Configs=configs)], "ValidateOnly": validate}, note)

    def told(note):
        keys = ["retention.ms", "cleanup.policy"]
        side.ask("DescribeConfigs", 4, {"Resources": [resource(2, name, ConfigurationKeys=keys)], "IncludeSynonyms": True}, note)

    ask("set", 2, name, (0, "retention.ms", "1000"), (2, "cleanup.policy", "compact"))
    told("after set")
    ask("subtract and delete", 2, name, (1, "retention.ms", None), (3, "cleanup.policy", "compact"))
    told("after delete")
    ask("validate", 2, name, (0, "retention.ms", "5"), validate=True)
    ask("twice", 2, name, (0, "retention.ms", "5"), (0, "retention.ms", "6"))
    ask("append to what is no list", 2, name, (2, "retention.ms", "5"))
    ask("strange operation", 2, name, (9, "retention.ms", "5"))
    ask("bad value", 2, name, (0, "retention.ms", "soon"))
    ask("no value", 2, name, (0, "retention.ms", None))
    ask("strange name", 2, name, (0, "nope", "5"))
    ask("missing topic", 2, side.name("missing"), (0, "retention.ms", "5"))
    ask("strange broker", 4, "77", (0, "log.retention.ms", "5"))
    ask("strange type", 77, "x", (0, "retention.ms", "5"))
    told("in the end")


# ---- records


@each("Produce")
def produce_records(side, version):
    name = side.name("topic")
    topic_id = make(side, name, max_message_bytes="1000")
    good = batch([b"one", b"two", None])

    def ask(note, records=good, name=name, topic_id=topic_id, **rest):
        side.ask("Produce", version, produced(name, records, topic_id=topic_id, **rest), note)

    ask("first")
    ask("second")
    ask("acks 1", acks=1)
    ask("acks 2", acks=2)
    ask("missing partition", partition=7)
    ask("missing topic", name=side.name("missing"), topic_id=STRANGE_UUID)
    ask("bad checksum", batch([b"x"], bad_crc=True))
    ask("too large", batch([b"x" * 2000]))
    ask("two batches", good + good)
    ask("half of a batch", good[:-3])
    ask("bytes after a batch", good + b"\0\0\0")
    ask("no records", b"")
    ask("magic 1", batch([b"x"], magic=1))
    ask("magic 3", batch([b"x"], magic=3))
    ask("wrong count", batch([b"x", b"y"], count=1))
    ask("empty batch", batch([]))
    ask("a codec that is none", batch([b"x"], attributes=7))
    ask("control batch", batch([b"x"], attributes=32))
    ask("transactional without a transaction", batch([b"x"], attributes=16, producer=5, epoch=0, sequence=0))
    ask("far future", batch([b"x"], time=9_000_000_000_000))
    ask("a sequence in the middle", batch([b"x"], producer=4_000_000, epoch=0, sequence=5))
    side.ask("ListOffsets", 7, offsets(name, -1), "the end")


@each("Produce")
def produce_idempotent(side, version):
    name = side.name("topic")
    topic_id = make(side, name)
    body = {"TransactionalId": None, "TransactionTimeoutMs": 60000}
    identity = side.until("InitProducerId", 4, body, lambda answer: answer["ErrorCode"] == 0)["ProducerId"]

    def ask(note, sequence, epoch=0, values=(b"a", b"b")):
        records = batch(values, producer=identity, epoch=epoch, sequence=sequence)
        side.ask("Produce", version, produced(name, records, topic_id=topic_id), note)

    ask("first", 0)
    ask("next", 2)
    ask("again", 2)
    ask("the first again", 0)
    ask("a gap", 9)
    ask("within", 3)
    # Kafka remembers five batches and Weir ten: from here on neither knows the first.
    for number in range(11):
        ask("more", 4 + 2 * number)
    ask("older than what is remembered", 0)
    ask("next epoch", 0, 1)
    ask("next epoch not from 0", 5, 2)
    ask("old epoch", 26, 0)
    side.ask("ListOffsets", 7, offsets(name, -1), "the end")


@each("Produce")
def produce_compacted(side, version):
    name = side.name("topic")
    topic_id = make(side, name, cleanup_policy="compact")
    no_key = bytearray(batch([b"x"]))
    side.ask("Produce", version, produced(name, batch([b"x"]), topic_id=topic_id), "with a key")
    side.ask("Produce", version, produced(name, bytes(no_key), topic_id=topic_id), "again")


@each("Fetch")
def fetch(side, version):
    name = side.name("topic")
    topic_id = make(side, name)
    produce(side, name, batch([b"one", b"two"]), batch([b"three"]))

    def ask(note, offset, name=name, topic_id=topic_id, **rest):
        if version < 13:
            topic_id = NULL_UUID
        return side.ask("Fetch", version, fetched(name, offset, topic_id=topic_id, **rest), note)

    ask("all", 0)
    ask("in the middle of a batch", 1)
    ask("the second batch", 2)
    ask("the end", 3)
    ask("beyond the end", 4)
    ask("before the beginning", -1)
    ask("one byte", 0, largest=1)
    ask("missing partition", 0, partition=7)
    ask("missing topic", 0, name=side.name("missing"), topic_id=STRANGE_UUID)
    ask("committed", 0, isolation=1)
    if version >= 9:
        ask("this epoch", 0, epoch=0)
        ask("a later epoch", 0, epoch=7)
    if version >= 7:
        ask("a strange session", 0, session=12345, session_epoch=3)
        ask("an epoch without a session", 0, session=0, session_epoch=3)


@each("Fetch")
def fetch_session(side, version):
    if version < 7:
        return
    name = side.name("topic")
    topic_id = make(side, name)
    if version < 13:
        topic_id = NULL_UUID
    produce(side, name, batch([b"one"]))
    answer = side.ask("Fetch", version, fetched(name, 0, topic_id=topic_id, session_epoch=0), "full")
    session = answer["SessionId"]
    rest = {"topic_id": topic_id, "session": session}
    nothing = {**fetched(name, 0, session_epoch=1, **rest), "Topics": []}
    side.ask("Fetch", version, {**fetched(name, 1, session_epoch=1, **rest)}, "moved on")
    side.ask("Fetch", version, {**nothing, "SessionEpoch": 2}, "nothing new")
    produce(side, name, batch([b"two"]))
    side.ask("Fetch", version, {**nothing, "SessionEpoch": 3}, "something new")
    side.ask("Fetch", version, {**nothing, "SessionEpoch": 3}, "an epoch again")
    side.ask("Fetch", version, {**nothing, "SessionEpoch": -1}, "the end of it")
    side.ask("Fetch", version, {**nothing, "SessionEpoch": 4}, "after its end")


@each("ListOffsets")
def list_offsets(side, version):
    name = side.name("topic")
    make(side, name)

    def ask(note, time, **rest):
        side.ask("ListOffsets", version, offsets(name, time, **rest), note)

    ask("earliest of nothing", -2)
    ask("latest of nothing", -1)
    produce(side, name, batch([b"a", b"b"]), batch([b"c"], time=1_700_000_005_000))
    ask("earliest", -2)
    ask("latest", -1)
    ask("by time", 1_700_000_000_000)
    ask("by a time in a batch", 1_700_000_000_001)
    ask("by a time between", 1_700_000_000_002)
    ask("by a time after all", 1_800_000_000_000)
    ask("missing partition", -1, partition=7)
    side.ask("ListOffsets", version, offsets(side.name("missing"), -1), "missing topic")
    if version >= 4:
        ask("this epoch", -1, epoch=0)
        ask("a later epoch", -1, epoch=7)
    if version >= 7:
        for time in (-3, -4, -5, -6, -7):
            if version >= 11 or time > -4:
                ask(f"kind {time}", time)


@each("OffsetForLeaderEpoch")
def offset_for_leader_epoch(side, version):
    name = side.name("topic")
    make(side, name)
    produce(side, name, batch([b"a", b"b"]))

    def ask(note, epoch, current=-1, partition=0, name=name):
        only = {"Partition": partition, "CurrentLeaderEpoch": current, "LeaderEpoch": epoch}
        side.ask("OffsetForLeaderEpoch", version, {"ReplicaId": -1, "Topics": [{"Topic": name, "Partitions": [only]}]}, note)

    ask("this", 0)
    ask("later", 5)
    ask("undefined", -1)
    ask("later leader", 0, 7)
    ask("missing partition", 0, partition=7)
    ask("missing topic", 0, name=side.name("missing"))


@each("DeleteRecords")
def delete_records(side, version):
    name = side.name("topic")
    make(side, name, retention_ms="-1")  # these records are years old
    produce(side, name, batch([b"a", b"b"]), batch([b"c"]))

    def ask(note, offset, partition=0, name=name):
        topic = {"Name": name, "Partitions": [{"PartitionIndex": partition, "Offset": offset}]}
        side.ask("DeleteRecords", version, {"Topics": [topic], "TimeoutMs": 30000}, note)

    ask("one", 1)
    ask("the same", 1)
    ask("less", 0)
    ask("beyond", 4)
    ask("strange", -2)
    ask("missing partition", 1, 7)
    ask("missing topic", 1, 0, side.name("missing"))
    ask("all", -1)
    ask("an internal topic", 0, 0, "__consumer_offsets")
    side.ask("ListOffsets", 7, offsets(name, -2), "the beginning")
    side.ask("Fetch", 12, fetched(name, 0), "what is gone")


@each("DescribeLogDirs")
def log_dirs(side, version):
    name = side.name("topic")
    make(side, name)
    side.ask("DescribeLogDirs", version, {"Topics": [{"Topic": name, "Partitions": [0, 7]}]}, "one topic")
    side.ask("DescribeLogDirs", version, {"Topics": [{"Topic": side.name("missing"), "Partitions": [0]}]}, "missing topic")


@each("DescribeProducers")
def describe_producers(side, version):
    name = side.name("topic")
    make(side, name)
    produce(side, name, batch([b"a", b"b"], producer=4_000_001, epoch=3, sequence=0))
    side.ask("DescribeProducers", version, {"Topics": [{"Name": name, "PartitionIndexes": [0, 7]}]})
    side.ask("DescribeProducers", version, {"Topics": [{"Name": side.name("missing"), "PartitionIndexes": [0]}]}, "missing")


@each("ElectLeaders")
def elect_leaders(side, version):
    name = side.name("topic")
    make(side, name)
    for kind, note in [(0, "preferred"), (1, "unclean"), (7, "strange")]:
        if kind and version == 0:
            continue
        body = {"TopicPartitions": [{"Topic": name, "Partitions": [0, 7]}], "TimeoutMs": 30000}
        side.ask("ElectLeaders", version, {**body, "ElectionType": kind} if version else body, note)


@each("AlterPartitionReassignments")
def reassignments(side, version):
    name = side.name("topic")
    make(side, name)
    for replicas, note in [([0], "the same"), ([7], "nowhere"), ([], "none"), ([0, 0], "twice"), (None, "cancelled")]:
        only = {"PartitionIndex": 0, "Replicas": replicas}
        side.ask("AlterPartitionReassignments", version, {"Topics": [{"Name": name, "Partitions": [only]}], "TimeoutMs": 30000}, note)
    only = {"PartitionIndex": 7, "Replicas": [0]}
    side.ask("AlterPartitionReassignments", version, {"Topics": [{"Name": name, "Partitions": [only]}], "TimeoutMs": 30000}, "missing")


@each("ListPartitionReassignments")
def list_reassignments(side, version):
    name = side.name("topic")
    make(side, name)
    side.ask("ListPartitionReassignments", version, {"TimeoutMs": 30000, "Topics": [{"Name": name, "PartitionIndexes": [0, 7]}]})


# ---- groups


def joined(group, member="", protocols=("range", "roundrobin"), instance=None, kind="consumer", session=30000):
    protocols = [{"Name": name, "Metadata": name.encode()} for name in protocols]
    return {
        "GroupId": group, "SessionTimeoutMs": session, "RebalanceTimeoutMs": 30000, "MemberId": member, "GroupInstanceId": instance,
        "ProtocolType": kind, "Protocols": protocols,
    }  # fmt: skip


def member_of(side, group, version=9, **rest):
    """Joins, and joins again with the member id that it is told."""
    answer = side.ask("JoinGroup", version, joined(group, **rest), keep=False)
    if answer["ErrorCode"] == 79:
        answer = side.ask("JoinGroup", version, joined(group, answer["MemberId"], **rest), keep=False)
    return answer["MemberId"], answer["GenerationId"]


@each("JoinGroup")
def join_group(side, version):
    group = side.name("group")
    coordinator(side, group)
    answer = side.ask("JoinGroup", version, joined(group), "first")
    member = answer["MemberId"]
    if answer["ErrorCode"] == 79:
        side.ask("JoinGroup", version, joined(group, member), "with the id that was told")
    side.ask("JoinGroup", version, joined(group, "who"), "strange member")
    side.ask("JoinGroup", version, joined(group, member, kind="other"), "another kind")
    side.ask("JoinGroup", version, joined(group, "", ("nope",)), "no protocol in common")
    side.ask("JoinGroup", version, joined(side.name("g2"), session=1), "short session")
    side.ask("JoinGroup", version, joined(side.name("g2"), session=10_000_000), "long session")
    side.ask("JoinGroup", version, joined(""), "no group")
    side.ask("JoinGroup", version, joined(side.name("g3"), "", ()), "no protocols")
    side.ask("JoinGroup", version, joined(side.name("g3"), kind=""), "no kind")
    if version >= 5:
        side.ask("JoinGroup", version, joined(side.name("g4"), instance="one"), "static")
        side.ask("JoinGroup", version, joined(side.name("g4"), "who", instance="one"), "static with another id")


@each("SyncGroup")
def sync_group(side, version):
    group = side.name("group")
    coordinator(side, group)
    member, generation = member_of(side, group)

    def ask(note, member=member, generation=generation, group=group, **rest):
        given = [{"MemberId": member, "Assignment": b"all"}]
        body = {"GroupId": group, "GenerationId": generation, "MemberId": member, "Assignments": given, **rest}
        if version >= 5:
            body = {"ProtocolType": "consumer", "ProtocolName": "range", **body}
        side.ask("SyncGroup", version, body, note)

    ask("strange member", "who")
    ask("another generation", generation=77)
    ask("missing group", group=side.name("missing"))
    if version >= 5:
        ask("another kind", ProtocolType="other")
        ask("another protocol", ProtocolName="other")
    ask("leader")
    ask("again")
    ask("no group", group="")


@each("Heartbeat")
def heartbeat(side, version):
    group = side.name("group")
    coordinator(side, group)
    member, generation = member_of(side, group)

    def ask(note, member=member, generation=generation, group=group):
        side.ask("Heartbeat", version, {"GroupId": group, "GenerationId": generation, "MemberId": member}, note)

    ask("before sync")
    given = [{"MemberId": member, "Assignment": b"all"}]
    side.ask("SyncGroup", 3, {"GroupId": group, "GenerationId": generation, "MemberId": member, "Assignments": given}, keep=False)
    ask("stable")
    ask("strange member", "who")
    ask("another generation", generation=77)
    ask("missing group", group=side.name("missing"))
    ask("no group", group="")


@each("LeaveGroup")
def leave_group(side, version):
    group = side.name("group")
    coordinator(side, group)
    member, _ = member_of(side, group)

    def ask(note, member, group=group):
        body = {"MemberId": member} if version < 3 else {"Members": [{"MemberId": member}]}
        side.ask("LeaveGroup", version, {"GroupId": group, **body}, note)

    ask("strange member", "who")
    ask("missing group", member, side.name("missing"))
    ask("member", member)
    ask("again", member)
    if version >= 3:
        side.ask("LeaveGroup", version, {"GroupId": group, "Members": [{"MemberId": "", "GroupInstanceId": "who"}]}, "strange instance")


@each("DescribeGroups")
def describe_groups(side, version):
    group = side.name("group")
    coordinator(side, group)
    member, generation = member_of(side, group)

    def ask(note, *groups):
        body = {"Groups": list(groups)}
        side.ask("DescribeGroups", version, {**body, "IncludeAuthorizedOperations": True} if version >= 3 else body, note)

    ask("completing", group)
    given = [{"MemberId": member, "Assignment": b"all"}]
    side.ask("SyncGroup", 3, {"GroupId": group, "GenerationId": generation, "MemberId": member, "Assignments": given}, keep=False)
    ask("stable", group)
    ask("missing", side.name("missing"))
    side.ask("LeaveGroup", 3, {"GroupId": group, "Members": [{"MemberId": member}]}, keep=False)
    ask("empty", group)


@each("ListGroups")
def list_groups(side, version):
    group = side.name("group")
    coordinator(side, group)
    member_of(side, group)

    def ask(note, **body):
        answer = side.ask("ListGroups", version, body, keep=False)
        answer["Groups"] = [one for one in answer["Groups"] if one["GroupId"].startswith(side.name(""))]
        side.answers.append((f"ListGroups:{version}:{note}", answer))

    ask("all")
    if version >= 4:
        ask("stable", StatesFilter=["Stable"])
        ask("completing", StatesFilter=["CompletingRebalance"])
        ask("strange state", StatesFilter=["Nope"])
    if version >= 5:
        ask("classic", TypesFilter=["classic"])
        ask("consumer", TypesFilter=["consumer"])
        ask("strange type", TypesFilter=["nope"])


def committed(group, topic, offset, partition=0, topic_id=NULL_UUID, member="", generation=-1, metadata="m", epoch=-1):
    only = {"PartitionIndex": partition, "CommittedOffset": offset, "CommittedMetadata": metadata, "CommittedLeaderEpoch": epoch}
    topics = [{"Name": topic, "TopicId": topic_id, "Partitions": [only]}]
    return {"GroupId": group, "GenerationIdOrMemberEpoch": generation, "MemberId": member, "Topics": topics}


def body_for(api, version, body):
    """Leaves out what a version has no room for."""
    if api == "OffsetCommit" and version >= 5:
        body.pop("RetentionTimeMs", None)
    return body


@each("OffsetCommit")
def offset_commit(side, version):
    group, name = side.name("group"), side.name("topic")
    coordinator(side, group)
    topic_id = make(side, name, 2)

    def ask(note, offset, topic=name, topic_id=topic_id, group=group, **rest):
        side.ask("OffsetCommit", version, committed(group, topic, offset, topic_id=topic_id, **rest), note)

    ask("from outside", 5)
    ask("with an epoch", 6, epoch=0)
    ask("missing partition", 5, partition=7)
    ask("missing topic", 5, side.name("missing"), STRANGE_UUID)
    ask("negative", -5)
    ask("long metadata", 5, metadata="x" * 5000)
    ask("null metadata", 5, partition=1, metadata=None)
    ask("a generation from outside", 5, generation=3)
    ask("strange member", 5, member="who", generation=0)
    ask("no group", 5, group="")
    member, generation = member_of(side, group)
    ask("from outside while there are members", 5)
    ask("by a member before sync", 5, member=member, generation=generation)
    given = [{"MemberId": member, "Assignment": b"all"}]
    side.ask("SyncGroup", 3, {"GroupId": group, "GenerationId": generation, "MemberId": member, "Assignments": given}, keep=False)
    ask("by a member", 8, member=member, generation=generation)
    ask("by a member of another generation", 9, member=member, generation=generation + 5)
    told = {"Groups": [{"GroupId": group, "Topics": None}]}
    side.ask("OffsetFetch", 9, told, "after")


@each("OffsetFetch")
def offset_fetch(side, version):
    group, name = side.name("group"), side.name("topic")
    coordinator(side, group)
    topic_id = make(side, name, 2)
    side.ask("OffsetCommit", 8, committed(group, name, 5), keep=False)

    def ask(note, group=group, topics=None, stable=False):
        if version >= 8:
            body = {"Groups": [{"GroupId": group, "Topics": topics}]}
        else:
            topics = topics and [{"Name": one["Name"], "PartitionIndexes": one["PartitionIndexes"]} for one in topics]
            body = {"GroupId": group, "Topics": topics}
        side.ask("OffsetFetch", version, {**body, "RequireStable": stable} if version >= 7 else body, note)

    if version >= 2:
        ask("all")
        ask("all of a missing group", side.name("missing"))
    some = [{"Name": name, "TopicId": topic_id, "PartitionIndexes": [0, 1, 7]}]
    ask("some", topics=some)
    ask("some of a missing group", side.name("missing"), some)
    ask("a missing topic", topics=[{"Name": side.name("missing"), "TopicId": STRANGE_UUID, "PartitionIndexes": [0]}])
    ask("no topics", topics=[])
    ask("no group", "", some)
    if version >= 7:
        ask("stable", topics=some, stable=True)


@each("OffsetDelete")
def offset_delete(side, version):
    group, name = side.name("group"), side.name("topic")
    coordinator(side, group)
    make(side, name)
    side.ask("OffsetCommit", 8, committed(group, name, 5), keep=False)

    def ask(note, group=group, name=name, partition=0):
        side.ask("OffsetDelete", version, {"GroupId": group, "Topics": [{"Name": name, "Partitions": [{"PartitionIndex": partition}]}]}, note)

    ask("missing group", side.name("missing"))
    ask("missing topic", name=side.name("missing"))
    ask("missing partition", partition=7)
    ask("there")
    ask("gone")


@each("DeleteGroups")
def delete_groups(side, version):
    group, busy, name = side.name("group"), side.name("busy"), side.name("topic")
    coordinator(side, group)
    make(side, name)
    side.ask("OffsetCommit", 8, committed(group, name, 5), keep=False)
    member_of(side, busy)
    side.ask("DeleteGroups", version, {"GroupsNames": [busy, side.name("missing"), group]}, "three")
    side.ask("DeleteGroups", version, {"GroupsNames": [group]}, "gone")
    side.ask("DeleteGroups", version, {"GroupsNames": [""]}, "no name")


def is_assigned(answer):
    """A coordinator may hear of a new topic after its leaders have; until then it has nothing to assign."""
    return (answer["Assignment"] or {}).get("TopicPartitions")


@each("ConsumerGroupHeartbeat")
def consumer_group_heartbeat(side, version):
    group, name = side.name("group"), side.name("topic")
    coordinator(side, group)
    make(side, name, 2)
    member = "AAAAAAAAAAAAAAAAAAAAAA" if version >= 1 else ""

    def ask(note, epoch, member=member, group=group, **rest):
        return side.ask("ConsumerGroupHeartbeat", version, {"GroupId": group, "MemberId": member, "MemberEpoch": epoch, **rest}, note)

    first = {"RebalanceTimeoutMs": 30000, "SubscribedTopicNames": [name], "TopicPartitions": []}
    ask("strange member", 3, "who")
    ask("no timeout", 0, SubscribedTopicNames=[name], TopicPartitions=[])
    ask("no subscription", 0, RebalanceTimeoutMs=30000, TopicPartitions=[])
    ask("owns something at first", 0, RebalanceTimeoutMs=30000, SubscribedTopicNames=[name], TopicPartitions=[{"TopicId": STRANGE_UUID, "Partitions": [0]}])
    ask("no group", 0, group="", **first)
    ask("strange assignor", 0, ServerAssignor="nope", **first)
    watcher = {"GroupId": group, "MemberId": "AAAAAAAAAAAAAAAAAAAAAD"}
    side.until("ConsumerGroupHeartbeat", 1, {**watcher, "MemberEpoch": 0, **first}, is_assigned)
    side.ask("ConsumerGroupHeartbeat", 1, {**watcher, "MemberEpoch": -1}, keep=False)
    answer = ask("joins", 0, **first)
    member = answer.get("MemberId") or member
    epoch = answer.get("MemberEpoch", 0)
    ask("goes on", epoch, member)
    ask("a later epoch", epoch + 5, member)
    ask("strange epoch", -5, member)
    ask("leaves", -1, member)
    ask("has left", epoch, member)
    ask("leaves as static", -2, member)


@each("ConsumerGroupDescribe")
def consumer_group_describe(side, version):
    group, name, classic = side.name("group"), side.name("topic"), side.name("classic")
    coordinator(side, group)
    make(side, name)
    member_of(side, classic)
    first = {"RebalanceTimeoutMs": 30000, "SubscribedTopicNames": [name], "TopicPartitions": []}
    body = {"GroupId": group, "MemberId": "AAAAAAAAAAAAAAAAAAAAAB", "MemberEpoch": 0, **first}
    side.until("ConsumerGroupHeartbeat", 1, body, is_assigned)
    for what in (group, classic, side.name("missing")):
        body = {"GroupIds": [what], "IncludeAuthorizedOperations": True}
        side.ask("ConsumerGroupDescribe", version, body, what.rpartition("-")[2])
    side.ask("DescribeGroups", 6, {"Groups": [group]}, "as a classic one")


# ---- transactions


def transaction(side, identity, timeout=60000):
    ready = lambda answer: answer["ErrorCode"] not in (14, 15, 16, 51)  # noqa: E731
    side.until("FindCoordinator", 4, {"KeyType": 1, "CoordinatorKeys": [identity]}, lambda a: a["Coordinators"][0]["ErrorCode"] == 0)
    return side.until("InitProducerId", 5, {"TransactionalId": identity, "TransactionTimeoutMs": timeout}, ready)


@each("InitProducerId")
def init_producer_id(side, version):
    identity = side.name("id")
    transaction(side, identity)

    def ask(note, identity, timeout=60000, **rest):
        side.ask("InitProducerId", version, {"TransactionalId": identity, "TransactionTimeoutMs": timeout, **rest}, note)

    ask("none", None)
    ask("empty", "")
    ask("again", identity)
    ask("no timeout", identity, 0)
    ask("long timeout", identity, 10_000_000)
    if version >= 3:
        ask("a strange producer", identity, ProducerId=4_000_002, ProducerEpoch=3)
        ask("a producer without an epoch", identity, ProducerId=4_000_002)
        ask("no id but a producer", None, ProducerId=4_000_002, ProducerEpoch=3)


@each("AddPartitionsToTxn")
def add_partitions(side, version):
    identity, name = side.name("id"), side.name("topic")
    make(side, name)
    told = transaction(side, identity)
    producer, epoch = told["ProducerId"], told["ProducerEpoch"]

    def ask(note, identity=identity, producer=producer, epoch=epoch, name=name, partition=0):
        topics = [{"Name": name, "Partitions": [partition]}]
        if version < 4:
            body = {"V3AndBelowTransactionalId": identity, "V3AndBelowProducerId": producer, "V3AndBelowProducerEpoch": epoch}
            side.ask("AddPartitionsToTxn", version, {**body, "V3AndBelowTopics": topics}, note)
        else:
            one = {"TransactionalId": identity, "ProducerId": producer, "ProducerEpoch": epoch, "VerifyOnly": False, "Topics": topics}
            side.ask("AddPartitionsToTxn", version, {"Transactions": [one]}, note)

    ask("strange id", identity=side.name("missing"))
    ask("strange producer", producer=4_000_003)
    ask("old epoch", epoch=epoch - 1)
    ask("later epoch", epoch=epoch + 1)
    ask("missing topic", name=side.name("missing"))
    ask("missing partition", partition=7)
    ask("good")
    ask("again")


@each("EndTxn")
def end_transaction(side, version):
    identity, name = side.name("id"), side.name("topic")
    topic_id = make(side, name)
    told = transaction(side, identity)
    producer, epoch = told["ProducerId"], told["ProducerEpoch"]

    def ask(note, commit, identity=identity, producer=producer, epoch=epoch):
        body = {"TransactionalId": identity, "ProducerId": producer, "ProducerEpoch": epoch, "Committed": commit}
        return side.ask("EndTxn", version, body, note)

    ask("nothing to commit", True)
    ask("strange id", True, side.name("missing"))
    ask("strange producer", True, producer=4_000_003)
    ask("later epoch", True, epoch=epoch + 5)
    if version < 5:
        topics = [{"Name": name, "Partitions": [0]}]
        body = {"V3AndBelowTransactionalId": identity, "V3AndBelowProducerId": producer, "V3AndBelowProducerEpoch": epoch}
        side.ask("AddPartitionsToTxn", 3, {**body, "V3AndBelowTopics": topics}, "add")
    else:
        told = transaction(side, identity)
        producer, epoch = told["ProducerId"], told["ProducerEpoch"]
    records = batch([b"a"], producer=producer, epoch=epoch, sequence=0, attributes=16)
    side.ask("Produce", 13 if version >= 5 else 9, produced(name, records, topic_id=topic_id, transaction=identity), "inside")
    side.ask("ListOffsets", 7, {**offsets(name, -1), "IsolationLevel": 1}, "while it is open")
    side.ask("Fetch", 12, fetched(name, 0, isolation=1), "committed while it is open")
    ask("commit", True, producer=producer, epoch=epoch)
    done = lambda answer: answer["Topics"][0]["Partitions"][0]["Offset"] == 2  # noqa: E731
    side.until("ListOffsets", 7, {**offsets(name, -1), "IsolationLevel": 1}, done)
    side.ask("ListOffsets", 7, {**offsets(name, -1), "IsolationLevel": 1}, "when it is done")
    described = {"TransactionalIds": [identity, side.name("missing")]}
    side.until("DescribeTransactions", 0, described, lambda answer: answer["TransactionStates"][0]["TransactionState"] == "CompleteCommit")
    side.ask("DescribeTransactions", 0, described, "described")


@each("AddOffsetsToTxn", "TxnOffsetCommit")
def transaction_offsets(side, api, version):
    identity, group, name = side.name("id"), side.name("group"), side.name("topic")
    topic_id = make(side, name)
    coordinator(side, group)
    told = transaction(side, identity)
    producer, epoch = told["ProducerId"], told["ProducerEpoch"]

    def add(note, version, identity=identity, producer=producer, epoch=epoch):
        body = {"TransactionalId": identity, "ProducerId": producer, "ProducerEpoch": epoch, "GroupId": group}
        side.ask("AddOffsetsToTxn", version, body, note)

    def commit(note, version, group=group, name=name, producer=producer, epoch=epoch, **rest):
        only = {"PartitionIndex": 0, "CommittedOffset": 7, "CommittedMetadata": "m"}
        topics = [{"Name": name, "TopicId": topic_id, "Partitions": [only]}]
        if version < 6:
            del topics[0]["TopicId"]
        body = {"TransactionalId": identity, "GroupId": group, "ProducerId": producer, "ProducerEpoch": epoch, "Topics": topics}
        side.ask("TxnOffsetCommit", version, {**body, **rest}, note)

    if api == "AddOffsetsToTxn":
        add("strange id", version, side.name("missing"))
        add("strange producer", version, producer=4_000_003)
        add("later epoch", version, epoch=epoch + 5)
        add("good", version)
        return
    add("first", 3)
    if version >= 3:
        commit("strange member", version, MemberId="who", GenerationIdOrMemberEpoch=3)
        commit("strange instance", version, GroupInstanceId="who")
    commit("good", version)
    told = {"Groups": [{"GroupId": group, "Topics": None}]}
    side.ask("OffsetFetch", 9, told, "before the end")
    side.ask("OffsetFetch", 9, {**told, "RequireStable": True}, "stable before the end")
    side.ask("EndTxn", 3, {"TransactionalId": identity, "ProducerId": producer, "ProducerEpoch": epoch, "Committed": True}, "commit")
    done = lambda answer: answer["Groups"][0]["Topics"]  # noqa: E731
    side.until("OffsetFetch", 9, told, done)
    side.ask("OffsetFetch", 9, told, "after the end")


@each("DescribeTransactions")
def describe_transactions(side, version):
    identity = side.name("id")
    transaction(side, identity)
    side.ask("DescribeTransactions", version, {"TransactionalIds": [identity]}, "empty")
    side.ask("DescribeTransactions", version, {"TransactionalIds": [side.name("missing")]}, "missing")


@each("ListTransactions")
def list_transactions(side, version):
    identity = side.name("id")
    transaction(side, identity)

    def ask(note, **body):
        answer = side.ask("ListTransactions", version, body, keep=False)
        answer["TransactionStates"] = [one for one in answer["TransactionStates"] if one["TransactionalId"] == identity]
        side.answers.append((f"ListTransactions:{version}:{note}", answer))

    ask("all", StateFilters=[], ProducerIdFilters=[])
    ask("empty", StateFilters=["Empty"], ProducerIdFilters=[])
    ask("strange state", StateFilters=["Nope"], ProducerIdFilters=[])


# ---- the rest of administration


@each("DescribeClientQuotas")
def quotas(side, version):
    user = side.name("user")
    entity = {"Entity": [{"EntityType": "user", "EntityName": user}]}

    def alter(note, key, value, remove=False, entity=entity, validate=False):
        ops = [{"Key": key, "Value": value, "Remove": remove}]
        side.ask("AlterClientQuotas", version, {"Entries": [{**entity, "Ops": ops}], "ValidateOnly": validate}, note)

    def told(note, kind="user", match=0, name=user, strict=False):
        body = {"Components": [{"EntityType": kind, "MatchType": match, "Match": name}], "Strict": strict}
        side.ask("DescribeClientQuotas", version, body, note)

    alter("set", "producer_byte_rate", 1000.0)
    done = lambda answer: answer["Entries"]  # noqa: E731
    side.until("DescribeClientQuotas", version, {"Components": [{"EntityType": "user", "MatchType": 0, "Match": user}]}, done)
    told("by name")
    told("strict", strict=True)
    told("of another kind", "client-id")
    told("of a strange kind", "nope")
    alter("validate", "producer_byte_rate", 5.0, validate=True)
    alter("strange key", "nope", 1.0)
    alter("negative", "producer_byte_rate", -1.0)
    alter("strange entity", "producer_byte_rate", 1.0, entity={"Entity": [{"EntityType": "nope", "EntityName": user}]})
    alter("remove", "producer_byte_rate", 0.0, True)


@each("DescribeUserScramCredentials")
def scram(side, version):
    user = side.name("user")
    side.ask("DescribeUserScramCredentials", version, {"Users": [{"Name": user}]}, "missing")
    change = {"Deletions": [{"Name": user, "Mechanism": 1}], "Upsertions": []}
    side.ask("AlterUserScramCredentials", 0, change, "delete what is not there")
    good = {"Name": user, "Mechanism": 1, "Iterations": 4096, "Salt": b"salt", "SaltedPassword": b"x" * 32}
    side.ask("AlterUserScramCredentials", 0, {"Deletions": [], "Upsertions": [{**good, "Iterations": 1}]}, "few iterations")
    side.ask("AlterUserScramCredentials", 0, {"Deletions": [], "Upsertions": [{**good, "Mechanism": 9}]}, "strange mechanism")
    side.ask("AlterUserScramCredentials", 0, {"Deletions": [], "Upsertions": [good]}, "set")
    done = lambda answer: answer["Results"][0]["ErrorCode"] == 0  # noqa: E731
    side.until("DescribeUserScramCredentials", version, {"Users": [{"Name": user}]}, done)
    side.ask("DescribeUserScramCredentials", version, {"Users": [{"Name": user}]}, "there")


@each("DescribeAcls")
def acls(side, version):
    any_of = {"ResourceTypeFilter": 1, "PatternTypeFilter": 1, "Operation": 1, "PermissionType": 1}
    side.ask("DescribeAcls", version, {**any_of, "ResourceNameFilter": None, "PrincipalFilter": None, "HostFilter": None})
    one = {
        "ResourceType": 2, "ResourceName": "t", "ResourcePatternType": 3, "Principal": "User:a", "Host": "*", "Operation": 3, "PermissionType": 3,
    }  # fmt: skip
    side.ask("CreateAcls", version, {"Creations": [one]}, "create")
    side.ask("DeleteAcls", version, {"Filters": [{**any_of, "ResourceNameFilter": None, "PrincipalFilter": None, "HostFilter": None}]}, "delete")


@each("DescribeQuorum")
def quorum(side, version):
    def ask(note, name, partition):
        side.ask("DescribeQuorum", version, {"Topics": [{"TopicName": name, "Partitions": [{"PartitionIndex": partition}]}]}, note)

    ask("another topic", side.name("topic"), 0)
    ask("another partition", "__cluster_metadata", 7)


@each("UpdateFeatures")
def update_features(side, version):
    def ask(note, name, level, kind=1):
        body = {"FeatureUpdates": [{"Feature": name, "MaxVersionLevel": level, **({"UpgradeType": kind} if version else {})}], "timeoutMs": 30000}
        side.ask("UpdateFeatures", version, body, note)

    ask("strange feature", "nope", 1)
    ask("too high", "group.version", 9)


@each("ListConfigResources")
def config_resources(side, version):
    name = side.name("metrics")
    configs = [{"Name": "interval.ms", "ConfigOperation": 0, "Value": "60000"}]
    change = {"Resources": [{"ResourceType": 16, "ResourceName": name, "Configs": configs}], "ValidateOnly": False}
    side.ask("IncrementalAlterConfigs", 1, change, "set")
    body = {"ResourceTypes": [16]} if version else {}
    done = lambda answer: any(one["ResourceName"] == name for one in answer["ConfigResources"])  # noqa: E731
    side.until("ListConfigResources", version, body, done)
    answer = side.ask("ListConfigResources", version, body, keep=False)
    answer["ConfigResources"] = [one for one in answer["ConfigResources"] if one["ResourceName"] == name]
    side.answers.append((f"ListConfigResources:{version}", answer))
    if version:
        side.ask("ListConfigResources", version, {"ResourceTypes": [77]}, "strange type")


@each("ShareGroupHeartbeat")
def share_group_heartbeat(side, version):
    group, name = side.name("group"), side.name("topic")
    coordinator(side, group)
    make(side, name)
    member = "AAAAAAAAAAAAAAAAAAAAAC"

    def ask(note, epoch, member=member, group=group, topics=None):
        body = {"GroupId": group, "MemberId": member, "MemberEpoch": epoch, "SubscribedTopicNames": topics}
        return side.ask("ShareGroupHeartbeat", version, body, note)

    ask("strange member", 3, "who")
    ask("no member", 0, "", topics=[name])
    ask("no group", 0, group="", topics=[name])
    ask("no subscription", 0)
    epoch = ask("joins", 0, topics=[name]).get("MemberEpoch", 0)
    ask("a later epoch", epoch + 5)
    ask("strange epoch", -5)
    side.ask("ShareGroupDescribe", 1, {"GroupIds": [side.name("missing")]}, "missing")
    ask("leaves", -1)
    side.ask("ShareGroupDescribe", 1, {"GroupIds": [group]}, "empty")


@each("ShareFetch")
def share_fetch(side, version):
    group, name = side.name("group"), side.name("topic")
    topic_id = make(side, name)
    coordinator(side, group)

    def ask(note, epoch, member="AAAAAAAAAAAAAAAAAAAAAD", topic_id=topic_id, group=group, partition=0):
        topics = [{"TopicId": topic_id, "Partitions": [{"PartitionIndex": partition, "AcknowledgementBatches": []}]}]
        body = {"GroupId": group, "MemberId": member, "ShareSessionEpoch": epoch, "MaxWaitMs": 10, "MinBytes": 1, "MaxBytes": 1 << 20}
        side.ask("ShareFetch", version, {**body, "MaxRecords": 100, "BatchSize": 100, "Topics": topics}, note)

    ask("no session", 5)
    ask("no group", 0, group="")
    ask("a strange topic", 0, topic_id=STRANGE_UUID)
    ask("no such epoch", 9)
