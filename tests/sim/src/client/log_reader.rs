//! Reads the logs of a queue, with headers, and ends a life's queue: waits until all has come that is due, until a group is done, or until everything is
//! sold.

use super::fetch::{Fetched, Isolation, fetch_records};
use super::sharer::end_shares;
use super::{Client, Feeder};
use crate::history::{Place, Shared};
use crate::queues::{BOUND, Books, Kind, Queue, delays};

/// How long after its time a message may come once nothing goes wrong any more, and how long a last message may be hard to sell.
const LATE_MS: i64 = 15_000;
/// What comes so soon is waited for.
const SOON_MS: i64 = 5_000;

/// Somebody who reads everything.
#[derive(Debug)]
pub struct LogReader {
    client: Client,
    books: Books,
    positions: Vec<(Place, i64)>,
}

impl LogReader {
    /// One that reads these partitions.
    #[must_use]
    pub fn new(client: Client, books: Books, places: Vec<Place>) -> Self {
        let positions = places.into_iter().map(|place| (place, 0)).collect();
        Self {
            client,
            books,
            positions,
        }
    }

    /// Reads until the history says that it is enough.
    pub async fn follow(mut self, history: Shared) {
        while history.is_open() {
            for index in 0..self.positions.len() {
                self.read(index).await;
            }
            self.client.pause().await;
        }
        history.done();
    }

    /// Reads what there is to the end, and says where that is.
    pub async fn read_all(&mut self) -> Vec<(Place, i64)> {
        for index in 0..self.positions.len() {
            while !self.read(index).await {
                self.client.pause().await;
            }
        }
        self.positions.clone()
    }

    /// Reads a portion. True at the end.
    async fn read(&mut self, index: usize) -> bool {
        let (place, position) = self.positions[index].clone();
        let fetched = fetch_records(
            &mut self.client,
            &place,
            position,
            0,
            Isolation::Uncommitted,
        );
        match fetched.await {
            Fetched::Values(portion) => {
                for record in portion.values {
                    self.books.seen(&place, record);
                }
                self.positions[index].1 = portion.next;
                portion.next >= portion.high_watermark
            }
            Fetched::OutOfRange => {
                self.books
                    .wrong(format!("{place:?}: nothing at {position}"));
                true
            }
            Fetched::Nothing => false,
        }
    }
}

/// Ends a queue, and reads all of it.
pub async fn finish_queue(
    (client, other): (Client, Client),
    history: Shared,
    queue: Queue,
    sharers: usize,
) {
    let mut reader = LogReader::new(client, queue.books.clone(), queue.places());
    let ends = reader.read_all().await;
    match &queue.shares {
        None => come(&mut reader, &queue.books).await,
        Some(shares) => {
            let ends = ends
                .into_iter()
                .filter(|(place, _)| *place.0 == *queue.topic());
            let ends: Vec<_> = ends.collect();
            end_shares(&mut reader.client, shares, &ends).await;
            while shares.gone_count() < sharers {
                reader.client.pause().await;
            }
            if matches!(queue.kind, Kind::Bound | Kind::TopicBound) {
                for wrong in shares.judge(&ends) {
                    history.wrong(wrong);
                }
                sell(Feeder::new(other, history.clone(), queue.clone()), &queue).await;
            }
        }
    }
    reader.read_all().await;
    history.done();
}

/// Waits until everything has come that is due.
async fn come(reader: &mut LogReader, books: &Books) {
    loop {
        reader.read_all().await;
        let missing = delays::missing(books, -LATE_MS);
        if let Some(one) = missing.first() {
            let count = missing.len();
            return books.wrong(format!("{count} messages that are due do not come; {one}"));
        }
        if delays::missing(books, SOON_MS).is_empty() {
            return;
        }
        reader.client.pause().await;
    }
}

/// Everything is settled: exactly the bound can be sold.
async fn sell(mut feeder: Feeder, queue: &Queue) {
    let places = queue.sources();
    let parts: Vec<Vec<Place>> = match queue.kind {
        Kind::TopicBound => vec![places],
        _ => places.into_iter().map(|place| vec![place]).collect(),
    };
    for places in parts {
        let (mut sold, mut refused) = (0, 0);
        let mut until_ms = queue.books.time_ms() + LATE_MS;
        for place in places.iter().cycle() {
            if feeder.sell(place).await {
                (sold, refused) = (sold + 1, 0);
                until_ms = queue.books.time_ms() + LATE_MS;
            } else {
                refused += 1;
                feeder.wait().await;
            }
            let is_over = sold == BOUND && refused >= places.len();
            let is_late = queue.books.time_ms() >= until_ms;
            if sold > BOUND || is_late && !is_over {
                let what =
                    format!("{places:?}: {sold} of {BOUND} messages can be sold, and no more");
                return queue.books.wrong(what);
            }
            if is_over {
                break;
            }
        }
    }
}
