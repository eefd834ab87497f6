"""The gRPC API of queues through grpcio, at three brokers: `grpc_queue.py BOOTSTRAP [NAME...]`, with `WEIR_GRPC` the brokers' addresses."""

import threading
import time

import grpc
from confluent_kafka import Producer
from suite import main, same, scenario, until
from weir_queue import LIMIT, Subscriber, group, publish, stub, topic, v1

ACCEPT, RELEASE, REJECT, RENEW = (
    v1.DISPOSITION_ACCEPT,
    v1.DISPOSITION_RELEASE,
    v1.DISPOSITION_REJECT,
    v1.DISPOSITION_RENEW,
)


def refused(wanted, call):
    try:
        call()
    except grpc.RpcError as error:
        same(wanted, error.code(), error.details())
        return error
    raise AssertionError(f"it went well instead of {wanted}")


@scenario("publish")
def _publish(_bootstrap):
    name = topic("publish")
    fields = {
        "key": b"k",
        "headers": [v1.Header(name="colour", value=b"red"), v1.Header(name="none")],
        "timestamp_ms": 1_700_000_000_000,
        "priority": 7,
        "tags": ["paid", "express"],
        "message_id": "id-1",
        "trace_parent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    places = [publish(stub(broker), name, "v", **fields) for broker in range(3)]
    same([(places[0].partition, offset) for offset in range(3)], [(place.partition, place.offset) for place in places], "one key, one partition")
    for response in stub(1).Read(v1.ReadRequest(topic=name, earliest=True), timeout=LIMIT):
        same(v1.Message(value=b"v", **fields), response.messages[0].message, "what is read")
        break
    refused(grpc.StatusCode.NOT_FOUND, lambda: publish(stub(), "nowhere", "v"))
    wrong = refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: publish(stub(), name, "v", priority=10))
    assert wrong.details().startswith("message.priority"), wrong.details()


@scenario("publish-stream")
def _publish_stream(_bootstrap):
    name, count = topic("stream"), 2_000
    requests = (v1.PublishRequest(topic=name, message=v1.Message(key=b"%d" % (n % 9), value=b"%d" % n)) for n in range(count))
    answers = list(stub().PublishStream(requests, timeout=LIMIT))
    same(count, len(answers), "answers")
    places = [(answer.published.partition, answer.published.offset) for answer in answers]
    same(count, len(set(places)), "places")
    for key in range(9):
        own = places[key::9]
        same(1, len({partition for partition, _ in own}), f"partitions of key {key}")
        same(sorted(own), own, f"order of key {key}")


@scenario("sold-out")
def _sold_out(_bootstrap):
    name = topic("tickets", 1, weir_queue_group="tills", weir_queue_max_messages="100")
    requests = (v1.PublishRequest(topic=name, message=v1.Message(value=b"ticket")) for _ in range(150))
    answers = list(stub(1).PublishStream(requests, timeout=LIMIT))
    same(100, sum(answer.HasField("published") for answer in answers), "tickets that were sold")
    sold_out = refused(grpc.StatusCode.RESOURCE_EXHAUSTED, lambda: publish(stub(2), name, "ticket"))
    same("POLICY_VIOLATION", dict(sold_out.trailing_metadata())["weir-error"], "Kafka's error")


@scenario("subscribe-credit")
def _credit(_bootstrap):
    name, members = topic("credit"), group("credit")
    for number in range(60):
        publish(stub(number), name, str(number))
    workers = [Subscriber(stub(broker), members, [name], credit=4) for broker in range(3)]
    seen, turn = [], threading.Lock()

    def work(worker):
        while (delivery := worker.next()) is not None:
            same(0, worker.settle(delivery, ACCEPT), "settled")
            with turn:
                seen.append(delivery.message.value.decode())

    threads = [threading.Thread(target=work, args=[worker]) for worker in workers]
    for thread in threads:
        thread.start()
    until("all are accepted", lambda: len(seen) >= 60)
    for worker in workers:
        assert worker.most <= 4, f"{worker.most} were out with a credit of 4"
        worker.close()
    for thread in threads:
        thread.join(LIMIT)
    same(sorted(map(str, range(60))), sorted(seen), "each once")


