//! What a story plays on: an operator, a namespace of its own, a cluster, and a pod with other people's clients.

use crate::operator;
use crate::shell::{attempt, run};
use crate::watching::{condition, ready, until};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Api, Client, Resource, ResourceExt};
use std::fmt::Debug;
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokio::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use weir_crds::{Cluster, ConsumerGroup, Topic};
use weir_tests::clients::Clients;
use weir_tests::given;

/// Stories are played side by side, but for those that change what all of them stand on.
static HOUSE: RwLock<()> = RwLock::const_new(());

/// Held while the operator is installed.
static INSTALLING: Mutex<()> = Mutex::const_new(());

/// How many stages are open.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Held for as long as a story is played.
enum Place {
    Shared(#[expect(dead_code, reason = "held")] RwLockReadGuard<'static, ()>),
    Alone(#[expect(dead_code, reason = "held")] RwLockWriteGuard<'static, ()>),
}

/// A namespace that enforces the restricted Pod Security profile.
pub(crate) struct Stage {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    /// When its turn had come.
    began: Instant,
    _place: Place,
}

impl Drop for Stage {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Stage {
    /// Installs the operator if need be, and makes the namespace anew. Other stories may be played meanwhile.
    pub(crate) async fn open(story: &str) -> Self {
        Self::open_at(story, Place::Shared(HOUSE.read().await)).await
    }

    /// The same, with nothing else being played: for a story in which nodes or the operator go, or in which nothing may be written.
    pub(crate) async fn open_alone(story: &str) -> Self {
        Self::open_at(story, Place::Alone(HOUSE.write().await)).await
    }

    async fn open_at(story: &str, place: Place) -> Self {
        let client = Client::try_default()
            .await
            .expect("KUBECONFIG names a cluster");
        let installing = INSTALLING.lock().await;
        let is_first = OPEN.fetch_add(1, Ordering::SeqCst) == 0;
        let stage = Self {
            client,
            namespace: format!("weir-{story}"),
            began: Instant::now(),
            _place: place,
        };
        // Who is playing already may have installed it with values of its own.
        if is_first {
            operator::installed(&stage.client).await;
        }
        drop(installing);
        let namespace = &stage.namespace;
        run(
            "kubectl",
            &[
                "delete",
                "namespace",
                namespace,
                "--ignore-not-found",
                "--wait",
            ],
        );
        let label = "pod-security.kubernetes.io/enforce=restricted";
        run("kubectl", &["create", "namespace", namespace]);
        run("kubectl", &["label", "namespace", namespace, label]);
        stage
    }

    /// Ends the story: everything goes, in its own time.
    pub(crate) async fn close(self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces
            .delete(&self.namespace, &Default::default())
            .await
            .expect("the namespace goes");
        let (story, seconds) = (&self.namespace, self.began.elapsed().as_secs());
        println!("  {story}: {seconds} s");
    }

    /// Objects of one kind in the namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// `kubectl --namespace ... ARGUMENTS`.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        run(
            "kubectl",
            &[&["--namespace", &self.namespace], arguments].concat(),
        )
    }

    /// Changes an object as a person does: `kubectl patch`, with these fields of it as JSON.
    pub(crate) fn patch(&self, object: &str, fields: &str) {
        self.kubectl(&["patch", object, "--type=merge", "--patch", fields]);
    }

    /// `kubectl weir ...` with this on its standard input.
    pub(crate) fn weir(&self, arguments: &[&str], input: &str) -> String {
        let output = self.try_weir(arguments, input);
        assert!(
            output.status.success(),
            "kubectl weir {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The same, which may fail.
    pub(crate) fn try_weir(&self, arguments: &[&str], input: &str) -> Output {
        let program = given::operator();
        let program = program.to_str().expect("a path that is text");
        let place = ["kubectl", "--namespace", &self.namespace];
        attempt(program, &[&place, arguments].concat(), input)
    }

    /// `kubectl apply` of these manifests.
    pub(crate) fn apply(&self, manifests: &str) {
        let arguments = ["--namespace", &self.namespace, "apply", "--filename", "-"];
        let output = attempt("kubectl", &arguments, manifests);
        assert!(
            output.status.success(),
            "kubectl apply: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Applies a Cluster of so many brokers and waits until it is ready.
    pub(crate) async fn cluster(&self, name: &str, brokers: u32) -> Cluster {
        self.apply(&format!(
            "apiVersion: weir.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: {name}\n\
             spec:\n  replicas: {brokers}\n  storage:\n    size: 1Gi\n"
        ));
        self.cluster_ready(name).await
    }

    /// Waits until a Cluster is ready.
    pub(crate) async fn cluster_ready(&self, name: &str) -> Cluster {
        until(
            &self.api::<Cluster>(),
            name,
            "the Cluster is Ready",
            |cluster| {
                cluster
                    .status
                    .as_ref()
                    .is_some_and(|status| ready(cluster, &status.conditions))
            },
        )
        .await
    }

    /// Waits until a Cluster is as its newest spec says.
    pub(crate) async fn cluster_settled(&self, name: &str) -> Cluster {
        let clusters = self.api::<Cluster>();
        until(&clusters, name, "the Cluster is as wanted", |cluster| {
            let Some(status) = &cluster.status else {
                return false;
            };
            let rests = condition(&status.conditions, "Reconciling");
            status.observed_generation == cluster.metadata.generation
                && rests.is_some_and(|rests| rests.reason == "Converged")
                && ready(cluster, &status.conditions)
        })
        .await
    }

    /// Applies a Topic and waits until it is ready.
    pub(crate) async fn topic(&self, cluster: &str, name: &str, partitions: u32) {
        self.apply(&topic(cluster, name, partitions));
        self.topic_ready(name).await;
    }

    /// Waits until a Topic is ready.
    pub(crate) async fn topic_ready(&self, name: &str) -> Topic {
        until(&self.api::<Topic>(), name, "the Topic is Ready", |topic| {
            topic
                .status
                .as_ref()
                .is_some_and(|status| ready(topic, &status.conditions))
        })
        .await
    }

    /// Waits until a ConsumerGroup is ready.
    pub(crate) async fn group_ready(&self, name: &str) -> ConsumerGroup {
        until(
            &self.api::<ConsumerGroup>(),
            name,
            "the ConsumerGroup is Ready",
            |group| {
                group
                    .status
                    .as_ref()
                    .is_some_and(|status| ready(group, &status.conditions))
            },
        )
        .await
    }

    /// Pods of a Cluster's brokers.
    pub(crate) async fn brokers(&self, cluster: &str) -> Vec<Pod> {
        let selector =
            format!("app.kubernetes.io/instance={cluster},app.kubernetes.io/component=broker");
        let parameters = kube::api::ListParams::default().labels(&selector);
        self.api::<Pod>()
            .list(&parameters)
            .await
            .expect("pods are listed")
            .items
    }

    /// Waits until a pod is ready and is not the one with this uid.
    pub(crate) async fn pod_ready(&self, name: &str, not: &str) -> Pod {
        until(&self.api::<Pod>(), name, "the pod is Ready", |pod| {
            pod.uid().as_deref() != Some(not) && pod_is_ready(pod)
        })
        .await
    }

    /// A pod with kcat and confluent-kafka, beside the brokers.
    pub(crate) async fn clients(&self) -> Clients {
        self.clients_in("clients", CLIENTS).await
    }

    /// The same in a pod of this name on this node.
    pub(crate) async fn clients_on(&self, name: &str, node: &str) -> Clients {
        let pod = CLIENTS
            .replacen("name: clients", &format!("name: {name}"), 1)
            .replacen("spec:", &format!("spec:\n  nodeName: {node}"), 1);
        self.clients_in(name, &pod).await
    }

    /// The same, entered past Kubernetes: they go on while its API server is away. Only on nodes that are this machine's.
    pub(crate) async fn clients_within(&self, name: &str, node: &str) -> Clients {
        self.clients_on(name, node).await;
        let pod = self.pod_ready(name, "").await;
        let uid = pod.uid().unwrap_or_default();
        let process = operator::processes_of(&uid, "sleep").pop();
        let process = process.expect("the pod's container runs on this machine");
        Clients::Container { process }
    }

    async fn clients_in(&self, name: &str, manifest: &str) -> Clients {
        self.apply(manifest);
        self.pod_ready(name, "").await;
        Clients::Pod {
            namespace: self.namespace.clone(),
            name: name.to_owned(),
        }
    }

    /// The address that clients inside Kubernetes bootstrap from.
    pub(crate) fn bootstrap(&self, cluster: &str) -> String {
        format!("{cluster}-bootstrap.{}.svc:9092", self.namespace)
    }
}

/// Says that a story is not played here. `cargo xtask test` counts the line, since the test itself cannot but pass.
pub(crate) fn skipped(story: &str, why: &str) {
    println!("skipped: {story}: {why}");
}

/// Whether a pod's `Ready` condition is true.
pub(crate) fn pod_is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .filter_map(|status| status.conditions.as_ref())
        .flatten();
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// How often each pod's container was restarted, by pod.
pub(crate) fn restarts(pods: &[Pod]) -> Vec<(String, String, i32)> {
    let count = |pod: &Pod| -> i32 {
        let containers = pod
            .status
            .iter()
            .filter_map(|status| status.container_statuses.as_ref())
            .flatten();
        containers.map(|container| container.restart_count).sum()
    };
    pods.iter()
        .map(|pod| (pod.name_any(), pod.uid().unwrap_or_default(), count(pod)))
        .collect()
}

/// Fails when others run than then, or one of them is on its way out.
pub(crate) fn nobody_goes(pods: &[Pod], before: &[(String, String, i32)], when: &str) {
    assert_eq!(restarts(pods), before, "{when}");
    for pod in pods {
        let deleted = &pod.metadata.deletion_timestamp;
        assert_eq!(deleted, &None, "{when}: {}", pod.name_any());
    }
}

/// The manifest of a Topic.
pub(crate) fn topic(cluster: &str, name: &str, partitions: u32) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Topic\nmetadata:\n  name: {name}\n\
         spec:\n  clusterRef:\n    name: {cluster}\n  partitions: {partitions}\n"
    )
}

const CLIENTS: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: clients
spec:
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  # A node that is away for a while does not lose its clients.
  tolerations:
    - operator: Exists
  # With a node one of two name servers may be gone: what is asked of it is asked again after a second, not after five.
  dnsConfig:
    options:
      - name: timeout
        value: '1'
      - name: attempts
        value: '5'
  securityContext:
    runAsNonRoot: true
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: clients
      image: weir-test-clients:1
      imagePullPolicy: IfNotPresent
      env:
        - name: PYTHONPATH
          value: /packages
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
";

impl Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.namespace)
    }
}
