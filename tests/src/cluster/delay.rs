//! A TCP proxy that hands on everything, some time later: what a long way is like where the kernel cannot make one.
//!
//! It stands where connections arrive. Those that are new are redirected to it by iptables; those that stood are reset.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::network::{Network, Node};
use crate::lock::lock;

/// Bytes that are read at once.
const PIECE_BYTES: usize = 64 << 10;

/// Pieces on their way in one direction of a connection: at most 16 MiB, far more than brokers have in flight.
const PIECES_MAX: usize = 256;

/// A proxy in front of some ports of a node; it ends, and its connections with it, when it is dropped.
#[derive(Debug)]
pub(super) struct Delay {
    connections: Arc<Mutex<Connections>>,
}

#[derive(Debug, Default)]
struct Connections {
    is_over: bool,
    open: Vec<TcpStream>,
    listening: Vec<TcpListener>,
}

impl Delay {
    /// Lets everything that arrives at these ports of a node, and what goes back, take `later` longer.
    ///
    /// # Panics
    /// When it cannot.
    pub(super) fn start(network: &Network, node: Node, ports: &[u16], later: Duration) -> Self {
        let connections = Arc::new(Mutex::new(Connections::default()));
        for port in ports {
            let target = SocketAddr::new(node.address().parse().expect("an address"), *port);
            let listening = network.within(node, || {
                let listener =
                    TcpListener::bind((node.address(), 0)).expect("a port for the proxy");
                let (again, connections) = (listener.try_clone(), Arc::clone(&connections));
                // It stays within the node, and so do the connections that it makes.
                thread::spawn(move || serve(&listener, target, later, &connections));
                again.expect("a second handle")
            });
            let address = listening.local_addr().expect("its address");
            lock(&connections).listening.push(listening);
            let (from, to) = (port.to_string(), address.port().to_string());
            let arriving = ["-i", "eth0", "-p", "tcp", "--dport", &from];
            network.filter(
                node,
                &[
                    &["-t", "nat", "-A", "PREROUTING"],
                    &arriving[..],
                    &["-j", "REDIRECT", "--to-ports", &to],
                ]
                .concat(),
            );
            network.filter(
                node,
                &[
                    &["-A", "INPUT"],
                    &arriving[..],
                    &["-j", "REJECT", "--reject-with", "tcp-reset"],
                ]
                .concat(),
            );
        }
        Self { connections }
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        let mut connections = lock(&self.connections);
        connections.is_over = true;
        for open in connections.open.drain(..) {
            let _ = open.shutdown(Shutdown::Both);
        }
        for listening in connections.listening.drain(..) {
            let _ = rustix::net::shutdown(&listening, rustix::net::Shutdown::Both);
        }
    }
}

/// Takes connections until the listener is shut down.
fn serve(
    listener: &TcpListener,
    target: SocketAddr,
    later: Duration,
    connections: &Mutex<Connections>,
) {
    for near in listener.incoming() {
        let Ok(near) = near else { return };
        // A target that refuses is refused: the connection ends.
        let Ok(far) = TcpStream::connect(target) else {
            continue;
        };
        let mut known = lock(connections);
        if known.is_over {
            return;
        }
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let (Ok(near_again), Ok(far_again)) = (near.try_clone(), far.try_clone()) else {
            continue;
        };
        let (Ok(near_known), Ok(far_known)) = (near.try_clone(), far.try_clone()) else {
            continue;
        };
        known.open.extend([near_known, far_known]);
        pass_on(near, far_again, later);
        pass_on(far, near_again, later);
    }
}

/// Passes on what comes from one side, in threads that end with the connection.
fn pass_on(mut from: TcpStream, to: TcpStream, later: Duration) {
    let (sender, pieces) = sync_channel(PIECES_MAX);
    thread::spawn(move || {
        let _ = take(&mut from, &sender, later);
    });
    thread::spawn(move || {
        let _ = hand_on(&to, &pieces);
        // The end comes as late as everything else.
        let _ = to.shutdown(Shutdown::Both);
    });
}

type Piece = (Instant, Vec<u8>);

fn take(from: &mut TcpStream, sender: &SyncSender<Piece>, later: Duration) -> io::Result<()> {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let read = from.read(&mut buffer)?;
        let piece = (Instant::now() + later, buffer[..read].to_vec());
        if read == 0 || sender.send(piece).is_err() {
            return Ok(());
        }
    }
}

fn hand_on(mut to: &TcpStream, pieces: &Receiver<Piece>) -> io::Result<()> {
    for (due, piece) in pieces {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        to.write_all(&piece)?;
    }
    Ok(())
}
