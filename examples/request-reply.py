"""Asks for the price of something, over a topic: `pip install grpcio grpcio-tools`, then `request-reply.py [HOST:PORT]`.

Any broker serves, on port 9096 in Kubernetes and 5,000 above its Kafka port on this machine. Whoever answers may be anywhere, in any number, and may
be an ordinary Kafka client: it would produce its reply to the topic `weir-reply-to` with the header `weir-correlation-id`.
"""

import os
import subprocess
import sys
import tempfile
import threading

import grpc

proto, stubs = os.path.join(os.path.dirname(__file__), "../broker/proto"), tempfile.mkdtemp()
generate = ["grpc_tools.protoc", f"-I{proto}", f"--python_out={stubs}", f"--grpc_python_out={stubs}", "weir/queue/v1/queue.proto"]
subprocess.run([sys.executable, "-m", *generate], check=True)
sys.path.insert(0, stubs)

from weir.queue.v1 import queue_pb2 as v1  # noqa: E402
from weir.queue.v1.queue_pb2_grpc import QueueStub  # noqa: E402

queue = QueueStub(grpc.insecure_channel(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:14092"))
PRICES = {b"apple": b"30 cents", b"pear": b"40 cents"}


def answer(requests):
    for response in requests:
        for request in (received.message for received in response.messages):
            price = v1.Message(value=PRICES.get(request.value, b"not for sale"))
            queue.Reply(v1.ReplyRequest(reply_to=request.reply_to, correlation_id=request.correlation_id, message=price))


requests = queue.Read(v1.ReadRequest(topic="quotes", latest=True))
requests.initial_metadata()  # from here on nothing that is asked is missed
threading.Thread(target=answer, args=[requests], daemon=True).start()

for fruit in (b"apple", b"pear", b"moon"):
    reply = queue.Call(v1.CallRequest(topic="quotes", message=v1.Message(value=fruit)), timeout=30)
    print(f"{fruit.decode()}: {reply.message.value.decode()}")
    assert reply.message.value == PRICES.get(fruit, b"not for sale")
