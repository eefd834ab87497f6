//! Other people's clients that do what they are told, one by one, so that a scenario is written once and any client can have any part in it.
//!
//! A puppet is a program of `tests/clients` (`Puppet.java`, `go/puppet`, `puppet.py`, `grpc_puppet.py`). It reads orders, a JSON object on each
//! line, and carries them out at the same time; each answer has the `id` of its order, and `failed` where a client did what it never should.
//!
//! | Order | Words | Answer |
//! |---|---|---|
//! | `produce` | `as`, `topic`, `records`, `single`: each is a batch | `results`: `partition` and `offset`, or `error` and `message`; `twice`: it may be there twice |
//! | `read-open`, `read-poll`, `read-close` | `as`, `topic`, `partitions`, `isolation`; `ms` | `records` of a reader without a group, from the beginning on |
//! | `share-open`, `share-poll`, `share-close` | `as`, `group`, `topics`, `credit`; `ms` | `records` that a member of a share group gets |
//! | `share-settle` | `as`, `records` with their `kind`: `accept`, `release`, `reject`, `renew` | `stored`, of each |
//!
//! `as` names a client of the puppet. Some know more: topics and groups are made by `Puppet.java`, calls, replies and transactions
//! of `weir.queue.v1` by `grpc_puppet.py`.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::process::{Child, ChildStdin, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::lock::lock;
use crate::members::lines_of;

/// How long an order may take: far above what any takes while a broker is killed.
const LIMIT: Duration = Duration::from_secs(150);

/// How long a poll waits for something to come.
const POLL_MS: u64 = 200;

/// A running puppet; it ends with this.
#[derive(Debug)]
pub struct Puppet {
    name: &'static str,
    child: Child,
    input: Mutex<Option<ChildStdin>>,
    asked: Arc<Mutex<HashMap<u64, Sender<Value>>>>,
    orders: AtomicU64,
}

impl Puppet {
    /// Starts one.
    ///
    /// # Panics
    /// When it cannot run.
    #[must_use]
    pub fn start(name: &'static str, program: &mut Command) -> Self {
        let (mut child, lines) = lines_of(program);
        let input = child.stdin.take();
        let asked: Arc<Mutex<HashMap<u64, Sender<Value>>>> = Arc::default();
        let answered = Arc::clone(&asked);
        thread::spawn(move || {
            for line in lines {
                let answer: Value = serde_json::from_slice(&line).unwrap_or_default();
                let order = answer["id"].as_u64();
                match order.and_then(|order| lock(&answered).remove(&order)) {
                    Some(waiting) => drop(waiting.send(answer)),
                    None => println!("  {name}: {}", String::from_utf8_lossy(&line)),
                }
            }
            // Whoever waits is told that it has ended.
            lock(&answered).clear();
        });
        Self {
            name,
            child,
            input: Mutex::new(input),
            asked,
            orders: AtomicU64::new(1),
        }
    }

    /// Which client it is, as the tables have it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Gives an order, and returns where its answer will be.
    ///
    /// # Panics
    /// When the puppet has ended.
    pub fn order(&self, mut order: Value) -> Answer {
        let id = self.orders.fetch_add(1, Ordering::Relaxed);
        let what = format!("{}: {} {}", self.name, order["do"], order["as"]);
        order["id"] = id.into();
        let (waiting, answer) = channel();
        lock(&self.asked).insert(id, waiting);
        let mut input = lock(&self.input);
        let input = input.as_mut().expect("open while it runs");
        writeln!(input, "{order}")
            .and_then(|()| input.flush())
            .unwrap_or_else(|error| panic!("{what}: it does not listen: {error}"));
        Answer { what, answer }
    }

