//! Where calls to the disk run: never on a network thread in production, always on the one thread of a simulation.

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
    pub async fn run<T, W>(self, work: W) -> T
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        match self {
            Self::Inline => work(),
            Self::Pool => match tokio::task::spawn_blocking(work).await {
                Ok(done) => done,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // The runtime is being shut down, and this task with it.
                Err(_) => std::future::pending().await,
            },
        }
    }
}
