//! A consumer without a group: reads partitions from their beginnings and goes on.

use super::Client;
use super::fetch::{Fetched, Isolation, fetch};
use crate::history::{Place, Shared};

/// A consumer.
#[derive(Debug)]
pub struct Consumer {
    client: Client,
    history: Shared,
    positions: Vec<(Place, i64)>,
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
                match fetch(
                    &mut self.client,
                    &place,
                    position,
                    20,
                    Isolation::Uncommitted,
                )
                .await
                {
                    Fetched::Values(portion) => {
                        self.history.watermark(&place, portion.high_watermark);
                        for (offset, value) in portion.values {
                            self.history.seen(&place, offset, &value);
                        }
                        self.positions[index].1 = portion.next;
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
            match fetch(&mut client, &place, position, 0, Isolation::Uncommitted).await {
                Fetched::Values(portion) => {
                    for (offset, value) in portion.values {
                        history.seen(&place, offset, &value);
                    }
                    position = portion.next;
                    if position >= portion.high_watermark {
                        history.read_to_the_end(&place, portion.high_watermark);
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
