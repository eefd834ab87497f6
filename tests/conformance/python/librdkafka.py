"""librdkafka through confluent-kafka: `librdkafka.py BOOTSTRAP [NAME...]`."""

import sys
import time

from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)
from suite import fails, fresh, main, same, scenario, until

COUNT = 2000
QUIET = {"log_level": 0}


ADMIN = AdminClient({"bootstrap.servers": sys.argv[1], **QUIET})  # one for all: what it was asked for fails when it goes


def admin(_bootstrap):
    return ADMIN


def topic(bootstrap, what, partitions=1, **config):
    name = fresh(what)
    new = NewTopic(name, partitions, 1, config={key.replace("_", "."): value for key, value in config.items()})
    admin(bootstrap).create_topics([new])[name].result()
    return name


def producer(bootstrap, **config):
    return Producer({"bootstrap.servers": bootstrap, **QUIET, **{key.replace("_", "."): value for key, value in config.items()}})


def consumer(bootstrap, group=None, **config):
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group or fresh("group"),
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": False,
            "check.crcs": True,
            **QUIET,
            **{key.replace("_", "."): value for key, value in config.items()},
        }
    )


def fill(bootstrap, name, count, **config):
    """Produces and returns partition and offset of each key."""
    placed, errors = {}, []

    def told(error, message):
        if error:
            errors.append(error)
        else:
            placed[message.key()] = (message.partition(), message.offset())

    client = producer(bootstrap, **config)
    for number in range(count):
        client.produce(name, key=b"key-%d" % number, value=b"value-%d" % number, on_delivery=told)
        client.poll(0)
    same(0, client.flush(60), "messages that were not delivered")
    same([], errors, "errors")
    same(count, len(placed), "acknowledged")
    return placed


def read(bootstrap, name, partitions, **config):
    """Everything between the beginning and the end of a topic."""
    client = consumer(bootstrap, **config)
    ends = {p: client.get_watermark_offsets(TopicPartition(name, p), timeout=30)[1] for p in range(partitions)}
    client.assign([TopicPartition(name, p, OFFSET_BEGINNING) for p in range(partitions)])
    messages = []

    def done():
        for message in client.consume(500, 0.1):
            assert not message.error(), message.error()
            messages.append(message)
        at = {p.partition: p.offset for p in client.position([TopicPartition(name, p) for p in range(partitions)])}
        return all(end == 0 or at[p] >= end for p, end in ends.items())

    until("the topic is read", done)
    client.close()
    return messages


def round_trip(bootstrap, **config):
    name = topic(bootstrap, "round-trip", 3)
    placed = fill(bootstrap, name, COUNT, **config)
    messages = read(bootstrap, name, 3)
    if config.get("acks") != 0:
        same(placed, {m.key(): (m.partition(), m.offset()) for m in messages}, "where messages are")
    same({b"value-%d" % n for n in range(COUNT)}, {m.value() for m in messages}, "values")
    same(COUNT, len(messages), "messages")


for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
    scenario(f"produce-{codec}")(lambda bootstrap, codec=codec: round_trip(bootstrap, compression_type=codec, linger_ms=5))


@scenario("produce-acks-0")
def acks_none(bootstrap):
    name = topic(bootstrap, "acks-0", 1)
    fill(bootstrap, name, 1)  # its leader takes messages; what it refuses of the others nobody hears of
    fill(bootstrap, name, COUNT, acks=0)
    until("all are there", lambda: len(read(bootstrap, name, 1)) == COUNT + 1)


@scenario("produce-acks-1")
def acks_one(bootstrap):
    round_trip(bootstrap, acks=1)


@scenario("produce-idempotent")
def idempotent(bootstrap):
    round_trip(bootstrap, enable_idempotence=True, batch_num_messages=5)


@scenario("record-shape")
def shape(bootstrap):
    name = topic(bootstrap, "shape")
    client = producer(bootstrap)
    client.produce(name, key=b"key", value=b"value", timestamp=1_700_000_000_123, headers=[("a", b"1"), ("a", None), ("b", b"")])
    client.produce(name)
    client.produce(name, key=b"", value=b"")
    same(0, client.flush(30), "left")
    full, none, empty = read(bootstrap, name, 1)
    same([("a", b"1"), ("a", None), ("b", b"")], full.headers(), "headers")
    same(1_700_000_000_123, full.timestamp()[1], "timestamp")
    same((None, None), (none.key(), none.value()), "nothing")
    same((b"", b""), (empty.key(), empty.value()), "empty")


@scenario("record-too-large")
def too_large(bootstrap):
    name = topic(bootstrap, "small", max_message_bytes="1000")
    errors = []
    client = producer(bootstrap)
    client.produce(name, value=b"x" * 2000, on_delivery=lambda error, _: errors.append(error.code()))
    client.flush(30)
    same([KafkaError.MSG_SIZE_TOO_LARGE], errors, "errors")


