//! Certificates and keys as texts, and where they lie.

use std::fmt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::TlsError;

/// A text longer than this is no certificate, nor a bundle of a few.
const BYTES_MAX: u64 = 1 << 20;

/// What one side of a connection has: whom it trusts, and its own certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Pems {
    /// Certificates of the authorities that are trusted.
    pub authorities: String,
    /// Its own certificate, and what lies between it and an authority.
    pub certificate: String,
    /// The certificate's private key.
    pub key: String,
}

impl fmt::Debug for Pems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the key.
        f.debug_struct("Pems").finish_non_exhaustive()
    }
}

/// Where certificates and a key lie. Read again when they change, so links may be exchanged below them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Certificates of the authorities that are trusted.
    pub authorities: PathBuf,
    /// The own certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Files {
    /// What lies there now.
    pub fn read(&self) -> Result<Pems, TlsError> {
        Ok(Pems {
            authorities: read(&self.authorities)?,
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
        })
    }
}

/// A file's text.
pub(crate) fn read(path: &Path) -> Result<String, TlsError> {
    use std::io::Read;
    let failed = |source| TlsError::File {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text)
}

/// The certificates in a text; at least one.
pub(crate) fn certificates(
    what: &'static str,
    text: &str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |why: String| TlsError::Pem { what, why };
    let found: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() {
        return Err(wrong("there is no certificate in it".to_owned()));
    }
    Ok(found)
}

/// The first certificate in a text.
pub(crate) fn certificate(
    what: &'static str,
    text: &str,
) -> Result<CertificateDer<'static>, TlsError> {
    CertificateDer::from_pem_slice(text.as_bytes()).map_err(|error| TlsError::Pem {
        what,
        why: error.to_string(),
    })
}

/// The private key in a text.
pub(crate) fn key(what: &'static str, text: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| TlsError::Pem {
        what,
        why: error.to_string(),
    })
}
