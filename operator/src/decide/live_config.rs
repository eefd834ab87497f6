//! Which of a Cluster's configurations brokers are told while they run, and which stand in their file.
//!
//! What brokers can change while they run is in the file as it was when the cluster was made, so that the first topic is made as it was asked for;
//! from then on the brokers are told, and remember it in their metadata, which counts more than their file. The file is changed, and with it the hash of the
//! pods, only for a key that goes: what stands in the file would come back. Brokers of an older version are not told: for them everything is in the file.
//!
//! What is in the file is written on the StatefulSet. Where nothing is written an operator made it that put everything into the file, so a newer
//! operator rolls nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker_config::live_name;
use crate::decide::config_value::is_stored_as;
use crate::world::Look;

/// What is asked about. Keys of `wanted` and `file` are those of the file, `configured` and what the brokers say have the brokers' names.
#[derive(Debug)]
pub struct Case<'a> {
    /// What the Cluster says of what can be changed while brokers run.
    pub wanted: &'a BTreeMap<&'static str, String>,
    /// What of it stands in the file; `None` when that is not known.
    pub file: Option<&'a BTreeMap<&'static str, String>>,
    /// What the Cluster said once.
    pub configured: &'a BTreeSet<String>,
    /// What the brokers say, if any answered.
    pub look: Option<&'a Look>,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Live {
    /// What is to stand in the file.
    pub file: BTreeMap<&'static str, String>,
    /// What brokers are to be told.
    pub set: BTreeMap<String, String>,
    /// What is to go back to the default.
    pub unset: BTreeSet<String>,
    /// What the Cluster says, or said and is not back at its default yet.
    pub configured: BTreeSet<String>,
}

/// Decides.
#[must_use]
pub fn live(case: &Case<'_>) -> Live {
    let file = case.file.unwrap_or(case.wanted);
    let names: BTreeSet<String> = case.wanted.keys().map(|key| name(key)).collect();
    let mut live = Live {
        file: file.clone(),
        configured: case.configured.union(&names).cloned().collect(),
        ..Live::default()
    };
    live.file.retain(|key, _| case.wanted.contains_key(key));
    // One that may be old is none: what was told since would be forgotten, or told again.
    let Some(look) = case.look.filter(|look| look.is_confirmed()) else {
        return live;
    };
    if !look.configures {
        live.file = case.wanted.clone();
        return live;
    }
    for (key, value) in case.wanted {
        let is_so = match look.config.get(&name(key)) {
            Some(told) => is_stored_as(value, told),
            None => live.file.get(key) == Some(value),
        };
        if !is_so {
            live.set.insert(name(key), value.clone());
        }
    }
    let gone = live.configured.difference(&names);
    let gone = gone.filter(|name| look.config.contains_key(*name));
    live.unset = gone.cloned().collect();
    live.configured = names.union(&live.unset).cloned().collect();
    live
}

fn name(key: &str) -> String {
    live_name(key).to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{Case, Live, live};
    use crate::world::{BrokerId, Look};

    /// Brokers that cannot be told.
    fn older() -> Look {
        Look {
            controller: Some(BrokerId(0)),
            ..Look::default()
        }
    }

    const KEY: &str = "retention.ms";
    const NAME: &str = "log.retention.ms";

    fn config(value: Option<&str>) -> BTreeMap<&'static str, String> {
        value
            .map(|value| (KEY, value.to_owned()))
            .into_iter()
            .collect()
    }

    /// Of one key: what is wanted, what is in the file, and what brokers were told.
    fn of(wanted: Option<&str>, file: Option<&str>, told: Option<&str>) -> Live {
        let told = told.map(|value| (NAME.to_owned(), value.to_owned()));
        let look = Look {
            controller: Some(BrokerId(0)),
            configures: true,
            config: told.into_iter().collect(),
            ..Look::default()
        };
        live(&Case {
            wanted: &config(wanted),
            file: Some(&config(file)),
            configured: &BTreeSet::from([NAME.to_owned()]),
            look: Some(&look),
        })
    }

    #[test]
    fn what_is_in_the_file_needs_nobody_to_be_told() {
        let live = of(Some("1"), Some("1"), None);
        assert_eq!((live.set.len(), live.unset.len()), (0, 0));
        assert_eq!(live.file, config(Some("1")));
    }

    #[test]
    fn another_value_is_told_and_leaves_the_file_as_it_is() {
        for (file, told) in [
            (Some("1"), None),
            (Some("1"), Some("1")),
            (None, None),
            // Somebody else's.
            (Some("2"), Some("3")),
        ] {
            let live = of(Some("2"), file, told);
            assert_eq!(live.set.get(NAME).map(String::as_str), Some("2"));
            assert_eq!(live.file, config(file));
        }
        assert_eq!(of(Some("2"), Some("1"), Some("2")).set.len(), 0);
    }

    #[test]
    fn what_goes_goes_from_both() {
        let live = of(None, Some("1"), Some("2"));
        assert_eq!(live.file, config(None));
        assert_eq!(live.unset, BTreeSet::from([NAME.to_owned()]));
        assert_eq!(live.configured, live.unset, "until it has gone");
        assert_eq!(of(None, None, None), Live::default());
    }

    #[test]
    fn what_the_cluster_never_said_is_somebody_elses() {
        let look = Look {
            controller: Some(BrokerId(0)),
            configures: true,
            config: [(NAME.to_owned(), "7".to_owned())].into(),
            ..Look::default()
        };
        let live = live(&Case {
            wanted: &config(None),
            file: Some(&config(None)),
            configured: &BTreeSet::new(),
            look: Some(&look),
        });
        assert_eq!(live, Live::default());
    }

    #[test]
    fn where_nothing_is_remembered_the_file_has_what_the_cluster_says() {
        let (wanted, configured) = (config(Some("1")), BTreeSet::new());
        let case = |look| Case {
            wanted: &wanted,
            file: None,
            configured: &configured,
            look,
        };
        let older = older();
        for look in [None, Some(&older)] {
            assert_eq!(live(&case(look)).file, wanted);
        }
    }

    #[test]
    fn brokers_that_cannot_be_told_have_it_in_the_file_and_nobody_knows_changes_nothing() {
        let (wanted, file, configured) = (config(Some("2")), config(Some("1")), BTreeSet::new());
        let case = |look| Case {
            wanted: &wanted,
            file: Some(&file),
            configured: &configured,
            look,
        };
        let older = older();
        assert_eq!(live(&case(Some(&older))).file, wanted);
        let cut_off = Look {
            controller: None,
            configures: true,
            ..Look::default()
        };
        for look in [None, Some(&cut_off)] {
            let unseen = live(&case(look));
            assert_eq!((unseen.file, unseen.set.len()), (file.clone(), 0));
        }
    }

    #[test]
    fn what_was_told_is_not_forgotten_for_a_look_that_may_be_old() {
        let (none, told) = (config(None), BTreeSet::from([NAME.to_owned()]));
        let cut_off = Look {
            configures: true,
            ..Look::default()
        };
        let live = live(&Case {
            wanted: &none,
            file: Some(&none),
            configured: &told,
            look: Some(&cut_off),
        });
        assert_eq!(live.configured, told);
    }
}
