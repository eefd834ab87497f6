//! Where calls to the disk run: never on a network thread in production, always on the one thread of a simulation.

use std::io;

/// Where calls that wait for the disk run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Blocking {
    /// On tokio's pool for blocking work.
    #[default]
    Pool,
    /// Where they are made: for a simulation, whose disk does not wait.
    Inline,
}

impl Blocking {
    /// Runs `work` and waits for it.
    pub(crate) async fn run<T, W>(self, work: W) -> io::Result<T>
    where
        T: Send + 'static,
        W: FnOnce() -> io::Result<T> + Send + 'static,
    {
        match self {
            Self::Inline => work(),
            Self::Pool => match tokio::task::spawn_blocking(work).await {
                Ok(result) => result,
                Err(error) => Err(io::Error::other(error)),
            },
        }
    }
}
