//! Looks whether TLS files hold what they should.

use std::path::{Path, PathBuf};

use lc_daemon::config::{Identity, Tls, Trust};
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem};

/// What is wrong with a TLS file.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    /// Unreadable, or not PEM.
    #[error("{path}: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: pem::Error,
    },
    /// No certificate in it.
    #[error("{path}: holds no certificate")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A certificate or key that cannot be used.
    #[error("{path}: {source}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: rustls::Error,
    },
}

/// Reads all files of a TLS configuration.
pub fn check(tls: &Tls) -> Result<(), TlsFileError> {
    if let Trust::Ca(path) = &tls.trust {
        let mut store = RootCertStore::empty();
        for certificate in certificates(path)? {
            store
                .add(certificate)
                .map_err(|source| TlsFileError::Unusable {
                    path: path.clone(),
                    source,
                })?;
        }
    }
    match &tls.identity {
        Some(identity) => check_identity(identity),
        None => Ok(()),
    }
}

/// Whether the key is a key, and the certificate's.
fn check_identity(identity: &Identity) -> Result<(), TlsFileError> {
    let chain = certificates(&identity.cert)?;
    let key = PrivateKeyDer::from_pem_file(&identity.key).map_err(|source| TlsFileError::Pem {
        path: identity.key.clone(),
        source,
    })?;
    CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map(|_| ())
        .map_err(|source| TlsFileError::Unusable {
            path: identity.key.clone(),
            source,
        })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(TlsFileError::Empty {
            path: path.to_owned(),
        }),
        Ok(certificates) => Ok(certificates),
        Err(source) => Err(TlsFileError::Pem {
            path: path.to_owned(),
            source,
        }),
    }
}
