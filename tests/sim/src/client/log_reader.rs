//! Reads the logs of a queue, with headers, and ends a life's queue: waits until all has come that is due, until a group is done, until everything is
//! sold, until views are whole, or until what is too much is gone.

use super::fetch::{Fetched, Isolation, earliest, fetch_records};
use super::sharer::end_shares;
use super::{Client, Feeder};
use crate::history::{Place, Shared};
use crate::life::TRANSACTED;
use crate::queues::{BOUND, Books, Kind, Queue, delays, drops};

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
    isolation: Isolation,
    /// Logs may begin later than they did.
    is_cut: bool,
}

impl LogReader {
    /// One that reads these partitions.
    #[must_use]
    pub fn new(client: Client, queue: &Queue, places: Vec<Place>) -> Self {
        let positions = places.into_iter().map(|place| (place, 0)).collect();
        Self {
            client,
            books: queue.books.clone(),
            positions,
            isolation: match queue.kind {
                // As views see their sources.
                Kind::Views => Isolation::Committed,
                _ => Isolation::Uncommitted,
            },
            is_cut: queue.kind == Kind::DropOldest,
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
        let fetched = fetch_records(&mut self.client, &place, position, 0, self.isolation);
        match fetched.await {
            Fetched::Values(portion) => {
                for record in portion.values {
                    self.books.seen(&place, record);
                }
                self.positions[index].1 = portion.next;
                portion.next >= portion.high_watermark
            }
            Fetched::OutOfRange if self.is_cut => {
                // Whoever leads next may not know yet where that is.
                if let Some(start) = earliest(&mut self.client, &place).await {
                    self.books.begins(&place, start);
                    self.positions[index].1 = position.max(start);
                }
                false
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
    let mut places = queue.places();
    if queue.kind == Kind::Views {
        let transacted = (0..2).map(|partition| Place(TRANSACTED.into(), partition));
        places.extend(transacted);
    }
    let mut reader = LogReader::new(client, &queue, places);
    let feeder = Feeder::new(other, history.clone(), queue.clone());
    match (queue.kind, &queue.shares) {
        (Kind::Views, _) => are_whole(&mut reader, &queue).await,
        (Kind::DropOldest, _) => drop_oldest(&mut reader, feeder, &queue).await,
        (_, None) => come(&mut reader, &queue.books).await,
        (kind, Some(shares)) => {
            let mut ends = reader.read_all().await;
            ends.retain(|(place, _)| *place.0 == *queue.topic());
            end_shares(&mut reader.client, shares, &ends).await;
            while shares.gone_count() < sharers {
                reader.client.pause().await;
            }
            if !matches!(kind, Kind::Jobs | Kind::OrderedJobs) {
                for wrong in shares.judge(&ends) {
                    history.wrong(wrong);
                }
            }
            match kind {
                Kind::Bound | Kind::TopicBound => sell(feeder, &queue).await,
                Kind::Throttle => fill(feeder, &queue).await,
                _ => {}
            }
        }
    }
    reader.read_all().await;
    history.done();
}

/// Waits until views have what their sources have.
async fn are_whole(reader: &mut LogReader, queue: &Queue) {
    let until_ms = queue.books.time_ms() + LATE_MS;
    loop {
        reader.read_all().await;
        // What is still wrong then, everybody is told of.
        if queue.judge().is_empty() || queue.books.time_ms() >= until_ms {
            return;
        }
        reader.client.pause().await;
    }
}

/// Writes more than there is room for, and waits until what is too much is gone.
async fn drop_oldest(reader: &mut LogReader, mut feeder: Feeder, queue: &Queue) {
    for place in queue.sources() {
        for _ in 0..BOUND + 2 {
            feeder.sell(&place).await;
        }
    }
    let until_ms = queue.books.time_ms() + LATE_MS;
    for (place, end) in reader.read_all().await {
        loop {
            if let Some(start) = earliest(&mut reader.client, &place).await {
                queue.books.begins(&place, start);
            }
            match drops::judge(&queue.books, &place, end) {
                Ok(true) => break,
                Ok(false) if queue.books.time_ms() < until_ms => reader.client.pause().await,
                Ok(false) => {
                    let start = queue.books.start(&place);
                    let what = format!("{place:?}: from {start} to {end} all stays");
                    return queue.books.wrong(what);
                }
                Err(wrong) => return queue.books.wrong(wrong),
            }
        }
    }
}

/// Everything is settled: what the bound allows finds room at once.
async fn fill(mut feeder: Feeder, queue: &Queue) {
    let until_ms = queue.books.time_ms() + LATE_MS;
    for place in queue.sources() {
        for _ in 0..BOUND {
            feeder.sell(&place).await;
        }
    }
    if queue.books.time_ms() >= until_ms {
        let what = format!("{BOUND} messages of each partition had to wait for room");
        queue.books.wrong(what);
    }
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
