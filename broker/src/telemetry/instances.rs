//! Which clients push metrics, and when each may again.
//!
//! Pure: the time comes from outside. Bounded: the one that was silent longest is forgotten first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use uuid::Uuid;

use crate::error::ErrorCode;

/// Clients that are remembered, as many as Kafka does. Each takes about a hundred bytes.
pub(super) const INSTANCES_MAX: usize = 16_384;

/// What was said and asked by one client.
#[derive(Clone, Copy, Debug, Default)]
struct Instance {
    asked: Option<Duration>,
    pushed: Option<Duration>,
    used: Duration,
    is_terminating: bool,
    /// What its last push was refused with.
    error: Option<ErrorCode>,
}

/// All clients.
#[derive(Debug, Default)]
pub(super) struct Instances {
    instances: BTreeMap<Uuid, Instance>,
    by_use: BTreeSet<(Duration, Uuid)>,
}

/// What a push is checked against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) subscription_id: i32,
    pub(super) interval: Duration,
    pub(super) bytes_max: usize,
}

/// What a push says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Push {
    pub(super) subscription_id: i32,
    pub(super) is_terminating: bool,
    pub(super) is_compression_known: bool,
    pub(super) bytes: usize,
}

impl Instances {
    fn touch(&mut self, id: Uuid, now: Duration) -> &mut Instance {
        match self.instances.get(&id) {
            Some(known) => {
                self.by_use.remove(&(known.used, id));
            }
            None if self.instances.len() >= INSTANCES_MAX => {
                if let Some((_, oldest)) = self.by_use.pop_first() {
                    self.instances.remove(&oldest);
                }
            }
            None => {}
        }
        self.by_use.insert((now, id));
        let instance = self.instances.entry(id).or_default();
        instance.used = now;
        instance
    }

    /// A client asks what to push. It may once in each interval, and whenever it was told to ask again.
    pub(super) fn ask(
        &mut self,
        id: Uuid,
        interval: Duration,
        now: Duration,
    ) -> Result<(), ErrorCode> {
        let instance = self.touch(id, now);
        let last = instance.asked.max(instance.pushed);
        let is_early = last.is_some_and(|last| now.saturating_sub(last) < interval);
        let is_told = matches!(
            instance.error,
            Some(ErrorCode::UnknownSubscriptionId | ErrorCode::UnsupportedCompressionType)
        );
        if is_early && !is_told {
            return Err(ErrorCode::ThrottlingQuotaExceeded);
        }
        instance.asked = Some(now);
        instance.error = None;
        Ok(())
    }

    /// A client pushes. The first push after it has asked may come at once, so that not all clients push at the same time
    /// after they were told to.
    pub(super) fn push(
        &mut self,
        id: Uuid,
        push: Push,
        expected: Expected,
        now: Duration,
    ) -> Result<(), ErrorCode> {
        let instance = self.touch(id, now);
        let checked = check(instance, push, expected, now);
        instance.error = checked.err();
        if !matches!(
            checked,
            Err(ErrorCode::InvalidRequest | ErrorCode::ThrottlingQuotaExceeded)
        ) {
            instance.pushed = Some(now);
        }
        if checked.is_ok() {
            instance.is_terminating = push.is_terminating;
        }
        checked
    }

    /// How many clients are remembered.
    pub(super) fn len(&self) -> usize {
        self.instances.len()
    }
}

fn check(
    instance: &Instance,
    push: Push,
    expected: Expected,
    now: Duration,
) -> Result<(), ErrorCode> {
    if instance.is_terminating {
        return Err(ErrorCode::InvalidRequest);
    }
    let is_early = match (instance.asked, instance.pushed) {
        (_, None) => false,
        (Some(asked), Some(pushed)) if asked > pushed => false,
        (_, Some(pushed)) => now.saturating_sub(pushed) < expected.interval,
    };
    if is_early && !push.is_terminating {
        return Err(ErrorCode::ThrottlingQuotaExceeded);
    }
    if push.subscription_id != expected.subscription_id {
        return Err(ErrorCode::UnknownSubscriptionId);
    }
    if !push.is_compression_known {
        return Err(ErrorCode::UnsupportedCompressionType);
    }
    if push.bytes > expected.bytes_max {
        return Err(ErrorCode::TelemetryTooLarge);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const EXPECTED: Expected = Expected {
        subscription_id: 7,
        interval: MINUTE,
        bytes_max: 100,
    };
    const PUSH: Push = Push {
        subscription_id: 7,
        is_terminating: false,
        is_compression_known: true,
        bytes: 10,
    };

    #[test]
    fn a_client_asks_and_pushes_once_in_each_interval() {
        let mut instances = Instances::default();
        let id = Uuid::from_u128(1);
        let at = |seconds| Duration::from_secs(seconds);
        let early = Err(ErrorCode::ThrottlingQuotaExceeded);
        assert_eq!(instances.ask(id, MINUTE, at(1)), Ok(()));
        assert_eq!(instances.ask(id, MINUTE, at(2)), early);
        assert_eq!(instances.push(id, PUSH, EXPECTED, at(3)), Ok(()));
        assert_eq!(instances.push(id, PUSH, EXPECTED, at(4)), early);
        assert_eq!(instances.push(id, PUSH, EXPECTED, at(63)), Ok(()));
        // Told to ask again, it may at once.
        let other = Push {
            subscription_id: 8,
            ..PUSH
        };
        assert_eq!(
            instances.push(id, other, EXPECTED, at(123)),
            Err(ErrorCode::UnknownSubscriptionId)
        );
        assert_eq!(instances.ask(id, MINUTE, at(124)), Ok(()));
        // The last push of a client that ends comes when it comes, and nothing after it.
        let last = Push {
            is_terminating: true,
            ..PUSH
        };
        assert_eq!(instances.push(id, PUSH, EXPECTED, at(125)), Ok(()));
        assert_eq!(instances.push(id, last, EXPECTED, at(126)), Ok(()));
        assert_eq!(
            instances.push(id, last, EXPECTED, at(300)),
            Err(ErrorCode::InvalidRequest)
        );
    }

    #[test]
    fn what_is_too_large_or_in_an_unknown_form_is_refused() {
        let mut instances = Instances::default();
        let id = Uuid::from_u128(1);
        let large = Push { bytes: 101, ..PUSH };
        assert_eq!(
            instances.push(id, large, EXPECTED, MINUTE),
            Err(ErrorCode::TelemetryTooLarge)
        );
        let strange = Push {
            is_compression_known: false,
            ..PUSH
        };
        assert_eq!(
            instances.push(id, strange, EXPECTED, MINUTE * 2),
            Err(ErrorCode::UnsupportedCompressionType)
        );
    }

    #[test]
    fn the_client_that_was_silent_longest_is_forgotten_first() {
        let mut instances = Instances::default();
        for n in 0..=INSTANCES_MAX as u64 {
            let id = Uuid::from_u128(u128::from(n));
            assert_eq!(instances.ask(id, MINUTE, Duration::from_millis(n)), Ok(()));
        }
        assert_eq!(instances.len(), INSTANCES_MAX);
        assert_eq!(
            instances.ask(Uuid::from_u128(0), MINUTE, Duration::from_secs(30)),
            Ok(())
        );
    }
}