@scenario("offsets-by-time")
def by_time(bootstrap):
    name = topic(bootstrap, "by-time")
    client = producer(bootstrap)
    for number in range(10):
        client.produce(name, value=b"v", timestamp=1_700_000_000_000 + number * 1000)
        client.flush(30)
    reader = consumer(bootstrap)
    found = reader.offsets_for_times([TopicPartition(name, 0, 1_700_000_004_500)], timeout=30)[0]
    same(5, found.offset, "the first at or after a time")
    same((0, 10), reader.get_watermark_offsets(TopicPartition(name, 0), timeout=30), "beginning and end")
    reader.close()


@scenario("log-append-time")
def append_time(bootstrap):
    name = topic(bootstrap, "append-time", message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000)
    client = producer(bootstrap)
    client.produce(name, value=b"v", timestamp=5)
    client.flush(30)
    kind, at = read(bootstrap, name, 1)[0].timestamp()
    same(TIMESTAMP_LOG_APPEND_TIME, kind, "the timestamp's type")
    assert at >= before, at


def take(client, seen, once=True):
    for message in client.consume(100, 0.05):
        assert not message.error(), message.error()
        assert not once or message.key() not in seen, f"{message.key()} came twice"
        seen[message.key()] = message


def rebalance(bootstrap, **config):
    name, group = topic(bootstrap, "rebalance", 6), fresh("rebalance")
    first, second = consumer(bootstrap, group, **config), consumer(bootstrap, group, **config)
    seen = {}

    def commit(client, partitions):
        try:
            client.commit(asynchronous=False)
        except KafkaException as error:
            assert error.args[0].code() == KafkaError._NO_OFFSET, error

    def sizes(*clients):
        for client in clients:
            take(client, seen)
        return [len(client.assignment()) for client in clients]

    first.subscribe([name], on_revoke=commit)
    until("one has all", lambda: sizes(first) == [6])
    fill(bootstrap, name, 600)
    until("half is read", lambda: take(first, seen) or len(seen) >= 300)
    second.subscribe([name], on_revoke=commit)
    until("each has half", lambda: sizes(first, second) == [3, 3])
    until("all is read", lambda: sizes(first, second) and len(seen) == 600)
    first.close()
    until("the other has all", lambda: sizes(second) == [6])
    second.close()
    same(600, len(seen), "seen")


@scenario("group-rebalance")
def group_rebalance(bootstrap):
    rebalance(bootstrap, partition_assignment_strategy="range")


@scenario("group-cooperative")
def group_cooperative(bootstrap):
    rebalance(bootstrap, partition_assignment_strategy="cooperative-sticky")


@scenario("group-consumer-rebalance")
def group_consumer_rebalance(bootstrap):
    rebalance(bootstrap, group_protocol="consumer")


@scenario("group-consumer-range")
def group_consumer_range(bootstrap):
    rebalance(bootstrap, group_protocol="consumer", group_remote_assignor="range")


def commits(bootstrap, **config):
    name, group = topic(bootstrap, "commits"), fresh("commits")
    fill(bootstrap, name, 100)
    seen = {}
    client = consumer(bootstrap, group, **config)
    client.subscribe([name])
    until("some are read", lambda: take(client, seen) or seen)
    client.commit(offsets=[TopicPartition(name, 0, 30, "thirty")], asynchronous=False)
    told = client.committed([TopicPartition(name, 0)], timeout=30)[0]
    same(30, told.offset, "the committed offset")
    client.close()
    client = consumer(bootstrap, group, **config)
    client.subscribe([name])
    seen = {}
    until("the rest is read", lambda: take(client, seen) or len(seen) >= 70)
    same(30, min(message.offset() for message in seen.values()), "where the next member begins")
    client.close()


@scenario("group-commits")
def group_commits(bootstrap):
    commits(bootstrap)


@scenario("group-consumer-commits")
def group_consumer_commits(bootstrap):
    commits(bootstrap, group_protocol="consumer")


def static(bootstrap, **config):
    name, group = topic(bootstrap, "static", 2), fresh("static")
    fill(bootstrap, name, 10)
    changes = []
    other = consumer(bootstrap, group, group_instance_id="two", **config)
    member = consumer(bootstrap, group, group_instance_id="one", **config)
    other.subscribe([name], on_assign=lambda _, partitions: changes.append(len(partitions)))
    member.subscribe([name])

    def sizes():
        other.poll(0.05), member.poll(0.05)
        return (len(other.assignment()), len(member.assignment())) == (1, 1)

    until("each has one", sizes)
    before, had = member.assignment(), len(changes)
    member.close()
    member = consumer(bootstrap, group, group_instance_id="one", **config)
    member.subscribe([name])
    until("it is back", sizes)
    same(before[0].partition, member.assignment()[0].partition, "its partition")
    same(had, len(changes), "rebalances that the other saw")
    other.close(), member.close()


