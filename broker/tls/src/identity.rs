//! What a certificate says about its owner: `weir://<cluster>/broker/<id>` or `weir://<cluster>/operator`.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::TlsError;

const SCHEME: &str = "weir://";

/// The longest name of a cluster: what DNS allows in a label is shorter, what a person chooses for a directory may be longer.
const CLUSTER_LEN_MAX: usize = 200;

/// Who somebody is in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The broker of this id.
    Broker(i32),
    /// Whoever administers the cluster.
    Operator,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker(id) => write!(f, "broker {id}"),
            Self::Operator => f.write_str("the operator"),
        }
    }
}

/// The owner of a certificate.
///
/// The incarnation of a broker's disk is not part of it: a certificate is made before there is a disk. A broker says its
/// incarnation in its messages, and the quorum's record says whether it is the one that counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    cluster: String,
    role: Role,
}

impl Identity {
    /// A member of a cluster. Refuses a cluster's name that does not fit into a URI as it is, and a negative id.
    pub fn new(cluster: &str, role: Role) -> Result<Self, TlsError> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if cluster.is_empty() || cluster.len() > CLUSTER_LEN_MAX || !cluster.chars().all(is_plain) {
            return Err(TlsError::Identity(format!(
                "{cluster:?} cannot be the name of a cluster in a certificate; allowed: up to {CLUSTER_LEN_MAX} letters, \
                 digits, '.', '_' and '-'"
            )));
        }
        if matches!(role, Role::Broker(i32::MIN..=-1)) {
            return Err(TlsError::Identity(format!("{role}: ids begin at 0")));
        }
        Ok(Self {
            cluster: cluster.to_owned(),
            role,
        })
    }

    /// What a certificate says. Exactly one of its names must be of Weir.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, TlsError> {
        let parsed = EndEntityCert::try_from(certificate).map_err(|error| {
            TlsError::Identity(format!("the certificate is malformed: {error}"))
        })?;
        let mut names = parsed
            .valid_uri_names()
            .filter(|name| name.starts_with(SCHEME));
        match (names.next(), names.next()) {
            (Some(name), None) => name.parse(),
            (None, _) => Err(TlsError::Identity(format!(
                "the certificate has no alternative name {SCHEME}<cluster>/broker/<id> or {SCHEME}<cluster>/operator"
            ))),
            (Some(one), Some(other)) => Err(TlsError::Identity(format!(
                "the certificate has several of Weir's names: {one} and {other}"
            ))),
        }
    }

    /// The cluster's name.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Who it is there.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, role } = self;
        match role {
            Role::Broker(id) => write!(f, "{SCHEME}{cluster}/broker/{id}"),
            Role::Operator => write!(f, "{SCHEME}{cluster}/operator"),
        }
    }
}

impl FromStr for Identity {
    type Err = TlsError;

    fn from_str(text: &str) -> Result<Self, TlsError> {
        let read = || {
            let (cluster, role) = text.strip_prefix(SCHEME)?.split_once('/')?;
            let role = match role.split_once('/') {
                None if role == "operator" => Role::Operator,
                Some(("broker", id)) => Role::Broker(id.parse().ok()?),
                _ => return None,
            };
            let identity = Self::new(cluster, role).ok()?;
            // One way to write each: "+1" and "01" are not it.
            (identity.to_string() == text).then_some(identity)
        };
        read().ok_or_else(|| TlsError::Identity(format!("{text:?} is not one of Weir's names")))
    }
}
