//! The last value of each metric that clients pushed, for Prometheus.
//!
//! Pure: the time comes from outside. Bounded: over all clients, for each client, and by age.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use uuid::Uuid;

use super::otlp::Point;

/// Series of all clients: a few megabytes of a scrape.
pub(super) const SERIES_MAX: usize = 20_000;

/// Series of one client: a Java consumer of hundreds of partitions has about as many.
pub(super) const CLIENT_SERIES_MAX: usize = 1_000;

/// A client that has not pushed for so many of its intervals is gone.
const INTERVALS_MAX: u32 = 3;

/// What is written before the series.
const HEADER: &str = "# HELP weir_client_metric Metrics that clients pushed (KIP-714); the client's name for one is in the label metric.\n\
                      # TYPE weir_client_metric untyped\n";

#[derive(Debug)]
struct Client {
    client_id: String,
    until: Duration,
    /// By the series' labels as they are written.
    values: BTreeMap<String, f64>,
}

/// All series.
#[derive(Debug, Default)]
pub(super) struct Series {
    clients: BTreeMap<Uuid, Client>,
    count: usize,
    /// How many points found no room.
    dropped: u64,
}

impl Series {
    /// Takes what a client pushed.
    pub(super) fn take(
        &mut self,
        id: Uuid,
        client_id: &str,
        points: Vec<Point>,
        interval: Duration,
        now: Duration,
    ) {
        self.expire(now);
        let count = &mut self.count;
        let client = self.clients.entry(id).or_insert_with(|| Client {
            client_id: client_id.to_owned(),
            until: now,
            values: BTreeMap::new(),
        });
        client.until = now + interval * INTERVALS_MAX;
        for point in points {
            let labels = labels(&point);
            let has_room = client.values.len() < CLIENT_SERIES_MAX && *count < SERIES_MAX;
            match client.values.get_mut(&labels) {
                Some(value) if point.is_delta => *value += point.value,
                Some(value) => *value = point.value,
                None if has_room => {
                    client.values.insert(labels, point.value);
                    *count += 1;
                }
                None => self.dropped += 1,
            }
        }
        if client.values.is_empty() {
            self.clients.remove(&id);
        }
    }

    /// Forgets a client that has ended.
    pub(super) fn forget(&mut self, id: Uuid) {
        if let Some(client) = self.clients.remove(&id) {
            self.count -= client.values.len();
        }
    }

    /// Points that found no room so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn expire(&mut self, now: Duration) {
        let count = &mut self.count;
        self.clients.retain(|_, client| {
            let stays = client.until >= now;
            if !stays {
                *count -= client.values.len();
            }
            stays
        });
    }

    /// All series in Prometheus' text format.
    pub(super) fn text(&mut self, now: Duration) -> String {
        self.expire(now);
        let mut text = String::new();
        if self.clients.is_empty() {
            return text;
        }
        text.push_str(HEADER);
        for (id, client) in &self.clients {
            for (labels, value) in &client.values {
                // Writing into a text does not fail.
                let _ = writeln!(
                    text,
                    "weir_client_metric{{client_instance_id=\"{id}\",client_id=\"{}\",{labels}}} {value}",
                    escaped(&client.client_id)
                );
            }
        }
        text
    }
}

/// A point's labels, without the client's.
fn labels(point: &Point) -> String {
    let mut labels = format!("metric=\"{}\"", escaped(&point.name));
    // A name that comes twice would make the whole scrape invalid.
    let mut names: BTreeMap<String, &str> = BTreeMap::new();
    for (name, value) in &point.attributes {
        names.insert(label_name(name), value);
    }
    for (name, value) in names {
        let _ = write!(labels, ",{name}=\"{}\"", escaped(value));
    }
    labels
}

/// What Prometheus takes for a label's name; with a beginning that keeps it apart from our own.
fn label_name(name: &str) -> String {
    let plain = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    "attr_".chars().chain(plain).collect()
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn point(name: &str, value: f64, is_delta: bool) -> Point {
        Point {
            name: name.into(),
            attributes: vec![("client.rack".into(), "a\"b".into())],
            value,
            is_delta,
        }
    }

    #[test]
    fn deltas_are_added_and_others_replaced() {
        let mut series = Series::default();
        let id = Uuid::from_u128(1);
        for _ in 0..2 {
            let points = vec![point("sum", 2.0, true), point("gauge", 3.0, false)];
            series.take(id, "c", points, MINUTE, MINUTE);
        }
        let text = series.text(MINUTE);
        assert!(
            text.contains(r#"client_id="c",metric="sum",attr_client_rack="a\"b"} 4"#),
            "{text}"
        );
        assert!(
            text.contains(r#"metric="gauge",attr_client_rack="a\"b"} 3"#),
            "{text}"
        );
    }

    #[test]
    fn series_are_bounded_and_gone_with_their_client() {
        let mut series = Series::default();
        for client in 0..30 {
            let points = (0..CLIENT_SERIES_MAX + 5).map(|n| point(&n.to_string(), 1.0, false));
            series.take(
                Uuid::from_u128(client),
                "c",
                points.collect(),
                MINUTE,
                MINUTE,
            );
        }
        assert_eq!(series.count, SERIES_MAX);
        assert!(series.dropped() > 0);
        assert_eq!(series.text(MINUTE).lines().count(), SERIES_MAX + 2);
        series.forget(Uuid::from_u128(0));
        assert_eq!(series.count, SERIES_MAX - CLIENT_SERIES_MAX);
        assert_eq!(series.text(MINUTE * 5), "");
        assert_eq!(series.count, 0);
    }
}
