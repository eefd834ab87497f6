//! One session: the partitions that a client fetches, what it was told of each last, and in which order they have their turn.
//!
//! Pure. Partitions lie in one vector and are chained in the order of their turn: one that gave records goes to the end of the
//! chain, so that a response's limit does not starve those behind it. A fetch walks the chain and allocates nothing for a
//! partition that has not changed.

use std::collections::HashMap;

use uuid::Uuid;
use weir_wire::messages::fetch_request::{FetchPartitionView, FetchTopicView, ForgottenTopicView};
use weir_wire::messages::fetch_response::PartitionData;

/// No partition.
const NONE: u32 = u32::MAX;

/// What the client has not been told of a partition, whatever it is.
const UNTOLD: i64 = -1;

/// The partition at a place of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u32);

#[derive(Debug)]
struct Topic {
    name: Box<str>,
    id: Uuid,
    /// How many of the session's partitions are its.
    partitions: u32,
}

#[derive(Debug)]
struct Partition {
    /// The place of its topic; [`NONE`]: nobody is here, and `next` is the next such place.
    topic: u32,
    index: i32,
    bytes_max: i32,
    leader_epoch: i32,
    last_fetched_epoch: i32,
    before: u32,
    next: u32,
    offset: i64,
    /// What the client was told last.
    high_watermark: i64,
    log_start: i64,
}

/// One session's partitions.
#[derive(Debug)]
pub(crate) struct Session {
    /// What the next request must carry.
    pub(super) epoch: i32,
    /// Whether the client names topics by their ids.
    uses_ids: bool,
    topics: Vec<Topic>,
    free_topics: Vec<u32>,
    by_name: HashMap<(Box<str>, Uuid), u32>,
    partitions: Vec<Partition>,
    free: u32,
    places: HashMap<(u32, i32), u32>,
    first: u32,
    last: u32,
}

impl Session {
    /// A session with nothing in it, whose client is at its first request.
    pub(crate) fn new(uses_ids: bool) -> Self {
        Self {
            epoch: 1,
            uses_ids,
            topics: Vec::new(),
            free_topics: Vec::new(),
            by_name: HashMap::new(),
            partitions: Vec::new(),
            free: NONE,
            places: HashMap::new(),
            first: NONE,
            last: NONE,
        }
    }

    /// How many partitions it has.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// What the next request must carry.
    pub(crate) fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Counts a request; after the greatest number comes 1, since 0 begins a session.
    pub(crate) fn advance(&mut self) {
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
    }

    /// Whether the client names topics by their ids.
    pub(crate) fn uses_ids(&self) -> bool {
        self.uses_ids
    }

    /// Takes what a request says of a topic: partitions that are new, or wanted from elsewhere.
    pub(crate) fn want(&mut self, wanted: &FetchTopicView<'_>) {
        if wanted.partitions.is_empty() {
            return;
        }
        let topic = self.topic_of(wanted.topic, wanted.topic_id);
        for partition in wanted.partitions.iter() {
            match self.places.get(&(topic, partition.partition)) {
                Some(place) => {
                    let known = &mut self.partitions[*place as usize];
                    known.bytes_max = partition.partition_max_bytes;
                    known.leader_epoch = partition.current_leader_epoch;
                    known.last_fetched_epoch = partition.last_fetched_epoch;
                    known.offset = partition.fetch_offset;
                }
                None => self.add(topic, &partition),
            }
        }
    }

    /// Takes partitions out.
    pub(crate) fn forget(&mut self, forgotten: &ForgottenTopicView<'_>) {
        let key = (Box::from(forgotten.topic), forgotten.topic_id);
        let Some(topic) = self.by_name.get(&key).copied() else {
            return;
        };
        for index in forgotten.partitions.iter() {
            if let Some(place) = self.places.remove(&(topic, index)) {
                self.unchain(place);
                let partition = &mut self.partitions[place as usize];
                (partition.topic, partition.next) = (NONE, self.free);
                self.free = place;
                self.topics[topic as usize].partitions -= 1;
            }
        }
        if self.topics[topic as usize].partitions == 0 {
            self.by_name.remove(&key);
            self.topics[topic as usize].name = Box::default();
            self.free_topics.push(topic);
        }
    }

