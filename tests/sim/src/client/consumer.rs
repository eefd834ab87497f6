//! A consumer without a group: reads partitions from their beginnings and goes on.

use weir_wire::batch::batches;
use weir_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use weir_wire::messages::{ErrorCode, FetchRequest, FetchResponseView};
use weir_wire::{MessageView, RecordsPart};

use super::Client;
use crate::history::{Place, Shared};

/// A consumer.
#[derive(Debug)]
pub struct Consumer {
    client: Client,
    history: Shared,
    positions: Vec<(Place, i64)>,
}

/// What one fetch gave.
pub(super) enum Fetched {
    /// Values with their offsets, where to go on, and the high watermark.
    Values(Vec<(i64, String)>, i64, i64),
    /// The position is no offset of the log.
    OutOfRange,
    /// Nothing; try again.
    Nothing,
}

impl Consumer {
    /// One that reads these partitions.
    #[must_use]
    pub fn new(client: Client, history: Shared, places: &[Place]) -> Self {
        let positions = places.iter().map(|place| (place.clone(), 0)).collect();
        Self {
            client,
            history,
            positions,
        }
    }

    /// Reads until the history says that it is enough.
    pub async fn run(mut self) {
        while self.history.is_open() {
            for index in 0..self.positions.len() {
                let (place, position) = self.positions[index].clone();
                match fetch(&mut self.client, &place, position, 20).await {
                    Fetched::Values(values, next, high_watermark) => {
                        self.history.watermark(&place, high_watermark);
                        for (offset, value) in values {
                            self.history.seen(&place, offset, &value);
                        }
                        self.positions[index].1 = next;
                    }
                    Fetched::OutOfRange => self.history.wrong(format!(
                        "{place:?}: offset {position}, which was read up to, is not there"
                    )),
                    Fetched::Nothing => {}
                }
            }
            self.client.pause().await;
        }
        self.history.done();
    }
}

/// Reads all of the partitions, however long it takes, and tells the history.
pub async fn read_all(mut client: Client, history: Shared, places: Vec<Place>) {
    for place in places {
        let mut position = 0;
        loop {
            match fetch(&mut client, &place, position, 0).await {
                Fetched::Values(values, next, high_watermark) => {
                    for (offset, value) in values {
                        history.seen(&place, offset, &value);
                    }
                    position = next;
                    if position >= high_watermark {
                        history.read_to_the_end(&place, high_watermark);
                        break;
                    }
                }
                Fetched::OutOfRange => {
                    history.wrong(format!("{place:?}: nothing at {position}"));
                    break;
                }
                Fetched::Nothing => client.pause().await,
            }
        }
    }
    history.done();
}

/// Fetches once.
pub(super) async fn fetch(
    client: &mut Client,
    place: &Place,
    position: i64,
    max_wait_ms: i32,
) -> Fetched {
    let Some(leader) = client.leader(&place.0, place.1).await else {
        client.pause().await;
        return Fetched::Nothing;
    };
    let request = FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![FetchTopic {
            topic: place.0.to_string(),
            partitions: vec![FetchPartition {
                partition: place.1,
                fetch_offset: position,
                // Small, so that a log is read in many pieces.
                partition_max_bytes: 4 << 10,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    };
    let answer = client.ask(leader, 12, &request, |body| {
        FetchResponseView::decode(body, 12).map(|view| view.to_owned())
    });
    let data = answer
        .await
        .ok()
        .and_then(|mut answer| answer.responses.pop()?.partitions.pop());
    let Some(data) = data else {
        client.forget_leader(&place.0, place.1);
        return Fetched::Nothing;
    };
    if data.error_code == ErrorCode::OffsetOutOfRange.code() {
        return Fetched::OutOfRange;
    }
    if data.error_code != 0 {
        client.forget_leader(&place.0, place.1);
        return Fetched::Nothing;
    }
    let mut bytes = Vec::new();
    for part in data.records.iter().flat_map(|records| records.parts()) {
        if let RecordsPart::Bytes(part) = part {
            bytes.extend_from_slice(part);
        }
    }
    let mut values = Vec::new();
    let mut next = position;
    for batch in batches(&bytes) {
        // The last batch may be cut off, as clients expect.
        let Ok(batch) = batch else { break };
        if batch.check().is_err() {
            return Fetched::Values(vec![(-1, "a batch with a wrong checksum".into())], next, 0);
        }
        let Ok(records) = batch.records() else { break };
        for record in records.flatten() {
            next = next.max(record.offset.0 + 1);
            if record.offset.0 >= position {
                let value = String::from_utf8_lossy(record.value.unwrap_or_default());
                values.push((record.offset.0, value.into_owned()));
            }
        }
    }
    Fetched::Values(values, next, data.high_watermark)
}
