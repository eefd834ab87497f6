//! What all scenarios stand on: three brokers, the puppets, and the moment at which a broker is killed.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use weir_proto::admin::v1::TraceResponse;
use weir_proto::admin::v1::trace_request::Of;
use weir_tests::local::Local;
use weir_tests::puppet::{Member, New, Puppet, Reader, Record, Sent};
use weir_tests::random::Random;
use weir_tests::wait;

use super::admin;
use super::clients::{Client, Puppets};

/// How long anything may take. It takes seconds; machines differ.
pub(super) const LIMIT: Duration = Duration::from_secs(120);

const CLUSTER: &str = "queues";

const MANIFESTS: &str = "\
apiVersion: weir.dev/v1alpha1
kind: Cluster
metadata:
  name: queues
spec:
  replicas: 3
  storage:
    size: 1Gi
";

/// Far longer than members take, and short enough to wait for: a client that loses an answer with its connection has records out that it does not
/// know of.
const LEASE_MS: &str = "20000";

/// How long after all is well again something may still be noticed of it.
const AFTERWARDS_MS: i64 = 2_000;

#[derive(Debug)]
pub(super) struct Stage {
    // In this order: puppets end before brokers do.
    puppets: Puppets,
    local: Local,
    scenarios: usize,
    progress: Mutex<Progress>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    under_way: usize,
    killed_ms: Option<i64>,
    mended_ms: Option<i64>,
}

impl Stage {
    pub(super) fn build(scenarios: usize) -> Self {
        let local = Local::start(MANIFESTS);
        Self {
            puppets: Puppets::start(&local),
            local,
            scenarios,
            progress: Mutex::default(),
            moved: Condvar::new(),
        }
    }

