"""aiokafka: `aiokafka_clients.py BOOTSTRAP [NAME...]`."""

import logging
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, ProducerFenced
from suite import fresh, main, same, scenario, until_async

logging.disable(logging.CRITICAL)
COUNT = 1000


async def topic(bootstrap, what, partitions=1, **config):
    name = fresh(what)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        topics = [NewTopic(name, partitions, 1, topic_configs={key.replace("_", "."): value for key, value in config.items()})]
        told = await admin.create_topics(topics)
        same([0], [error[1] for error in told.topic_errors], "errors")
    finally:
        await admin.close()
    return name


async def fill(bootstrap, name, count, **config):
    placed = {}
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, **config) as producer:
        waiting = [(number, await producer.send(name, key=b"key-%d" % number, value=b"value-%d" % number)) for number in range(count)]
        for number, future in waiting:
            told = await future
            if told:
                placed[b"key-%d" % number] = (told.partition, told.offset)
    return placed


async def read(bootstrap, name, **config):
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", **config) as consumer:
        partitions = [TopicPartition(name, number) for number in await until_async("partitions", lambda: numbers(consumer, name))]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        messages = []
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            for found in (await consumer.getmany(*partitions, timeout_ms=200)).values():
                messages += found
        return messages


async def numbers(consumer, name):
    await consumer._client.force_metadata_update()
    consumer._client.add_topic(name)
    return consumer.partitions_for_topic(name)


async def round_trip(bootstrap, **config):
    name = await topic(bootstrap, "round-trip", 3)
    placed = await fill(bootstrap, name, COUNT, **config)
    messages = await read(bootstrap, name)
    same(COUNT, len(messages), "messages")
    same(placed, {m.key: (m.partition, m.offset) for m in messages}, "where messages are")
    same({b"value-%d" % n for n in range(COUNT)}, {m.value for m in messages}, "values")


for codec in [None, "gzip", "snappy", "lz4", "zstd"]:

    async def compressed(bootstrap, codec=codec):
        await round_trip(bootstrap, compression_type=codec)

    scenario(f"produce-{codec or 'none'}")(compressed)


@scenario("produce-acks-0")
async def acks_none(bootstrap):
    name = await topic(bootstrap, "acks-0")
    await fill(bootstrap, name, 1)  # its leader takes messages; what it refuses of the others nobody hears of
    await fill(bootstrap, name, 100, acks=0)

    async def there():
        return len(await read(bootstrap, name)) == 101

    await until_async("all are there", there)


@scenario("produce-acks-1")
async def acks_one(bootstrap):
    await round_trip(bootstrap, acks=1)


@scenario("produce-idempotent")
async def idempotent(bootstrap):
    await round_trip(bootstrap, enable_idempotence=True, max_batch_size=200)


@scenario("record-shape")
async def shape(bootstrap):
    name = await topic(bootstrap, "shape")
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        await producer.send_and_wait(name, b"value", b"key", timestamp_ms=1_700_000_000_123, headers=[("a", b"1"), ("a", b"")])
        await producer.send_and_wait(name, None, b"gone")
    full, none = await read(bootstrap, name)
    same((("a", b"1"), ("a", b"")), full.headers, "headers")
    same(1_700_000_000_123, full.timestamp, "timestamp")
    same((None, b"gone"), (none.value, none.key), "no value")


@scenario("record-too-large")
async def too_large(bootstrap):
    name = await topic(bootstrap, "small", max_message_bytes="1000")
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        try:
            await producer.send_and_wait(name, b"x" * 2000)
        except MessageSizeTooLargeError:
            return
    raise AssertionError("it was taken")


@scenario("offsets-by-time")
async def by_time(bootstrap):
    name = await topic(bootstrap, "by-time")
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for number in range(10):
            await producer.send_and_wait(name, b"v", timestamp_ms=1_700_000_000_000 + number * 1000)
    only = TopicPartition(name, 0)
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
        found = (await consumer.offsets_for_times({only: 1_700_000_004_500}))[only]
        same((5, 1_700_000_005_000), (found.offset, found.timestamp), "the first at or after a time")
        same({only: 0}, await consumer.beginning_offsets([only]), "the beginning")
        same({only: 10}, await consumer.end_offsets([only]), "the end")