@scenario("group-static")
def group_static(bootstrap):
    static(bootstrap)


@scenario("group-consumer-static")
def group_consumer_static(bootstrap):
    static(bootstrap, group_protocol="consumer")


def pattern(bootstrap, **config):
    prefix = fresh("pattern")
    for suffix in "ab":
        admin(bootstrap).create_topics([NewTopic(f"{prefix}-{suffix}", 1, 1)])[f"{prefix}-{suffix}"].result()
    client = consumer(bootstrap, **config)
    client.subscribe([f"^{prefix}-.*"])
    until("it has both", lambda: client.poll(0.05) or len(client.assignment()) == 2)
    client.close()


@scenario("group-pattern")
def group_pattern(bootstrap):
    pattern(bootstrap)


@scenario("group-consumer-pattern")
def group_consumer_pattern(bootstrap):
    pattern(bootstrap, group_protocol="consumer")


@scenario("transactions")
def transactions(bootstrap):
    name = topic(bootstrap, "transactions", 3)
    client = producer(bootstrap, transactional_id=fresh("id"))
    client.init_transactions(30)
    written, committed = set(), set()
    for number in range(20):
        client.begin_transaction()
        for message in range(10):
            value = b"%d-%d" % (number, message)
            client.produce(name, key=value, value=value)
            written.add(value)
            if number % 3:
                committed.add(value)
        if number % 3:
            client.commit_transaction(30)
        else:
            client.flush(30)
            client.abort_transaction(30)
    # A commit is answered before its markers are written.
    until("committed readers see what was committed", lambda: {m.value() for m in read(bootstrap, name, 3, isolation_level="read_committed")} == committed)
    same(written, {m.value() for m in read(bootstrap, name, 3, isolation_level="read_uncommitted")}, "what others see")


def offsets_in_transactions(bootstrap, **config):
    source, target, group = topic(bootstrap, "from"), topic(bootstrap, "to"), fresh("copier")
    fill(bootstrap, source, 100)
    reader = consumer(bootstrap, group, isolation_level="read_committed", **config)
    reader.subscribe([source])
    client = producer(bootstrap, transactional_id=fresh("copier"))
    client.init_transactions(30)
    copied, number = set(), 0
    while len(copied) < 100:
        messages = reader.consume(20, 1.0)
        if not messages:
            continue
        client.begin_transaction()
        for message in messages:
            client.produce(target, key=message.key(), value=message.value())
        client.send_offsets_to_transaction(reader.position(reader.assignment()), reader.consumer_group_metadata(), 30)
        if number % 2:
            client.commit_transaction(30)
            copied.update(message.value() for message in messages)
        else:
            client.abort_transaction(30)
            reader.seek(TopicPartition(source, 0, messages[0].offset()))
        number += 1
    same(100, reader.committed([TopicPartition(source, 0)], timeout=30)[0].offset, "the committed offset")
    reader.close()
    messages = read(bootstrap, target, 1, isolation_level="read_committed")
    same(100, len(messages), "messages copied")
    same(copied, {m.value() for m in messages}, "what was copied")


@scenario("transactions-offsets")
def transactions_offsets(bootstrap):
    offsets_in_transactions(bootstrap)


@scenario("transactions-offsets-consumer")
def transactions_offsets_consumer(bootstrap):
    offsets_in_transactions(bootstrap, group_protocol="consumer")


@scenario("transactions-fencing")
def fencing(bootstrap):
    name, identity = topic(bootstrap, "fencing"), fresh("fenced")
    old, new = producer(bootstrap, transactional_id=identity), producer(bootstrap, transactional_id=identity)
    old.init_transactions(30)
    old.begin_transaction()
    old.produce(name, value=b"old")
    old.flush(30)
    new.init_transactions(30)
    new.begin_transaction()
    new.produce(name, value=b"new")
    new.commit_transaction(30)
    fails(lambda error: error.args[0].fatal() or error.args[0].txn_requires_abort(), lambda: old.commit_transaction(30))
    same([b"new"], [m.value() for m in read(bootstrap, name, 1, isolation_level="read_committed")], "what is committed")


