//! Cluster and topics as the operator sees them, from the image and from what this broker knows of itself.

use std::collections::BTreeMap;

use weir_proto::admin::v1 as proto;
use weir_quorum::BrokerId;
use weir_quorum::configs::in_sync_min;
use weir_quorum::image::{Image, Partition, Topic};
use weir_quorum::listeners::Listener;

use crate::Broker;

/// How many partitions are named of those that need a broker for something.
const NAMED: usize = 3;

/// The cluster. What lies on disks is known of the answering broker only, and 0 for the others.
pub(super) async fn cluster(broker: &Broker) -> proto::DescribeClusterResponse {
    let image = broker.metadata.image();
    let me = broker.metadata.broker_id();
    let space = broker.disk_space().await;
    let mut needed = needed(broker, &image);
    let mut last = last_copies(&image);
    let brokers = image.brokers().map(|known| {
        let is_me = known.id == me;
        let own = |value: u64| if is_me { value } else { 0 };
        let held = Held::by(&image, known.id);
        let (needed_partitions, needed) = needed.remove(&known.id).unwrap_or_default();
        let (last_copies, last_copies_named) = last.remove(&known.id).unwrap_or_default();
        proto::Broker {
            id: known.id.0,
            incarnation: known.incarnation.to_string(),
            address: known.kafka.to_string(),
            rack: known.rack.clone().unwrap_or_default(),
            alive: !known.fenced,
            version: known.version.clone(),
            replicas: count(held.replicas),
            leaders: count(held.leaders),
            log_bytes: own(broker
                .partitions
                .all()
                .iter()
                .map(|partition| partition.reader().size_bytes())
                .sum()),
            disk_available_bytes: own(space.map_or(0, |space| space.available_bytes)),
            disk_total_bytes: own(space.map_or(0, |space| space.total_bytes)),
            cordoned: known.cordoned,
            draining: known.draining,
            incoming: count(held.incoming),
            outgoing: count(held.outgoing),
            out_of_sync: count(held.out_of_sync),
            stopping: known.stopping,
            needed_partitions: Some(count(needed_partitions)),
            needed,
            last_copies: Some(count(last_copies)),
            last_copies_named,
            listeners: image
                .listeners(known.id)
                .into_iter()
                .map(listener)
                .collect(),
        }
    });
    proto::DescribeClusterResponse {
        cluster_id: broker
            .metadata
            .cluster_id()
            .map(|id| id.to_string())
            .unwrap_or_default(),
        controller_id: broker.metadata.confirmed_controller().map(|id| id.0),
        brokers: brokers.collect(),
        metadata_index: image.index(),
        voters: broker
            .metadata
            .voters()
            .into_iter()
            .map(|id| id.0)
            .collect(),
        feature_level: image.feature_level(),
        rebalancing: image.is_rebalancing(),
        moving_partitions: count(
            image
                .partitions()
                .filter(|(_, _, partition)| partition.is_reassigning())
                .count(),
        ),
        answering_broker: Some(me.0),
        sets_listeners: true,
        tls_listeners: true,
        config: image.cluster_config().clone().into_iter().collect(),
        configures_brokers: true,
    }
}

fn listener(listener: Listener) -> proto::Listener {
    let advertised = listener.advertised.map(|address| proto::AdvertisedAddress {
        host: address.host,
        port: address.port.into(),
    });
    let port = u32::from(listener.port);
    let (port, tls_port) = if listener.tls { (0, port) } else { (port, 0) };
    proto::Listener {
        name: listener.name,
        port,
        advertised,
        tls_port,
    }
}

/// For each broker, how many partitions would fall below their minimum without it while others of their replicas catch up, and the first of
/// them.
fn needed(broker: &Broker, image: &Image) -> Partitions {
    let mut needed = Partitions::new();
    for (topic, index, partition) in unspared(broker, image) {
        for id in &partition.isr {
            note(&mut needed, *id, topic, index);
        }
    }
    needed
}

/// Who is alive, whether any broker is needed, and whether that may be old.
pub(super) fn availability(broker: &Broker, image: &Image) -> proto::Availability {
    let alive = image.brokers().filter(|known| !known.fenced);
    let is_needed = |partition: &Partition| !partition.isr.is_empty();
    proto::Availability {
        alive: alive.map(|known| known.id.0).collect(),
        brokers_needed: unspared(broker, image).any(|(_, _, partition)| is_needed(partition)),
        controller_unknown: broker.metadata.confirmed_controller().is_none(),
    }
}

