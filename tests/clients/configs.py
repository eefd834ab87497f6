"""Reads and changes the configuration of a topic or a group: configs.py BOOTSTRAP TOPIC|group:GROUP NAME[=VALUE]...

What has a value is set, as `kafka-configs.sh --alter` would; of what has none the present value is written, a line each.
"""

import sys

from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

admin = AdminClient({"bootstrap.servers": sys.argv[1], "log_level": 2})
of, words = sys.argv[2], [word.split("=", 1) for word in sys.argv[3:]]
kind, name = (ResourceType.GROUP, of[6:]) if of.startswith("group:") else (ResourceType.TOPIC, of)
entries = [ConfigEntry(*word, incremental_operation=AlterConfigOpType.SET) for word in words if len(word) == 2]
if entries:
    change = ConfigResource(kind, name, incremental_configs=entries)
    admin.incremental_alter_configs([change], request_timeout=30)[change].result()
resource = ConfigResource(kind, name)
described = admin.describe_configs([resource], request_timeout=30)[resource].result()
for word in words:
    if len(word) == 1:
        print(described[word[0]].value)