@scenario("log-append-time")
async def append_time(bootstrap):
    name = await topic(bootstrap, "append-time", message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        told = await producer.send_and_wait(name, b"v", timestamp_ms=5)
    same(1, told.timestamp_type, "the type that was acknowledged")
    (message,) = await read(bootstrap, name)
    assert message.timestamp >= before, message
    same(told.timestamp, message.timestamp, "timestamp")


def member(bootstrap, group, **config):
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False, **config
    )


@scenario("group-rebalance")
async def rebalance(bootstrap):
    name, group, seen = await topic(bootstrap, "rebalance", 6), fresh("group"), set()

    class Commits(ConsumerRebalanceListener):
        async def on_partitions_revoked(self, revoked):
            if revoked:
                await first.commit()

        async def on_partitions_assigned(self, assigned):
            pass

    async def sizes(*members):
        for one in members:
            for messages in (await one.getmany(timeout_ms=50)).values():
                for message in messages:
                    assert message.key not in seen, f"{message.key} came twice"
                    seen.add(message.key)
        return [len(one.assignment()) for one in members]

    first, second = member(bootstrap, group), member(bootstrap, group)
    first.subscribe([name], listener=Commits())
    second.subscribe([name])
    await first.start()

    async def alone():
        return await sizes(first) == [6]

    await until_async("one has all", alone)
    await fill(bootstrap, name, 600)

    async def half():
        return await sizes(first) and len(seen) >= 300

    await until_async("half is read", half)
    await second.start()

    async def shared():
        return await sizes(first, second) == [3, 3] and len(seen) == 600

    await until_async("each has half, and all is read", shared)
    await first.commit()
    await second.commit()
    await first.stop()

    async def other():
        return await sizes(second) == [6]

    await until_async("the other has all", other)
    await second.stop()


@scenario("group-commits")
async def commits(bootstrap):
    name, group = await topic(bootstrap, "commits"), fresh("commits")
    await fill(bootstrap, name, 100)
    only = TopicPartition(name, 0)
    async with member(bootstrap, group) as one:
        same(None, await one.committed(only), "nothing is committed yet")
        one.subscribe([name])
        await one.getone()
        await one.commit({only: (30, "thirty")})
        same(30, await one.committed(only), "the committed offset")
    async with member(bootstrap, group) as one:
        one.subscribe([name])
        same(30, (await one.getone()).offset, "where the next member begins")


@scenario("group-static")
async def static(bootstrap):
    name, group = await topic(bootstrap, "static"), fresh("static")
    await fill(bootstrap, name, 10)
    for _ in range(2):
        async with member(bootstrap, group, group_instance_id="one") as one:
            one.subscribe([name])
            same(0, (await one.getone()).offset, "the first message")


@scenario("group-pattern")
async def pattern(bootstrap):
    name = await topic(bootstrap, "pattern")
    await fill(bootstrap, name, 1)
    async with member(bootstrap, fresh("pattern")) as one:
        one.subscribe(pattern=f"^{name}.*")
        same(name, (await one.getone()).topic, "the topic")


@scenario("transactions")
async def transactions(bootstrap):
    name, written, committed = await topic(bootstrap, "transactions", 3), set(), set()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=fresh("id")) as producer:
        for number in range(20):
            await producer.begin_transaction()
            for message in range(10):
                value = b"%d-%d" % (number, message)
                await producer.send(name, value, value)
                written.add(value)
                if number % 3:
                    committed.add(value)
            if number % 3:
                await producer.commit_transaction()
            else:
                await producer.flush()
                await producer.abort_transaction()

    async def is_seen():
        return {m.value for m in await read(bootstrap, name, isolation_level="read_committed")} == committed

    # A commit is answered before its markers are written.
    await until_async("committed readers see what was committed", is_seen)
    same(written, {m.value for m in await read(bootstrap, name)}, "what others see")