@scenario("subscribe-settle")
def _settle(_bootstrap):
    name, members = topic("settle", 1), group("settle")
    for value in "abc":
        publish(stub(), name, value)
    worker = Subscriber(stub(2), members, [name], credit=10)
    first, second, third = (worker.next() for _ in range(3))
    same(0, worker.settle(first, ACCEPT), "accepted")
    same(0, worker.settle(second, RENEW), "renewed")
    same(0, worker.settle(second, RELEASE), "released")
    same(0, worker.settle(third, REJECT), "rejected")
    again = worker.next()
    same((second.offset, 2), (again.offset, again.delivery_count), "what comes again")
    began = time.monotonic()
    same(0, worker.settle(again, RELEASE, delay_ms=500), "released, for later")
    later = worker.next()
    assert time.monotonic() - began >= 0.5, "it came before its time"
    same((second.offset, 3), (later.offset, later.delivery_count), "what comes at its time")
    same(grpc.StatusCode.FAILED_PRECONDITION.value[0], worker.settle(first, ACCEPT), "settled twice")
    same(0, worker.settle(later, ACCEPT), "accepted in the end")
    worker.close()


@scenario("subscribe-cut")
def _cut(_bootstrap):
    name, members = topic("cut", 1), group("cut")
    for value in "abc":
        publish(stub(), name, value)
    dies = Subscriber(stub(1), members, [name], credit=2)
    dies.next(), dies.next()
    dies.cut()
    began = time.monotonic()
    heir = Subscriber(stub(2), members, [name], credit=10)
    values = sorted(heir.next().message.value for _ in range(3))
    same([b"a", b"b", b"c"], values, "what is handed out again")
    assert time.monotonic() - began < 20, "not at once, but when the leases had ended"
    heir.close()


@scenario("read")
def _read(_bootstrap):
    name = topic("read")
    for number in range(30):
        headers = [v1.Header(name="parity", value=b"odd" if number % 2 else b"even")]
        publish(stub(number), name, str(number), headers=headers)

    def read(count, **request):
        values = []
        stream = stub(1).Read(v1.ReadRequest(topic=name, **request), timeout=LIMIT)
        for response in stream:
            values.extend(int(received.message.value) for received in response.messages)
            if len(values) >= count:
                stream.cancel()
                return sorted(values)

    same(list(range(30)), read(30, earliest=True), "everyone gets everything")
    same(list(range(30)), read(30, earliest=True), "everyone gets everything")
    same(list(range(1, 30, 2)), read(15, earliest=True, filter="headers.parity == 'odd'"), "what the filter lets through")
    wrong = lambda: next(stub().Read(v1.ReadRequest(topic=name, filter="headers["), timeout=LIMIT))  # noqa: E731
    refused(grpc.StatusCode.INVALID_ARGUMENT, wrong)


@scenario("call")
def _call(bootstrap):
    name, members, count = topic("questions"), group("answering"), 40
    # One answers by this API, one is any program of Kafka's that can produce.
    producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})

    def answer(worker, by_kafka):
        while (delivery := worker.next()) is not None:
            request = delivery.message
            value = b"re: " + request.value
            if by_kafka:
                producer.produce(request.reply_to, value, headers={"weir-correlation-id": request.correlation_id})
                producer.flush()
            else:
                stub(1).Reply(v1.ReplyRequest(reply_to=request.reply_to, correlation_id=request.correlation_id, message=v1.Message(value=value)), timeout=LIMIT)
            same(0, worker.settle(delivery, ACCEPT), "settled")

    workers = [Subscriber(stub(broker), members, [name], credit=1) for broker in (0, 2)]
    threads = [threading.Thread(target=answer, args=pair) for pair in zip(workers, (True, False))]
    for thread in threads:
        thread.start()

    def call(number):
        request = v1.CallRequest(topic=name, message=v1.Message(value=b"%d" % number))
        return stub(number).Call.future(request, timeout=LIMIT)

    calls = [call(number) for number in range(count)]
    for number, reply in enumerate(calls):
        same(b"re: %d" % number, reply.result().message.value, "the reply")
    for worker in workers:
        worker.close()
    late = v1.CallRequest(topic=topic("nobody"), message=v1.Message(value=b"?"))
    refused(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: stub().Call(late, timeout=0.5))
    refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: stub().Call(late))


if __name__ == "__main__":
    main()
