//! What can be wrong with certificates.

use std::path::PathBuf;

use crate::identity::Identity;

/// What is wrong with a certificate, a key, or the files that they lie in.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// What should be PEM is not, or holds nothing of the kind.
    #[error("{what} cannot be read as PEM: {why}")]
    Pem {
        /// What should be there.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate does not say who its owner is in a way that Weir reads.
    #[error("{0}")]
    Identity(String),
    /// The certificate was not issued by the authority that is to be trusted.
    #[error("the certificate of {whose} was not issued by the authority beside it: {why}")]
    NotOfAuthority {
        /// Whose certificate it is.
        whose: String,
        /// What is wrong.
        why: String,
    },
    /// The certificate is someone else's than the one before it.
    #[error("the certificate is that of {found}, and this is {wanted}")]
    Other {
        /// Who this is.
        wanted: Identity,
        /// Whose certificate was found.
        found: Identity,
    },
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
    /// A certificate cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Issue(#[from] rcgen::Error),
}
