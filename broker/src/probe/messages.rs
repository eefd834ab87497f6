//! `weir-broker produce` and `weir-broker consume`: a quick look at a topic, from a broker's own pod or anywhere.
//!
//! Made of the probe's parts: blocking, one request at a time, and what can pass by itself is tried again. Nothing that is to be fast.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use weir_wire::MessageView;
use weir_wire::batch::BatchView;
use weir_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use weir_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use weir_wire::messages::{
    FetchRequest, FetchResponseView, ListOffsetsRequest, ListOffsetsResponseView,
};

use super::{FETCH, Probe, ProbeError, batch, only, protocol, refused};

const LIST_OFFSETS: i16 = 5;
/// The times that stand for the ends of a partition.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;

/// How long something that passes by itself is tried again.
const PATIENCE: Duration = Duration::from_secs(30);
/// Messages, and bytes of them, that go out together: what there is when the last batch is acknowledged, within one request.
const MESSAGES_MAX: usize = 1_000;
const BYTES_MAX: usize = 256 << 10;
/// The longest line that is taken for a message: what fits `message.max.bytes` by default, nearly.
const LINE_BYTES_MAX: u64 = 1_000_000;
/// How long a fetch waits for messages.
const WAIT_MS: i32 = 500;

/// What to write, and where.
#[derive(Clone, Debug, clap::Args)]
pub struct ProduceOptions {
    /// Address of any broker's Kafka listener, host:port.
    #[arg(long, value_name = "HOST:PORT")]
    pub bootstrap: String,
    /// Topic to write to; it must be there.
    #[arg(long)]
    pub topic: String,
}

/// What to read.
#[derive(Clone, Debug, clap::Args)]
pub struct ConsumeOptions {
    /// Address of any broker's Kafka listener, host:port.
    #[arg(long, value_name = "HOST:PORT")]
    pub bootstrap: String,
    /// Topic to read.
    #[arg(long)]
    pub topic: String,
    /// Where to begin.
    #[arg(long, value_enum, default_value_t = From::End)]
    pub from: From,
    /// Stop after so many messages.
    #[arg(long)]
    pub max: Option<u64>,
    /// Stop at the end of the topic as it is now.
    #[arg(long)]
    pub until_end: bool,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum From {
    /// At the first message that there is.
    Beginning,
    /// With the next message that comes.
    End,
}

/// Writes each line as a message, to all partitions in turn, and returns how many. What stands in the input already goes out together.
pub fn produce(options: &ProduceOptions, input: impl Read) -> Result<u64, ProbeError> {
    let mut probe = Probe::for_messages(&options.bootstrap, &options.topic);
    let partitions: Vec<i32> = probe.until_deadline(Probe::leaders)?.into_keys().collect();
    let producer = probe.until_deadline(Probe::producer)?;
    let mut sequences: BTreeMap<i32, i32> = BTreeMap::new();
    let mut input = BufReader::new(input);
    let mut count = 0_u64;
    for partition in partitions.into_iter().cycle() {
        let lines = some_lines(&mut input)?;
        if lines.is_empty() {
            break;
        }
        let values: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        let sequence = sequences.entry(partition).or_default();
        let built = batch(&values, producer, *sequence)?;
        *sequence = sequence.wrapping_add(i32::try_from(values.len()).unwrap_or(0)) & i32::MAX;
        probe.deadline = Instant::now() + PATIENCE;
        probe.until_deadline(|probe| probe.write(partition, &built))?;
        count += values.len() as u64;
    }
    Ok(count)
}

/// The next line, and those behind it that have been read with it. None at the end.
fn some_lines(input: &mut BufReader<impl Read>) -> Result<Vec<Vec<u8>>, ProbeError> {
    let (mut lines, mut bytes) = (Vec::new(), 0);
    loop {
        let mut line = Vec::new();
        let read = input
            .by_ref()
            .take(LINE_BYTES_MAX + 1)
            .read_until(b'\n', &mut line)
            .map_err(input_failed)?;
        if read == 0 {
            return Ok(lines);
        }
        match line.last() {
            Some(b'\n') => drop(line.pop()),
            _ if read as u64 > LINE_BYTES_MAX => {
                return Err(ProbeError::Protocol(format!(
                    "a line of more than {LINE_BYTES_MAX} bytes is no message"
                )));
            }
            _ => {}
        }
        bytes += line.len();
        lines.push(line);
        let is_full = lines.len() >= MESSAGES_MAX || bytes >= BYTES_MAX;
        if is_full || !input.buffer().contains(&b'\n') {
            return Ok(lines);
        }
    }
}

fn input_failed(error: io::Error) -> ProbeError {
    ProbeError::Protocol(format!("standard input: {error}"))
}

/// Prints messages as they come, those of open and aborted transactions among them.
pub fn consume(options: &ConsumeOptions, out: &mut impl Write) -> Result<(), ProbeError> {
    let mut probe = Probe::for_messages(&options.bootstrap, &options.topic);
    let ends = probe.until_deadline(|probe| probe.offsets(LATEST))?;
    let mut positions = match options.from {
        From::End => ends.clone(),
        From::Beginning => probe.until_deadline(|probe| probe.offsets(EARLIEST))?,
    };
    let mut left = options.max.unwrap_or(u64::MAX);
    let is_over = |positions: &BTreeMap<i32, i64>| {
        let mut ends = ends.iter();
        options.until_end && ends.all(|(partition, end)| positions.get(partition) >= Some(end))
    };
    while left > 0 && !is_over(&positions) {
        probe.deadline = Instant::now() + PATIENCE;
        let fetched = probe.until_deadline(|probe| probe.fetch_all(&positions))?;
        for (partition, records) in fetched {
            let position = positions.entry(partition).or_default();
            print(partition, &records, position, &mut left, out)?;
        }
        if out.flush().is_err() {
            // Nobody looks any more.
            return Ok(());
        }
    }
    Ok(())
}

/// Prints what is at or behind `position`, which moves on.
fn print(
    partition: i32,
    records: &[u8],
    position: &mut i64,
    left: &mut u64,
    out: &mut impl Write,
) -> Result<(), ProbeError> {
    let mut rest = records;
    while !rest.is_empty() && *left > 0 {
        // The last batch may be cut off.
        let Ok((batch, after)) = BatchView::split_first(rest) else {
            return Ok(());
        };
        rest = after;
        batch.check().map_err(protocol)?;
        if !batch.header().attributes.is_control() {
            let inflated = batch.inflated().map_err(protocol)?;
            for record in inflated.iter().map_err(protocol)? {
                let record = record.map_err(protocol)?;
                if record.offset.0 < *position || *left == 0 {
                    continue;
                }
                *left -= 1;
                let (key, value) = (record.key.unwrap_or_default(), record.value);
                let written = write!(out, "{partition}\t{}\t", record.offset.0)
                    .and_then(|()| out.write_all(key))
                    .and_then(|()| out.write_all(b"\t"))
                    .and_then(|()| out.write_all(value.unwrap_or_default()))
                    .and_then(|()| out.write_all(b"\n"));
                if written.is_err() {
                    *left = 0;
                }
            }
        }
        *position = (*position).max(batch.header().last_offset().0 + 1);
    }
    Ok(())
}

impl<'a> Probe<'a> {
    fn for_messages(bootstrap: &'a str, topic: &'a str) -> Self {
        Self {
            bootstrap,
            topic,
            creates: false,
            deadline: Instant::now() + PATIENCE,
            connections: BTreeMap::new(),
        }
    }

