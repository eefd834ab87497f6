//! What the client says of messages, and what became of it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Status};
use weir_groups::GroupId;
use weir_proto::queue::v1 as proto;
use weir_proto::queue::v1::subscribe_request::Request as Asked;

use super::super::status::Refused;
use super::ledger::SessionId;
use super::member::TopicPartition;
use super::session::{ACCEPT, Ack, REJECT, RELEASE, RENEW};
use super::{Subscription, check_credit, lease_over};
use crate::error::{ApiError, ErrorCode};

/// The longest that a release may be delayed: the lease is kept meanwhile, and with it a place among those that may be out of the partition.
const DELAY_MS_MAX: i64 = 900_000;
/// Releases of one stream that are delayed at the same time: half of what may be out of one partition by default, so that a stream of failures does
/// not stop it.
const DELAYED_MAX: usize = 1_000;

/// Records that the client has released, and that nobody may have yet.
#[derive(Debug, Default)]
pub(super) struct Delayed {
    /// How long a lease lasts, as was said last.
    pub(super) lease_ms: i64,
    /// By the time when they are due; tokens tell those of one time apart.
    until: BTreeMap<(Instant, u64), Kept>,
    renew_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    session: SessionId,
    partition: TopicPartition,
    offset: i64,
}

impl Delayed {
    fn keep(&mut self, token: u64, due: Instant, kept: Kept) {
        self.until.insert((due, token), kept);
        if self.renew_at.is_none() {
            self.renew_at = Some(self.next_renewal());
        }
    }

    fn next_renewal(&self) -> Instant {
        // Twice in a lease, with room for one that is late.
        let third = u64::try_from(self.lease_ms / 3).unwrap_or(0).max(100);
        Instant::now() + Duration::from_millis(third)
    }

    /// When there is something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        let due = self.until.first_key_value().map(|((due, _), _)| *due);
        [due, self.renew_at].into_iter().flatten().min()
    }

    /// The leases of a session are over.
    pub(super) fn forget(&mut self, session: SessionId) {
        self.until.retain(|_, kept| kept.session != session);
    }

    fn drop_one(&mut self, partition: TopicPartition, offset: i64) {
        self.until
            .retain(|_, kept| (kept.partition, kept.offset) != (partition, offset));
    }

    /// What is to be said now: of what is due, that it is released; of the rest, at times, that it is kept.
    fn due(&mut self) -> Vec<(Kept, i8)> {
        let now = Instant::now();
        let mut due = Vec::new();
        while let Some(first) = self.until.first_entry()
            && first.key().0 <= now
        {
            due.push((first.remove(), RELEASE));
        }
        if self.renew_at.is_some_and(|at| at <= now) {
            due.extend(self.until.values().map(|kept| (*kept, RENEW)));
            self.renew_at = Some(self.next_renewal());
        }
        if self.until.is_empty() {
            self.renew_at = None;
        }
        due
    }
}

impl Subscription {
    /// The client says something.
    pub(super) fn said(&mut self, request: proto::SubscribeRequest) -> Result<(), Status> {
        match request.request {
            Some(Asked::Credit(credit)) => {
                check_credit("credit.messages", credit.messages)?;
                self.ledger.credit.set(credit.messages);
            }
            Some(Asked::Settle(settle)) => {
                for settlement in settle.settlements {
                    let token = settlement.token;
                    if let Err(refused) = self.settle(&settlement) {
                        self.outcomes.push(outcome(token, Err(refused)));
                    }
                }
            }
            Some(Asked::Start(_)) => {
                return Err(Status::invalid_argument("start comes first, and only once"));
            }
            None => return Err(Status::invalid_argument("request is missing")),
        }
        Ok(())
    }

