//! Columns of the tables: which figure of an answer stands there, and how many digits of it mean something.

use super::load::Answer;

/// A figure, shown once for each kind of broker.
#[derive(Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    digits: usize,
    show: Show,
    value: Value,
}

/// What stands for all rounds.
#[derive(Clone, Copy)]
enum Show {
    Median,
    /// The least and the greatest value stand beside it.
    MedianAndSpread,
    /// What must not happen once is counted over all rounds.
    Sum,
}

#[derive(Clone, Copy)]
enum Value {
    Named(&'static str),
    Of(fn(&Answer) -> Option<f64>),
}

const fn named(title: &'static str, name: &'static str, digits: usize) -> Column {
    Column {
        title,
        digits,
        show: Show::Median,
        value: Value::Named(name),
    }
}

const fn of(title: &'static str, value: fn(&Answer) -> Option<f64>, digits: usize) -> Column {
    Column {
        title,
        digits,
        show: Show::Median,
        value: Value::Of(value),
    }
}

impl Column {
    const fn with_spread(self) -> Self {
        Self {
            show: Show::MedianAndSpread,
            ..self
        }
    }

    const fn sum(self) -> Self {
        Self {
            show: Show::Sum,
            ..self
        }
    }

    /// What stands in the table for these answers.
    pub(super) fn of_answers(&self, answers: &[Answer]) -> String {
        let values = answers.iter().filter_map(|answer| match self.value {
            Value::Named(name) => answer.number(name),
            Value::Of(value) => value(answer),
        });
        self.cell(values.collect())
    }

    /// What stands in the table for these values.
    pub(super) fn cell(&self, mut values: Vec<f64>) -> String {
        values.sort_by(f64::total_cmp);
        let digits = self.digits;
        let (Some(least), Some(greatest)) = (values.first(), values.last()) else {
            return "–".to_owned();
        };
        match self.show {
            Show::MedianAndSpread if values.len() > 1 => format!(
                "{:.digits$} ({least:.digits$}–{greatest:.digits$})",
                median(&values)
            ),
            Show::Sum => format!("{:.digits$}", values.iter().sum::<f64>()),
            _ => format!("{:.digits$}", median(&values)),
        }
    }
}

/// The median of one figure of these answers, if any has it.
pub(super) fn median_of(answers: &[Answer], value: impl Fn(&Answer) -> Option<f64>) -> Option<f64> {
    let mut values: Vec<f64> = answers.iter().filter_map(value).collect();
    values.sort_by(f64::total_cmp);
    (!values.is_empty()).then(|| median(&values))
}

/// Of sorted values, at least one.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        (sorted[middle - 1] + sorted[middle]) / 2.0
    }
}

pub(super) const THROUGHPUT: [Column; 3] = [
    named("MB/s", "mb_s", 0).with_spread(),
    of("CPU s/GB", seconds_per_gb, 2),
    named("memory MiB", "broker_rss_mib", 0),
];

pub(super) const REPLICATED_THROUGHPUT: [Column; 4] = [
    named("MB/s", "mb_s", 0).with_spread(),
    of("CPU s/GB of all three", seconds_per_gb, 2),
    named("memory MiB of all three", "broker_rss_mib", 0),
    named("of the largest", "broker_rss_max_mib", 0),
];

pub(super) const LATENCY: [Column; 4] = [
    named("p50 ms", "p50_ms", 2),
    named("p99 ms", "p99_ms", 2).with_spread(),
    named("p99.9 ms", "p999_ms", 1),
    of("cores", broker_cores, 2),
];

pub(super) const REPLICATED_LATENCY: [Column; 5] = [
    named("records/s", "rate", 0),
    named("p50 ms", "p50_ms", 2),
    named("p99 ms", "p99_ms", 2).with_spread(),
    named("p99.9 ms", "p999_ms", 1),
    of("cores of all three", broker_cores, 2),
];

pub(super) const CATCH_UP: [Column; 5] = [
    named(
        "acknowledged p99 ms before",
        "before_acknowledged_p99_ms",
        2,
    )
    .with_spread(),
    named("during", "during_acknowledged_p99_ms", 2).with_spread(),
    named("read p99 ms before", "before_p99_ms", 2),
    named("during", "during_p99_ms", 2),
    named("MB/s of the late group", "late_mb_s", 0),
];

