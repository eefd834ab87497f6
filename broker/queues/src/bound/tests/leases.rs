use proptest::prelude::*;
use weir_wire::{LeaderEpoch, PartitionIndex};

use crate::bound::{Ask, Grant, Lease, Ledger};

const PARTITIONS: usize = 3;
const BOUND: u64 = 20;

fn ledger_of(partitions: i32, bound: u64) -> Ledger {
    let mut ledger = Ledger::new(LeaderEpoch(1), bound);
    for partition in 0..partitions {
        ledger.epoch_is(PartitionIndex(partition), LeaderEpoch(1));
    }
    ledger
}

fn lease(partition: i32, backlog: u64) -> Lease {
    Lease::new(
        PartitionIndex(partition),
        LeaderEpoch(1),
        LeaderEpoch(1),
        backlog,
    )
}

#[test]
fn nothing_is_given_before_every_partition_was_heard() {
    let mut ledger = ledger_of(2, 10);
    let (mut one, mut other) = (lease(0, 0), lease(1, 4));
    let answer = ledger.ask(one.ask(0, 10, 10)).expect("an answer");
    assert!(!one.granted(answer));
    ledger.ask(other.ask(4, 0, 0));
    let answer = ledger.ask(one.ask(0, 10, 6)).expect("an answer");
    assert!(one.granted(answer));
    assert_eq!((one.limit(), ledger.free()), (6, 0));
    // What one gives back the other may have.
    one.give_back(2);
    ledger.ask(one.ask(2, 0, 0));
    let answer = ledger.ask(other.ask(4, 3, 3)).expect("an answer");
    assert!(other.granted(answer));
    assert_eq!(other.limit(), 7);
}

#[test]
fn a_queue_is_full_only_when_nobody_has_what_it_does_not_use() {
    let mut ledger = ledger_of(2, 10);
    let (mut one, mut other) = (lease(0, 0), lease(1, 0));
    ledger.ask(other.ask(0, 0, 0));
    let all = ledger.ask(one.ask(0, 10, 10)).expect("an answer");
    assert!(one.granted(all));
    let nothing = ledger.ask(other.ask(0, 1, 1)).expect("an answer");
    assert!(
        !nothing.is_all,
        "the first partition does not use what it has"
    );
    let recalled = ledger.ask(one.ask(4, 0, 0)).expect("an answer");
    assert!(recalled.is_recalled);
    one.give_back(4);
    assert!(!ledger.ask(one.ask(4, 0, 0)).expect("an answer").is_all);
    let some = ledger.ask(other.ask(0, 1, 1)).expect("an answer");
    assert!(other.granted(some));
    assert!(!some.is_all && !some.is_recalled);
    assert!(!ledger.ask(one.ask(4, 0, 0)).expect("an answer").is_recalled);
    let none = ledger.ask(other.ask(1, 6, 6)).expect("an answer");
    assert!(!other.granted(none), "5 are left, which are of no use");
    assert!(none.is_all);
    let rest = ledger.ask(other.ask(1, 5, 5)).expect("an answer");
    assert!(other.granted(rest));
    assert!(!rest.is_all);
    assert_eq!(one.limit() + other.limit(), 10);
}

#[test]
fn two_that_need_more_than_there_is_keep_it_from_nobody() {
    let mut ledger = ledger_of(2, 10);
    let (mut one, other) = (lease(0, 2), lease(1, 3));
    ledger.ask(one.ask(2, 0, 0));
    let none = ledger.ask(other.ask(3, 7, 7)).expect("an answer");
    assert_eq!((none.limit, none.is_all), (3, true));
    let none = ledger.ask(one.ask(2, 6, 6)).expect("an answer");
    assert_eq!((none.limit, none.is_all), (2, true));
    assert_eq!(ledger.free(), 5);
    let some = ledger.ask(one.ask(2, 7, 4)).expect("an answer");
    assert!(one.granted(some));
    assert_eq!(one.limit(), 7, "all that there is, which is enough");
}

#[test]
fn a_lost_answer_is_given_again_and_not_twice() {
    let mut ledger = ledger_of(1, 10);
    let mut one = lease(0, 0);
    let lost = ledger.ask(one.ask(0, 4, 4)).expect("an answer");
    let again = ledger.ask(one.ask(0, 4, 4)).expect("an answer");
    assert_eq!(lost, again);
    assert!(one.granted(again));
    assert!(!one.granted(lost));
    assert_eq!((one.limit(), ledger.free()), (4, 6));
}

