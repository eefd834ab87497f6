//! A producer that goes on while something happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use weir_tests::acknowledged::Producer;

/// Messages that are on their way together: each handful is acknowledged before the next, which bounds what is read in the end.
const HANDFUL: u64 = 100;

/// A producer that writes until it is told to end.
pub(crate) struct Load {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Producer>,
}

impl Load {
    pub(crate) fn begin(mut producer: Producer) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                producer.allow(HANDFUL);
                producer.follow(HANDFUL);
            }
            producer
        });
        Self { ends, thread }
    }

    pub(crate) fn end(self) -> Producer {
        self.ends.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .expect("whatever happened, messages were acknowledged in time")
    }
}
