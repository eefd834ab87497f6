//! One life in a process of its own, so that nothing of one is found by the next, and one that hangs can be ended.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use weir_sim::life::Verdict;

/// What a life may take here before it counts as hanging: many times what one does.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a life came to, as its process said it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) hash: String,
    pub(crate) events: u64,
    pub(crate) virtual_ms: u64,
    pub(crate) summary: String,
    pub(crate) wrong: Vec<String>,
}

/// Says what a life came to, for [`live`] on the other side.
#[must_use]
pub(crate) fn tell(verdict: &Verdict) -> String {
    let (hash, events, virtual_ms) = (verdict.hash, verdict.events, verdict.virtual_ms);
    let mut told = format!("{hash:016x} {events} {virtual_ms} {verdict}\n");
    for wrong in &verdict.wrong {
        told.push_str(&wrong.replace('\n', " "));
        told.push('\n');
    }
    told
}

/// What lives have beside what their seed says.
#[derive(Clone, Debug, Default)]
pub(crate) struct With {
    /// A defect.
    pub(crate) mutant: Option<String>,
    /// A kind of queue.
    pub(crate) queue: Option<String>,
}

impl With {
    /// As arguments of a command.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mutant = self.mutant.iter().map(|name| format!("--mutant={name}"));
        let queue = self.queue.iter().map(|name| format!("--queue={name}"));
        mutant.chain(queue).collect()
    }
}

/// Lives a seed.
#[must_use]
pub(crate) fn live(seed: u64, with: &With) -> Told {
    run(seed, with).unwrap_or_else(|error| Told {
        wrong: vec![error],
        ..Told::default()
    })
}

fn run(seed: u64, with: &With) -> Result<Told, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.arg("--tell").arg(format!("--seed={seed}"));
    command.args(with.arguments());
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let began = Instant::now();
    // What it says fits into the pipe.
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if began.elapsed() > PATIENCE => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("hangs: no end within {PATIENCE:?}"));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(error.to_string()),
        }
    };
    let mut said = String::new();
    if let Some(mut out) = child.stdout.take() {
        let _ = out.read_to_string(&mut said);
    }
    told(&said).ok_or_else(|| format!("its process ended with {status}"))
}

fn told(said: &str) -> Option<Told> {
    let mut lines = said.lines();
    let mut words = lines.next()?.splitn(4, ' ');
    Some(Told {
        hash: words.next()?.to_owned(),
        events: words.next()?.parse().ok()?,
        virtual_ms: words.next()?.parse().ok()?,
        summary: words.next()?.to_owned(),
        wrong: lines.map(str::to_owned).collect(),
    })
}
