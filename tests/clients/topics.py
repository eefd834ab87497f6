"""Makes topics: topics.py BOOTSTRAP NAME:PARTITIONS[:CONFIG=VALUE...]...

Each is made with the cluster's default number of replicas. What is there already is an error.
"""

import sys

from confluent_kafka.admin import AdminClient, NewTopic

admin = AdminClient({"bootstrap.servers": sys.argv[1], "log_level": 2})
topics = []
for words in sys.argv[2:]:
    name, partitions, *configs = words.split(":")
    configs = dict(config.split("=", 1) for config in configs)
    topics.append(NewTopic(name, int(partitions), replication_factor=-1, config=configs))
for future in admin.create_topics(topics, request_timeout=30).values():
    future.result()