    /// Each leader's partitions.
    fn by_leader(&mut self) -> Result<BTreeMap<String, Vec<i32>>, ProbeError> {
        let mut by_leader: BTreeMap<String, Vec<i32>> = BTreeMap::new();
        for (partition, leader) in self.leaders()? {
            by_leader.entry(leader).or_default().push(partition);
        }
        Ok(by_leader)
    }

    /// Where each partition begins or ends.
    fn offsets(&mut self, timestamp: i64) -> Result<BTreeMap<i32, i64>, ProbeError> {
        let (topic, deadline) = (self.topic, self.deadline);
        let mut offsets = BTreeMap::new();
        for (leader, partitions) in self.by_leader()? {
            let partitions = partitions.into_iter().map(|index| ListOffsetsPartition {
                partition_index: index,
                current_leader_epoch: -1,
                timestamp,
            });
            let request = ListOffsetsRequest {
                replica_id: -1,
                topics: vec![ListOffsetsTopic {
                    name: topic.to_owned(),
                    partitions: partitions.collect(),
                }],
                ..ListOffsetsRequest::default()
            };
            let body = self.at(&leader)?.call(LIST_OFFSETS, &request, deadline)?;
            let response =
                ListOffsetsResponseView::decode(&body, LIST_OFFSETS).map_err(protocol)?;
            for partition in only(response.topics.iter(), "ListOffsets")?
                .partitions
                .iter()
            {
                refused("ListOffsets", partition.error_code, None)?;
                offsets.insert(partition.partition_index, partition.offset);
            }
        }
        Ok(offsets)
    }

    /// What there is behind these positions, from each leader once.
    fn fetch_all(
        &mut self,
        positions: &BTreeMap<i32, i64>,
    ) -> Result<Vec<(i32, Bytes)>, ProbeError> {
        let (topic, deadline) = (self.topic, self.deadline);
        let mut fetched = Vec::new();
        for (leader, partitions) in self.by_leader()? {
            let wanted = partitions.into_iter().filter_map(|partition| {
                Some(FetchPartition {
                    partition,
                    current_leader_epoch: -1,
                    fetch_offset: *positions.get(&partition)?,
                    last_fetched_epoch: -1,
                    log_start_offset: -1,
                    partition_max_bytes: 1 << 20,
                    ..FetchPartition::default()
                })
            });
            let request = FetchRequest {
                replica_id: -1,
                max_wait_ms: WAIT_MS,
                min_bytes: 1,
                max_bytes: 8 << 20,
                session_epoch: -1,
                topics: vec![FetchTopic {
                    topic: topic.to_owned(),
                    partitions: wanted.collect(),
                    ..FetchTopic::default()
                }],
                ..FetchRequest::default()
            };
            let body = self.at(&leader)?.call(FETCH, &request, deadline)?;
            let response = FetchResponseView::decode(&body, FETCH).map_err(protocol)?;
            refused("Fetch", response.error_code, None)?;
            for partition in only(response.responses.iter(), "Fetch")?.partitions.iter() {
                refused("Fetch", partition.error_code, None)?;
                let records = body.slice_ref(partition.records.unwrap_or_default());
                fetched.push((partition.partition_index, records));
            }
        }
        Ok(fetched)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::io::BufReader;

    use super::{LINE_BYTES_MAX, some_lines};

    #[test]
    fn lines_that_are_there_go_together_and_the_last_needs_no_end() {
        let mut input = BufReader::new(&b"one\n\nthree"[..]);
        let first = some_lines(&mut input).unwrap();
        assert_eq!(first, [b"one".to_vec(), Vec::new()]);
        assert_eq!(some_lines(&mut input).unwrap(), [b"three".to_vec()]);
        assert!(some_lines(&mut input).unwrap().is_empty());
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let long = vec![b'x'; usize::try_from(LINE_BYTES_MAX).unwrap() + 10];
        let error = some_lines(&mut BufReader::new(&long[..])).unwrap_err();
        assert!(error.to_string().contains("no message"), "{error}");
    }
}
