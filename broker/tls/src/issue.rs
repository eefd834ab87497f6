//! Making certificates.
//!
//! An authority is renewed under the key that it has: what it issued before stays good, and so does what trusts it. Keys are
//! ECDSA's on P-256: small, quick to check, and understood by everything that a person might look at them with.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;

use crate::identity::{Identity, Role};
use crate::life::seconds;
use crate::verify::{self, Usage};
use crate::{TlsError, pems};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long an authority is valid.
pub const AUTHORITY_LIFE: Duration = DAY.saturating_mul(3650);

/// How long everyone else's certificate is valid.
pub const LEAF_LIFE: Duration = DAY.saturating_mul(365);

/// Valid from a little earlier, for machines whose clocks are behind.
const BACKDATED: Duration = Duration::from_secs(3600);

/// A certificate and its private key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the key.
        f.debug_struct("Pair").finish_non_exhaustive()
    }
}

/// A new authority for a cluster.
pub(crate) fn authority(cluster: &str, now: SystemTime) -> Result<Pair, TlsError> {
    self_signed(cluster, &KeyPair::generate()?, now)
}

/// The authority that a cluster has, valid for longer.
pub(crate) fn renewed(cluster: &str, old: &Pair, now: SystemTime) -> Result<Pair, TlsError> {
    self_signed(cluster, &KeyPair::from_pem(&old.key)?, now)
}

fn self_signed(cluster: &str, key: &KeyPair, now: SystemTime) -> Result<Pair, TlsError> {
    let certificate = authority_params(cluster, now)?.self_signed(key)?;
    Ok(Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

fn authority_params(cluster: &str, now: SystemTime) -> Result<CertificateParams, TlsError> {
    let mut params = params(&format!("Weir cluster {cluster}"), AUTHORITY_LIFE, now)?;
    // Nothing below it issues.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// A certificate of an authority that was made here, with a new key.
pub(crate) fn leaf(
    authority: &Pair,
    identity: &Identity,
    now: SystemTime,
) -> Result<Pair, TlsError> {
    // Of the authority only its name and its key go into what it issues.
    let issuer = Issuer::new(
        authority_params(identity.cluster(), now)?,
        KeyPair::from_pem(&authority.key)?,
    );
    let mut params = params(&identity.role().to_string(), LEAF_LIFE, now)?;
    let name = Ia5String::try_from(identity.to_string())?;
    params.subject_alt_names = vec![SanType::URI(name)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match identity.role() {
        Role::Broker(_) => vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ],
        // It calls, and is never called.
        Role::Operator => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    let pair = Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    };
    is_trusted(authority, &pair, &identity.to_string(), Usage::Calls, now)?;
    Ok(pair)
}

/// A certificate of an authority that was made here, for a listener that clients reach by these names and addresses.
pub(crate) fn listener(
    authority: &Pair,
    cluster: &str,
    name: &str,
    hosts: &BTreeSet<String>,
    now: SystemTime,
) -> Result<Pair, TlsError> {
    let issuer = Issuer::new(
        authority_params(cluster, now)?,
        KeyPair::from_pem(&authority.key)?,
    );
    let what = format!("listener {name}");
    let mut params = params(&what, LEAF_LIFE, now)?;
    for host in hosts {
        params.subject_alt_names.push(match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(Ia5String::try_from(host.as_str())?),
        });
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let pair = Pair {
        certificate: params.signed_by(&key, &issuer)?.pem(),
        key: key.serialize_pem(),
    };
    is_trusted(authority, &pair, &what, Usage::IsCalled, now)?;
    Ok(pair)
}

/// An authority that a person brought may have another name than ours have, and its issues would be trusted by nobody.
fn is_trusted(
    authority: &Pair,
    made: &Pair,
    whose: &str,
    usage: Usage,
    now: SystemTime,
) -> Result<(), TlsError> {
    let trusted = pems::certificates("the authority's certificate", &authority.certificate)?;
    let made = pems::certificate("the new certificate", &made.certificate)?;
    verify::is_issued_by(&made, &trusted, usage, seconds(now)).map_err(|why| {
        TlsError::NotOfAuthority {
            whose: whose.to_owned(),
            why: format!("{why}; Weir issues certificates only of authorities that it made itself"),
        }
    })
}

fn params(name: &str, life: Duration, now: SystemTime) -> Result<CertificateParams, TlsError> {
    let now = OffsetDateTime::from(now);
    let mut params = CertificateParams::default();
    params.not_before = now - BACKDATED;
    params.not_after = now + life;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}
