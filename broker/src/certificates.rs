//! Which certificates this broker speaks to others with: those that its configuration names, or, when it is alone, its own.
//!
//! `start` opens them; `main` makes those of a cluster without Kubernetes (`weir-broker certificates`).

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use weir_tls::{Role, Tls, TlsError, directory};

use crate::config::Config;

/// Below the data directory, where a broker that is alone keeps its own.
const OWN_DIR: &str = "tls";

/// Why a broker has no certificate that it could use.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// There are to be several brokers, and nothing is said about certificates.
    #[error(
        "listeners.quorum.tls: missing; the brokers of a cluster prove to each other who they are, with files that are named there. \
         `weir-broker certificates` makes them"
    )]
    Missing,
    /// It is another broker's.
    #[error("listeners.quorum.tls: the certificate is that of {found}, and this is broker {me}")]
    Whose {
        /// Whose it is.
        found: Role,
        /// Who this is.
        me: i32,
    },
    /// It cannot be used.
    #[error("listeners.quorum.tls: {0}")]
    Unusable(#[from] TlsError),
}

/// Whether the configuration says enough.
pub fn check(config: &Config) -> Result<(), CertificatesError> {
    let is_alone = config.cluster.brokers <= 1 && config.peers.len() <= 1;
    if config.quorum_tls.is_none() && !is_alone {
        return Err(CertificatesError::Missing);
    }
    Ok(())
}

/// Opens this broker's certificates; one that is alone makes them first.
pub fn open(config: &Config) -> Result<Tls, CertificatesError> {
    check(config)?;
    let me = config.broker_id;
    let tls = match &config.quorum_tls {
        Some(files) => Tls::from_files(files.clone())?,
        None => Tls::own(config.data_dir.join(OWN_DIR), me)?,
    };
    let found = tls.identity().role();
    if found != Role::Broker(me) {
        return Err(CertificatesError::Whose { found, me });
    }
    Ok(tls)
}

/// Where they lie, and those of listeners for clients beside them.
#[must_use]
pub fn dir(config: &Config) -> PathBuf {
    let given = config.quorum_tls.as_ref();
    let given = given.and_then(|files| files.certificate.parent());
    given.map_or_else(|| config.data_dir.join(OWN_DIR), Path::to_owned)
}

/// `weir-broker certificates`: a cluster's, in a directory.
#[derive(Debug, clap::Args)]
pub struct CertificatesOptions {
    /// The directory. What is there and still good stays as it is.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The cluster's name: brokers of another one are strangers.
    #[arg(long, value_name = "NAME")]
    cluster: String,
    /// How many brokers there are.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=1000))]
    brokers: i32,
}

/// Makes and renews them; returns what was made, in words.
pub fn make(options: &CertificatesOptions) -> Result<Vec<String>, TlsError> {
    let brokers = (0..options.brokers).map(Role::Broker);
    let members: Vec<Role> = brokers.chain([Role::Operator]).collect();
    let made = directory::ensure(&options.dir, &options.cluster, &members, SystemTime::now())?;
    Ok(made.iter().map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "a test that cannot go on should say where"
    )]

    use super::*;
    use crate::config::Environment;

    fn config(yaml: &str) -> Config {
        Config::parse(yaml, &Environment::new(), "test").unwrap()
    }

    #[test]
    fn a_broker_among_others_needs_certificates_that_it_is_given() {
        assert!(check(&config("data_dir: /d")).is_ok());
        for yaml in [
            "data_dir: /d\ncluster: { brokers: 3 }",
            "data_dir: /d\npeers: [\"a:1\", \"b:1\", \"c:1\"]",
        ] {
            let error = check(&config(yaml)).unwrap_err();
            assert!(
                error.to_string().contains("weir-broker certificates"),
                "{error}"
            );
        }
    }

    #[test]
    fn another_broker_s_certificate_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let options = CertificatesOptions {
            dir: dir.path().to_owned(),
            cluster: "shop".into(),
            brokers: 3,
        };
        assert_eq!(make(&options).unwrap().len(), 5);
        assert!(make(&options).unwrap().is_empty());
        let yaml = |certificate: &str| {
            let at = dir.path().display();
            format!(
                "data_dir: /d\nbroker: {{ id: 2 }}\ncluster: {{ brokers: 3 }}\nlisteners: {{ quorum: {{ tls: {{ ca: {at}/ca.crt, \
                 certificate: \"{at}/{certificate}.crt\", key: \"{at}/{certificate}.key\" }} }} }}"
            )
        };
        assert!(open(&config(&yaml("broker-{id}"))).is_ok());
        for (other, whose) in [("broker-1", "broker 1"), ("operator", "the operator")] {
            let error = open(&config(&yaml(other))).unwrap_err().to_string();
            assert!(error.contains(whose), "{error}");
        }
    }
}
