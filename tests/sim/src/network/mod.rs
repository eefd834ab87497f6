//! A network in memory: hosts, listeners, connections, and what goes wrong between them.
//!
//! It behaves like TCP seen from programs. What is written arrives in order, after a delay that is drawn for each piece; a
//! direction that is cut delivers nothing until it is mended, and then delivers what it held, unless that took so long
//! that the sender gave up. A process that dies is noticed by its peers (its kernel resets its connections); a host without
//! power is silent until it is back. Nothing arrives in the millisecond in which it was sent: so all nodes can live through
//! that millisecond one after the other (`node`).

mod socket;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;

pub use socket::{HostNet, SimListener, SimSocket};

use crate::broker::GRPC_PORT;
use crate::random::Random;
use crate::trace::Trace;

/// What may be under way in one direction: a socket's buffers.
const WINDOW_BYTES: usize = 256 << 10;

/// How long a sender tries to get something across before the connection is broken.
const GIVE_UP_MS: u64 = 15_000;

/// A machine on the network: brokers have their ids, clients the numbers from [`FIRST_CLIENT`] on.
pub type HostId = u16;

/// The first client.
pub const FIRST_CLIENT: HostId = 100;

/// The name of a host.
#[must_use]
pub fn host_name(host: HostId) -> String {
    format!("h{host}")
}

fn host_of(name: &str) -> Option<HostId> {
    name.strip_prefix('h')?.parse().ok()
}

fn address(host: HostId, port: u16) -> SocketAddr {
    let [high, low] = host.to_be_bytes();
    ([10, 0, high, low], port).into()
}

/// The network. Clones are the same one.
#[derive(Clone)]
pub struct Net(Arc<Mutex<State>>);

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Net")
    }
}

struct State {
    now_ms: u64,
    random: Random,
    trace: Trace,
    listeners: BTreeMap<(HostId, u16), Port>,
    /// Hosts without power.
    dark: BTreeSet<HostId>,
    conns: BTreeMap<u64, Conn>,
    next_conn: u64,
    /// What arrives when, in which connection and from which of its ends.
    due: BTreeSet<(u64, u64, usize)>,
    /// Directions, from and to, that deliver nothing.
    cuts: BTreeSet<(HostId, HostId)>,
    /// What a direction's delay is longer by, at most.
    slow_ms: BTreeMap<(HostId, HostId), u64>,
    delay_max_ms: u64,
}

#[derive(Default)]
struct Port {
    backlog: VecDeque<u64>,
    waker: Option<Waker>,
}

/// A connection; its end 0 is the one that dialled.
struct Conn {
    port: u16,
    ends: [End; 2],
}

struct End {
    host: HostId,
    /// What this end has sent and the other has not got, with the time at which it is due.
    sent: VecDeque<(u64, Piece)>,
    /// Since when the first of `sent` is overdue because the direction is cut.
    held_since: Option<u64>,
    sent_bytes: usize,
    /// What has arrived here and was not read.
    inbox: VecDeque<Bytes>,
    inbox_bytes: usize,
    established: bool,
    /// The other end sends no more.
    finished: bool,
    broken: bool,
    /// The program has let go of this end, or has ended.
    gone: bool,
    /// The host lost power with this end open: it knows nothing of it when it is back.
    forgotten: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

enum Piece {
    Syn,
    Accepted,
    Data(Bytes),
    Fin,
    Reset,
}

impl End {
    fn of(host: HostId) -> Self {
        Self {
            host,
            sent: VecDeque::new(),
            held_since: None,
            sent_bytes: 0,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            established: false,
            finished: false,
            broken: false,
            gone: false,
            forgotten: false,
            reader: None,
            writer: None,
        }
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()]
            .into_iter()
            .flatten()
        {
            waker.wake();
        }
    }

    fn break_off(&mut self) {
        self.broken = true;
        self.inbox.clear();
        self.inbox_bytes = 0;
        self.sent.clear();
        self.sent_bytes = 0;
        self.wake();
    }
}

