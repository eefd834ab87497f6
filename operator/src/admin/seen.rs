//! What brokers say, in the operator's own words.

use weir_proto::admin::v1 as proto;

use super::refusal;
use crate::world::{
    BrokerSeen, Consumption, GroupSeen, HostPort, ListenerAt, Needed, PartitionLag, Refusal,
    TopicSeen,
};

pub(super) fn broker_seen(broker: proto::Broker) -> BrokerSeen {
    BrokerSeen {
        alive: broker.alive,
        version: broker.version,
        replicas: broker.replicas,
        leaders: broker.leaders,
        incarnation: broker.incarnation,
        cordoned: broker.cordoned,
        draining: broker.draining,
        needed: broker.needed_partitions.map(|partitions| Needed {
            partitions,
            named: broker.needed,
        }),
        out_of_sync: broker.out_of_sync,
        last_copies: broker.last_copies.map(|partitions| Needed {
            partitions,
            named: broker.last_copies_named,
        }),
        listeners: broker
            .listeners
            .into_iter()
            .filter_map(listener_seen)
            .collect(),
    }
}

/// `None` for what is none: there are no such ports.
fn listener_seen(listener: proto::Listener) -> Option<ListenerAt> {
    let advertised = listener.advertised.and_then(|at| {
        let (host, port) = (at.host, u16::try_from(at.port).ok()?);
        Some(HostPort { host, port })
    });
    let tls = listener.tls_port != 0;
    let port = if tls {
        listener.tls_port
    } else {
        listener.port
    };
    Some(ListenerAt {
        name: listener.name,
        port: u16::try_from(port).ok()?,
        tls,
        advertised,
    })
}

pub(super) fn topic_seen(topic: proto::Topic) -> TopicSeen {
    TopicSeen {
        id: topic.id,
        partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        wanted_replication_factor: topic.wanted_replication_factor,
        moving_partitions: topic.moving_partitions,
        config: topic.config.into_iter().collect(),
        internal: topic.internal,
        offline_partitions: topic.offline_partitions,
        under_replicated_partitions: topic.under_replicated_partitions,
    }
}

pub(super) fn group_seen(group: proto::Group) -> Result<GroupSeen, Refusal> {
    if let Some(error) = group.error {
        return Err(refusal(error));
    }
    Ok(GroupSeen {
        state: group.state,
        members: u32::try_from(group.members.len()).unwrap_or(u32::MAX),
        lag: group
            .lag
            .into_iter()
            .map(|lag| PartitionLag {
                topic: lag.topic,
                partition: lag.partition,
                committed_offset: lag.committed_offset,
                records: lag.lag,
                age_ms: lag.lag_ms,
                topic_partitions: lag.topic_partitions,
            })
            .collect(),
        consumption: Consumption::parse(&group.consumption),
        config: group.config.into_iter().collect(),
    })
}
