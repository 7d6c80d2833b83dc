//! The TLS files: certificate authorities, client certificate, private key.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lc_daemon::config::{Identity, Tls, Trust};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::transport::TransportError;

/// What the files held when they were read.
#[derive(PartialEq, Eq)]
pub(crate) struct Credentials {
    /// `None`: nobody vouches for the processor.
    authorities: Option<Vec<CertificateDer<'static>>>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl Credentials {
    /// Reads the files, and checks that certificate and key belong together.
    ///
    /// # Errors
    ///
    /// [`TransportError`] names the file and what is wrong with it.
    pub(crate) fn read(tls: &Tls) -> Result<(Self, ClientConfig), TransportError> {
        let authorities = match &tls.trust {
            Trust::Ca(path) => Some(certificates("CA file", path)?),
            Trust::Anyone => None,
        };
        let identity = match &tls.identity {
            None => None,
            Some(Identity { cert, key }) => {
                Some((certificates("client certificate", cert)?, private_key(key)?))
            }
        };
        let credentials = Self {
            authorities,
            identity,
        };
        let config = credentials.client_config(tls)?;
        Ok((credentials, config))
    }

    /// Whether there is a client certificate.
    pub(crate) fn has_identity(&self) -> bool {
        self.identity.is_some()
    }

    /// TLS 1.3 with these, for HTTP/2.
    fn client_config(&self, tls: &Tls) -> Result<ClientConfig, TransportError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TransportError::Tls)?;
        let builder = match &tls.trust {
            Trust::Ca(path) => {
                let authorities = self.authorities.as_deref().unwrap_or_default();
                builder.with_root_certificates(roots(path, authorities)?)
            }
            Trust::Anyone => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms))),
        };
        let mut config = match (&tls.identity, &self.identity) {
            (Some(files), Some((chain, key))) => {
                usable(&files.key, key, &provider)?;
                builder
                    .with_client_auth_cert(chain.clone(), key.clone_key())
                    .map_err(|cause| TransportError::Identity {
                        cert: files.cert.clone(),
                        key: files.key.clone(),
                        cause,
                    })?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

/// What tells a file from one that took its place, or from itself with other content. Costs no access to the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamps(Vec<Option<Stamp>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds of the last change of content or metadata.
    changed: (i64, i64),
}

impl Stamps {
    /// Looks at all files of a TLS configuration.
    pub(crate) fn of(tls: &Tls) -> Self {
        Self(files(tls).map(Stamp::of).collect())
    }

    /// The first file that is missing or not an ordinary file, which to read could take for ever.
    pub(crate) fn irregular(&self, tls: &Tls) -> Option<PathBuf> {
        let missing = files(tls).zip(&self.0).find(|(_, stamp)| stamp.is_none());
        missing.map(|(path, _)| path.to_owned())
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

fn files(tls: &Tls) -> impl Iterator<Item = &Path> {
    let authorities = match &tls.trust {
        Trust::Ca(path) => Some(path.as_path()),
        Trust::Anyone => None,
    };
    let own = tls.identity.iter();
    let own = own.flat_map(|identity| [identity.cert.as_path(), identity.key.as_path()]);
    authorities.into_iter().chain(own)
}

fn roots(
    path: &Path,
    authorities: &[CertificateDer<'static>],
) -> Result<RootCertStore, TransportError> {
    let mut roots = RootCertStore::empty();
    for certificate in authorities {
        roots
            .add(certificate.clone())
            .map_err(|error| bad_file("CA file", path, error))?;
    }
    Ok(roots)
}

/// All certificates of a PEM file, of which there must be one at least.
fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| bad_file(what, path, error))?;
    if found.is_empty() {
        return Err(bad_file(what, path, "no certificate in PEM form in it"));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TransportError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            bad_file("client key", path, "no private key in PEM form in it")
        }
        error => bad_file("client key", path, error),
    })
}

fn usable(
    path: &Path,
    key: &PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<(), TransportError> {
    provider
        .key_provider
        .load_private_key(key.clone_key())
        .map(|_| ())
        .map_err(|error| bad_file("client key", path, error))
}

fn bad_file(what: &'static str, path: &Path, cause: impl fmt::Display) -> TransportError {
    TransportError::File {
        what,
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}

/// Takes any certificate whose key the peer holds.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
