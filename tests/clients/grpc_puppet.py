"""A client generated from `weir.queue.v1`, doing what it is told: `grpc_puppet.py BOOTSTRAP` (orders.py), with `WEIR_GRPC` the brokers' addresses.

It goes to another broker when its own is gone. What was published and not answered is published again, and may be there twice, which is said."""

import itertools
import os
import queue
import sys
import threading
import time

import grpc
from orders import obey, optional

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../conformance/python"))

from weir_queue import ADDRESSES, LIMIT, Subscriber, stub, v1  # noqa: E402

NUMBERS = itertools.count()
STUBS = [stub(broker) for broker in range(len(ADDRESSES))]
AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
CALL_SECONDS = 10
KINDS = {
    "accept": v1.DISPOSITION_ACCEPT,
    "release": v1.DISPOSITION_RELEASE,
    "reject": v1.DISPOSITION_REJECT,
    "renew": v1.DISPOSITION_RENEW,
}
# Headers that this API has as fields.
NUMBERS_OF = {"weir-deliver-at": "deliver_at_ms", "weir-delay-ms": "delay_ms", "weir-priority": "priority"}
TEXTS_OF = {"weir-message-id": "message_id", "weir-cancel": "cancel", "weir-reply-to": "reply_to", "weir-correlation-id": "correlation_id", "traceparent": "trace_parent"}


def message(record):
    """What a record is in this API."""
    fields = {name: record[name].encode() for name in ("key", "value") if record.get(name) is not None}
    fields["timestamp_ms"] = record.get("timestamp", 0)
    headers = []
    for name, value in record.get("headers", {}).items():
        if name in NUMBERS_OF:
            fields[NUMBERS_OF[name]] = int(value)
        elif name in TEXTS_OF:
            fields[TEXTS_OF[name]] = value
        elif name == "weir-tags":
            fields["tags"] = value.split(",")
        else:
            headers.append(v1.Header(name=name, value=value.encode()))
    return v1.Message(headers=headers, **fields)


def record(topic, received, at, deliveries=0):
    """What a message is to those who give orders."""
    told = received.message
    headers = {header.name: optional(header.value) for header in told.headers}
    for name, field in {**NUMBERS_OF, **TEXTS_OF}.items():
        value = getattr(told, field)
        if value not in ("", 0):
            headers[name] = str(value)
    if told.tags:
        headers["weir-tags"] = ",".join(told.tags)
    return {
        "topic": topic,
        "partition": received.partition,
        "offset": received.offset,
        "key": told.key.decode() if told.HasField("key") else None,
        "value": told.value.decode() if told.HasField("value") else None,
        "headers": headers,
        "timestamp": told.timestamp_ms,
        "deliveries": deliveries,
        "at": at,
    }


def now():
    return int(time.time() * 1000)


def refusal(error):
    named = dict(error.trailing_metadata() or ()).get("weir-error")
    return {"error": named or error.code().name, "message": error.details()}


def produce(order):
    results = []
    for one in order["records"]:
        request = v1.PublishRequest(topic=order["topic"], partition=one.get("partition"), message=message(one))
        results.append(publish(request))
    return {"results": results}


def publish(request):
    end = time.monotonic() + LIMIT
    for tries in itertools.count():
        try:
            there = STUBS[next(NUMBERS) % len(STUBS)].Publish(request, timeout=CALL_SECONDS)
            return {"partition": there.partition, "offset": there.offset, "twice": tries > 0}
        except grpc.RpcError as error:
            if error.code() not in AGAIN or time.monotonic() > end:
                return {**refusal(error), "twice": tries > 0}
            time.sleep(0.05)


class Reader:
    """A stream of each partition, so that one that breaks goes on where it was."""

    def __init__(self, topic, partitions, words):
        self.topic, self.words, self.records, self.streams = topic, words, queue.SimpleQueue(), {}
        for partition in range(partitions):
            threading.Thread(target=self._read, args=[partition], daemon=True).start()

    def _read(self, partition):
        place = {"earliest": True}
        while True:
            client = STUBS[next(NUMBERS) % len(STUBS)]
            stream = client.Read(v1.ReadRequest(topic=self.topic, partitions=[partition], **place, **self.words))
            self.streams[partition] = stream
            try:
                for response in stream:
                    for received in response.messages:
                        self.records.put(record(self.topic, received, now()))
                        place = {"offset": received.offset + 1}
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.CANCELLED:
                    return
                if error.code() not in AGAIN:
                    print(f"{self.topic} {partition}: {error.code()} {error.details()}", file=sys.stderr, flush=True)
                time.sleep(0.05)


