//! Leader election by a `Lease`.
//!
//! Every write carries the `resourceVersion` that was read, so that of two who try only one succeeds. Whether another's lease has run
//! out is judged by how long it has not changed on this process's own monotonic clock, never by comparing clocks. A leader that cannot renew stops
//! before others may take over, and every destructive step reads the lease once more ([`Lease::still_held`]).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long others wait for a holder that is silent.
const DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for this long stops, well before others may begin.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between two tries.
const RETRY: Duration = Duration::from_secs(2);
/// A try to get it may take this long. What was written longer ago may have run out by the time that the answer comes.
const TRY: Duration = Duration::from_secs(5);

/// The lease is not ours any more, or nobody can say.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Another process holds it.
    #[error("the lease is held by {0}")]
    Taken(String),
    /// It could not be renewed, or read, in time.
    #[error("the lease could not be confirmed: {0}")]
    Unconfirmed(String),
}

/// One contender for the lease.
#[derive(Debug)]
pub(super) struct Lease {
    api: Api<Object>,
    name: String,
    identity: String,
    renewed: Mutex<Option<Instant>>,
}

/// What was seen of another's lease, and since when it is the same.
struct Seen {
    version: Option<String>,
    since: Instant,
}

impl Lease {
    /// A contender that holds nothing yet. `identity` is unique to this process.
    #[must_use]
    pub(super) fn new(
        api: Api<Object>,
        name: impl Into<String>,
        identity: impl Into<String>,
    ) -> Self {
        Self {
            api,
            name: name.into(),
            identity: identity.into(),
            renewed: Mutex::new(None),
        }
    }

    /// Waits until this process holds the lease.
    pub(super) async fn acquire(&self) {
        let mut seen: Option<Seen> = None;
        loop {
            match tokio::time::timeout(TRY, self.try_acquire(&mut seen)).await {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, lease = %self.name, "the lease cannot be read or written")
                }
                Err(_) => {
                    tracing::warn!(lease = %self.name, "the API server has not answered in time")
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Renews until that fails for too long or somebody else holds it.
    pub(super) async fn keep(&self) -> Lost {
        loop {
            tokio::time::sleep(RETRY).await;
            let error = match tokio::time::timeout(RETRY, self.renew()).await {
                Ok(Ok(())) => continue,
                Ok(Err(Lost::Taken(holder))) => return Lost::Taken(holder),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer in time".to_owned(),
            };
            if !self.is_fresh().await {
                return Lost::Unconfirmed(error);
            }
        }
    }

    /// Asks the API server whether the lease is still ours. Before each destructive step.
    ///
    /// # Errors
    /// When it is not, or when that cannot be found out.
    pub(super) async fn still_held(&self) -> Result<(), Lost> {
        let object = tokio::time::timeout(TRY, self.api.get(&self.name))
            .await
            .map_err(|_| Lost::Unconfirmed("no answer in time".to_owned()))?
            .map_err(|error| Lost::Unconfirmed(error.to_string()))?;
        self.check(&object)?;
        // After the answer, which may have been long under way: until then nobody else can have taken it.
        if self.is_fresh().await {
            Ok(())
        } else {
            Err(Lost::Unconfirmed("it was not renewed in time".to_owned()))
        }
    }

    /// Gives the lease up, so that another may take it at once.
    pub(super) async fn release(&self) {
        *self.renewed.lock().await = None;
        match tokio::time::timeout(TRY, self.give_up()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "the lease was not released; it runs out by itself");
            }
            Err(_) => tracing::debug!("the lease was not released in time; it runs out by itself"),
        }
    }

    async fn give_up(&self) -> Result<(), kube::Error> {
        let mut object = self.api.get(&self.name).await?;
        if self.check(&object).is_err() {
            return Ok(());
        }
        if let Some(spec) = &mut object.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        let how = PostParams::default();
        let replaced = self.api.replace(&self.name, &how, &object).await;
        replaced.map(drop)
    }

    async fn try_acquire(&self, seen: &mut Option<Seen>) -> Result<bool, kube::Error> {
        let began = Instant::now();
        let Some(mut object) = self.api.get_opt(&self.name).await? else {
            let metadata = ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            };
            let object = Object {
                metadata,
                spec: Some(self.spec(0, None)),
            };
            return self
                .written(
                    self.api.create(&PostParams::default(), &object).await,
                    began,
                )
                .await;
        };
        let spec = object.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let version = object.metadata.resource_version.clone();
        if !holder.is_empty() && holder != self.identity {
            let duration = Duration::from_secs(
                u64::try_from(spec.lease_duration_seconds.unwrap_or(15)).unwrap_or(15),
            );
            match seen {
                Some(seen) if seen.version == version => {
                    if seen.since.elapsed() < duration {
                        return Ok(false);
                    }
                }
                _ => {
                    // From now, not from when it was asked for: it may have been written since.
                    *seen = Some(Seen {
                        version,
                        since: Instant::now(),
                    });
                    return Ok(false);
                }
            }
        }
        let transitions = spec.lease_transitions.unwrap_or(0);
        let (transitions, acquired) = if holder == self.identity {
            (transitions, spec.acquire_time)
        } else {
            (transitions.saturating_add(1), None)
        };
        object.spec = Some(self.spec(transitions, acquired));
        self.written(
            self.api
                .replace(&self.name, &PostParams::default(), &object)
                .await,
            began,
        )
        .await
    }

    /// A conflict means that somebody else was faster.
    async fn written(
        &self,
        result: Result<Object, kube::Error>,
        began: Instant,
    ) -> Result<bool, kube::Error> {
        match result {
            Ok(_) => {
                *self.renewed.lock().await = Some(began);
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn renew(&self) -> Result<(), Lost> {
        let began = Instant::now();
        let unconfirmed = |error: kube::Error| Lost::Unconfirmed(error.to_string());
        let mut object = self.api.get(&self.name).await.map_err(unconfirmed)?;
        self.check(&object)?;
        if let Some(spec) = &mut object.spec {
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        // The resourceVersion that was read goes with it: nobody can have taken the lease in between.
        self.api
            .replace(&self.name, &PostParams::default(), &object)
            .await
            .map_err(unconfirmed)?;
        *self.renewed.lock().await = Some(began);
        Ok(())
    }

    fn check(&self, object: &Object) -> Result<(), Lost> {
        let holder = object
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.clone())
            .unwrap_or_default();
        if holder == self.identity {
            Ok(())
        } else {
            Err(Lost::Taken(if holder.is_empty() {
                "nobody".to_owned()
            } else {
                holder
            }))
        }
    }

    async fn is_fresh(&self) -> bool {
        self.renewed
            .lock()
            .await
            .is_some_and(|at| at.elapsed() < RENEW_DEADLINE)
    }

    fn spec(&self, transitions: i32, acquired: Option<MicroTime>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }
}

#[cfg(test)]
mod tests;