    /// Gives an order and waits for its answer.
    ///
    /// # Panics
    /// When it failed, or takes too long.
    pub fn ask(&self, order: Value) -> Value {
        self.order(order).wait()
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        lock(&self.input).take();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What will become of an order.
#[derive(Debug)]
pub struct Answer {
    what: String,
    answer: Receiver<Value>,
}

impl Answer {
    /// The answer.
    ///
    /// # Panics
    /// When the order failed, or takes too long.
    #[must_use]
    pub fn wait(self) -> Value {
        let answer = self.answer.recv_timeout(LIMIT);
        let answer = answer.unwrap_or_else(|_| panic!("{}: no answer", self.what));
        let failed = &answer["failed"];
        assert!(failed.is_null(), "{}: {failed}", self.what);
        answer
    }
}

/// A record that is to be sent; what is left out the client chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct New {
    /// Its key.
    pub key: Option<String>,
    /// Its value.
    pub value: String,
    /// Which partition.
    pub partition: Option<i64>,
    /// Milliseconds since 1970.
    pub timestamp: Option<i64>,
    /// Its headers.
    pub headers: Vec<(&'static str, String)>,
}

impl New {
    /// One that has only a value.
    #[must_use]
    pub fn of(value: impl Into<String>) -> Self {
        Self {
            value: value.into(),
            ..Self::default()
        }
    }

    /// The same with this header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same with this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same in this partition.
    #[must_use]
    pub fn partition(mut self, partition: i64) -> Self {
        self.partition = Some(partition);
        self
    }

    /// As orders have it.
    #[must_use]
    pub fn json(&self) -> Value {
        let headers: BTreeMap<_, _> = self.headers.iter().cloned().collect();
        let mut json = json!({"value": self.value, "headers": headers});
        let more = [
            ("key", self.key.clone().map(Value::from)),
            ("partition", self.partition.map(Value::from)),
            ("timestamp", self.timestamp.map(Value::from)),
        ];
        for (name, value) in more {
            if let Some(value) = value {
                json[name] = value;
            }
        }
        json
    }
}

/// What became of a record that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is there. Where, is not always told.
    There {
        /// It was sent twice, since the client did not know of the first time.
        twice: bool,
    },
    /// It is not, but for what was sent before, perhaps.
    Refused {
        /// It was sent before, and the client did not know what became of that.
        twice: bool,
        /// The protocol's name for it.
        error: String,
        /// Why.
        message: String,
    },
}

/// A record as a client got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i64,
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Option<String>,
    /// Its value.
    pub value: String,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// How often a share group handed it out, this time counted.
    pub deliveries: i64,
    /// When the client had it, in milliseconds since 1970.
    pub at: i64,
}

impl Record {
    fn of(json: &Value) -> Self {
        let number = |name: &str| json[name].as_i64().unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let headers = json["headers"].as_object().into_iter().flatten();
        Self {
            topic: text(&json["topic"]).unwrap_or_default(),
            partition: number("partition"),
            offset: number("offset"),
            key: text(&json["key"]),
            value: text(&json["value"]).unwrap_or_default(),
            headers: headers
                .map(|(name, value)| (name.clone(), text(value).unwrap_or_default()))
                .collect(),
            timestamp: number("timestamp"),
            deliveries: number("deliveries"),
            at: number("at"),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> (i64, i64) {
        (self.partition, self.offset)
    }

    /// A header that it must have.
    ///
    /// # Panics
    /// When it has not.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.unwrap_or_else(|| panic!("{self:?} has no header {name}"))
    }
}

/// What a member says of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is done.
    Accept,
    /// Somebody may try again.
    Release,
    /// Nobody shall try again.
    Reject,
    /// It is still being worked on.
    Renew,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Release => "release",
            Self::Reject => "reject",
            Self::Renew => "renew",
        }
    }
}

