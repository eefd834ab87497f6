//! What there is to say about a broker while it comes up, runs and goes down.
//!
//! Readiness has reasons: whoever asks is told what is missing, and so is the log.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tonic::Status;

use crate::Broker;

/// A broker's state as seen from outside. Exists before the broker does.
#[derive(Debug)]
pub struct Health {
    step: Mutex<&'static str>,
    broker: OnceLock<Arc<Broker>>,
    is_stopping: AtomicBool,
}

impl Health {
    /// A process that has just begun.
    #[must_use]
    pub fn starting() -> Arc<Self> {
        Arc::new(Self {
            step: Mutex::new("starting"),
            broker: OnceLock::new(),
            is_stopping: AtomicBool::new(false),
        })
    }

    /// What the start is waiting for now, such as "recovering logs".
    pub fn step(&self, step: &'static str) {
        tracing::debug!(step, "start");
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = step;
    }

    /// All parts are there.
    pub fn assembled(&self, broker: Arc<Broker>) {
        // Once in a process's life.
        let _ = self.broker.set(broker);
    }

    /// The broker goes down: it is not ready any more.
    pub fn stopping(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// The broker, once it is assembled.
    #[must_use]
    pub fn broker(&self) -> Option<&Arc<Broker>> {
        self.broker.get()
    }

    /// The broker, for a service that answers once it is assembled.
    ///
    /// # Errors
    /// UNAVAILABLE before, with what is missing.
    pub(crate) fn assembled_broker(&self) -> Result<&Arc<Broker>, Status> {
        self.broker()
            .ok_or_else(|| Status::unavailable(self.missing().join("; ")))
    }

    /// What is missing until clients may be sent here; empty when nothing is.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        if self.is_stopping.load(Ordering::Relaxed) {
            return vec!["the broker is stopping".into()];
        }
        let Some(broker) = self.broker.get() else {
            return vec![(*self.step.lock().unwrap_or_else(PoisonError::into_inner)).into()];
        };
        let mut missing = Vec::new();
        let opening = broker.partitions.opening();
        if opening > 0 {
            missing.push(format!("{opening} partitions are being opened"));
        }
        let metadata = &broker.metadata;
        if metadata.registration().is_none() {
            missing.push("the broker is not registered with the controller".into());
        } else if !metadata.caught_up() {
            missing.push("the metadata is not caught up".into());
        } else if !metadata.is_active() {
            missing.push("the controller has fenced this broker".into());
        }
        missing
    }
}
