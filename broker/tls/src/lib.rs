//! Who speaks on the port that brokers share with each other and the operator: certificates, and mutual TLS over them.
//!
//! A certificate names a cluster and who its owner is in it, as a URI among its alternative names ([`Identity`]). Host names are
//! not looked at: brokers move, and what counts is who answers, not where. What always holds: TLS 1.3, both sides show a
//! certificate, and a connection is made only when the other side's was issued by the cluster's own authority, is valid now, and
//! names the same cluster. Nothing is resumed: each connection proves itself anew.
//!
//! Listeners for clients that speak TLS have certificates of their own ([`Served`]), as everywhere else in the world: for the names that clients
//! look for, TLS 1.2 or 1.3, and clients show none.
//!
//! Start reading at [`Tls`] (connections), [`Held`] (a cluster's certificates: what there is, what is due, making it) and
//! [`directory`] (the same in files). Deciding what is due is [`due`], which is pure; the operator calls it too.

pub mod directory;

mod error;
mod held;
mod identity;
mod issue;
mod life;
mod pems;
mod renewal;
mod served;
mod tls;
mod verify;

#[cfg(test)]
mod tests;

pub use error::TlsError;
pub use held::Held;
pub use identity::{Identity, Role};
pub use issue::{AUTHORITY_LIFE, LEAF_LIFE, Pair};
pub use life::Life;
pub use pems::{Files, Pems};
pub use renewal::{Due, Seen, due, due_listeners};
pub use rustls::ServerConnection;
pub use served::Served;
pub use tls::Tls;
pub use tokio_rustls::{client, server};
pub use verify::is_host;