#[test]
fn a_partition_s_new_leader_begins_with_what_is_there() {
    let mut ledger = ledger_of(1, 10);
    let mut one = lease(0, 0);
    let grant = ledger.ask(one.ask(0, 8, 8)).expect("an answer");
    one.granted(grant);
    let next = Lease::new(PartitionIndex(0), LeaderEpoch(2), LeaderEpoch(1), 3);
    ledger.ask(next.ask(3, 0, 0));
    assert_eq!(ledger.free(), 7);
    assert_eq!(ledger.ask(one.ask(0, 1, 1)), None, "its time is over");
}

#[test]
fn what_an_earlier_ledger_gave_is_not_taken_once_a_later_one_was_told_of_less() {
    let mut earlier = ledger_of(1, 10);
    let mut one = lease(0, 0);
    let on_its_way = earlier.ask(one.ask(0, 10, 10)).expect("an answer");
    one.ledger_is(LeaderEpoch(2));
    let mut later = Ledger::new(LeaderEpoch(2), 10);
    for partition in 0..2 {
        later.epoch_is(PartitionIndex(partition), LeaderEpoch(1));
    }
    let mut other = Lease::new(PartitionIndex(1), LeaderEpoch(1), LeaderEpoch(2), 0);
    later.ask(one.ask(2, 0, 0));
    let all = later.ask(other.ask(0, 10, 10)).expect("an answer");
    assert!(other.granted(all));
    assert!(!one.granted(on_its_way), "20 of 10 would be leased");
    assert_eq!(one.limit() + other.limit(), 10);
}

#[test]
fn a_ledger_hears_no_leader_whose_time_is_over() {
    let mut ledger = ledger_of(1, 10);
    let deposed = lease(0, 3);
    ledger.epoch_is(PartitionIndex(0), LeaderEpoch(2));
    assert_eq!(ledger.ask(deposed.ask(3, 1, 1)), None);
    assert_eq!(ledger.free(), 0, "nothing was heard of the new one");
}

/// What of the metadata counts here; a broker has seen some revision of it.
#[derive(Clone, Debug)]
struct Metadata {
    partitions: [i32; PARTITIONS],
    ledger: i32,
}

/// Somebody who leads a partition, or thinks so.
struct Leader {
    lease: Lease,
    partition: usize,
    epoch: i32,
    seen: usize,
    /// What it has appended beyond what is committed.
    appended: u64,
}

