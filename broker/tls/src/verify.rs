//! Judging the other side's certificate: issued by an authority that is trusted, valid now, of the same cluster.
//!
//! Chains, validity, usages and signatures are checked by webpki, as everywhere in rustls. What is ours is the name: instead of a
//! host's it is the cluster's in the certificate's URI.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use crate::TlsError;
use crate::identity::{Identity, Role};

/// The cryptography: ring's, which is built without further tools.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Judges both sides.
#[derive(Debug)]
pub(crate) struct Verifier {
    cluster: String,
    authorities: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// For members of one cluster.
    pub(crate) fn new(
        cluster: &str,
        authorities: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let mut store = RootCertStore::empty();
        for authority in authorities {
            store.add(authority)?;
        }
        let authorities = Arc::new(store);
        let clients = WebPkiClientVerifier::builder_with_provider(
            Arc::clone(&authorities),
            Arc::clone(provider),
        )
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self {
            cluster: cluster.to_owned(),
            authorities,
            clients,
            algorithms: provider.signature_verification_algorithms,
        })
    }

    /// Of a certificate that is otherwise good.
    fn check_cluster(&self, certificate: &CertificateDer<'_>) -> Result<Role, Error> {
        let refused = |error: TlsError| {
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
        };
        let identity = Identity::of(certificate).map_err(refused)?;
        if identity.cluster() != self.cluster {
            return Err(refused(TlsError::Identity(format!(
                "{identity} is not of cluster {}",
                self.cluster
            ))));
        }
        Ok(identity.role())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.authorities,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        match self.check_cluster(end_entity)? {
            Role::Broker(_) => Ok(ServerCertVerified::assertion()),
            Role::Operator => Err(Error::InvalidCertificate(CertificateError::InvalidPurpose)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.clients.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .clients
            .verify_client_cert(end_entity, intermediates, now)?;
        self.check_cluster(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.clients.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.clients.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.clients.supported_verify_schemes()
    }
}

/// What a certificate is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    /// For calling, which every member's is.
    Calls,
    /// For being called.
    IsCalled,
}

/// Whether a certificate comes from one of these authorities and is good for something, as seen at a time (seconds since 1970); if not, why.
pub(crate) fn is_issued_by(
    certificate: &CertificateDer<'_>,
    authorities: &[CertificateDer<'_>],
    usage: Usage,
    at: i64,
) -> Result<(), String> {
    let plain = |error: webpki::Error| error.to_string();
    let anchors = authorities
        .iter()
        .map(webpki::anchor_from_trusted_cert)
        .collect::<Result<Vec<_>, _>>()
        .map_err(plain)?;
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(plain)?;
    let at = std::time::Duration::from_secs(u64::try_from(at).unwrap_or(0));
    parsed
        .verify_for_usage(
            provider().signature_verification_algorithms.all,
            &anchors,
            &[],
            UnixTime::since_unix_epoch(at),
            match usage {
                Usage::Calls => webpki::KeyUsage::client_auth(),
                Usage::IsCalled => webpki::KeyUsage::server_auth(),
            },
            None,
            None,
        )
        .map(|_| ())
        .map_err(plain)
}

/// Whether clients that look for one of these names or addresses take a certificate, for each of them.
pub(crate) fn covers<'h>(
    certificate: &CertificateDer<'_>,
    hosts: impl IntoIterator<Item = &'h String>,
) -> bool {
    let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) else {
        return false;
    };
    hosts.into_iter().all(|host| {
        ServerName::try_from(host.as_str())
            .is_ok_and(|name| parsed.verify_is_valid_for_subject_name(&name).is_ok())
    })
}

/// Whether a certificate can name this, and clients look for it: an address, or a name in DNS.
#[must_use]
pub fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        let is_middle = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        (1..=63).contains(&label.len())
            && label.chars().all(is_middle)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits is the end of an address that is none.
    let is_name = || {
        host.len() <= 253
            && host.split('.').all(is_label)
            && host
                .rsplit('.')
                .next()
                .is_some_and(|last| !last.chars().all(|c| c.is_ascii_digit()))
    };
    host.parse::<std::net::IpAddr>().is_ok() || is_name()
}