def drained(records, ms):
    """What there is, and what comes within so many milliseconds if there is nothing."""
    taken = []
    try:
        taken.append(records.get(timeout=ms / 1000))
        while True:
            taken.append(records.get_nowait())
    except queue.Empty:
        return taken


readers, sharers = {}, {}


def read_open(order):
    words = {name: order[name] for name in ("filter", "tags") if name in order}
    readers[order["as"]] = Reader(order["topic"], order["partitions"], words)


def read_poll(order):
    return {"records": drained(readers[order["as"]].records, order["ms"])}


def read_close(order):
    for stream in readers.pop(order["as"]).streams.values():
        stream.cancel()


def read_refused(order):
    """A stream that must not begin, and why."""
    try:
        next(STUBS[0].Read(v1.ReadRequest(topic=order["topic"], earliest=True, filter=order["filter"]), timeout=CALL_SECONDS))
    except grpc.RpcError as error:
        return refusal(error)
    return {}


class Sharer:
    """A member of a share group, which takes its place again, at another broker, when its stream breaks."""

    def __init__(self, order):
        self.order, self.credit, self.most = order, order.get("credit", 100), 0
        self.stream, self.out = None, {}
        self.open("")

    def open(self, member):
        self.out = {}  # leases end with their stream
        broker = next(NUMBERS)
        self.stream = Subscriber(stub(broker), self.order["group"], self.order["topics"], self.credit, member)

    def poll(self, ms):
        taken = []
        for delivery in drained(self.stream.deliveries, ms):
            if delivery is None:
                self.open(self.stream.member)
                return []  # what came before is with others by now
            taken.append(delivery)
        self.most = max(self.most, self.stream.most)
        for delivery in taken:
            self.out[delivery.topic, delivery.partition, delivery.offset] = delivery
        # A record that came again meanwhile voids what was handed out of it before.
        last = {(delivery.topic, delivery.partition, delivery.offset): delivery for delivery in taken}
        return [record(delivery.topic, delivery, now(), delivery.delivery_count) for delivery in last.values()]

    def settle(self, records):
        stored, waiting = [False] * len(records), {}
        for at, one in enumerate(records):
            place = one["topic"], one["partition"], one["offset"]
            delivery = self.out.get(place)
            if delivery is None:
                continue
            if one["kind"] != "renew":
                del self.out[place]
                self.stream.out.discard(delivery.token)
            waiting[delivery.token] = at
            self.stream.say(delivery, KINDS[one["kind"]])
        while waiting:
            outcome = self.stream.outcomes.get(timeout=LIMIT)
            if outcome is None:
                self.stream.outcomes.put(None)
                break
            if outcome.token not in waiting:
                print(f"STRANGE {outcome} not in {waiting} of {records}", file=sys.stderr, flush=True)
                continue
            stored[waiting.pop(outcome.token)] = outcome.refused.code == 0
        return stored


def share_open(order):
    sharers[order["as"]] = Sharer(order)


def share_poll(order):
    sharer = sharers[order["as"]]
    return {"records": sharer.poll(order["ms"]), "most": sharer.most}


def share_settle(order):
    return {"stored": sharers[order["as"]].settle(order["records"])}


def share_credit(order):
    sharer = sharers[order["as"]]
    sharer.credit = order["credit"]
    sharer.stream.requests.put(v1.SubscribeRequest(credit=v1.Credit(messages=order["credit"])))


def share_close(order):
    sharers.pop(order["as"]).stream.requests.put(None)


def patient(work):
    """What comes of a call; one that fails with its broker is made again at another."""
    end = time.monotonic() + LIMIT
    while True:
        try:
            return work(STUBS[next(NUMBERS) % len(STUBS)])
        except grpc.RpcError as error:
            if error.code() not in AGAIN or time.monotonic() > end:
                return refusal(error)
            time.sleep(0.05)


def call(order):
    request = v1.CallRequest(topic=order["topic"], message=message(order["record"]))
    return patient(lambda client: {"value": client.Call(request, timeout=CALL_SECONDS).message.value.decode()})


