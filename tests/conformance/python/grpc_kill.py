"""A broker is killed while messages are published and shared by gRPC: `grpc_kill.py BOOTSTRAP`, with `WEIR_GRPC` the brokers' addresses and
`WEIR_VICTIM` the process. Clients go to another broker when theirs is gone, and say again what they do not know to be there."""

import os
import signal
import threading

import grpc
from suite import main, same, scenario, until
from weir_queue import Subscriber, group, publish, stub, topic, v1

COUNT = 1_500


@scenario("killed-broker")
def _killed_broker(_bootstrap):
    name, members = topic("killed", 6), group("killed")
    accepted, unknown, stop = set(), set(), threading.Event()

    def hear(worker, out):
        while (outcome := worker.outcomes.get()) is not None:
            if outcome.refused.code == 0:
                accepted.add(out.pop(outcome.token))
            elif outcome.refused.code == grpc.StatusCode.UNAVAILABLE.value[0]:
                unknown.add(out.pop(outcome.token))
            # All others come again, to this worker or another.
        # The stream is over: what was said last may be stored, or comes again.
        unknown.update(out.values())

    def work(broker):
        member = ""
        while not stop.is_set():
            worker, out = Subscriber(stub(broker), members, [name], credit=20, member=member), {}
            threading.Thread(target=hear, args=[worker, out], daemon=True).start()
            while (delivery := worker.next(limit=600)) is not None:
                out[delivery.token] = delivery.message.value.decode()
                worker.say(delivery, v1.DISPOSITION_ACCEPT)
            member, broker = worker.member, broker + 1

    for broker in range(3):
        threading.Thread(target=work, args=[broker], daemon=True).start()

    published, turn = set(), threading.Lock()

    def say(numbers, broker):
        client = stub(broker)
        for number in numbers:
            while True:
                try:
                    publish(client, name, str(number), key=b"%d" % number)
                    break
                except grpc.RpcError as error:
                    assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED), error
                    broker += 1
                    client = stub(broker)
            with turn:
                published.add(str(number))

    sayers = [threading.Thread(target=say, args=[range(first, COUNT, 3), first]) for first in range(3)]
    for sayer in sayers:
        sayer.start()
    until("a third is published", lambda: len(published) > COUNT // 3)
    os.kill(int(os.environ["WEIR_VICTIM"]), signal.SIGKILL)
    for sayer in sayers:
        sayer.join()
    same(COUNT, len(published), "published")
    until("all that was published was handed out, and is accepted as far as can be known", lambda: published <= accepted | unknown)
    assert len(unknown) <= 3 * 20, f"{len(unknown)} of three streams with a credit of 20 each"
    stop.set()


if __name__ == "__main__":
    main()