    fn topic_of(&mut self, name: &str, id: Uuid) -> u32 {
        // A look-up by what is borrowed would need a key of its own; the name is short and topics are few.
        let key = (Box::from(name), id);
        if let Some(topic) = self.by_name.get(&key) {
            return *topic;
        }
        let topic = Topic {
            name: Box::from(name),
            id,
            partitions: 0,
        };
        let place = match self.free_topics.pop() {
            Some(place) => {
                self.topics[place as usize] = topic;
                place
            }
            None => {
                self.topics.push(topic);
                u32::try_from(self.topics.len() - 1).unwrap_or(NONE)
            }
        };
        self.by_name.insert(key, place);
        place
    }

    fn add(&mut self, topic: u32, wanted: &FetchPartitionView) {
        let partition = Partition {
            topic,
            index: wanted.partition,
            bytes_max: wanted.partition_max_bytes,
            leader_epoch: wanted.current_leader_epoch,
            last_fetched_epoch: wanted.last_fetched_epoch,
            before: NONE,
            next: NONE,
            offset: wanted.fetch_offset,
            high_watermark: UNTOLD,
            log_start: UNTOLD,
        };
        let place = if self.free == NONE {
            self.partitions.push(partition);
            u32::try_from(self.partitions.len() - 1).unwrap_or(NONE)
        } else {
            let place = self.free;
            self.free = self.partitions[place as usize].next;
            self.partitions[place as usize] = partition;
            place
        };
        self.chain(place);
        self.places.insert((topic, wanted.partition), place);
        self.topics[topic as usize].partitions += 1;
    }

    /// Puts a partition at the end of the chain.
    fn chain(&mut self, place: u32) {
        let last = self.last;
        let partition = &mut self.partitions[place as usize];
        (partition.before, partition.next) = (last, NONE);
        match self.partitions.get_mut(last as usize) {
            Some(before) => before.next = place,
            None => self.first = place,
        }
        self.last = place;
    }

    /// Takes a partition out of the chain.
    fn unchain(&mut self, place: u32) {
        let Partition { before, next, .. } = self.partitions[place as usize];
        match self.partitions.get_mut(before as usize) {
            Some(partition) => partition.next = next,
            None => self.first = next,
        }
        match self.partitions.get_mut(next as usize) {
            Some(partition) => partition.before = before,
            None => self.last = before,
        }
    }

    /// The partition whose turn is first.
    pub(crate) fn first(&self) -> Option<Place> {
        (self.first != NONE).then_some(Place(self.first))
    }

    /// The partition whose turn is next.
    pub(crate) fn after(&self, place: Place) -> Option<Place> {
        let next = self.partitions[place.0 as usize].next;
        (next != NONE).then_some(Place(next))
    }

    /// A partition's topic: a number that is the same for partitions of the same topic, its name and its id, as the client
    /// named it.
    pub(crate) fn topic(&self, place: Place) -> (u32, &str, Uuid) {
        let number = self.partitions[place.0 as usize].topic;
        let topic = &self.topics[number as usize];
        (number, &topic.name, topic.id)
    }

    /// What the client wants of a partition.
    pub(crate) fn wanted(&self, place: Place) -> FetchPartitionView {
        let partition = &self.partitions[place.0 as usize];
        FetchPartitionView {
            partition: partition.index,
            current_leader_epoch: partition.leader_epoch,
            fetch_offset: partition.offset,
            last_fetched_epoch: partition.last_fetched_epoch,
            log_start_offset: -1,
            partition_max_bytes: partition.bytes_max,
            replica_directory_id: Uuid::nil(),
            high_watermark: i64::MAX,
        }
    }

    /// Whether the client does not know what is to be told of a partition.
    pub(crate) fn is_news(&self, place: Place, told: &PartitionData) -> bool {
        let known = &self.partitions[place.0 as usize];
        has_records(told)
            || told.error_code != 0
            || told.diverging_epoch.epoch >= 0
            || told.high_watermark != known.high_watermark
            || told.log_start_offset != known.log_start
    }

    /// Notes what the client is being told. After an error it is told whatever comes next.
    pub(crate) fn told(&mut self, place: Place, told: &PartitionData) {
        let known = &mut self.partitions[place.0 as usize];
        known.log_start = told.log_start_offset;
        known.high_watermark = if told.error_code == 0 {
            told.high_watermark
        } else {
            UNTOLD
        };
        if has_records(told) {
            self.unchain(place.0);
            self.chain(place.0);
        }
    }
}

fn has_records(told: &PartitionData) -> bool {
    told.records
        .as_ref()
        .is_some_and(|records| !records.is_empty())
}
