//! All certificates and keys of one cluster, wherever they are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use rustls::sign::CertifiedKey;

use crate::TlsError;
use crate::identity::{Identity, Role};
use crate::issue::{self, Pair};
use crate::life::Life;
use crate::pems::{self, Pems};
use crate::renewal::{Due, Seen};
use crate::verify::{self, Usage};

/// All certificates and keys of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The authority's.
    pub authority: Option<Pair>,
    /// Everyone else's.
    pub leaves: BTreeMap<Role, Pair>,
    /// Those of listeners for clients, by the listeners' names: of this authority or of a person's.
    pub listeners: BTreeMap<String, Pair>,
}

impl Held {
    /// What of it can be used. Fails for an authority that is there and cannot be used: replacing it would cut the cluster's
    /// brokers off from each other until each has the new one, so that is for a person to do.
    pub fn seen(&self, cluster: &str) -> Result<Seen, TlsError> {
        let Some(authority) = &self.authority else {
            return Ok(Seen::default());
        };
        let trusted = pems::certificate("the authority's certificate", &authority.certificate)?;
        let key = pems::key("the authority's key", &authority.key)?;
        CertifiedKey::from_der(vec![trusted.clone()], key, &verify::provider())?;
        let life = Life::of(&trusted).ok_or(TlsError::Pem {
            what: "the authority's certificate",
            why: "it does not say from when to when it is valid".to_owned(),
        })?;
        let trusted = [trusted];
        let usable = |(role, pair): (&Role, &Pair)| {
            let certificate = pems::certificate("certificate", &pair.certificate).ok()?;
            let key = pems::key("key", &pair.key).ok()?;
            let life = Life::of(&certificate)?;
            let identity = Identity::of(&certificate).ok()?;
            let is_good = identity == Identity::new(cluster, *role).ok()?
                // At some time within its life: how much of it is left is decided elsewhere.
                && verify::is_issued_by(&certificate, &trusted, Usage::Calls, life.until).is_ok()
                && CertifiedKey::from_der(vec![certificate], key, &verify::provider()).is_ok();
            is_good.then_some((*role, life))
        };
        Ok(Seen {
            authority: Some(life),
            leaves: self.leaves.iter().filter_map(usable).collect(),
        })
    }

    /// The listener's certificate that this authority issued, if clients that look for it by these names and addresses can use it.
    #[must_use]
    pub fn seen_listener(&self, name: &str, hosts: &BTreeSet<String>) -> Option<Life> {
        let (authority, pair) = (self.authority.as_ref()?, self.listeners.get(name)?);
        let trusted = pems::certificates("", &authority.certificate).ok()?;
        let life = pair.life().ok()?;
        let certificate = pems::certificate("", &pair.certificate).ok()?;
        let is_good = verify::is_issued_by(&certificate, &trusted, Usage::IsCalled, life.until)
            .is_ok()
            && verify::covers(&certificate, hosts);
        is_good.then_some(life)
    }

    /// Makes what is due.
    pub fn issue(&mut self, cluster: &str, due: &[Due], now: SystemTime) -> Result<(), TlsError> {
        for due in due {
            match (due, &self.authority) {
                (Due::Authority, _) => self.authority = Some(issue::authority(cluster, now)?),
                (Due::AuthorityRenewal, Some(authority)) => {
                    self.authority = Some(issue::renewed(cluster, authority, now)?);
                }
                (Due::Leaf(role), Some(authority)) => {
                    let pair = issue::leaf(authority, &Identity::new(cluster, *role)?, now)?;
                    self.leaves.insert(*role, pair);
                }
                (Due::Listener { name, hosts }, Some(authority)) => {
                    let pair = issue::listener(authority, cluster, name, hosts, now)?;
                    self.listeners.insert(name.clone(), pair);
                }
                (Due::AuthorityRenewal | Due::Leaf(_) | Due::Listener { .. }, None) => {
                    return Err(TlsError::Pem {
                        what: "the authority",
                        why: format!("there is none to issue the certificate of {due}"),
                    });
                }
            }
        }
        Ok(())
    }

    /// What one member needs for its connections.
    #[must_use]
    pub fn pems(&self, role: Role) -> Option<Pems> {
        let own = self.leaves.get(&role)?;
        Some(Pems {
            authorities: self.authority.as_ref()?.certificate.clone(),
            certificate: own.certificate.clone(),
            key: own.key.clone(),
        })
    }
}

impl Pair {
    /// From when to when the certificate is valid.
    ///
    /// # Errors
    /// When the two are no certificate and key, or do not belong together.
    pub fn life(&self) -> Result<Life, TlsError> {
        let chain = pems::certificates("the certificate", &self.certificate)?;
        let key = pems::key("the key", &self.key)?;
        let life = chain.first().and_then(Life::of);
        CertifiedKey::from_der(chain, key, &verify::provider())?;
        life.ok_or(TlsError::Pem {
            what: "the certificate",
            why: "it does not say from when to when it is valid".to_owned(),
        })
    }
}
