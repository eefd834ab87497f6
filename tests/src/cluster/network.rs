//! Network namespaces, one for each broker and one for the clients, joined by a bridge in a namespace of its own.
//!
//! Nothing here touches the network of the machine. Links are cut where packets arrive, by rules of iptables, so that each
//! direction can be cut by itself; a sender never learns why nobody answers.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use crate::broker::mortal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// What all names of namespaces begin with; the process that made them comes next, so that the next run finds what a killed one
/// left.
const PREFIX: &str = "weir-t";

/// Who has an address here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// A broker, by its number.
    Broker(usize),
    /// All clients.
    Clients,
}

impl Node {
    /// Its address. They are the same in every network, since no network knows of another.
    #[must_use]
    pub fn address(self) -> String {
        match self {
            Self::Broker(number) => format!("10.77.0.{}", 10 + number),
            Self::Clients => "10.77.0.2".to_owned(),
        }
    }

    fn suffix(self) -> String {
        match self {
            Self::Broker(number) => format!("b{number}"),
            Self::Clients => "clients".to_owned(),
        }
    }
}

/// The namespaces; they end with it.
#[derive(Debug)]
pub struct Network {
    nodes: Vec<Node>,
}

impl Network {
    /// Makes the namespaces of so many brokers and of clients.
    ///
    /// # Panics
    /// When this is not allowed, or a program for it is missing.
    #[must_use]
    pub fn new(brokers: usize) -> Self {
        let id = Command::new("id").arg("-u").output().expect("id runs");
        assert!(
            id.stdout.trim_ascii() == b"0",
            "this test makes network namespaces, so it needs root"
        );
        sweep();
        let nodes: Vec<Node> = (0..brokers)
            .map(Node::Broker)
            .chain([Node::Clients])
            .collect();
        let network = Self { nodes };
        let switch = name("switch");
        run(&["ip", "netns", "add", &switch]);
        inside_switch(&switch, &["link", "add", "br0", "type", "bridge"]);
        inside_switch(&switch, &["link", "set", "br0", "up"]);
        for node in &network.nodes {
            let (namespace, port) = (network.namespace(*node), node.suffix());
            run(&["ip", "netns", "add", &namespace]);
            let ip = |arguments: &[&str]| {
                run(&[&["ip", "-n", &namespace], arguments].concat());
            };
            ip(&["link", "set", "lo", "up"]);
            ip(&[
                "link", "add", "eth0", "type", "veth", "peer", "name", &port, "netns", &switch,
            ]);
            inside_switch(&switch, &["link", "set", &port, "master", "br0", "up"]);
            let address = format!("{}/24", node.address());
            ip(&["addr", "add", &address, "dev", "eth0"]);
            ip(&["link", "set", "eth0", "up"]);
        }
        network
    }

    /// The name of a node's namespace.
    #[must_use]
    pub fn namespace(&self, node: Node) -> String {
        name(&node.suffix())
    }

    /// Loses all that is sent from one node to another; what goes the other way arrives.
    ///
    /// # Panics
    /// When iptables does not take the rule.
    pub fn lose(&self, from: Node, to: Node) {
        self.filter(to, &["-A", "INPUT", "-s", &from.address(), "-j", "DROP"]);
    }

    /// Loses everything between two nodes.
    ///
    /// # Panics
    /// As [`lose`](Self::lose).
    pub fn cut(&self, one: Node, other: Node) {
        self.lose(one, other);
        self.lose(other, one);
    }

    /// Takes all rules away.
    ///
    /// # Panics
    /// When iptables does not.
    pub fn mend(&self) {
        for node in &self.nodes {
            self.filter(*node, &["-F"]);
            self.filter(*node, &["-t", "nat", "-F"]);
        }
    }

    /// A call of iptables within a node.
    pub(super) fn filter(&self, node: Node, rule: &[&str]) {
        let namespace = self.namespace(node);
        run(&[&["ip", "netns", "exec", &namespace, "iptables", "-w"], rule].concat());
    }

    /// Everybody but this node.
    pub fn others(&self, node: Node) -> impl Iterator<Item = Node> {
        self.nodes
            .clone()
            .into_iter()
            .filter(move |other| *other != node)
    }

    /// Does something in a thread that is within a node; sockets that it makes stay there.
    ///
    /// # Panics
    /// When it does.
    pub(super) fn within<T: Send>(&self, node: Node, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.namespace(node));
        let namespace = File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        thread::scope(|scope| {
            let entered = scope.spawn(|| {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("the namespace is entered");
                work()
            });
            entered.join().expect("work within a namespace")
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let switch = name("switch");
        let namespaces = self.nodes.iter().map(|node| self.namespace(*node));
        for namespace in namespaces.chain([switch]) {
            delete(&namespace);
        }
    }
}

/// The same command, within a namespace. It does not outlive the thread that starts it: clients would wait for brokers that are gone.
#[must_use]
pub fn command_within(namespace: &str, command: &Command) -> Command {
    let mut within = mortal(Path::new("ip"));
    within.args(["netns", "exec", namespace]);
    within.arg(command.get_program()).args(command.get_args());
    for (variable, value) in command.get_envs() {
        match value {
            Some(value) => within.env(variable, value),
            None => within.env_remove(variable),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        within.current_dir(folder);
    }
    within
}

fn name(suffix: &str) -> String {
    format!("{PREFIX}{}-{suffix}", std::process::id())
}

/// Removes what processes left that are no more; what runs within ended with them.
fn sweep() {
    let there: BTreeSet<String> = fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    for namespace in there {
        let maker = namespace
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('-'));
        let is_left = maker.is_some_and(|(process, _)| {
            process.parse::<u32>().is_ok() && !Path::new(&format!("/proc/{process}")).exists()
        });
        if is_left {
            delete(&namespace);
        }
    }
}

fn delete(namespace: &str) {
    // One that is not there is as good.
    let _ = Command::new("ip")
        .args(["netns", "del", namespace])
        .stderr(Stdio::null())
        .status();
}

fn inside_switch(switch: &str, arguments: &[&str]) {
    run(&[&["ip", "-n", switch], arguments].concat());
}

fn run(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", words[0]));
    assert!(
        output.status.success(),
        "{}: {}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}
