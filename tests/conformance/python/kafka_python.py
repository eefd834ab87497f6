"""kafka-python: `kafka_python.py BOOTSTRAP [NAME...]`."""

import logging

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError, MessageSizeTooLargeError
from suite import fails, fresh, main, same, scenario, until

logging.disable(logging.CRITICAL)
COUNT = 1000


def admin(bootstrap):
    return KafkaAdminClient(bootstrap_servers=bootstrap)


def topic(bootstrap, what, partitions=1, **config):
    name = fresh(what)
    client = admin(bootstrap)
    configs = {key.replace("_", "."): value for key, value in config.items()}
    client.create_topics({name: {"num_partitions": partitions, "replication_factor": 1, "configs": configs}}, wait_for_metadata=True)
    client.close()
    return name


def fill(bootstrap, name, count, **config):
    producer = KafkaProducer(bootstrap_servers=bootstrap, **config)
    waiting = {b"key-%d" % n: producer.send(name, key=b"key-%d" % n, value=b"value-%d" % n) for n in range(count)}
    producer.flush(60)
    placed = {key: future.get(60) for key, future in waiting.items()}
    producer.close()
    return {key: (told.partition, told.offset) for key, told in placed.items()}


def read(bootstrap, name, **config):
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", **config)
    partitions = [TopicPartition(name, number) for number in until("partitions", lambda: consumer.partitions_for_topic(name))]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    ends, messages = consumer.end_offsets(partitions), []

    def done():
        for found in consumer.poll(timeout_ms=100).values():
            messages.extend(found)
        return all(consumer.position(partition) >= ends[partition] for partition in partitions)

    until("the topic is read", done)
    consumer.close()
    return messages


def round_trip(bootstrap, **config):
    name = topic(bootstrap, "round-trip", 3)
    placed = fill(bootstrap, name, COUNT, **config)
    messages = read(bootstrap, name)
    same(placed, {m.key: (m.partition, m.offset) for m in messages}, "where messages are")
    same({b"value-%d" % n for n in range(COUNT)}, {m.value for m in messages}, "values")


for codec in [None, "gzip", "snappy", "lz4", "zstd"]:
    scenario(f"produce-{codec or 'none'}")(lambda bootstrap, codec=codec: round_trip(bootstrap, compression_type=codec))


@scenario("produce-acks-1")
def acks_one(bootstrap):
    round_trip(bootstrap, acks=1, enable_idempotence=False)


@scenario("produce-idempotent")
def idempotent(bootstrap):
    round_trip(bootstrap, enable_idempotence=True, batch_size=200)


@scenario("record-shape")
def shape(bootstrap):
    name = topic(bootstrap, "shape")
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    producer.send(name, b"value", b"key", headers=[("a", b"1"), ("a", b"")], timestamp_ms=1_700_000_000_123).get(30)
    producer.send(name, None, b"gone").get(30)
    producer.close()
    full, none = read(bootstrap, name)
    same([("a", b"1"), ("a", b"")], list(full.headers), "headers")
    same(1_700_000_000_123, full.timestamp, "timestamp")
    same((None, b"gone"), (none.value, none.key), "no value")


@scenario("record-too-large")
def too_large(bootstrap):
    name = topic(bootstrap, "small", max_message_bytes="1000")
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    fails(lambda error: isinstance(error, MessageSizeTooLargeError), lambda: producer.send(name, b"x" * 2000).get(30))
    producer.close()


@scenario("offsets-by-time")
def by_time(bootstrap):
    name = topic(bootstrap, "by-time")
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for number in range(10):
        producer.send(name, b"v", timestamp_ms=1_700_000_000_000 + number * 1000).get(30)
    producer.close()
    consumer, only = KafkaConsumer(bootstrap_servers=bootstrap), TopicPartition(name, 0)
    same(5, consumer.offsets_for_times({only: 1_700_000_004_500})[only].offset, "the first at or after a time")
    same(({only: 0}, {only: 10}), (consumer.beginning_offsets([only]), consumer.end_offsets([only])), "beginning and end")
    consumer.close()


def member(bootstrap, group, **config):
    return KafkaConsumer(bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False, **config)


def take(consumer, seen):
    for messages in consumer.poll(timeout_ms=50).values():
        for message in messages:
            assert message.key not in seen, f"{message.key} came twice"
            seen[message.key] = message.offset


