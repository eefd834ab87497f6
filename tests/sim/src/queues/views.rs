//! Views: each has what its source has that is committed, as far as its filter lets it through: in its order, and once.

use super::books::{Books, Seen};
use super::value;
use crate::history::Place;
use crate::life::TRANSACTED;

/// A source with the view of it.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// What is looked at.
    pub of: &'static str,
    /// The view.
    pub name: &'static str,
    /// What it is not to have, as its filter says.
    passes_over: Option<&'static str>,
}

/// Those of a life: one that leaves something out, and one of what transactions wrote.
pub const VIEWS: [View; 2] = [
    View {
        of: "all",
        name: "some",
        passes_over: Some(value::SKIP),
    },
    View {
        of: TRANSACTED,
        name: "paid",
        passes_over: None,
    },
];

impl View {
    /// How its topic is configured.
    #[must_use]
    pub fn configs(&self) -> Vec<(&'static str, String)> {
        let mut configs = vec![("weir.queue.view.of", self.of.to_owned())];
        if let Some(kind) = self.passes_over {
            configs.push((
                "weir.queue.view.filter",
                format!("headers.kind != '{kind}'"),
            ));
        }
        configs
    }

    fn has(&self, record: &Seen) -> bool {
        let kind = record.headers.get("kind");
        self.passes_over
            .is_none_or(|other| kind.is_none_or(|kind| kind != other))
    }
}

/// Partitions of views that are not as their sources.
#[must_use]
pub fn judge(books: &Books, partitions: i32) -> Vec<String> {
    let inner = books.lock();
    let mut wrong = Vec::new();
    for (view, partition) in VIEWS
        .iter()
        .flat_map(|view| (0..partitions).map(move |partition| (view, partition)))
    {
        let of = |topic: &str| {
            let seen = inner.seen.get(&Place(topic.into(), partition));
            seen.into_iter().flat_map(|seen| seen.values())
        };
        let said = |record: &Seen| (record.value.clone(), record.headers.clone());
        let wanted: Vec<_> = of(view.of)
            .filter(|record| view.has(record))
            .map(said)
            .collect();
        let found: Vec<_> = of(view.name).map(said).collect();
        if wanted != found {
            let same = wanted.iter().zip(&found);
            let same = same.take_while(|(wanted, found)| wanted == found).count();
            wrong.push(format!(
                "{}-{partition}: {} of {} messages are there, and behind {same} {:?} instead of {:?}",
                view.name,
                found.len(),
                wanted.len(),
                found.get(same),
                wanted.get(same)
            ));
        }
    }
    wrong
}
