//! Reads the logs of a queue, with headers, and ends a life's queue: waits until all has come that is due, until a group is done, until everything is
//! sold, until views are whole, or until what is too much is gone.

use std::time::Duration;

use super::fetch::{Fetched, Isolation, earliest, fetch_records};
use super::sharer::{await_shares, end_shares};
use super::{Caller, Client, Dealer, Feeder};
use crate::history::{Place, Shared};
use crate::life::TRANSACTED;
use crate::queues::{BOUND, Books, Kind, Queue, delays, drops};
use crate::shares::Shares;

/// How long after its time a message may come once nothing goes wrong any more, and how long a last message may be hard to sell.
const LATE_MS: i64 = 15_000;
/// What comes so soon is waited for.
const SOON_MS: i64 = 5_000;
/// How long it is watched that something does not happen.
const STILL: Duration = Duration::from_secs(2);

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
                // As views see their sources; and halves are committed in transactions.
                Kind::Views | Kind::Halves => Isolation::Committed,
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
    match queue.kind {
        Kind::Halves => {
            let dealer = Dealer::new(other, history.clone(), queue.clone());
            dealer.settle_all().await;
        }
        Kind::Calls => {
            let caller = Caller::new(other, history.clone(), queue.clone());
            caller.is_answered().await;
        }
        _ => {
            let feeder = Feeder::new(other, history.clone(), queue.clone());
            finish_work(&mut reader, feeder, &history, &queue, sharers).await;
        }
    }
    queue.books.end();
    reader.read_all().await;
    history.done();
}

async fn finish_work(
    reader: &mut LogReader,
    mut feeder: Feeder,
    history: &Shared,
    queue: &Queue,
    sharers: usize,
) {
    match (queue.kind, &queue.shares) {
        (Kind::Views, _) => are_whole(reader, queue).await,
        (Kind::DropOldest, None) => {
            drop_oldest(reader, &mut feeder, queue, BOUND + 2).await;
        }
        (Kind::DropOldest, Some(shares)) => {
            drop_unsettled(reader, &mut feeder, queue, (shares, sharers)).await;
        }
        (_, None) => come(reader, &queue.books).await,
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
                Kind::Bound | Kind::TopicBound => sell(feeder, queue).await,
                Kind::Throttle => fill(feeder, queue).await,
                _ => {}
            }
        }
    }
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

/// Writes so much that there is more than there is room for, and waits until what is too much is gone. Where each partition ends.
async fn drop_oldest(
    reader: &mut LogReader,
    feeder: &mut Feeder,
    queue: &Queue,
    count: u64,
) -> Vec<(Place, i64)> {
    write(feeder, queue, count).await;
    let until_ms = queue.books.time_ms() + LATE_MS;
    let ends = reader.read_all().await;
    for (place, end) in &ends {
        loop {
            begin_of(reader, queue, place).await;
            match drops::judge(&queue.books, place, *end) {
                Ok(true) => break,
                Ok(false) if queue.books.time_ms() < until_ms => reader.client.pause().await,
                Ok(false) => {
                    let start = queue.books.start(place);
                    let what = format!("{place:?}: from {start} to {end} all stays");
                    queue.books.wrong(what);
                    return ends;
                }
                Err(wrong) => {
                    queue.books.wrong(wrong);
                    return ends;
                }
            }
        }
    }
    ends
}

/// Has a group settle everything. What it has settled takes no room then; and of what it has not, it gets what is left.
async fn drop_unsettled(
    reader: &mut LogReader,
    feeder: &mut Feeder,
    queue: &Queue,
    (shares, sharers): (&Shares, usize),
) {
    let ends = reader.read_all().await;
    await_shares(&mut reader.client, shares, &ends).await;
    shares.rest(true);
    while shares.resting_count() < sharers {
        reader.client.pause().await;
    }
    let mut starts = Vec::new();
    for (place, end) in &ends {
        // Whoever led before may have made room for what is there, and nobody else knows that yet.
        let start = begin_of(reader, queue, place).await;
        starts.push(start.max(end.saturating_sub_unsigned(BOUND)));
        if let Err(wrong) = drops::judge(&queue.books, place, *end) {
            return queue.books.wrong(wrong);
        }
    }
    write(feeder, queue, BOUND).await;
    tokio::time::sleep(STILL).await;
    for ((place, _), before) in ends.iter().zip(starts) {
        let start = begin_of(reader, queue, place).await;
        if start > before {
            let what = format!(
                "{place:?}: {BOUND} messages behind what is settled have room, and the log begins at {start} instead of {before} at the latest"
            );
            return queue.books.wrong(what);
        }
    }
    let ends = drop_oldest(reader, feeder, queue, 2).await;
    for (place, _) in &ends {
        shares.begins(place, queue.books.start(place));
    }
    shares.rest(false);
    end_shares(&mut reader.client, shares, &ends).await;
    while shares.gone_count() < sharers {
        reader.client.pause().await;
    }
    for wrong in shares.judge(&ends) {
        queue.books.wrong(wrong);
    }
}

/// Writes so many messages to each partition, one by one.
async fn write(feeder: &mut Feeder, queue: &Queue, count: u64) {
    for place in queue.sources() {
        for _ in 0..count {
            feeder.sell(&place).await;
        }
    }
}

/// Asks where a log begins until somebody says so. Where it does at the latest that anyone has seen.
async fn begin_of(reader: &mut LogReader, queue: &Queue, place: &Place) -> i64 {
    loop {
        if let Some(start) = earliest(&mut reader.client, place).await {
            queue.books.begins(place, start);
            return queue.books.start(place);
        }
        reader.client.pause().await;
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