@scenario("admin-topics")
def admin_topics(bootstrap):
    client, name = admin(bootstrap), fresh("admin")
    client.create_topics([NewTopic(name, 3, 1, config={"retention.ms": "60000"})])[name].result()
    told = client.describe_topics(TopicCollection([name]))[name].result()
    same(3, len(told.partitions), "partitions")
    client.create_partitions([NewPartitions(name, 5)])[name].result()
    until("there are five", lambda: len(client.list_topics(name, timeout=30).topics[name].partitions) == 5)
    client.delete_topics([name])[name].result()
    until("it is gone", lambda: name not in client.list_topics(timeout=30).topics)


def code(wanted):
    return lambda error: error.args[0].code() == wanted


@scenario("admin-topic-errors")
def topic_errors(bootstrap):
    client, name = admin(bootstrap), topic(bootstrap, "errors", 2)

    def make(name, partitions=1, replicas=1, **config):
        return lambda: client.create_topics([NewTopic(name, partitions, replicas, config=config)])[name].result()

    fails(code(KafkaError.TOPIC_ALREADY_EXISTS), make(name))
    fails(code(KafkaError.TOPIC_EXCEPTION), make("a b"))
    fails(code(KafkaError.INVALID_REPLICATION_FACTOR), make(fresh("many"), 1, 9))
    fails(code(KafkaError.INVALID_CONFIG), make(fresh("bad"), 1, 1, **{"retention.ms": "soon"}))
    fails(code(KafkaError.INVALID_PARTITIONS), lambda: client.create_partitions([NewPartitions(name, 1)])[name].result())
    missing = fresh("missing")
    fails(code(KafkaError.UNKNOWN_TOPIC_OR_PART), lambda: client.delete_topics([missing])[missing].result())


@scenario("admin-configs")
def admin_configs(bootstrap):
    client, name = admin(bootstrap), topic(bootstrap, "configs")
    resource = ConfigResource(ResourceType.TOPIC, name)

    def told():
        return client.describe_configs([resource])[resource].result()["retention.ms"]

    same(("604800000", True), (told().value, told().is_default), "the default")
    entry = ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET)
    change = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
    client.incremental_alter_configs([change])[change].result()
    same(("1000", ConfigSource.DYNAMIC_TOPIC_CONFIG.value), (told().value, told().source), "what was set")
    entry = ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE)
    change = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
    client.incremental_alter_configs([change])[change].result()
    same("604800000", told().value, "the default again")


@scenario("admin-records")
def admin_records(bootstrap):
    client, name = admin(bootstrap), topic(bootstrap, "records")
    fill(bootstrap, name, 10)
    partition = TopicPartition(name, 0, 4)
    same(4, client.delete_records([partition])[partition].result().low_watermark, "the low watermark")
    only = TopicPartition(name, 0)
    same(4, client.list_offsets({only: OffsetSpec.earliest()})[only].result().offset, "the earliest offset")
    same(10, client.list_offsets({only: OffsetSpec.latest()})[only].result().offset, "the latest offset")
    same(6, len(read(bootstrap, name, 1)), "messages left")


@scenario("admin-groups")
def admin_groups(bootstrap):
    client, name, group = admin(bootstrap), topic(bootstrap, "grouped", 2), fresh("grouped")
    member = consumer(bootstrap, group, client_id="me")
    member.subscribe([name])
    until("it has both", lambda: member.poll(0.05) or len(member.assignment()) == 2)
    told = client.describe_consumer_groups([group])[group].result()
    same(ConsumerGroupState.STABLE, told.state, "its state")
    same(["me"], [one.client_id for one in told.members], "members")
    same(2, len(told.members[0].assignment.topic_partitions), "assigned")
    member.close()
    until("it is empty", lambda: client.describe_consumer_groups([group])[group].result().state == ConsumerGroupState.EMPTY)
    assert group in [one.group_id for one in client.list_consumer_groups().result().valid], "it is listed"
    wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(name, 0, 7)])
    client.alter_consumer_group_offsets([wanted])[group].result()
    told = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result()
    same([(0, 7)], [(one.partition, one.offset) for one in told.topic_partitions], "offsets")
    client.delete_consumer_groups([group])[group].result()
    until("it is gone", lambda: group not in [one.group_id for one in client.list_consumer_groups().result().valid])


@scenario("admin-cluster")
def admin_cluster(bootstrap):
    told = admin(bootstrap).describe_cluster().result()
    assert told.cluster_id, "it has an id"
    assert told.controller.id in [node.id for node in told.nodes], "its controller is one of its brokers"


@scenario("admin-scram")
def admin_scram(bootstrap):
    client, user = admin(bootstrap), fresh("user")
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
    client.alter_user_scram_credentials([UserScramCredentialUpsertion(user, info, b"secret", b"salt")])[user].result()
    until("it is told", lambda: user in client.describe_user_scram_credentials().result())
    client.alter_user_scram_credentials([UserScramCredentialDeletion(user, ScramMechanism.SCRAM_SHA_256)])[user].result()


main()
