"""An idempotent producer that sends as many messages as it is told to, and says what was acknowledged.

    producer.py BOOTSTRAP TOPIC FLIGHTS [PROPERTY=VALUE...]

Message N has the key of line N of FLIGHTS and the value `N VALUE`; after the last line it begins again with the first.
On standard input, `more COUNT` lets it send so many more, `rate COUNT` so many each second from then on, and `stop` ends it
when all that was sent is acknowledged.
Writes `N PARTITION OFFSET` for each acknowledgement (offset -1 where nobody was told) and `sent COUNT` in the end. A message that fails ends it with
status 1.
"""

import os
import queue
import sys
import threading
import time

from confluent_kafka import Producer

bootstrap, topic, flights = sys.argv[1:4]
properties = dict(word.split("=", 1) for word in sys.argv[4:])
IN_FLIGHT = 2000  # of those that may be sent at once: few enough that a kill always finds some of them on their way
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
        # Nobody is told the offset of a message whose answer was lost, when a later one's says that it arrived.
        offset = -1 if message.offset() is None else message.offset()
        out.write(f"{number} {message.partition()} {offset}\n")

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
sent = allowed = rate = 0
since = time.monotonic()
while True:
    try:
        order = orders.get_nowait()
    except queue.Empty:
        order = None
    if order == ["stop"]:
        break
    if order and order[0] == "more":
        allowed += int(order[1])
    elif order and order[0] == "rate":
        rate, since = int(order[1]), time.monotonic()
    now = time.monotonic()
    if rate:
        # At most a second's worth of what could not be sent while brokers were away is made up for.
        allowed, since = min(allowed + rate * (now - since), sent + rate), now
    if sent + 1 <= allowed and (rate or len(producer) < IN_FLIGHT):
        key, value = lines[sent % len(lines)]
        producer.produce(topic, key=key, value=b"%d %s" % (sent, value), on_delivery=acknowledged(sent))
        sent += 1
        producer.poll(0)
    else:
        producer.poll(0.01 if rate else 0.05)
        out.flush()
while producer.flush(1.0) > 0:
    out.flush()
out.write(f"sent {sent}\n")
out.flush()
