//! What an operator asks of the cluster: brokers emptied, kept after all, replicas spread evenly.
//!
//! Each wish is asked for until a broker answers that it is granted, and the next only then, as an operator does that looks at
//! what there is before it goes on. What always holds in the end: who was to be emptied is empty.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use weir_quorum::command::Cordon;
use weir_quorum::{BrokerId, Command};

use crate::broker::Broker;
use crate::network::HostId;
use crate::random::Random;

/// How long an answer is waited for: a broker that is gone gives none.
const PATIENCE_MS: u64 = 5_000;
/// Before something is asked again.
const PAUSE_MS: u64 = 150;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It gets no new replicas.
    Cordon(HostId),
    /// What it has goes to others.
    Drain(HostId),
    /// It is a broker like others again.
    Keep(HostId),
    /// Replicas are spread evenly.
    Rebalance,
}

impl Wish {
    /// What one broker's being apart is after this.
    fn after(self, apart: Option<Self>) -> Option<Self> {
        match (self, apart) {
            (Self::Drain(_), _) => Some(self),
            // Who is cordoned while it is emptied goes on to be.
            (Self::Cordon(id), Some(Self::Drain(drained))) if id == drained => apart,
            (Self::Cordon(_), _) => Some(self),
            (Self::Keep(id), Some(Self::Drain(other) | Self::Cordon(other))) if id == other => None,
            (Self::Keep(_) | Self::Rebalance, _) => apart,
        }
    }

    fn command(self) -> Command {
        let cordon = |id, cordoned| {
            let id = BrokerId(i32::from(id));
            Command::Cordon(Cordon { id, cordoned })
        };
        match self {
            Self::Cordon(id) => cordon(id, true),
            Self::Keep(id) => cordon(id, false),
            Self::Drain(id) => Command::Drain {
                id: BrokerId(i32::from(id)),
            },
            Self::Rebalance => Command::Rebalance { active: true },
        }
    }
}

/// Whether it was granted, once that is known.
pub type Granted = Arc<Mutex<Option<bool>>>;

/// The wishes of a life, in their order.
#[derive(Debug)]
pub struct Wishes {
    random: Random,
    open: VecDeque<Wish>,
    /// The answer to the first of them, and when it was asked for.
    asked: Option<(Granted, u64)>,
    again_ms: u64,
    /// What was granted last of one broker's being other than the rest.
    apart: Option<Wish>,
}

impl Wishes {
    /// None yet.
    #[must_use]
    pub fn new(random: Random) -> Self {
        Self {
            random,
            open: VecDeque::new(),
            asked: None,
            again_ms: 0,
            apart: None,
        }
    }

    /// One more. One broker at a time is apart: the others have to hold everything.
    pub fn add(&mut self, wish: Wish) {
        let apart = self
            .open
            .iter()
            .fold(self.apart, |apart, wish| wish.after(apart));
        if let Some(Wish::Drain(before) | Wish::Cordon(before)) = apart
            && let Wish::Drain(id) | Wish::Cordon(id) = wish
            && before != id
        {
            self.open.push_back(Wish::Keep(before));
        }
        self.open.push_back(wish);
    }

    /// What is to hold in the end is asked for once more, of all brokers, as an operator does that looks again and again: an answer that was
    /// lost may have been one to something that is carried out later.
    pub fn conclude(&mut self, brokers: HostId) {
        let apart = self
            .open
            .iter()
            .fold(self.apart, |apart, wish| wish.after(apart));
        let Some(wish @ (Wish::Drain(id) | Wish::Cordon(id))) = apart else {
            return;
        };
        let others = (0..brokers).filter(|other| *other != id);
        self.open.extend(others.map(Wish::Keep));
        self.open.push_back(wish);
    }

    /// Whether all were granted.
    #[must_use]
    pub fn are_granted(&self) -> bool {
        self.open.is_empty()
    }

    /// Who is to be empty.
    #[must_use]
    pub fn drained(&self) -> Option<HostId> {
        match self.apart? {
            Wish::Drain(id) => Some(id),
            _ => None,
        }
    }

    /// Asks for the first of them, of whoever serves, and hears what was asked before.
    pub fn step(&mut self, now_ms: u64, brokers: &[Broker]) {
        let Some(wish) = self.open.front().copied() else {
            return;
        };
        if let Some((granted, asked_ms)) = &self.asked {
            let granted = *granted.lock().unwrap_or_else(PoisonError::into_inner);
            match granted {
                Some(true) => {
                    self.open.pop_front();
                    self.apart = wish.after(self.apart);
                }
                None if now_ms < asked_ms + PATIENCE_MS => return,
                Some(false) | None => {}
            }
            self.asked = None;
            self.again_ms = now_ms + PAUSE_MS;
        } else if now_ms >= self.again_ms {
            let serving: Vec<&Broker> = brokers.iter().filter(|it| it.is_serving()).collect();
            if !serving.is_empty() {
                let granted = self.random.pick(&serving).control(wish.command());
                self.asked = Some((granted, now_ms));
            }
        }
    }
}