/// Partitions that cannot spare any of those who are in sync, while others of their replicas catch up. One that is whole and has no replica to spare is
/// not among them: waiting would help nobody.
fn unspared<'a>(
    broker: &'a Broker,
    image: &'a Image,
) -> impl Iterator<Item = (&'a Topic, usize, &'a Partition)> {
    image.topics().flat_map(move |topic| {
        let topic: &Topic = topic;
        let minimum = in_sync_min(image, broker.metadata.settings(), topic);
        let partitions = topic.partitions.iter().enumerate();
        let partitions = partitions.map(move |(index, partition)| (topic, index, &**partition));
        partitions.filter(move |(_, _, partition)| {
            let is_whole = partition.isr.len() >= partition.replicas.len();
            !is_whole && partition.isr.len() <= minimum
        })
    })
}

/// For each broker, how many partitions nobody else has everything of that was acknowledged, and the first of them. Who is in sync has, and who
/// may be elected though it is not (KIP-966). Where there is nobody of that kind, each of those that might have it counts.
fn last_copies(image: &Image) -> Partitions {
    let mut last = Partitions::new();
    for topic in image.topics() {
        for (index, partition) in topic.partitions.iter().enumerate() {
            let mut whole = partition.isr.iter().chain(&partition.elr);
            match (whole.next(), whole.next()) {
                (Some(only), None) => note(&mut last, *only, topic, index),
                (None, _) => {
                    for id in &partition.last_known {
                        note(&mut last, *id, topic, index);
                    }
                }
                (Some(_), Some(_)) => {}
            }
        }
    }
    last
}

/// How many partitions each broker has to do with, and the first of them.
type Partitions = BTreeMap<BrokerId, (usize, Vec<String>)>;

fn note(partitions: &mut Partitions, broker: BrokerId, topic: &Topic, index: usize) {
    let (count, named) = partitions.entry(broker).or_default();
    *count += 1;
    if named.len() < NAMED {
        named.push(format!("{}-{index}", topic.name));
    }
}

/// What a broker holds.
#[derive(Default)]
struct Held {
    replicas: usize,
    leaders: usize,
    incoming: usize,
    outgoing: usize,
    out_of_sync: usize,
}

impl Held {
    fn by(image: &Image, id: weir_quorum::BrokerId) -> Self {
        let mut held = Self::default();
        for (_, _, partition) in image.partitions_on(id) {
            held.replicas += 1;
            held.leaders += usize::from(partition.leader == Some(id));
            held.incoming += usize::from(partition.adding.contains(&id));
            held.outgoing += usize::from(partition.removing.contains(&id));
            held.out_of_sync += usize::from(!partition.isr.contains(&id));
        }
        held
    }
}

/// Topics by name, or all.
pub(super) fn topics(broker: &Broker, names: &[String]) -> proto::DescribeTopicsResponse {
    let image = broker.metadata.image();
    let topics = if names.is_empty() {
        image
            .topics()
            .map(|found| topic(broker, &image, found))
            .collect()
    } else {
        names
            .iter()
            .filter_map(|name| image.topic(name))
            .map(|found| topic(broker, &image, found))
            .collect()
    };
    proto::DescribeTopicsResponse { topics }
}

fn topic(broker: &Broker, image: &Image, topic: &Topic) -> proto::Topic {
    let has_live_leader = |leader: Option<weir_quorum::BrokerId>| {
        leader
            .and_then(|id| image.broker(id))
            .is_some_and(|broker| !broker.fenced)
    };
    let offline = topic
        .partitions
        .iter()
        .filter(|partition| !has_live_leader(partition.leader))
        .count();
    let under_replicated = topic
        .partitions
        .iter()
        .filter(|partition| partition.isr.len() < partition.replicas.len())
        .count();
    let minimum = in_sync_min(image, broker.metadata.settings(), topic);
    let in_sync = |is_so: fn(usize, usize) -> bool| {
        let partitions = topic.partitions.iter();
        count(
            partitions
                .filter(|partition| is_so(partition.isr.len(), minimum))
                .count(),
        )
    };
    let replication_factor = topic.partitions.iter();
    let replication_factor = replication_factor
        .map(|partition| partition.target().count())
        .max();
    let moving = topic.partitions.iter();
    let moving = moving
        .filter(|partition| partition.is_reassigning())
        .count();
    proto::Topic {
        name: topic.name.to_string(),
        id: topic.id.to_string(),
        partitions: count(topic.partitions.len()),
        replication_factor: count(replication_factor.unwrap_or(0)),
        config: topic.config.clone().into_iter().collect(),
        internal: topic.is_internal(),
        offline_partitions: count(offline),
        under_replicated_partitions: count(under_replicated),
        under_min_in_sync_partitions: in_sync(|in_sync, minimum| in_sync < minimum),
        at_min_in_sync_partitions: in_sync(|in_sync, minimum| in_sync == minimum),
        moving_partitions: count(moving),
        wanted_replication_factor: topic.replicas_wanted,
    }
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
