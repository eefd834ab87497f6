//! The Kafka APIs: one table of what is served, one file for each.
//!
//! A file `kNN_name.rs` is pure translation: decode, check, call, encode. What it calls decides.
//!
//! # How a handler waits
//!
//! A [`Handler`] is a plain function that is called on the connection's task, in the order in which the requests of that
//! connection came. It does what must happen in that order (hand an append to a lane, a join to a coordinator) and never
//! blocks. Then it returns [`Answer::Now`], or [`Answer::later`] with a future that waits for the outcome: acknowledgements,
//! the high watermark, the other members of a group. While that future waits the connection goes on reading, and the handlers
//! of later requests are called; only their responses queue up behind, since responses of one connection leave in the order of
//! its requests. No other connection is touched by any of it. A future is polled only once the responses before it have left,
//! so whatever shall run at the same time as earlier requests must have been begun by the handler, not by the future.
//!
//! A handler that returns `Err` closes the connection: for bytes that cannot be decoded, never for what a response can say.

mod request;

use std::ops::RangeInclusive;
use std::sync::Arc;

pub use request::{Answer, Peer, Refused, Reply, Request};

use crate::Broker;

/// Answers one request. See the module on how it waits.
pub type Handler = fn(&Arc<Broker>, Request) -> Result<Answer, Refused>;

/// Who may call an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Anyone, before authentication too.
    Anyone,
    /// Whoever the listener has let in.
    Client,
}

/// One line of the table.
#[derive(Debug)]
pub struct Api {
    /// The number that requests carry.
    pub key: i16,
    /// Kafka's name, as metrics and log lines have it.
    pub name: &'static str,
    /// The versions that are advertised.
    pub versions: RangeInclusive<i16>,
    /// Who may call it.
    pub caller: Caller,
    /// What answers it.
    pub handler: Handler,
}

const fn api(
    key: i16,
    name: &'static str,
    min: i16,
    max: i16,
    caller: Caller,
    handler: Handler,
) -> Api {
    Api {
        key,
        name,
        versions: min..=max,
        caller,
        handler,
    }
}

/// Every API that is served, by key. ApiVersions answers from it.
pub static APIS: &[Api] = &[];

/// The table's line for a key.
#[must_use]
pub fn find(key: i16) -> Option<&'static Api> {
    APIS.binary_search_by_key(&key, |api| api.key)
        .ok()
        .and_then(|index| APIS.get(index))
}

/// Whether a version of an API has tagged fields in its header.
pub(crate) fn is_flexible(_key: i16, _version: i16) -> bool {
    false
}

/// Hands a request to its handler; also says which line of the table it was.
pub(crate) fn dispatch(broker: &Arc<Broker>, request: Request) -> Result<(usize, Answer), Refused> {
    let (key, version) = (request.key, request.version);
    let line = APIS.binary_search_by_key(&key, |api| api.key).map_err(|_| Refused::Unsupported { key, version })?;
    let answer = (APIS[line].handler)(broker, request)?;
    Ok((line, answer))
}