impl Puppet {
    /// Sends records by the client of this name, and says what became of each. With `single` each is a batch by itself.
    pub fn produce(&self, client: &str, topic: &str, records: &[New], single: bool) -> Vec<Sent> {
        let records: Vec<_> = records.iter().map(New::json).collect();
        let answer = self.ask(json!({
            "do": "produce", "as": client, "topic": topic, "records": records, "single": single,
        }));
        let results = answer["results"].as_array().into_iter().flatten();
        let sent: Vec<_> = results
            .map(|one| match one["error"].as_str() {
                None => Sent::There {
                    twice: one["twice"] == true,
                },
                Some(error) => Sent::Refused {
                    twice: one["twice"] == true,
                    error: error.to_owned(),
                    message: one["message"].as_str().unwrap_or_default().to_owned(),
                },
            })
            .collect();
        assert_eq!(sent.len(), records.len(), "{}: {answer}", self.name);
        sent
    }

    fn polled(&self, order: &str, client: &str) -> Vec<Record> {
        let answer = self.ask(json!({"do": order, "as": client, "ms": POLL_MS}));
        let records = answer["records"].as_array().into_iter().flatten();
        records.map(Record::of).collect()
    }
}

/// A consumer without a group, which reads a topic from its beginning.
#[derive(Debug)]
pub struct Reader<'a> {
    puppet: &'a Puppet,
    client: String,
}

impl<'a> Reader<'a> {
    /// Begins to read; `words` are added to the order.
    pub fn open(puppet: &'a Puppet, topic: &str, partitions: usize, words: &Value) -> Self {
        let client = format!("{topic}-reader-{}", puppet.orders.load(Ordering::Relaxed));
        let mut order =
            json!({"do": "read-open", "as": client, "topic": topic, "partitions": partitions});
        for (name, value) in words.as_object().into_iter().flatten() {
            order[name] = value.clone();
        }
        puppet.ask(order);
        Self { puppet, client }
    }

    /// What has come.
    #[must_use]
    pub fn poll(&self) -> Vec<Record> {
        self.puppet.polled("read-poll", &self.client)
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.puppet
                .ask(json!({"do": "read-close", "as": self.client}));
        }
    }
}

/// A member of a share group, which acknowledges each record by itself.
#[derive(Debug)]
pub struct Member<'a> {
    /// Whose it is.
    pub puppet: &'a Puppet,
    client: String,
}

impl<'a> Member<'a> {
    /// Joins a group; with `credit` so many records are out with it at most.
    #[must_use]
    pub fn open(puppet: &'a Puppet, group: &str, topic: &str, credit: Option<u32>) -> Self {
        let client = format!("{group}-{}", puppet.name);
        let mut order = json!({
            "do": "share-open", "as": client, "group": group, "topics": [topic],
        });
        if let Some(credit) = credit {
            order["credit"] = credit.into();
        }
        puppet.ask(order);
        Self { puppet, client }
    }

    /// What it was handed out. All that it had before must be settled.
    #[must_use]
    pub fn poll(&self) -> Vec<Record> {
        self.puppet.polled("share-poll", &self.client)
    }

    /// Says what became of records, and returns of each whether that is certain to be stored.
    #[must_use]
    pub fn settle<'r>(&self, said: impl IntoIterator<Item = (&'r Record, Kind)>) -> Vec<bool> {
        let records: Vec<_> = said
            .into_iter()
            .map(|(record, kind)| {
                json!({
                    "topic": record.topic, "partition": record.partition, "offset": record.offset,
                    "kind": kind.word(),
                })
            })
            .collect();
        if records.is_empty() {
            return Vec::new();
        }
        let order = json!({"do": "share-settle", "as": self.client, "records": records});
        let answer = self.puppet.ask(order);
        let stored = answer["stored"].as_array().into_iter().flatten();
        let stored: Vec<_> = stored.map(|one| *one == true).collect();
        assert_eq!(stored.len(), records.len(), "{answer}");
        stored
    }

    /// How many may be out from here on. Only `grpc_puppet.py` knows of it.
    pub fn credit(&self, messages: u32) {
        self.puppet
            .ask(json!({"do": "share-credit", "as": self.client, "credit": messages}));
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.puppet
                .ask(json!({"do": "share-close", "as": self.client}));
        }
    }
}
