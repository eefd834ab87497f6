//! The tables of queues, and of plain topics before and after.

use super::super::broker::Kind;
use super::super::columns::{self, Column};
use super::super::load::Answer;
use super::super::{before, queues};
use super::{Tables, title};
use std::fmt::Write;

impl Tables<'_> {
    /// A line for each row and broker: many brokers take part, of which each has some figures.
    fn lines(&self, rows: &[queues::Row], columns: &[Column]) -> String {
        let mut out = String::new();
        for row in rows {
            for kind in &self.brokers {
                let Some(answers) = self.results.answers.get(&(row.name.to_owned(), *kind)) else {
                    continue;
                };
                if out.is_empty() {
                    let titles: Vec<_> = columns.iter().map(|column| column.title).collect();
                    let _ = writeln!(
                        out,
                        "\n| | | {} |\n|---|---|{}",
                        titles.join(" | "),
                        "---|".repeat(columns.len())
                    );
                }
                let cells = columns.iter().map(|column| column.of_answers(answers));
                let cells: Vec<_> = cells.collect();
                let _ = writeln!(
                    out,
                    "| {} | {} | {} |",
                    row.name,
                    title(*kind),
                    cells.join(" | ")
                );
            }
        }
        out
    }

    pub(super) fn shared(&self) -> String {
        self.lines(&queues::SHARE, &columns::SHARE)
            + &self.times_rabbitmq()
            + &self.lines(&queues::SHARE_AT_ONCE, &columns::SHARE_AT_ONCE)
            + &self.lines(&queues::SHARE_END_TO_END, &columns::SHARE_END_TO_END)
    }

    pub(super) fn delayed(&self) -> String {
        self.lines(&queues::DELAY, &columns::DELAY) + &self.lines(&queues::DUE, &columns::DUE)
    }

    pub(super) fn bounded(&self) -> String {
        self.lines(&queues::BOUND, &columns::BOUND)
    }

    /// How often as much as RabbitMQ, where both sync: with Kafka's protocol, and by gRPC, where each message has a settlement of its own as there.
    fn times_rabbitmq(&self) -> String {
        let mut out = String::new();
        for row in &queues::SHARE {
            for (kind, name) in [
                (Kind::WeirFsync, "Weir `fsync`"),
                (Kind::WeirGrpc, "Weir by gRPC"),
            ] {
                let times = |figure: &str| {
                    let of = |kind| {
                        let answers = self.results.answers.get(&(row.name.to_owned(), kind))?;
                        columns::median_of(answers, |answer| answer.number(figure))
                    };
                    Some(of(kind)? / of(Kind::RabbitMq)?)
                };
                if let (Some(within), Some(out_of)) = (times("in_per_s"), times("out_per_s")) {
                    let _ = writeln!(
                        out,
                        "\n{}: {name} takes {within:.1} times as many messages a second as RabbitMQ, and hands out {out_of:.1} times as many.",
                        row.name
                    );
                }
            }
        }
        out
    }

    pub(super) fn before_and_after(&self) -> String {
        let sides = &self.results.sides;
        let mut out = String::new();
        for name in before::names() {
            for kind in &self.brokers {
                let key = (name.clone(), *kind);
                let (Some(before), Some(now)) = (sides.before.get(&key), sides.now.get(&key))
                else {
                    continue;
                };
                if out.is_empty() {
                    out += "\n| | | MB/s before | now | now to before | CPU s/GB before | now | now to before |\n|---|---|---|---|---|---|---|---|\n";
                }
                let speed = |answer: &Answer| answer.number("mb_s");
                let cells = [
                    compared(before, now, 0, speed),
                    compared(before, now, 2, columns::seconds_per_gb),
                ];
                let _ = writeln!(out, "| {name} | {} | {} |", title(*kind), cells.join(" | "));
            }
        }
        out
    }
}

/// Medians before and now, and their ratio.
fn compared(
    before: &[Answer],
    now: &[Answer],
    digits: usize,
    value: impl Fn(&Answer) -> Option<f64>,
) -> String {
    let medians = columns::median_of(before, &value).zip(columns::median_of(now, &value));
    medians.map_or("– | – | –".to_owned(), |(before, now)| {
        format!("{before:.digits$} | {now:.digits$} | {:.3}", now / before)
    })
}