pub(super) const FAILOVER: [Column; 5] = [
    named("longest gap, ms", "gap_ms", 0).with_spread(),
    named("acknowledged", "acknowledged", 0).sum(),
    named("lost", "lost", 0).sum(),
    named("doubled", "doubled", 0).sum(),
    named("out of order", "disorder", 0).sum(),
];

pub(super) const MOVING: [Column; 7] = [
    named("seconds", "moved_s", 0).with_spread(),
    named("replicas moved", "moved_replicas", 0),
    named("MB/s moved", "moved_mb_s", 0),
    named(
        "acknowledged p99 ms before",
        "before_acknowledged_p99_ms",
        2,
    ),
    named("during", "during_acknowledged_p99_ms", 2),
    named("read p99 ms before", "before_p99_ms", 2),
    named("during", "during_p99_ms", 2),
];

pub(super) const SHARE: [Column; 6] = [
    named("messages/s in", "in_per_s", 0).with_spread(),
    named("messages/s out", "out_per_s", 0).with_spread(),
    named("CPU s per million in", "in_cpu_s_per_million", 1),
    named("out", "out_cpu_s_per_million", 1),
    named("memory MiB", "broker_rss_mib", 0),
    named("delivered again", "redelivered", 0).sum(),
];

pub(super) const SHARE_AT_ONCE: [Column; 4] = [
    named("messages/s in and out", "through_per_s", 0).with_spread(),
    named("CPU s per million", "through_cpu_s_per_million", 1),
    named("memory MiB", "broker_rss_mib", 0),
    named("delivered again", "redelivered", 0).sum(),
];

pub(super) const SHARE_END_TO_END: [Column; 6] = [
    named("p50 ms", "p50_ms", 2),
    named("p99 ms", "p99_ms", 2).with_spread(),
    named("p99.9 ms", "p999_ms", 1),
    named("confirmed p99 ms", "acknowledged_p99_ms", 2),
    of("cores", broker_cores, 2),
    named("memory MiB", "broker_rss_mib", 0),
];

pub(super) const DELAY: [Column; 4] = [
    named("messages that wait", "waiting", 0),
    named("memory for each, bytes", "bytes_each", 1).with_spread(),
    named("memory of the broker, MiB", "broker_rss_mib", 0),
    named("messages/s in", "in_per_s", 0),
];

pub(super) const DUE: [Column; 6] = [
    named("messages due in a second", "due_per_s", 0),
    named("late p50 ms", "late_p50_ms", 2),
    named("late p99 ms", "late_p99_ms", 2).with_spread(),
    named("at most", "late_max_ms", 1),
    named("messages/s that arrived", "released_per_s", 0),
    named("early, or twice", "early", 0).sum(),
];

pub(super) const BOUND: [Column; 10] = [
    named("offers", "offers", 0),
    named("taken", "taken", 0).with_spread(),
    named("more than fit", "beyond", 0).sum(),
    named("taken and lost", "lost", 0).sum(),
    named("refused and there", "refused_but_there", 0).sum(),
    named("refusals/s", "refused_per_s", 0).with_spread(),
    named("refusal p50 ms", "refused_p50_ms", 2),
    named("p99", "refused_p99_ms", 1),
    named("at most", "refused_max_ms", 0),
    named("confirmed p50 ms", "taken_p50_ms", 2),
];

pub(super) const BUSY: [Column; 2] = [of("broker", broker_cores, 2), of("client", client_cores, 2)];

/// Of values that no client told.
pub(super) const BARE: Column = of("CPU s/GB", |_| None, 2).with_spread();

/// As there.
pub(super) const FACT: Column = of("", |_| None, 2);

pub(super) fn seconds_per_gb(answer: &Answer) -> Option<f64> {
    Some(
        answer.number("broker_cpu_s")? / (answer.number("mb_s")? * answer.number("seconds")? / 1e3),
    )
}

fn broker_cores(answer: &Answer) -> Option<f64> {
    Some(answer.number("broker_cpu_s")? / answer.number("seconds")?)
}

fn client_cores(answer: &Answer) -> Option<f64> {
    Some(answer.number("client_cpu_s")? / answer.number("seconds")?)
}
