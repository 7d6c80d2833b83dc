//! Certificates as TLS 1.2 and older versions show them (RFC 5246 section 7.4.2, RFC 5280).
//!
//! They are described, not verified.

use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::extract::reader::Reader;

/// Most names of a certificate that are told.
const MOST_NAMES: usize = 100;
/// Most certificates that are counted.
const MOST: usize = 32;

/// The chain of a Certificate message: never empty.
#[derive(Debug)]
pub struct Certificates<'a> {
    first: &'a [u8],
    count: usize,
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is, as RFC 4514 writes names.
    pub subject: String,
    /// Who vouches for that.
    pub issuer: String,
    /// Its number: hexadecimal digits.
    pub serial: String,
    /// Names, addresses and so on that it is for as well.
    pub names: Vec<String>,
    /// Since when it is valid, as RFC 3339 writes times.
    pub not_before: String,
    /// Until when.
    pub not_after: String,
}

impl<'a> Certificates<'a> {
    /// Reads the body of the message.
    #[must_use]
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let mut body = Reader(body);
        let len = body.u24()? as usize;
        let mut list = Reader(body.take(len.min(body.0.len()))?);
        let mut next = || {
            let len = list.u24()? as usize;
            list.take(len)
        };
        let first = next().filter(|first| !first.is_empty())?;
        let others = std::iter::from_fn(next).take(MOST - 1).count();
        Some(Self {
            first,
            count: 1 + others,
        })
    }

    /// Certificates in the chain.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// SHA-256 of the first: hexadecimal digits.
    #[must_use]
    pub fn sha256(&self) -> String {
        let hash = Sha256::digest(self.first);
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The first, which is that of the sender; `None` if it is none.
    #[must_use]
    pub fn leaf(&self) -> Option<Certificate> {
        let (_, certificate) = X509Certificate::from_der(self.first).ok()?;
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.map(|names| &names.value.general_names);
        let time = |time: x509_parser::time::ASN1Time| {
            let time = time.to_datetime();
            let (date, clock) = (time.date(), time.time());
            format!(
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
                date.year(),
                u8::from(date.month()),
                date.day(),
                clock.hour(),
                clock.minute(),
                clock.second()
            )
        };
        Some(Certificate {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            serial: certificate.raw_serial_as_string().replace(':', ""),
            names: names
                .into_iter()
                .flatten()
                .take(MOST_NAMES)
                .filter_map(text)
                .collect(),
            not_before: time(certificate.validity().not_before),
            not_after: time(certificate.validity().not_after),
        })
    }
}

/// A name as text; `None` for kinds that have no usual form.
fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            Some((*name).to_owned())
        }
        GeneralName::IPAddress(bytes) => match *bytes {
            [a, b, c, d] => Some(std::net::Ipv4Addr::new(*a, *b, *c, *d).to_string()),
            bytes => {
                let bytes: [u8; 16] = bytes.try_into().ok()?;
                Some(std::net::Ipv6Addr::from(bytes).to_string())
            }
        },
        _ => None,
    }
}
