//! Whether a reset of offsets is due: once for each request id, whatever was seen before a crash.
//!
//! The brokers remember what they carried out, so that a request which is asked for twice changes nothing the second time. What is decided here keeps
//! the operator from asking, and lets a refusal stand until the spec is another.

use weir_crds::LastReset;

use crate::validate::Reset;

/// State of a reset that was carried out, or dry-run.
pub const DONE: &str = "Done";
/// State of a reset that the brokers refused.
pub const REFUSED: &str = "Refused";

/// The reset to ask for now, if any.
#[must_use]
pub fn due<'r>(
    wanted: Option<&'r Reset>,
    last: Option<&LastReset>,
    generation: Option<i64>,
) -> Option<&'r Reset> {
    let wanted = wanted?;
    let Some(last) = last.filter(|last| last.request_id == wanted.id) else {
        return Some(wanted);
    };
    let is_of_this_spec = last.generation == generation;
    let is_settled = match (last.state.as_str(), last.dry_run) {
        (DONE, false) => true,
        (DONE, true) => wanted.dry_run && is_of_this_spec,
        // Carried out long after it was asked for, it would surprise: somebody has to want it anew.
        _ => is_of_this_spec,
    };
    (!is_settled).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use weir_crds::LastReset;

    use super::{DONE, REFUSED, due};
    use crate::validate::{Reset, ResetTo};

    fn wanted(dry_run: bool) -> Reset {
        Reset {
            id: "again".into(),
            to: ResetTo::Earliest,
            topics: Vec::new(),
            partitions: Vec::new(),
            dry_run,
        }
    }

    fn last(id: &str, state: &str, dry_run: bool, generation: i64) -> LastReset {
        LastReset {
            request_id: id.into(),
            state: state.into(),
            dry_run,
            generation: Some(generation),
            ..LastReset::default()
        }
    }

    #[test]
    fn a_request_id_is_asked_for_once() {
        for (dry_run, last, is_due) in [
            (false, None, true),
            (true, None, true),
            (false, Some(last("other", DONE, false, 4)), true),
            (false, Some(last("again", DONE, false, 1)), false),
            (true, Some(last("again", DONE, false, 1)), false),
        ] {
            let wanted = wanted(dry_run);
            let found = due(Some(&wanted), last.as_ref(), Some(4));
            assert_eq!(found.is_some(), is_due, "{dry_run} {last:?}");
        }
        assert_eq!(due(None, None, Some(4)), None);
    }

    #[test]
    fn a_dry_run_is_followed_by_the_reset_and_repeated_for_another_spec() {
        for (dry_run, of, is_due) in [(true, 4, false), (true, 3, true), (false, 4, true)] {
            let wanted = wanted(dry_run);
            let last = last("again", DONE, true, of);
            let found = due(Some(&wanted), Some(&last), Some(4));
            assert_eq!(found.is_some(), is_due, "{dry_run} {of}");
        }
    }

    #[test]
    fn a_refusal_stands_until_the_spec_is_another() {
        let wanted = wanted(false);
        for (of, is_due) in [(4, false), (3, true)] {
            let last = last("again", REFUSED, false, of);
            assert_eq!(due(Some(&wanted), Some(&last), Some(4)).is_some(), is_due);
        }
    }
}
