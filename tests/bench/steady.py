"""librdkafka as the producer of kbench's -mode failover: idempotent, an open loop, one partition.

    steady.py BOOTSTRAP TOPIC PARTITION RATE SIZE PATIENCE_MS

Sends RATE records a second until standard input ends, each with the time at which it was due and its number in its first 16
bytes. Writes the number of each one that is acknowledged, and `sent COUNT` when that is all of them. A record that fails ends it
with status 1. PATIENCE_MS is how long it waits for a broker's answer, 0 for librdkafka's default.
"""

import os
import struct
import sys
import threading
import time

from confluent_kafka import Producer

bootstrap, topic, partition, rate, size, patience_ms = sys.argv[1:7]
partition, rate, size, patience_ms = int(partition), float(rate), int(size), int(patience_ms)
ended = threading.Event()
out = sys.stdout


def acknowledged(number):
    def tell(error, _message):
        if error is not None:
            print(f"record {number} failed: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        out.write(f"{number}\n")

    return tell


def listen():
    sys.stdin.read()
    ended.set()


threading.Thread(target=listen, daemon=True).start()
patience = {"socket.timeout.ms": patience_ms, "request.timeout.ms": patience_ms} if patience_ms else {}
producer = Producer(
    {
        "bootstrap.servers": bootstrap,
        "enable.idempotence": True,
        "log_level": 2,  # a broker goes here: that connections fail is no news
        **patience,
    }
)
filling = os.urandom(size - 16)
began, sent = time.time_ns(), 0
while not ended.is_set():
    due = began + int(sent * 1e9 / rate)
    early = due - time.time_ns()
    if early > 0:
        producer.poll(early / 1e9)
        out.flush()
        continue
    try:
        value = struct.pack(">QQ", due, sent) + filling
        producer.produce(topic, value, partition=partition, on_delivery=acknowledged(sent))
        sent += 1
    except BufferError:  # 100,000 records wait
        producer.poll(0.01)
        out.flush()
while producer.flush(0.1) > 0:
    out.flush()
out.write(f"sent {sent}\n")
out.flush()