impl Net {
    /// A network without hosts, on which pieces take 1 to `delay_max_ms` milliseconds.
    #[must_use]
    pub fn new(random: Random, delay_max_ms: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            now_ms: 0,
            random,
            trace: Trace::default(),
            listeners: BTreeMap::new(),
            dark: BTreeSet::new(),
            conns: BTreeMap::new(),
            next_conn: 0,
            due: BTreeSet::new(),
            cuts: BTreeSet::new(),
            slow_ms: BTreeMap::new(),
            delay_max_ms,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time: milliseconds since the life began.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.lock().now_ms
    }

    /// Moves the time on and delivers what is due.
    pub fn advance_to(&self, now_ms: u64) {
        let mut state = self.lock();
        state.now_ms = now_ms;
        while let Some(&(due, conn, from)) = state.due.first()
            && due <= now_ms
        {
            state.due.pop_first();
            state.deliver(conn, from);
        }
    }

    /// Cuts one direction.
    pub fn cut(&self, from: HostId, to: HostId) {
        self.lock().cuts.insert((from, to));
    }

    /// Mends all that is cut or slow.
    pub fn mend(&self) {
        let mut state = self.lock();
        state.cuts.clear();
        state.slow_ms.clear();
        let held: Vec<(u64, usize)> = state
            .conns
            .iter()
            .flat_map(|(id, conn)| (0..2).map(move |end| (*id, end, &conn.ends[end])))
            .filter(|(.., end)| end.held_since.is_some())
            .map(|(id, from, _)| (id, from))
            .collect();
        for (id, from) in held {
            let due = state.now_ms + state.random.within(1..200);
            if let Some(conn) = state.conns.get_mut(&id) {
                conn.ends[from].held_since = None;
                state.due.insert((due, id, from));
            }
        }
    }

    /// Makes one direction slow.
    pub fn slow(&self, from: HostId, to: HostId, ms: u64) {
        self.lock().slow_ms.insert((from, to), ms);
    }

    /// Directions that are cut.
    #[must_use]
    pub fn cuts(&self) -> usize {
        self.lock().cuts.len()
    }

    /// The host's process ended: its kernel resets what was open.
    pub fn process_ended(&self, host: HostId) {
        let mut state = self.lock();
        state.listeners.retain(|(of, _), _| *of != host);
        for id in state.conns.keys().copied().collect::<Vec<_>>() {
            for end in 0..2 {
                state.end_of_process(id, end, host, true);
            }
        }
    }

    /// The host lost power.
    pub fn power_lost(&self, host: HostId) {
        let mut state = self.lock();
        state.dark.insert(host);
        state.listeners.retain(|(of, _), _| *of != host);
        for id in state.conns.keys().copied().collect::<Vec<_>>() {
            for end in 0..2 {
                state.end_of_process(id, end, host, false);
            }
        }
    }

    /// The host has power again.
    pub fn power_back(&self, host: HostId) {
        self.lock().dark.remove(&host);
    }

    /// Notes an event of the life.
    pub fn note(&self, what: &str, numbers: &[u64]) {
        let mut state = self.lock();
        let now_ms = state.now_ms;
        state.trace.add(what, &[now_ms]);
        state.trace.add("", numbers);
    }

    /// All that happened.
    #[must_use]
    pub fn trace(&self) -> Trace {
        self.lock().trace.clone()
    }
}

