//! A consumer of what is committed: it may see no record of a transaction that is open or was aborted, ever.

use super::Client;
use super::fetch::{Fetched, Isolation, fetch};
use crate::history::{Place, Shared};
use crate::ledger::Ledger;

/// A consumer of what is committed.
#[derive(Debug)]
pub struct CommittedReader {
    client: Client,
    history: Shared,
    ledger: Ledger,
    positions: Vec<(Place, i64)>,
}

impl CommittedReader {
    /// One that reads these partitions.
    #[must_use]
    pub fn new(client: Client, history: Shared, ledger: Ledger, places: &[Place]) -> Self {
        let positions = places.iter().map(|place| (place.clone(), 0)).collect();
        Self {
            client,
            history,
            ledger,
            positions,
        }
    }

    /// Reads until the history says that it is enough.
    pub async fn run(mut self) {
        while self.history.is_open() {
            for (place, position) in &mut self.positions {
                let fetched = fetch(&mut self.client, place, *position, 20, Isolation::Committed);
                match fetched.await {
                    Fetched::Values(portion) => {
                        for (offset, value) in portion.values {
                            self.ledger.seen(place, offset, &value);
                        }
                        *position = portion.next;
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

/// Reads all of the partitions once all transactions are decided, however long that takes, and tells the ledger.
pub async fn read_all_committed(
    mut client: Client,
    history: Shared,
    ledger: Ledger,
    places: Vec<Place>,
) {
    for place in places {
        let (mut position, mut values) = (0, Vec::new());
        loop {
            match fetch(&mut client, &place, position, 0, Isolation::Committed).await {
                Fetched::Values(portion) => {
                    values.extend(portion.values);
                    position = portion.next;
                    let is_decided = portion.last_stable >= portion.high_watermark;
                    if is_decided && position >= portion.high_watermark {
                        break;
                    }
                    if position >= portion.last_stable {
                        client.pause().await;
                    }
                }
                Fetched::OutOfRange => {
                    history.wrong(format!("{place:?}: nothing at {position}"));
                    break;
                }
                Fetched::Nothing => client.pause().await,
            }
        }
        ledger.read_to_the_end(&place, values);
    }
    history.done();
}
