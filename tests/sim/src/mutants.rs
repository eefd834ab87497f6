//! Every mutant must be found, within so many seeds.

use weir_log::mutants::Mutant;
use weir_sim::queues::Kind;

use crate::child::With;

/// A defect that is found in fewer than one life of so many may hide. The rarest are found in one of a hundred: a leader must be
/// lost within the milliseconds in which a follower that cut too much has not got it back.
const SEEDS_MAX: u64 = 300;

/// Gives this process a defect.
pub(crate) fn activate(name: &str) -> Result<(), String> {
    let mut all = Mutant::ALL.into_iter();
    let mutant = all
        .find(|it| format!("{it:?}") == name)
        .ok_or_else(|| format!("no such mutant; there are {:?}", Mutant::ALL))?;
    activated(mutant)
}

#[cfg(feature = "mutants")]
fn activated(mutant: Mutant) -> Result<(), String> {
    weir_log::mutants::activate(Some(mutant));
    Ok(())
}

#[cfg(not(feature = "mutants"))]
fn activated(mutant: Mutant) -> Result<(), String> {
    Err(format!(
        "built without the feature `mutants`: no {mutant:?}"
    ))
}

/// The kind of queue without which a defect does not show; that kind is in each of the lives then.
fn queue_for(mutant: Mutant) -> Option<Kind> {
    match mutant {
        Mutant::ReleaseTwice
        | Mutant::ReleaseEarly
        | Mutant::ReleaseOutOfOrder
        | Mutant::ForgetDelayed
        | Mutant::ForgetIds
        | Mutant::CancelIgnored => Some(Kind::Delays),
        Mutant::BoundLate | Mutant::BoundForgotten => Some(Kind::Bound),
        Mutant::LeaseTwice => Some(Kind::TopicBound),
        Mutant::BuryLate
        | Mutant::ForgetBackoff
        | Mutant::HandOutExpired
        | Mutant::FilterForgotten => Some(Kind::Jobs),
        Mutant::ForgetKeys => Some(Kind::OrderedJobs),
        Mutant::LookLate | Mutant::ForgetLevels => Some(Kind::Ranks),
        Mutant::CopyTwice | Mutant::CopyUndecided => Some(Kind::Views),
        Mutant::RefuseWaiting => Some(Kind::Throttle),
        Mutant::DropAll => Some(Kind::DropOldest),
        Mutant::HalfTwice | Mutant::HalfForgotten => Some(Kind::Halves),
        _ => None,
    }
}

/// Lives with each mutant until a life finds it.
pub(crate) fn all_are_found(jobs: usize) -> bool {
    let mut all = true;
    for mutant in Mutant::ALL {
        let name = format!("{mutant:?}");
        let with = With {
            mutant: Some(name.clone()),
            queue: queue_for(mutant).map(|kind| format!("{kind:?}")),
        };
        let found = crate::lives::first_wrong(1..=SEEDS_MAX, jobs, &with);
        match found {
            Some((seed, wrong)) => println!("{name}: found by seed {seed}: {wrong}"),
            None => {
                println!("{name}: not found by {SEEDS_MAX} seeds");
                all = false;
            }
        }
    }
    all
}