def reply(order):
    answer = v1.ReplyRequest(reply_to=order["to"], correlation_id=order["correlation"], message=message(order["record"]))
    return patient(lambda client: client.Reply(answer, timeout=CALL_SECONDS) and {})


def prepare(order):
    """A transaction; one whose answer was lost with its broker is prepared again, and the first is one that nobody knows of."""
    messages = [v1.PublishRequest(topic=one["topic"], partition=one.get("partition"), message=message(one)) for one in order["records"]]
    times = {"check_after_ms": order["after"], "asks_max": order["most"]}
    request = v1.PrepareRequest(producer_group=order["group"], messages=messages, **times)
    return patient(lambda client: {"transaction": client.Prepare(request, timeout=CALL_SECONDS).transaction_id})


def commit(order):
    request = v1.CommitRequest(transaction_id=order["transaction"])
    return patient(lambda client: client.Commit(request, timeout=CALL_SECONDS) and {})


def rollback(order):
    request = v1.RollbackRequest(transaction_id=order["transaction"])
    return patient(lambda client: client.Rollback(request, timeout=CALL_SECONDS) and {})


class Checker:
    """A producer of a group that is asked what became of transactions; its stream is opened again, at another broker, when it breaks."""

    def __init__(self, group):
        self.start = v1.CheckBackRequest(start=v1.CheckBackStart(producer_group=group))
        self.asks, self.turn, self.waiting, self.requests, self.is_over = queue.SimpleQueue(), threading.Lock(), {}, None, False
        threading.Thread(target=self._hear, daemon=True).start()

    def _hear(self):
        while not self.is_over:
            with self.turn:
                requests = self.requests = queue.SimpleQueue()
                lost, self.waiting = self.waiting, {}
            for waiting in lost.values():
                waiting.put({"error": "UNAVAILABLE"})
            requests.put(self.start)
            try:
                for response in STUBS[next(NUMBERS) % len(STUBS)].CheckBack(iter(requests.get, None)):
                    self._take(response)
            except grpc.RpcError as error:
                if error.code() not in AGAIN:
                    print(f"CheckBack: {error.code()} {error.details()}", file=sys.stderr, flush=True)
                time.sleep(0.05)
            requests.put(None)

    def _take(self, response):
        if response.HasField("ask"):
            ask = response.ask
            values = [one.message.value.decode() for one in ask.messages]
            self.asks.put({"transaction": ask.transaction_id, "asked": ask.asked, "values": values, "at": now()})
            return
        ended = response.ended
        with self.turn:
            waiting = self.waiting.pop(ended.transaction_id, None)
        if waiting is not None:
            is_well = ended.refused.code == 0
            waiting.put({} if is_well else {"error": grpc_name(ended.refused.code), "message": ended.refused.message})

    def answer(self, transaction, decision):
        waiting = queue.SimpleQueue()
        answer = v1.CheckBackAnswer(transaction_id=transaction, decision=v1.Decision.Value(f"DECISION_{decision.upper()}"))
        with self.turn:
            self.waiting[transaction] = waiting
            self.requests.put(v1.CheckBackRequest(answer=answer))
        try:
            return waiting.get(timeout=LIMIT)
        except queue.Empty:
            return {"error": "UNAVAILABLE"}


def grpc_name(code):
    return next(status.name for status in grpc.StatusCode if status.value[0] == code)


checkers = {}


def check_open(order):
    checkers[order["as"]] = Checker(order["group"])


def check_poll(order):
    return {"asks": drained(checkers[order["as"]].asks, order["ms"])}


def check_answer(order):
    return checkers[order["as"]].answer(order["transaction"], order["decision"])


def check_close(order):
    checker = checkers.pop(order["as"])
    checker.is_over = True
    checker.requests.put(None)


obey(
    {
        "produce": produce,
        "read-open": read_open,
        "read-poll": read_poll,
        "read-close": read_close,
        "read-refused": read_refused,
        "share-open": share_open,
        "share-poll": share_poll,
        "share-settle": share_settle,
        "share-credit": share_credit,
        "share-close": share_close,
        "call": call,
        "reply": reply,
        "prepare": prepare,
        "commit": commit,
        "rollback": rollback,
        "check-open": check_open,
        "check-poll": check_poll,
        "check-answer": check_answer,
        "check-close": check_close,
    }
)