    /// Kills a broker when all scenarios are under way, and waits until it is back and leads what it led before.
    pub(super) fn kill_a_broker(&self, random: &mut Random) {
        let mut progress = self.lock();
        while progress.under_way < self.scenarios {
            let waited = self.moved.wait_timeout(progress, LIMIT);
            let (next, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            assert!(
                !timeout.timed_out(),
                "not all scenarios are under way: {next:?}"
            );
            progress = next;
        }
        drop(progress);
        self.wait_for_health();
        let before = self.local.brokers();
        let victim = usize::try_from(random.between(0, before.len() as u64)).expect("small");
        self.lock().killed_ms = Some(now_ms());
        self.local.kill(&before[victim..=victim]);
        println!("  broker {victim} is killed at {}", now_ms());
        wait::until("the killed broker runs again", LIMIT, || {
            let now = self.local.brokers();
            (now.len() == before.len() && !now.contains(&before[victim])).then_some(())
        });
        self.wait_for_health();
        println!("  broker {victim} is back at {}", now_ms());
        self.lock().mended_ms = Some(now_ms());
        self.moved.notify_all();
    }

    fn wait_for_health(&self) {
        wait::until(
            "all replicas are in sync, and preferred ones lead",
            LIMIT,
            || {
                let told = self.of(Client::Java).ask(json!({"do": "health"}));
                (told["ailing"] == 0).then_some(())
            },
        );
    }

    /// A scenario is well under way: from here on a broker may be killed.
    pub(super) fn under_way(&self) {
        self.lock().under_way += 1;
        self.moved.notify_all();
    }

    /// A scenario has ended. One that failed holds up no other.
    pub(super) fn ended(&self, has_failed: bool) {
        if has_failed {
            self.under_way();
        }
    }

    /// Whether the broker was killed and all is well again.
    pub(super) fn is_mended(&self) -> bool {
        self.lock().mended_ms.is_some()
    }

    /// Waits until that is so.
    pub(super) fn wait_until_mended(&self) {
        wait::until("a broker is killed and comes back", LIMIT * 2, || {
            self.is_mended().then_some(())
        });
    }

    /// Whether leases that were given at this time, in milliseconds since 1970, may have ended with their leader by now.
    pub(super) fn leases_may_have_ended(&self, since_ms: i64) -> bool {
        let progress = self.lock();
        let is_over = |mended: i64| mended + AFTERWARDS_MS < since_ms;
        progress.killed_ms.is_some() && !progress.mended_ms.is_some_and(is_over)
    }

    /// Takes all dead letters of one partition back, and says how many there were.
    pub(super) fn redrive(&self, topic: &str, partition: usize) -> u32 {
        let (redriven, _) = self.redrive_by(topic, partition, "");
        redriven
    }

    /// Takes those back for which a condition holds. How many these were, and how many stayed.
    pub(super) fn redrive_by(&self, topic: &str, partition: usize, filter: &str) -> (u32, u32) {
        admin::redrive(&self.local, CLUSTER, topic, partition, filter)
    }

    /// What all brokers remember of messages.
    pub(super) fn trace(&self, topic: &str, of: Of) -> TraceResponse {
        admin::trace(&self.local, CLUSTER, topic, of)
    }

    pub(super) fn of(&self, client: Client) -> &Puppet {
        self.puppets.of(client)
    }

    /// Makes a topic with three replicas.
    pub(super) fn topic(&self, name: &str, partitions: usize, config: &[(&str, &str)]) {
        let config: serde_json::Map<_, _> = config
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Value::from(*value)))
            .collect();
        let order =
            json!({"do": "topic", "name": name, "partitions": partitions, "config": config});
        let told = self.of(Client::Java).ask(order);
        assert!(told["error"].is_null(), "{name}: {told}");
    }

    /// Configures a group that begins with what is there.
    pub(super) fn group(&self, name: &str, config: &[(&str, &str)]) {
        let usual = [
            ("share.auto.offset.reset", "earliest"),
            ("share.record.lock.duration.ms", LEASE_MS),
            ("share.delivery.count.limit", "10"),
        ];
        let told = self.try_group(name, &[&usual[..], config].concat());
        assert!(told["error"].is_null(), "{name}: {told}");
    }

    /// Configures a group, and says what came of it.
    pub(super) fn try_group(&self, name: &str, config: &[(&str, &str)]) -> Value {
        let config: serde_json::Map<_, _> = config
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Value::from(*value)))
            .collect();
        let order = json!({"do": "group", "name": name, "config": config});
        self.of(Client::Java).ask(order)
    }

    /// Sends records, all of which must be taken, and returns those that may be there twice.
    pub(super) fn send(&self, client: Client, topic: &str, records: &[New]) -> Vec<String> {
        let sent = self.of(client).produce(topic, topic, records, false);
        let each = records.iter().zip(sent);
        each.filter_map(|(record, sent)| match sent {
            Sent::There { twice } => twice.then(|| record.value.clone()),
            refused => panic!("{topic}: {} sent {record:?}: {refused:?}", client.name()),
        })
        .collect()
    }

    /// A member of a group.
    pub(super) fn member(
        &self,
        client: Client,
        group: &str,
        topic: &str,
        credit: Option<u32>,
    ) -> Member<'_> {
        Member::open(self.of(client), group, topic, credit)
    }

    /// Reads a topic from its beginning to what is its end now.
    pub(super) fn read(&self, client: Client, topic: &str, partitions: usize) -> Vec<Record> {
        let ends = self.ends(topic, partitions);
        let reader = Reader::open(self.of(client), topic, partitions, &Value::Null);
        let (mut all, mut reached) = (Vec::<Record>::new(), vec![0; partitions]);
        let is_at_end = |reached: &[i64]| {
            let each = reached.iter().zip(&ends);
            each.into_iter()
                .all(|(at, (start, end))| at >= end || start == end)
        };
        let found = wait::poll(LIMIT, || {
            for record in reader.poll() {
                let partition = usize::try_from(record.partition).expect("small");
                reached[partition] = record.offset + 1;
                all.push(record);
            }
            is_at_end(&reached).then_some(())
        });
        assert!(
            found.is_some(),
            "{topic}: {} read to {reached:?}, not to {ends:?}",
            client.name()
        );
        all
    }

    /// Where each partition begins and ends.
    pub(super) fn ends(&self, topic: &str, partitions: usize) -> Vec<(i64, i64)> {
        let order = json!({"do": "ends", "topic": topic, "partitions": partitions});
        let told = self.of(Client::Java).ask(order);
        let all = told["partitions"].as_array().into_iter().flatten();
        let number = |value: &Value| value.as_i64().unwrap_or_default();
        all.map(|one| (number(&one["start"]), number(&one["end"])))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time, in milliseconds since 1970: clients and brokers have the same clock here.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Values of records that every client sends, told apart by who sent them.
pub(super) fn numbered(client: Client, round: usize, count: usize) -> Vec<New> {
    let first = round * count;
    let numbers = first..first + count;
    numbers
        .map(|number| New::of(format!("{}-{number}", client.name())))
        .collect()
}

/// The number in such a value.
pub(super) fn number_of(value: &str) -> usize {
    let number = value.rsplit('-').next().and_then(|text| text.parse().ok());
    number.unwrap_or_else(|| panic!("{value:?} has no number"))
}