#[derive(Clone, Debug)]
enum Step {
    /// A leader appends, when its lease lets it. What a deposed one appends is never committed.
    Append(usize),
    Settle(usize),
    GiveBack(usize),
    /// A leader asks the ledger that it knows of.
    Ask(usize, u64, u64),
    /// Some message arrives; it may arrive again.
    Deliver(usize, bool),
    Lose(usize),
    /// Somebody else leads a partition.
    Elect(usize),
    /// Somebody else keeps the ledger.
    ElectLedger,
    /// A leader, or a ledger, sees the next revision of the metadata.
    See(usize),
    SeeLedger(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0..100_usize;
    let step = prop_oneof![
        8 => who.clone().prop_map(Step::Append),
        3 => who.clone().prop_map(Step::Settle),
        2 => who.clone().prop_map(Step::GiveBack),
        6 => (who.clone(), 0..12_u64, 0..12_u64).prop_map(|(who, want, need)| Step::Ask(who, want, need)),
        12 => (who.clone(), any::<bool>()).prop_map(|(which, again)| Step::Deliver(which, again)),
        1 => who.clone().prop_map(Step::Lose),
        1 => who.clone().prop_map(Step::Elect),
        1 => Just(Step::ElectLedger),
        2 => who.clone().prop_map(Step::See),
        2 => who.prop_map(Step::SeeLedger),
    ];
    prop::collection::vec(step, 0..300)
}

#[derive(Clone, Copy)]
enum Message {
    Ask(Ask),
    Grant(Grant),
}

struct World {
    revisions: Vec<Metadata>,
    leaders: Vec<Leader>,
    /// By epoch, from 1 on, with the revision that each has seen.
    ledgers: Vec<(Ledger, usize)>,
    messages: Vec<Message>,
    backlog: [u64; PARTITIONS],
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            revisions: vec![Metadata {
                partitions: [0; PARTITIONS],
                ledger: 0,
            }],
            leaders: Vec::new(),
            ledgers: Vec::new(),
            messages: Vec::new(),
            backlog: [0; PARTITIONS],
        };
        world.elect_ledger();
        (0..PARTITIONS).for_each(|partition| world.elect(partition));
        world
    }

    fn latest(&self) -> (usize, Metadata) {
        let at = self.revisions.len() - 1;
        (at, self.revisions[at].clone())
    }

    fn elect(&mut self, partition: usize) {
        let (_, mut metadata) = self.latest();
        metadata.partitions[partition] += 1;
        let (epoch, ledger) = (metadata.partitions[partition], metadata.ledger);
        self.revisions.push(metadata);
        self.leaders.push(Leader {
            lease: Lease::new(
                PartitionIndex(partition as i32),
                LeaderEpoch(epoch),
                LeaderEpoch(ledger),
                self.backlog[partition],
            ),
            partition,
            epoch,
            seen: self.revisions.len() - 1,
            appended: 0,
        });
    }

    fn elect_ledger(&mut self) {
        let (_, mut metadata) = self.latest();
        metadata.ledger += 1;
        let mut ledger = Ledger::new(LeaderEpoch(metadata.ledger), BOUND);
        for (partition, epoch) in (0..).zip(metadata.partitions) {
            ledger.epoch_is(PartitionIndex(partition), LeaderEpoch(epoch));
        }
        self.revisions.push(metadata);
        self.ledgers.push((ledger, self.revisions.len() - 1));
    }

    fn step(&mut self, step: Step) {
        let latest = self.latest().1;
        let count = self.leaders.len();
        match step {
            Step::Append(who) => {
                let leader = &mut self.leaders[who % count];
                let is_leading = latest.partitions[leader.partition] == leader.epoch;
                let backlog = self.backlog[leader.partition] + leader.appended;
                if backlog < leader.lease.limit() {
                    if is_leading {
                        self.backlog[leader.partition] += 1;
                    } else {
                        leader.appended += 1;
                    }
                }
            }
            Step::Settle(partition) => {
                let backlog = &mut self.backlog[partition % PARTITIONS];
                *backlog = backlog.saturating_sub(1);
            }
            Step::GiveBack(who) => {
                let leader = &mut self.leaders[who % count];
                leader
                    .lease
                    .give_back(self.backlog[leader.partition] + leader.appended + 1);
            }
            Step::Ask(who, want, need) => {
                let leader = &self.leaders[who % count];
                let used = self.backlog[leader.partition] + leader.appended;
                let ask = leader.lease.ask(used, want, need.min(want));
                self.messages.push(Message::Ask(ask));
            }
            Step::Deliver(..) | Step::Lose(_) if self.messages.is_empty() => {}
            Step::Lose(which) => {
                self.messages.remove(which % self.messages.len());
            }
            Step::Deliver(which, again) => {
                let which = which % self.messages.len();
                let message = self.messages[which];
                if !again {
                    self.messages.remove(which);
                }
                self.deliver(message);
            }
            Step::Elect(partition) => self.elect(partition % PARTITIONS),
            Step::ElectLedger => self.elect_ledger(),
            Step::See(who) => {
                let leader = &mut self.leaders[who % count];
                leader.seen = (leader.seen + 1).min(self.revisions.len() - 1);
                let ledger = self.revisions[leader.seen].ledger;
                leader.lease.ledger_is(LeaderEpoch(ledger));
            }
            Step::SeeLedger(which) => {
                let which = which % self.ledgers.len();
                let (ledger, seen) = &mut self.ledgers[which];
                *seen = (*seen + 1).min(self.revisions.len() - 1);
                for (partition, epoch) in (0..).zip(self.revisions[*seen].partitions) {
                    ledger.epoch_is(PartitionIndex(partition), LeaderEpoch(epoch));
                }
            }
        }
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Ask(ask) => {
                // To whoever keeps, or kept, that ledger.
                let ledger = usize::try_from(ask.ledger.0 - 1).expect("ledgers begin with 1");
                if let Some(grant) = self.ledgers[ledger].0.ask(ask) {
                    self.messages.push(Message::Grant(grant));
                }
            }
            Message::Grant(grant) => {
                for leader in &mut self.leaders {
                    leader.lease.granted(grant);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn partitions_together_never_pass_the_bound(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            let together: u64 = world.backlog.iter().sum();
            prop_assert!(together <= BOUND, "{:?}", world.backlog);
        }
    }
}

#[test]
fn without_faults_the_whole_bound_can_be_used() {
    let mut world = World::new();
    for who in 0..PARTITIONS {
        world.step(Step::Ask(who, 0, 0));
        world.step(Step::Deliver(0, false));
        world.step(Step::Deliver(0, false));
    }
    while world.backlog.iter().sum::<u64>() < BOUND {
        let before = world.backlog;
        for who in 0..PARTITIONS {
            world.step(Step::Ask(who, 1, 1));
            world.step(Step::Deliver(0, false));
            world.step(Step::Deliver(0, false));
            world.step(Step::Append(who));
        }
        assert_ne!(before, world.backlog, "no progress");
    }
    (0..PARTITIONS).for_each(|who| world.step(Step::Append(who)));
    assert_eq!(world.backlog.iter().sum::<u64>(), BOUND);
}