impl State {
    fn end_of_process(&mut self, id: u64, end: usize, host: HostId, says_so: bool) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let this = &mut conn.ends[end];
        if this.host != host || this.gone {
            return;
        }
        this.gone = true;
        this.forgotten = !says_so;
        this.break_off();
        if says_so {
            self.send(id, end, Piece::Reset);
        }
        self.tidy(id);
    }

    fn send(&mut self, id: u64, from: usize, piece: Piece) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let (source, target) = (conn.ends[from].host, conn.ends[1 - from].host);
        let slow = self.slow_ms.get(&(source, target)).copied().unwrap_or(0);
        // Always drawn, so that a slow direction does not move everything else.
        let (base, more) = (self.random.draw(), self.random.draw());
        let delay = 1 + base % self.delay_max_ms + more % (slow + 1);
        let end = &mut conn.ends[from];
        let after = end.sent.back().map_or(0, |(due, _)| *due);
        let due = (self.now_ms + delay).max(after);
        if let Piece::Data(bytes) = &piece {
            end.sent_bytes += bytes.len();
        }
        end.sent.push_back((due, piece));
        if end.sent.len() == 1 {
            self.due.insert((due, id, from));
        }
    }

    /// Delivers what one end of a connection has sent and is due.
    fn deliver(&mut self, id: u64, from: usize) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let (source, target) = (conn.ends[from].host, conn.ends[1 - from].host);
        if self.cuts.contains(&(source, target)) {
            let sender = &mut conn.ends[from];
            let since = *sender.held_since.get_or_insert(self.now_ms);
            if self.now_ms >= since + GIVE_UP_MS {
                sender.break_off();
                self.trace.add("given up", &[self.now_ms, id]);
                self.tidy(id);
            } else {
                self.due.insert((since + GIVE_UP_MS, id, from));
            }
            return;
        }
        let sender = &mut conn.ends[from];
        sender.held_since = None;
        let Some((due, _)) = sender.sent.front() else {
            return;
        };
        if *due > self.now_ms {
            let due = *due;
            self.due.insert((due, id, from));
            return;
        }
        let Some((_, piece)) = sender.sent.pop_front() else {
            return;
        };
        if let Some((due, _)) = sender.sent.front() {
            let next = (*due).max(self.now_ms);
            self.due.insert((next, id, from));
        }
        self.arrive(id, from, piece);
        self.tidy(id);
    }

    fn arrive(&mut self, id: u64, from: usize, piece: Piece) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let to = 1 - from;
        let (port, target) = (conn.port, conn.ends[to].host);
        // What HTTP/2 says has the date in it, as this machine's clock shows it.
        let is_dated =
            port == GRPC_PORT || target < FIRST_CLIENT && conn.ends[from].host < FIRST_CLIENT;
        if let Piece::Data(bytes) = &piece {
            conn.ends[from].sent_bytes -= bytes.len();
            let len = if is_dated { 0 } else { bytes.len() as u64 };
            self.trace.add("data", &[self.now_ms, id, from as u64, len]);
        } else {
            let kind = match piece {
                Piece::Syn => 0,
                Piece::Accepted => 1,
                Piece::Data(_) => 2,
                Piece::Fin => 3,
                Piece::Reset => 4,
            };
            self.trace
                .add("piece", &[self.now_ms, id, from as u64, kind]);
        }
        if self.dark.contains(&target) {
            return;
        }
        if conn.ends[to].gone && !matches!(piece, Piece::Syn | Piece::Reset) {
            // Nobody is there: the kernel says so.
            if matches!(piece, Piece::Data(_)) || conn.ends[to].forgotten {
                self.send(id, to, Piece::Reset);
            }
            return;
        }
        match piece {
            Piece::Syn => match self.listeners.get_mut(&(target, port)) {
                Some(listener) => {
                    conn.ends[to].established = true;
                    listener.backlog.push_back(id);
                    if let Some(waker) = listener.waker.take() {
                        waker.wake();
                    }
                    self.send(id, to, Piece::Accepted);
                }
                None => {
                    conn.ends[to].gone = true;
                    self.send(id, to, Piece::Reset);
                }
            },
            Piece::Accepted => {
                conn.ends[to].established = true;
                conn.ends[to].wake();
            }
            Piece::Data(bytes) => {
                let end = &mut conn.ends[to];
                end.inbox_bytes += bytes.len();
                end.inbox.push_back(bytes);
                if let Some(waker) = end.reader.take() {
                    waker.wake();
                }
            }
            Piece::Fin => {
                conn.ends[to].finished = true;
                conn.ends[to].wake();
            }
            Piece::Reset => {
                conn.ends[to].break_off();
                // What it has sent meanwhile finds nobody.
                conn.ends[from].gone = true;
            }
        }
    }

    /// Forgets a connection of which nobody knows any more.
    fn tidy(&mut self, id: u64) {
        let over = self
            .conns
            .get(&id)
            .is_some_and(|conn| conn.ends.iter().all(|end| end.gone && end.sent.is_empty()));
        if over {
            self.conns.remove(&id);
        }
    }
}
