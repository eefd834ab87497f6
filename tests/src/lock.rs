//! A lock that is held for a few lines: whoever panics in between has failed the test anyway.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits for it; also after somebody has panicked with it.
pub fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
