"""librdkafka, doing what it is told: `puppet.py BOOTSTRAP` (orders.py)."""

import sys
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from orders import obey, optional

# Brokers come and go here: that connections fail is no news, and a client is to look elsewhere within seconds.
COMMON = {"bootstrap.servers": sys.argv[1], "log_level": 2, "socket.timeout.ms": 10000, "reconnect.backoff.max.ms": 500}
producers, readers, turn = {}, {}, threading.Lock()


def produce(order):
    with turn:
        if order["as"] not in producers:
            limit = {"batch.num.messages": 1} if order.get("single") else {}
            producers[order["as"]] = Producer({**COMMON, "enable.idempotence": True, "linger.ms": 0, "delivery.timeout.ms": 120000, **limit})
        producer = producers[order["as"]]
    results = [None] * len(order["records"])

    def keep(at):
        def told(error, message):
            if error is None:
                # Nobody is told the offset of a message whose answer was lost, when a later one's says that it arrived.
                offset = -1 if message.offset() is None else message.offset()
                results[at] = {"partition": message.partition(), "offset": offset}
            else:
                results[at] = {"error": error.name().lstrip("_"), "message": error.str()}

        return told

    for at, one in enumerate(order["records"]):
        place = {name: one[name] for name in ("partition", "timestamp") if name in one}
        headers = list(one.get("headers", {}).items())
        producer.produce(order["topic"], one.get("value"), one.get("key"), on_delivery=keep(at), headers=headers, **place)
    while None in results:
        producer.poll(0.1)
    return {"results": results}


def read_open(order):
    isolation = order.get("isolation", "read_committed")
    reader = Consumer({**COMMON, "group.id": order["as"], "enable.auto.commit": False, "fetch.wait.max.ms": 100, "isolation.level": isolation})
    reader.assign([TopicPartition(order["topic"], partition, OFFSET_BEGINNING) for partition in range(order["partitions"])])
    readers[order["as"]] = reader


def read_poll(order):
    records = []
    for message in readers[order["as"]].consume(1000, order["ms"] / 1000):
        if message.error() is not None:
            if not message.error().retriable():
                print(message.error(), file=sys.stderr, flush=True)
            continue
        records.append(
            {
                "topic": message.topic(),
                "partition": message.partition(),
                "offset": message.offset(),
                "key": optional(message.key()),
                "value": optional(message.value()),
                "headers": {name: optional(value) for name, value in message.headers() or []},
                "timestamp": message.timestamp()[1],
                "deliveries": 0,
            }
        )
    at = int(time.time() * 1000)
    return {"records": [{**record, "at": at} for record in records]}


def read_close(order):
    readers.pop(order["as"]).close()


obey({"produce": produce, "read-open": read_open, "read-poll": read_poll, "read-close": read_close})
