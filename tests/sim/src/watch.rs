//! What a person who replays a seed is shown, and panics, wherever they happen.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::network::HostId;

/// Whether what happens is said.
static SPEAKS: AtomicBool = AtomicBool::new(false);

thread_local! {
    static AT: Cell<(u64, Option<HostId>)> = const { Cell::new((0, None)) };
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// A life begins on this thread.
pub fn begin() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let (at, node) = AT.get();
            let what = format!("panic at {at} ms on {node:?}: {panic}");
            say(&what);
            PANICS.with_borrow_mut(|panics| panics.push(what));
        }));
    });
    PANICS.with_borrow_mut(Vec::clear);
}

/// Events of brokers, and faults, are said on standard error from here on.
pub fn speak(filter: &str) {
    SPEAKS.store(true, Ordering::Relaxed);
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_timer(LifeTime)
        .with_ansi(false)
        .finish();
    // Once in a process.
    let _ = tracing_subscriber::util::SubscriberInitExt::try_init(subscriber);
}

/// Who lives now, and when it is.
pub fn at(now_ms: u64, node: Option<HostId>) {
    AT.set((now_ms, node));
}

/// Says what the life itself does.
pub fn say(what: &str) {
    if SPEAKS.load(Ordering::Relaxed) {
        let (at, _) = AT.get();
        eprintln!("{at:>7} ----- {what}");
    }
}

/// The panics since the last time.
#[must_use]
pub fn panics() -> Vec<String> {
    PANICS.with_borrow_mut(std::mem::take)
}

struct LifeTime;

impl FormatTime for LifeTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let (at, node) = AT.get();
        match node {
            Some(node) => write!(writer, "{at:>7} h{node}"),
            None => write!(writer, "{at:>7} --"),
        }
    }
}
