//! From secrets to keys: HKDF-Expand-Label of TLS 1.3 (RFC 8446 section 7.1), the PRF of TLS 1.2 (RFC 5246 section 5).

use ring::hkdf::{self, HKDF_SHA256, HKDF_SHA384, KeyType, Prk};
use ring::hmac::{self, HMAC_SHA256, HMAC_SHA384};

/// The hash of a cipher suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
}

impl Hash {
    /// Bytes of a hash.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }

    fn hkdf(self) -> hkdf::Algorithm {
        match self {
            Self::Sha256 => HKDF_SHA256,
            Self::Sha384 => HKDF_SHA384,
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => HMAC_SHA256,
            Self::Sha384 => HMAC_SHA384,
        }
    }

    /// A traffic secret, to be expanded.
    #[must_use]
    pub fn secret(self, bytes: &[u8]) -> Prk {
        Prk::new_less_safe(self.hkdf(), bytes)
    }

    /// Fills `out` with the PRF of TLS 1.2.
    pub fn prf(self, secret: &[u8], label: &[u8], seed: &[&[u8]], out: &mut [u8]) {
        let key = hmac::Key::new(self.hmac(), secret);
        let sign = |parts: &[&[u8]]| {
            let mut context = hmac::Context::with_key(&key);
            context.update(parts[0]);
            context.update(label);
            seed.iter().for_each(|part| context.update(part));
            context.sign()
        };
        let mut link = sign(&[b""]);
        for piece in out.chunks_mut(self.bytes()) {
            let block = sign(&[link.as_ref()]);
            piece.copy_from_slice(&block.as_ref()[..piece.len()]);
            link = hmac::sign(&key, link.as_ref());
        }
    }
}

struct Len(usize);

impl KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

/// Fills `out`, of less than 256 bytes, with HKDF-Expand-Label without context. `None` only if the library fails.
pub fn expand_label(secret: &Prk, label: &[u8], out: &mut [u8]) -> Option<()> {
    let lens = [0, out.len() as u8, 6 + label.len() as u8];
    let info: [&[u8]; 4] = [&lens, b"tls13 ", label, &[0]];
    secret.expand(&info, Len(out.len())).ok()?.fill(out).ok()
}
