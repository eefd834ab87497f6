"""Twelve hundred buyers and a thousand tickets: `pip install confluent-kafka`, then `flash-sale.py [HOST:PORT]`."""

import sys

from confluent_kafka import KafkaError, KafkaException, Producer

sold, sold_out = [], []


def told(error, order):
    if error is None:
        sold.append(order)
    elif error.code() == KafkaError.POLICY_VIOLATION:
        sold_out.append(order)
    else:
        raise KafkaException(error)


# A batch is taken or refused as a whole, so that each order is one.
shop = Producer({"bootstrap.servers": sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9092", "batch.num.messages": 1})
for buyer in range(1200):
    shop.produce("tickets", f"a ticket for buyer {buyer}", on_delivery=told)
shop.flush()
print(f"{len(sold)} tickets are sold; {len(sold_out)} buyers hear that there are no more.")
