//! What a broker with an empty disk does: form a cluster, join one, or wait. Pure.
//!
//! A cluster is formed once. Only broker 0 forms one, only while its configuration names no cluster, and only after every
//! peer that it was told of has answered that its disk is empty as well: whoever knows better must have been heard.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{BrokerId, ClusterId};

/// The broker that forms a cluster.
pub const FORMER: BrokerId = BrokerId(0);

/// What a peer has said of its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It belongs to this cluster.
    Member(ClusterId),
    /// It belongs to none.
    Empty,
    /// Nothing yet, and why.
    None(String),
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Form a cluster.
    Form,
    /// Join this cluster; the peers that belong to it are asked.
    Join(ClusterId, BTreeSet<BrokerId>),
    /// Ask again; why, for people.
    Wait(String),
}

/// Why a broker must neither form nor join.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormingError {
    /// The peers belong to another cluster than the configuration names.
    #[error(
        "the configuration names cluster {wanted}, and broker {peer} belongs to cluster {found}: correct one of them"
    )]
    Stranger {
        /// From the configuration.
        wanted: ClusterId,
        /// From the peer.
        found: ClusterId,
        /// Which peer.
        peer: BrokerId,
    },
    /// The peers do not agree.
    #[error(
        "the peers belong to different clusters ({0} and {1}): correct the configuration's peers"
    )]
    Torn(ClusterId, ClusterId),
}

/// What a broker with an empty disk does, given what the peers in its configuration have answered; itself aside.
pub fn next(
    me: BrokerId,
    configured: Option<&ClusterId>,
    peers: &BTreeMap<BrokerId, Answer>,
) -> Result<Step, FormingError> {
    let mut found: Option<ClusterId> = None;
    let mut members = BTreeSet::new();
    for (peer, answer) in peers {
        let Answer::Member(cluster) = answer else {
            continue;
        };
        if let Some(wanted) = configured.filter(|wanted| *wanted != cluster) {
            return Err(FormingError::Stranger {
                wanted: wanted.clone(),
                found: cluster.clone(),
                peer: *peer,
            });
        }
        match &found {
            Some(found) if found != cluster => {
                return Err(FormingError::Torn(found.clone(), cluster.clone()));
            }
            _ => found = Some(cluster.clone()),
        }
        members.insert(*peer);
    }
    if let Some(cluster) = found {
        return Ok(Step::Join(cluster, members));
    }
    if let Some(cluster) = configured {
        return Ok(Step::Wait(format!(
            "no peer has said yet that it belongs to cluster {cluster}{}",
            silent(peers)
        )));
    }
    if me != FORMER {
        return Ok(Step::Wait(format!(
            "broker {FORMER} has not formed a cluster yet{}",
            silent(peers)
        )));
    }
    if peers
        .values()
        .any(|answer| matches!(answer, Answer::None(_)))
    {
        return Ok(Step::Wait(format!(
            "not every peer has answered that its disk is empty{}",
            silent(peers)
        )));
    }
    Ok(Step::Form)
}

fn silent(peers: &BTreeMap<BrokerId, Answer>) -> String {
    let silent: Vec<String> = peers
        .iter()
        .filter_map(|(peer, answer)| match answer {
            Answer::None(why) => Some(format!("; broker {peer}: {why}")),
            _ => None,
        })
        .collect();
    silent.concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn cluster(id: &str) -> ClusterId {
        ClusterId(id.into())
    }

    fn peers(answers: &[(i32, Answer)]) -> BTreeMap<BrokerId, Answer> {
        answers
            .iter()
            .map(|(id, answer)| (BrokerId(*id), answer.clone()))
            .collect()
    }

    #[test]
    fn broker_zero_forms_only_after_every_peer_said_that_it_is_empty() {
        assert_eq!(next(BrokerId(0), None, &peers(&[])).unwrap(), Step::Form);
        assert_eq!(
            next(
                BrokerId(0),
                None,
                &peers(&[(1, Answer::Empty), (2, Answer::Empty)])
            )
            .unwrap(),
            Step::Form
        );
        let silent = peers(&[(1, Answer::Empty), (2, Answer::None("unreachable".into()))]);
        assert!(
            matches!(next(BrokerId(0), None, &silent).unwrap(), Step::Wait(why) if why.contains("broker 2"))
        );
    }

    #[test]
    fn no_one_else_forms() {
        let all_empty = peers(&[(0, Answer::Empty), (2, Answer::Empty)]);
        assert!(matches!(
            next(BrokerId(1), None, &all_empty).unwrap(),
            Step::Wait(_)
        ));
    }

    #[test]
    fn a_wiped_broker_zero_joins_what_its_peers_belong_to() {
        let members = peers(&[
            (1, Answer::Member(cluster("a"))),
            (2, Answer::None("down".into())),
        ]);
        let step = next(BrokerId(0), None, &members).unwrap();
        assert_eq!(step, Step::Join(cluster("a"), [BrokerId(1)].into()));
    }

    #[test]
    fn a_broker_that_was_told_its_cluster_never_forms_one() {
        let all_empty = peers(&[(1, Answer::Empty), (2, Answer::Empty)]);
        assert!(matches!(
            next(BrokerId(0), Some(&cluster("a")), &all_empty).unwrap(),
            Step::Wait(_)
        ));
        assert!(matches!(
            next(BrokerId(0), Some(&cluster("a")), &peers(&[])).unwrap(),
            Step::Wait(_)
        ));
    }

    #[test]
    fn strangers_are_refused_by_name() {
        let other = peers(&[(1, Answer::Member(cluster("b")))]);
        let error = next(BrokerId(0), Some(&cluster("a")), &other).unwrap_err();
        assert!(
            error.to_string().contains('a') && error.to_string().contains('b'),
            "{error}"
        );
        let torn = peers(&[
            (1, Answer::Member(cluster("a"))),
            (2, Answer::Member(cluster("b"))),
        ]);
        assert!(matches!(
            next(BrokerId(0), None, &torn),
            Err(FormingError::Torn(..))
        ));
    }
}
