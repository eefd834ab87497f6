"""An idempotent producer that sends as many messages as it is told to, and says what was acknowledged.

    producer.py BOOTSTRAP TOPIC FLIGHTS [PROPERTY=VALUE...]

Message N has the key of line N of FLIGHTS and the value `N VALUE`; after the last line it begins again with the first.
On standard input, `more COUNT` lets it send so many more, and `stop` ends it when all that was sent is acknowledged.
Writes `N PARTITION OFFSET` for each acknowledgement and `sent COUNT` in the end. A message that fails ends it with
status 1.
"""

import os
import queue
import sys
import threading

from confluent_kafka import Producer

bootstrap, topic, flights = sys.argv[1:4]
properties = dict(word.split("=", 1) for word in sys.argv[4:])
IN_FLIGHT = 2000  # few enough that a kill always finds some of them on their way
orders = queue.SimpleQueue()


def listen():
    for line in sys.stdin:
        orders.put(line.split())
    orders.put(["stop"])


def acknowledged(number):
    def tell(error, message):
        if error is not None:
            print(f"message {number} failed: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        out.write(f"{number} {message.partition()} {message.offset()}\n")

    return tell


out = sys.stdout
threading.Thread(target=listen, daemon=True).start()
producer = Producer(
    {
        "bootstrap.servers": bootstrap,
        "client.id": "producer",
        "enable.idempotence": True,
        "linger.ms": 1,
        "log_level": 2,  # brokers come and go here: that connections fail is no news
        # Brokers of this test come back within a second or two.
        "reconnect.backoff.max.ms": 500,
        **properties,
    }
)
with open(flights, "rb") as file:
    lines = [line.rstrip(b"\n").split(b"\t", 1) for line in file]
sent = allowed = 0
while True:
    try:
        order = orders.get_nowait()
    except queue.Empty:
        order = None
    if order == ["stop"]:
        break
    if order:
        allowed += int(order[1])
    if sent < allowed and len(producer) < IN_FLIGHT:
        key, value = lines[sent % len(lines)]
        producer.produce(topic, key=key, value=b"%d %s" % (sent, value), on_delivery=acknowledged(sent))
        sent += 1
        producer.poll(0)
    else:
        producer.poll(0.05)
        out.flush()
while producer.flush(1.0) > 0:
    out.flush()
out.write(f"sent {sent}\n")
out.flush()
