//! A client outside the pod network speaks TLS by a node port: with a certificate of the cluster's own authority, then with one that a person
//! brought. Nobody is restarted for it, and who was connected before reads on.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Instant, SystemTime};

use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::Api;
use weir_tests::wait;
use weir_tls::{Due, Held};

use crate::listeners::{Outside, addressed, manifest};
use crate::stage::{Stage, restarts};
use crate::watching::LIMIT;

#[tokio::test]
async fn clients_outside_speak_tls_and_the_certificate_changes_under_them() {
    let stage = Stage::open("tls").await;
    let node = node(&stage).await;
    // Every node has the port, so that the address is known before the pod is.
    let listener = |tls: &str| {
        let lines = format!(
            "  listeners:\n    - name: outside\n      port: 9100\n      type: nodePort\n      tls: {{{tls}}}\n      \
             brokers: [{{id: 0, advertisedHost: {node}}}]\n"
        );
        manifest(1, &lines)
    };
    stage.apply(&listener(""));
    stage.cluster_ready("shop").await;
    stage.topic("shop", "flights", 1).await;
    let before = restarts(&stage.brokers("shop").await);
    let bootstrap = addressed(&stage, 1).await.bootstrap;
    let bootstrap = bootstrap.expect("somewhere to begin");
    let files = tempfile::tempdir().expect("a folder");
    let published = stage.api::<ConfigMap>().get("shop-ca-cert").await;
    let published = published.expect("the authority's certificate is published");
    let ours = files.path().join("ours.crt");
    let text = published.data.unwrap_or_default().remove("ca.crt");
    fs::write(&ours, text.expect("it is in ca.crt")).expect("written");
    let theirs = files.path().join("theirs.crt");

    let outside = Outside::open();
    let client = Client { outside, bootstrap };
    let began = Instant::now();
    wait::until("the listener answers over TLS", LIMIT, || {
        client.is_answered(&ours).then_some(())
    });
    println!(
        "  answered over TLS after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    assert!(!client.is_answered_plain(), "and in no other way");
    let standing = Standing::open(&client, &ours);
    client.write(&ours, "before");
    assert_eq!(standing.next(), "before");

    let (authority, secret) = brought(&node);
    fs::write(&theirs, authority).expect("written");
    stage.apply(&secret);
    stage.apply(&listener("certificateSecret: brought"));
    let began = Instant::now();
    wait::until("the other certificate is shown", LIMIT, || {
        client.is_answered(&theirs).then_some(())
    });
    println!(
        "  the other certificate is shown after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    assert!(
        !client.is_answered(&ours),
        "who trusts the cluster's authority alone does not trust that one"
    );
    client.write(&theirs, "after");
    assert_eq!(standing.next(), "after", "who was connected reads on");
    drop(standing);
    assert_eq!(
        restarts(&stage.brokers("shop").await),
        before,
        "nobody was restarted"
    );
    stage.close().await;
}

/// An address at which clients reach some node.
pub(crate) async fn node(stage: &Stage) -> String {
    let nodes: Api<Node> = Api::all(stage.client.clone());
    let nodes = nodes.list(&Default::default()).await;
    let addresses = nodes
        .expect("nodes are listed")
        .items
        .into_iter()
        .filter_map(|node| node.status?.addresses)
        .flatten();
    let mut inside = addresses.filter(|address| address.type_ == "InternalIP");
    inside.next().expect("a node has an address").address
}

/// Another authority's certificate, and the manifest of a Secret with one that it issued.
fn brought(host: &str) -> (String, String) {
    let mut held = Held::default();
    let due = [
        Due::Authority,
        Due::Listener {
            name: "outside".into(),
            hosts: [host.to_owned()].into(),
        },
    ];
    held.issue("elsewhere", &due, SystemTime::now())
        .expect("certificates are made");
    let authority = held.authority.expect("one was made").certificate;
    let pair = held.listeners.remove("outside").expect("one was made");
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "brought"}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": pair.certificate, "tls.key": pair.key},
    });
    (authority, secret.to_string())
}

/// kcat outside the pod network.
struct Client {
    outside: Outside,
    bootstrap: String,
}

impl Client {
    /// Over TLS, trusting this authority for the names that brokers have.
    fn kcat(&self, authority: &Path) -> Command {
        let mut kcat = self.outside.clients.kcat();
        kcat.args(["-b", &self.bootstrap, "-X", "log_level=2"])
            .args(["-X", "security.protocol=ssl"])
            .args(["-X", "ssl.endpoint.identification.algorithm=https"])
            .args(["-X", &format!("ssl.ca.location={}", authority.display())]);
        kcat
    }

    fn is_answered(&self, authority: &Path) -> bool {
        answers(self.kcat(authority))
    }

    fn is_answered_plain(&self) -> bool {
        let mut kcat = self.outside.clients.kcat();
        kcat.args(["-b", &self.bootstrap, "-X", "log_level=2"]);
        answers(kcat)
    }

    fn write(&self, authority: &Path, value: &str) {
        let mut kcat = self.kcat(authority);
        kcat.args(["-P", "-t", "flights"]).stdin(Stdio::piped());
        let mut writes = kcat.spawn().expect("kcat runs");
        let input = writes.stdin.take().expect("piped");
        { input }
            .write_all(value.as_bytes())
            .expect("kcat takes what it is to write");
        assert!(
            writes.wait().expect("it ends").success(),
            "{value} is written"
        );
    }
}

/// A consumer that stays connected; ended when dropped.
struct Standing {
    process: Child,
    values: Receiver<String>,
}

impl Standing {
    fn open(client: &Client, authority: &Path) -> Self {
        let mut kcat = client.kcat(authority);
        kcat.args(["-C", "-q", "-u", "-t", "flights", "-o", "beginning"]);
        let mut process = kcat
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("kcat runs");
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let (told, values) = mpsc::channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if told.send(line).is_err() {
                    return;
                }
            }
        });
        Self { process, values }
    }

    fn next(&self) -> String {
        self.values.recv_timeout(LIMIT).expect("another value")
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether brokers tell this client of themselves.
fn answers(mut kcat: Command) -> bool {
    let asked = kcat.args(["-L", "-m", "5"]).stdin(Stdio::null()).output();
    asked.expect("kcat runs").status.success()
}
