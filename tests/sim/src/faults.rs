//! What goes wrong in a life, and when: drawn from the seed before anything happens.
//!
//! Faults to come: damaged records that a replica heals, transactions cut in their middle.

use std::path::Path;

use weir_log::storage::Storage;
use weir_log::storage_sim::{Operation, SimStorage, Unsynced};

use crate::broker::Broker;
use crate::network::{FIRST_CLIENT, HostId, Net};
use crate::random::Random;
use crate::wishes::Wish;

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A process is killed, and started again after so long.
    Kill(HostId, u64),
    /// A machine loses power, and is back after so long.
    PowerCut(HostId, Unsynced, u64),
    /// A machine is lost with its disk; after so long another has its place, with an empty one.
    Wipe(HostId, u64),
    /// All machines lose power at once.
    Blackout(Unsynced, u64),
    /// A process is told to stop, and started again after so long.
    Stop(HostId, u64),
    /// A process is stopped, and goes on after so long.
    Pause(HostId, u64),
    /// A host can reach nobody and be reached by nobody.
    Isolate(HostId),
    /// One direction between two hosts is cut.
    CutOneWay(HostId, HostId),
    /// The brokers fall into two halves that do not reach each other; clients reach all.
    Halves(HostId),
    /// One direction is slow.
    Slow(HostId, HostId, u64),
    /// Everything is mended.
    Mend,
    /// A clock is wrong by so much.
    Skew(HostId, i64),
    /// The next sync fails, and with it the process.
    FailSync(HostId),
    /// The disk dies after so many more changes; then the machine is cut off from power and gets it back.
    DieAfter(HostId, u64),
    /// The disk is as good as full, for so long.
    Full(HostId, u64),
    /// The page cache is empty.
    Evict(HostId),
    /// A bit of some segment's index is wrong.
    FlipIndex(HostId, u64),
    /// No fault: an operator wants something.
    Wish(Wish),
}

/// A fault and when it comes.
pub type Schedule = Vec<(u64, Fault)>;

/// Draws what goes wrong in a life of so many brokers, until so long after its beginning.
#[must_use]
pub fn draw(random: &mut Random, brokers: HostId, from_ms: u64, to_ms: u64) -> Schedule {
    let mut schedule = Vec::new();
    // Some lives see much, some little; what is rare must not hide behind what is frequent.
    let gap_ms = *random.pick(&[300, 800, 2_000, 5_000]);
    let mut at = from_ms + random.within(0..gap_ms);
    while at < to_ms {
        schedule.push((at, draw_one(random, brokers)));
        at += random.within(1..2 * gap_ms);
    }
    // What two disks have is promised to survive the loss of one of them, not of both.
    if brokers > 1 && random.chance(1, 4) {
        let broker = HostId::try_from(random.within(0..u64::from(brokers))).unwrap_or(0);
        let (at, away_ms) = (random.within(from_ms..to_ms), random.within(1..2_500));
        let before = schedule.partition_point(|(other, _)| *other <= at);
        schedule.insert(before, (at, Fault::Wipe(broker, away_ms)));
    }
    // With a fourth broker each of them can be spared.
    if brokers > 3 {
        let mut at = from_ms + random.within(0..3_000);
        while at < to_ms {
            let before = schedule.partition_point(|(other, _)| *other <= at);
            schedule.insert(before, (at, Fault::Wish(draw_wish(random, brokers))));
            at += random.within(500..8_000);
        }
    }
    schedule
}

fn draw_wish(random: &mut Random, brokers: HostId) -> Wish {
    let broker = HostId::try_from(random.within(0..u64::from(brokers))).unwrap_or(0);
    match random.within(0..10) {
        0..5 => Wish::Drain(broker),
        5..7 => Wish::Keep(broker),
        7 => Wish::Cordon(broker),
        _ => Wish::Rebalance,
    }
}

fn draw_one(random: &mut Random, brokers: HostId) -> Fault {
    let broker = HostId::try_from(random.within(0..u64::from(brokers))).unwrap_or(0);
    let away_ms = random.within(1..2_500);
    let unsynced = match random.within(0..4) {
        0 => Unsynced::Lost,
        1 => Unsynced::Kept,
        _ => Unsynced::Mixed(random.draw()),
    };
    let mut other = || {
        let client = random.chance(1, 3) || brokers == 1;
        let range = if client {
            u64::from(FIRST_CLIENT)..u64::from(FIRST_CLIENT) + 10
        } else {
            0..u64::from(brokers)
        };
        HostId::try_from(random.within(range)).unwrap_or(0)
    };
    let (from, to) = (other(), other());
    match random.within(0..100) {
        0..14 => Fault::Kill(broker, away_ms),
        14..30 => Fault::PowerCut(broker, unsynced, away_ms),
        30..34 => Fault::Blackout(unsynced, away_ms),
        34..40 => Fault::Stop(broker, away_ms),
        40..48 => Fault::Pause(broker, 2 * away_ms),
        48..52 => Fault::Isolate(broker),
        52..58 => Fault::CutOneWay(from, to),
        58..61 => Fault::Halves(broker),
        61..65 => Fault::Slow(from, to, random.within(10..600)),
        65..78 => Fault::Mend,
        78..82 => Fault::Skew(
            broker,
            i64::try_from(random.within(0..120_000)).unwrap_or(0) - 60_000,
        ),
        82..86 => Fault::FailSync(broker),
        86..94 => Fault::DieAfter(broker, random.within(1..60)),
        94..96 => Fault::Full(broker, away_ms),
        96..98 => Fault::FlipIndex(broker, random.draw()),
        _ => Fault::Evict(broker),
    }
}

