"""Two reminders, and a third that is not needed after all: `pip install confluent-kafka`, then `reminder.py [HOST:PORT]`."""

import sys
import time

from confluent_kafka import Consumer, Producer

broker = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9092"
begin = time.time()
producer = Producer({"bootstrap.servers": broker})


def remind(whom, of, **headers):
    producer.produce("reminders", of, key=whom, headers={f"weir-{name.replace('_', '-')}": value for name, value in headers.items()})


remind("Ada", "call Ada", deliver_at=str(int((begin + 3) * 1000)))
remind("Bob", "write to Bob", delay_ms="2000", message_id="bob-1")
remind("Cleo", "water Cleo's plants", delay_ms="1000")
# Bob came by. What is cancelled is looked for where the same key goes.
remind("Bob", "", cancel="bob-1")
producer.flush()

reader = Consumer({"bootstrap.servers": broker, "group.id": "me", "auto.offset.reset": "earliest"})
reader.subscribe(["reminders"])
message = None
while message is None or message.key() != b"Ada":
    message = reader.poll()
    due = dict(message.headers())["weir-delayed-from"].split(b",")[1]
    print(message.value().decode(), "(early)" if time.time() * 1000 < int(due) else "(at its time)", flush=True)
reader.close()