    fn settle(&mut self, settlement: &proto::Settlement) -> Result<(), Refused> {
        let token = settlement.token;
        let Some(lease) = self.ledger.get_mut(token) else {
            return Err(lease_over());
        };
        if lease.is_settling {
            let why = format!("{token} is being settled already");
            return Err(Refused::invalid("settlement.token", why));
        }
        let kind = match settlement.disposition() {
            proto::Disposition::Accept => ACCEPT,
            proto::Disposition::Release => RELEASE,
            proto::Disposition::Reject => REJECT,
            proto::Disposition::Renew => RENEW,
            proto::Disposition::Unspecified => {
                return Err(Refused::invalid("settlement.disposition", "is missing"));
            }
        };
        let delay_ms = settlement.delay_ms;
        if delay_ms != 0 && kind != RELEASE {
            let why = "is only for RELEASE";
            return Err(Refused::invalid("settlement.delay_ms", why));
        }
        if !(0..=DELAY_MS_MAX).contains(&delay_ms) {
            let why = format!("is {delay_ms}; 0 to {DELAY_MS_MAX} are allowed");
            return Err(Refused::invalid("settlement.delay_ms", why));
        }
        let lease = *lease;
        let Some(session) = self.sessions.get_mut(&lease.session) else {
            self.ledger.remove(token);
            return Err(lease_over());
        };
        let may_renew = || {
            let share = &self.gateway.broker().share;
            let settings = share.settings_of(&GroupId::from(self.group.as_str()));
            let why = "the group's share.renew.acknowledge.enable is false";
            let refused = Refused::new(Code::FailedPrecondition, why);
            settings.may_renew.then_some(()).ok_or(refused)
        };
        if kind == RENEW {
            may_renew()?;
        }
        if delay_ms > 0 {
            may_renew()?;
            if self.delayed.until.len() >= DELAYED_MAX {
                let why = format!("{DELAYED_MAX} releases of this stream are delayed already");
                return Err(Refused::bound(why));
            }
            let delay = Duration::from_millis(u64::try_from(delay_ms).unwrap_or(0));
            let kept = Kept {
                session: lease.session,
                partition: lease.partition,
                offset: lease.offset,
            };
            self.delayed.keep(token, Instant::now() + delay, kept);
            // What is left of its lease may be less than the time to the next renewal of all.
            session.acks.push(Ack {
                partition: lease.partition,
                offset: lease.offset,
                kind: RENEW,
                token: None,
                is_alone: false,
            });
            self.ledger.remove(token);
            self.outcomes.push(outcome(token, Ok(())));
            return Ok(());
        }
        if let Some(lease) = self.ledger.get_mut(token) {
            lease.is_settling = true;
        }
        session.acks.push(Ack {
            partition: lease.partition,
            offset: lease.offset,
            kind,
            token: Some(token),
            is_alone: false,
        });
        Ok(())
    }

    /// Says what there is to say of delayed releases.
    pub(super) fn after_delays(&mut self) {
        for (kept, kind) in self.delayed.due() {
            if let Some(session) = self.sessions.get_mut(&kept.session) {
                session.acks.push(Ack {
                    partition: kept.partition,
                    offset: kept.offset,
                    kind,
                    token: None,
                    is_alone: false,
                });
            }
        }
    }

    /// Acknowledgements were answered.
    pub(super) fn acknowledged(
        &mut self,
        id: SessionId,
        said: Vec<Ack>,
        answer: Result<Vec<(TopicPartition, ApiError)>, ApiError>,
    ) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.is_acknowledging = false;
        }
        let errors = match answer {
            Ok(errors) => errors,
            Err(error) => {
                let refused = Refused::new(
                    Code::Unavailable,
                    format!("whether it is stored is not known: {error}"),
                );
                for ack in said {
                    self.conclude(ack, Err(refused.clone()));
                }
                self.lose(id);
                return;
            }
        };
        let mut counts: BTreeMap<TopicPartition, usize> = BTreeMap::new();
        for ack in &said {
            *counts.entry(ack.partition).or_default() += 1;
        }
        for ack in &said {
            let error = errors
                .iter()
                .find(|(partition, _)| *partition == ack.partition);
            let Some((_, error)) = error else {
                self.conclude(*ack, Ok(()));
                continue;
            };
            let is_one_of_many = counts.get(&ack.partition) > Some(&1);
            // All or none were taken: which it was is found out by saying each alone.
            if error.code == ErrorCode::InvalidRecordState
                && is_one_of_many
                && let Some(session) = self.sessions.get_mut(&id)
            {
                session.acks.push(Ack {
                    is_alone: true,
                    ..*ack
                });
                continue;
            }
            let refused = match error.code {
                ErrorCode::InvalidRecordState
                | ErrorCode::NotLeaderOrFollower
                | ErrorCode::FencedStateEpoch
                | ErrorCode::UnknownTopicId
                | ErrorCode::UnknownTopicOrPartition => lease_over(),
                _ => error.clone().into(),
            };
            self.conclude(*ack, Err(refused));
        }
    }

    /// What became of something that was said of a record.
    pub(super) fn conclude(&mut self, ack: Ack, result: Result<(), Refused>) {
        let Some(token) = ack.token else {
            if result.is_err() {
                self.delayed.drop_one(ack.partition, ack.offset);
            }
            return;
        };
        if ack.kind == RENEW && result.is_ok() {
            if let Some(lease) = self.ledger.get_mut(token) {
                lease.is_settling = false;
            }
        } else {
            self.ledger.remove(token);
        }
        self.outcomes.push(outcome(token, result));
    }
}

fn outcome(token: u64, result: Result<(), Refused>) -> proto::Outcome {
    proto::Outcome {
        token,
        refused: result.err().map(Into::into),
    }
}