/// Flips a bit in one of the indexes, if there is one that holds anything.
fn flip_index(disk: &SimStorage, which: u64) {
    let logs = Path::new("/data/log");
    let mut indexes = Vec::new();
    for partition in disk.list(logs).unwrap_or_default() {
        let partition = logs.join(partition);
        let files = disk.list(&partition).unwrap_or_default();
        let of_index = files.iter().filter(|name| name.ends_with(".index"));
        indexes.extend(of_index.map(|name| partition.join(name)));
    }
    let index = usize::try_from(which % indexes.len().max(1) as u64).unwrap_or(0);
    if let Some(index) = indexes.get(index) {
        // Among the first entries, which every index that is not empty has.
        disk.flip_bit(index, which / 7 % 512);
    }
}

/// What is left of the disk when it counts as full: the broker keeps 64 MiB for itself.
const FULL_BYTES: u64 = (64 << 20) + 2_000;

/// While others are emptied a broker may vote alone, and where another has just lost its disk, or cannot read it, one may be the last that has all of a partition. Its
/// disk is then the cluster's, which is for `docs/disaster.md`. It may too while none runs who could tell.
fn may_be_the_last(brokers: &[Broker], id: HostId) -> bool {
    let mut told = brokers
        .iter()
        .filter_map(|broker| Some(broker.says_few_vote_with(id)? || broker.says_alone_has(id)?))
        .peekable();
    told.peek().is_none() || told.any(|last| last)
}

impl Fault {
    /// Lets it happen. Says which brokers are to be started again, and when.
    pub fn happen(&self, net: &Net, brokers: &mut [Broker]) -> Vec<(HostId, u64)> {
        let now_ms = net.now_ms();
        let count = HostId::try_from(brokers.len()).unwrap_or(0);
        match self {
            Self::Kill(id, away_ms) => {
                if let Some(broker) = brokers.get_mut(usize::from(*id)) {
                    broker.kill();
                }
                return vec![(*id, now_ms + away_ms)];
            }
            Self::PowerCut(id, unsynced, away_ms) => {
                if let Some(broker) = brokers.get_mut(usize::from(*id)) {
                    broker.cut_power(*unsynced);
                }
                return vec![(*id, now_ms + away_ms)];
            }
            Self::Wipe(id, _) if may_be_the_last(brokers, *id) => {}
            Self::Wipe(id, away_ms) => {
                if let Some(broker) = brokers.get_mut(usize::from(*id)) {
                    broker.wipe();
                }
                return vec![(*id, now_ms + away_ms)];
            }
            Self::Blackout(unsynced, away_ms) => {
                let mut back = Vec::new();
                for broker in brokers {
                    broker.cut_power(*unsynced);
                    back.push((broker.id, now_ms + away_ms + 50 * u64::from(broker.id)));
                }
                return back;
            }
            Self::Stop(id, away_ms) => {
                if let Some(broker) = brokers.get_mut(usize::from(*id)) {
                    broker.stop(*away_ms);
                }
            }
            Self::Pause(id, ms) => {
                if let Some(broker) = brokers.get_mut(usize::from(*id)) {
                    broker.pause(*ms);
                }
            }
            Self::Isolate(id) => {
                for other in (0..count).chain(FIRST_CLIENT..FIRST_CLIENT + 30) {
                    if other != *id {
                        net.cut(*id, other);
                        net.cut(other, *id);
                    }
                }
            }
            Self::CutOneWay(from, to) => net.cut(*from, *to),
            Self::Halves(alone) => {
                for other in (0..count).filter(|other| other != alone) {
                    net.cut(*alone, other);
                    net.cut(other, *alone);
                }
            }
            Self::Slow(from, to, ms) => net.slow(*from, *to, *ms),
            Self::Mend => net.mend(),
            Self::Skew(id, ms) => {
                if let Some(broker) = brokers.get_mut(usize::from(*id)) {
                    broker.skew(*ms);
                }
            }
            Self::FailSync(id) => {
                if let Some(broker) = brokers.get_mut(usize::from(*id)) {
                    broker.trouble();
                    broker.disk().fail_next(Operation::Sync, "", 1);
                }
            }
            Self::DieAfter(id, changes) => {
                if let Some(broker) = brokers.get_mut(usize::from(*id)) {
                    broker.trouble();
                    broker.disk().die_after(*changes);
                }
            }
            Self::Full(id, ms) => {
                if let Some(broker) = brokers.get_mut(usize::from(*id)) {
                    let space = broker.disk().space(Path::new("/"));
                    if let Ok(space) = space {
                        let used = space.total_bytes - space.available_bytes;
                        broker.disk().set_capacity(used + FULL_BYTES);
                        broker.full_until(now_ms + ms);
                    }
                }
            }
            // For who keeps the wishes.
            Self::Wish(_) => {}
            Self::Evict(id) => {
                if let Some(broker) = brokers.get_mut(usize::from(*id)) {
                    broker.disk().evict_page_cache();
                }
            }
            Self::FlipIndex(id, which) => {
                if let Some(broker) = brokers.get_mut(usize::from(*id)) {
                    flip_index(broker.disk(), *which);
                }
            }
        }
        Vec::new()
    }
}
