"""Members of one consumer group, in one process so that what happens has one order.

    members.py BOOTSTRAP TOPIC GROUP MEMBERS COMMIT_EVERY [PROPERTY=VALUE...]

Writes what each member sees, one event a line:

    MEMBER assigned|revoked|lost PARTITION...
    MEMBER got PARTITION OFFSET KEY<tab>VALUE
    MEMBER committing|committed|uncommitted PARTITION:OFFSET...

`committing` comes before the request and `committed` or `uncommitted` (it may have happened or not) after it. On
standard input, `join` brings another member, `leave` lets the one go that is there longest, `stop` ends it in good order
and `crash` at once, as kill -9 would.
"""

import os
import sys
import threading

from confluent_kafka import Consumer, KafkaException, TopicPartition

bootstrap, topic, group, members, commit_every = sys.argv[1:6]
properties = dict(word.split("=", 1) for word in sys.argv[6:])
out, turn = sys.stdout.buffer, threading.Lock()
stopping = threading.Event()


def say(line, flush=False):
    with turn:
        out.write(line + b"\n")
        if flush:
            out.flush()


class Member(threading.Thread):
    def __init__(self, number):
        super().__init__()
        self.number = number
        self.pending, self.uncommitted = {}, 0  # next offset of each partition, messages since the last commit
        self.leaving = threading.Event()
        own = dict(properties)
        if own.get("group.protocol") != "consumer":  # there the broker decides
            own.setdefault("session.timeout.ms", 6000)  # the shortest that is allowed by default: others take over sooner
        self.consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": group,
                "client.id": f"member-{number}",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "log_level": 2,  # brokers come and go here: that connections fail is no news
                "check.crcs": True,
                **own,
            }
        )

    def event(self, what, partitions):
        numbers = " ".join(str(p.partition) for p in partitions)
        say(f"{self.number} {what} {numbers}".encode(), flush=True)

    def commit(self):
        if not self.pending:
            return
        offsets = [TopicPartition(topic, p, o) for p, o in sorted(self.pending.items())]
        listed = " ".join(f"{o.partition}:{o.offset}" for o in offsets)
        say(f"{self.number} committing {listed}".encode(), flush=True)
        try:
            self.consumer.commit(offsets=offsets, asynchronous=False)
            say(f"{self.number} committed {listed}".encode(), flush=True)
        except KafkaException as error:
            print(f"member {self.number}: commit: {error}", file=sys.stderr, flush=True)
            say(f"{self.number} uncommitted {listed}".encode(), flush=True)
        self.pending, self.uncommitted = {}, 0

    def revoked(self, _, partitions):
        self.commit()
        self.event("revoked", partitions)

    def lost(self, _, partitions):
        self.pending, self.uncommitted = {}, 0
        self.event("lost", partitions)

    def run(self):
        self.consumer.subscribe(
            [topic],
            on_assign=lambda _, partitions: self.event("assigned", partitions),
            on_revoke=self.revoked,
            on_lost=self.lost,
        )
        while not (stopping.is_set() or self.leaving.is_set()):
            message = self.consumer.poll(0.2)
            if message is None:
                with turn:
                    out.flush()
                continue
            if message.error():
                print(f"member {self.number}: {message.error()}", file=sys.stderr, flush=True)
                continue
            say(
                b"%d got %d %d %s\t%s"
                % (self.number, message.partition(), message.offset(), message.key(), message.value())
            )
            self.pending[message.partition()] = message.offset() + 1
            self.uncommitted += 1
            if self.uncommitted >= int(commit_every):
                self.commit()
        self.consumer.close()


def obey():
    for line in sys.stdin:
        order = line.strip()
        if order == "crash":
            os._exit(9)
        if order == "stop":
            break
        if order == "join":
            join()
        if order == "leave":
            there = [thread for thread in threads if not thread.leaving.is_set()]
            there[0].leaving.set()
    stopping.set()


threads = []


def join():
    threads.append(Member(len(threads)))
    threads[-1].start()


for _ in range(int(members)):
    join()
threading.Thread(target=obey, daemon=True).start()
stopping.wait()
for thread in threads:
    thread.join()
say(b"stopped", flush=True)