@scenario("transactions-offsets")
async def transactions_offsets(bootstrap):
    source, target, group = await topic(bootstrap, "from"), await topic(bootstrap, "to"), fresh("copier")
    await fill(bootstrap, source, 100)
    only, copied, number = TopicPartition(source, 0), set(), 0
    async with member(bootstrap, group, isolation_level="read_committed") as reader:
        reader.subscribe([source])
        async with AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=fresh("copier")) as producer:
            while len(copied) < 100:
                messages = (await reader.getmany(timeout_ms=1000, max_records=20)).get(only, [])
                if not messages:
                    continue
                await producer.begin_transaction()
                for message in messages:
                    await producer.send(target, message.value, message.key)
                await producer.send_offsets_to_transaction({only: messages[-1].offset + 1}, group)
                if number % 2:
                    await producer.commit_transaction()
                    copied.update(message.value for message in messages)
                else:
                    await producer.abort_transaction()
                    reader.seek(only, messages[0].offset)
                number += 1
        same(100, await reader.committed(only), "the committed offset")
    messages = await read(bootstrap, target, isolation_level="read_committed")
    same((100, copied), (len(messages), {m.value for m in messages}), "what was copied")


@scenario("transactions-fencing")
async def fencing(bootstrap):
    name, identity = await topic(bootstrap, "fencing"), fresh("fenced")
    old = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=identity)
    await old.start()
    await old.begin_transaction()
    await old.send_and_wait(name, b"old")
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=identity) as new:
        async with new.transaction():
            await new.send(name, b"new")
    try:
        await old.commit_transaction()
        raise AssertionError("the old one was not fenced")
    except (ProducerFenced, KafkaError):
        pass
    finally:
        await old.stop()
    same([b"new"], [m.value for m in await read(bootstrap, name, isolation_level="read_committed")], "what is committed")


def admins(name):
    def keep(function):
        async def run(bootstrap):
            admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
            await admin.start()
            try:
                await function(admin, bootstrap)
            finally:
                await admin.close()

        return scenario(name)(run)

    return keep


@admins("admin-topics")
async def admin_topics(admin, bootstrap):
    name = fresh("admin")
    await admin.create_topics([NewTopic(name, 3, 1, topic_configs={"retention.ms": "60000"})])
    (told,) = await admin.describe_topics([name])
    same((0, 3), (told["error_code"], len(told["partitions"])), "partitions")
    await admin.create_partitions({name: NewPartitions(5)})

    async def five():
        return len((await admin.describe_topics([name]))[0]["partitions"]) == 5

    await until_async("there are five", five)
    await admin.delete_topics([name])

    async def gone():
        return name not in await admin.list_topics()

    await until_async("it is gone", gone)


@admins("admin-configs")
async def admin_configs(admin, bootstrap):
    name = await topic(bootstrap, "configs")

    async def told():
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
        return {entry[0]: entry[1] for entry in answer.resources[0][4]}["retention.ms"]

    same("604800000", await told(), "the default")
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs={"retention.ms": "1000"})])
    same("1000", await told(), "what was set")


@admins("admin-records")
async def admin_records(admin, bootstrap):
    name = await topic(bootstrap, "records")
    await fill(bootstrap, name, 10)
    only = TopicPartition(name, 0)
    same({only: 4}, await admin.delete_records({only: RecordsToDelete(before_offset=4)}), "the low watermark")
    same(6, len(await read(bootstrap, name)), "messages left")


@admins("admin-groups")
async def admin_groups(admin, bootstrap):
    name, group = await topic(bootstrap, "grouped"), fresh("grouped")
    await fill(bootstrap, name, 10)
    async with member(bootstrap, group) as one:
        one.subscribe([name])
        await one.getone()
        await one.commit({TopicPartition(name, 0): 7})
        (answer,) = await admin.describe_consumer_groups([group])
        same((0, group, "Stable"), answer.groups[0][:3], "described")
        same(1, len(answer.groups[0][5]), "members")
    assert group in [one[0] for one in await admin.list_consumer_groups()], "it is listed"
    told = await admin.list_consumer_group_offsets(group)
    same(7, told[TopicPartition(name, 0)].offset, "the committed offset")


@admins("admin-cluster")
async def admin_cluster(admin, bootstrap):
    told = await admin.describe_cluster()
    assert told["cluster_id"], told
    assert told["controller_id"] in [broker["node_id"] for broker in told["brokers"]], told


main()
