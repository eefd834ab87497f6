"""A client of `weir.queue.v1`, generated from the published definition, and what scenarios need beside it."""

import os
import queue
import subprocess
import sys
import tempfile
import threading

import grpc
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType
from suite import fresh

PROTO = os.path.join(os.path.dirname(__file__), "../../../broker/proto")
STUBS = tempfile.mkdtemp()
subprocess.run(
    [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"--python_out={STUBS}", f"--grpc_python_out={STUBS}", "weir/queue/v1/queue.proto"],
    check=True,
)
sys.path.insert(0, STUBS)

from weir.queue.v1 import queue_pb2 as v1  # noqa: E402
from weir.queue.v1.queue_pb2_grpc import QueueStub  # noqa: E402

ADDRESSES = os.environ["WEIR_GRPC"].split(",")
LIMIT = 60  # seconds, far above what anything takes
ADMIN = AdminClient({"bootstrap.servers": sys.argv[1], "log_level": 0})


def stub(number=0):
    """A client at one of the brokers; any of them serves everything."""
    return QueueStub(grpc.insecure_channel(ADDRESSES[number % len(ADDRESSES)]))


def topic(what, partitions=3, **config):
    name = fresh(what)
    new = NewTopic(name, partitions, 3, config={key.replace("_", "."): value for key, value in config.items()})
    ADMIN.create_topics([new])[name].result()
    return name


def group(what):
    """A share group that begins with what is there."""
    name = fresh(what)
    entry = ConfigEntry("share.auto.offset.reset", "earliest", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.GROUP, name, incremental_configs=[entry])
    ADMIN.incremental_alter_configs([resource])[resource].result()
    return name


def publish(client, to, value, **fields):
    request = v1.PublishRequest(topic=to, message=v1.Message(value=value.encode(), **fields))
    return client.Publish(request, timeout=LIMIT, wait_for_ready=True)


class Subscriber:
    """A stream: deliveries come one by one, and settlements are waited for."""

    def __init__(self, client, group, topics, credit, member=""):
        self.member = member  # as the group names it
        self.requests = queue.SimpleQueue()
        self.deliveries = queue.SimpleQueue()
        self.outcomes = queue.SimpleQueue()
        self.most = 0  # deliveries that were out at one time
        self.out = set()
        self.error = None
        self.ended = threading.Event()
        self.requests.put(v1.SubscribeRequest(start=v1.Start(group=group, topics=topics, credit=credit, member_id=member)))
        self.stream = client.Subscribe(iter(self.requests.get, None), wait_for_ready=True)
        threading.Thread(target=self._hear, daemon=True).start()

    def _hear(self):
        try:
            for response in self.stream:
                kind = response.WhichOneof("response")
                if kind == "started":
                    self.member = response.started.member_id
                elif kind == "deliveries":
                    for delivery in response.deliveries.deliveries:
                        self.out.add(delivery.token)
                        self.most = max(self.most, len(self.out))
                        self.deliveries.put(delivery)
                elif kind == "settled":
                    for outcome in response.settled.outcomes:
                        self.outcomes.put(outcome)
        except grpc.RpcError as error:
            self.error = error
        self.ended.set()
        self.deliveries.put(None)
        self.outcomes.put(None)

    def next(self, limit=LIMIT):
        """The next delivery; None when the stream is over."""
        return self.deliveries.get(timeout=limit)

    def settle(self, delivery, disposition, delay_ms=0):
        """Settles, and gives what became of it: 0, or gRPC's code; None when the stream is over."""
        if disposition != v1.DISPOSITION_RENEW:
            self.out.discard(delivery.token)
        self.say(delivery, disposition, delay_ms)
        outcome = self.outcomes.get(timeout=LIMIT)
        return None if outcome is None else outcome.refused.code

    def say(self, delivery, disposition, delay_ms=0):
        """Settles, and leaves it to others to hear what becomes of it."""
        settlement = v1.Settlement(token=delivery.token, disposition=disposition, delay_ms=delay_ms)
        self.requests.put(v1.SubscribeRequest(settle=v1.Settle(settlements=[settlement])))

    def close(self):
        """The last word: the stream ends by itself."""
        self.requests.put(None)
        assert self.ended.wait(LIMIT), "the stream ends"

    def cut(self):
        """As a client that dies."""
        self.stream.cancel()
        assert self.ended.wait(LIMIT), "the stream ends"