@scenario("group-rebalance")
def rebalance(bootstrap):
    name, group, seen = topic(bootstrap, "rebalance", 6), fresh("group"), {}
    first, second = member(bootstrap, group), member(bootstrap, group)

    def sizes(*members):
        for one in members:
            take(one, seen)
        return [len(one.assignment()) for one in members]

    first.subscribe([name])
    until("one has all", lambda: sizes(first) == [6])
    fill(bootstrap, name, 600)
    until("all is read", lambda: sizes(first) and len(seen) == 600)
    first.commit()
    second.subscribe([name])
    until("each has half", lambda: sizes(first, second) == [3, 3])
    first.close()
    until("the other has all", lambda: sizes(second) == [6])
    second.close()
    same(600, len(seen), "messages seen")


@scenario("group-static")
def static(bootstrap):
    name, group = topic(bootstrap, "static"), fresh("static")
    fill(bootstrap, name, 10)
    for _ in range(2):
        seen = {}
        one = member(bootstrap, group, group_instance_id="one")
        one.subscribe([name])
        until("all is read", lambda: take(one, seen) or len(seen) == 10)  # noqa: B023
        one.close()


@scenario("group-commits")
def commits(bootstrap):
    name, group, only = topic(bootstrap, "commits"), fresh("commits"), None
    only = TopicPartition(name, 0)
    fill(bootstrap, name, 100)
    one, seen = member(bootstrap, group), {}
    same(None, one.committed(only), "nothing is committed yet")
    one.subscribe([name])
    until("some are read", lambda: take(one, seen) or seen)
    one.commit({only: OffsetAndMetadata(30, "thirty", -1)})
    same(30, one.committed(only), "the committed offset")
    one.close()
    one, seen = member(bootstrap, group), {}
    one.subscribe([name])
    until("the rest is read", lambda: take(one, seen) or len(seen) == 70)
    same(30, min(seen.values()), "where the next member begins")
    one.close()


@scenario("transactions")
def transactions(bootstrap):
    name, written, committed = topic(bootstrap, "transactions", 3), set(), set()
    producer = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=fresh("id"))
    producer.init_transactions()
    for number in range(20):
        producer.begin_transaction()
        for message in range(10):
            value = b"%d-%d" % (number, message)
            producer.send(name, value, value)
            written.add(value)
            if number % 3:
                committed.add(value)
        if number % 3:
            producer.commit_transaction()
        else:
            producer.flush()
            producer.abort_transaction()
    producer.close()
    # A commit is answered before its markers are written.
    until("committed readers see what was committed", lambda: {m.value for m in read(bootstrap, name, isolation_level="read_committed")} == committed)
    same(written, {m.value for m in read(bootstrap, name)}, "what others see")


@scenario("transactions-fencing")
def fencing(bootstrap):
    name, identity = topic(bootstrap, "fencing"), fresh("fenced")
    old, new = (KafkaProducer(bootstrap_servers=bootstrap, transactional_id=identity) for _ in range(2))
    old.init_transactions()
    old.begin_transaction()
    old.send(name, b"old").get(30)
    new.init_transactions()
    new.begin_transaction()
    new.send(name, b"new")
    new.commit_transaction()
    fails(lambda error: isinstance(error, KafkaError), old.commit_transaction)
    new.close()
    same([b"new"], [m.value for m in read(bootstrap, name, isolation_level="read_committed")], "what is committed")


@scenario("admin-topics")
def admin_topics(bootstrap):
    client, name = admin(bootstrap), fresh("admin")
    client.create_topics({name: {"num_partitions": 3, "replication_factor": 1}})
    partitions = lambda: len(client.describe_topics([name])[0]["partitions"])  # noqa: E731
    until("there are three", lambda: partitions() == 3)
    client.create_partitions({name: 5})
    until("there are five", lambda: partitions() == 5)
    client.delete_topics([name])
    until("it is gone", lambda: name not in client.list_topics())
    client.close()


@scenario("admin-records")
def admin_records(bootstrap):
    client, name = admin(bootstrap), topic(bootstrap, "records")
    fill(bootstrap, name, 10)
    client.delete_records({TopicPartition(name, 0): 4})
    same(6, len(read(bootstrap, name)), "messages left")
    client.close()


main()
