//! ClientHello and ServerHello (RFC 8446 section 4.1, RFC 5246 section 7.4.1, RFC 9147 section 5.3).
//!
//! They are read as they stand, without copies. A length that points beyond the message is taken for as much as there is, so that a hello that is wrong in one
//! place still tells the rest.

use super::version::{self, is_grease};
use crate::extract::reader::{Reader, numbers};

/// What carries a hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// TLS records over a stream.
    Stream,
    /// DTLS.
    Dtls,
    /// CRYPTO frames.
    Quic,
}

mod extension {
    pub(super) const SERVER_NAME: u16 = 0;
    pub(super) const GROUPS: u16 = 10;
    pub(super) const POINT_FORMATS: u16 = 11;
    pub(super) const SIGNATURES: u16 = 13;
    pub(super) const ALPN: u16 = 16;
    pub(super) const ENCRYPT_THEN_MAC: u16 = 22;
    pub(super) const EARLY_DATA: u16 = 42;
    pub(super) const VERSIONS: u16 = 43;
    pub(super) const ENCRYPTED_HELLO: u16 = 0xfe0d;
}

/// Random of a ServerHello that asks for another ClientHello (RFC 8446 section 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// A ClientHello.
#[derive(Debug, Clone, Copy)]
pub struct ClientHello<'a> {
    /// What carries it.
    pub carrier: Carrier,
    /// `legacy_version`.
    pub version: u16,
    /// Random.
    pub random: &'a [u8; 32],
    /// Session id, at most 32 bytes in a valid hello.
    pub session_id: &'a [u8],
    /// Cipher suites, two bytes each.
    ciphers: &'a [u8],
    extensions: Extensions<'a>,
}

/// A ServerHello, or a HelloRetryRequest.
#[derive(Debug, Clone, Copy)]
pub struct ServerHello<'a> {
    /// `legacy_version`.
    pub version: u16,
    /// Random.
    pub random: &'a [u8; 32],
    /// The cipher suite that is chosen.
    pub cipher: u16,
    extensions: Extensions<'a>,
}

impl<'a> ClientHello<'a> {
    /// Reads the body of the message. `None` if it ends before the cipher suites.
    #[must_use]
    pub fn read(body: &'a [u8], carrier: Carrier) -> Option<Self> {
        let mut body = Reader(body);
        let version = body.u16()?;
        let random = body.take(32)?.first_chunk()?;
        let session_id = body.piece8()?;
        if carrier == Carrier::Dtls {
            // The cookie (RFC 6347 section 4.2.1).
            body.piece8()?;
        }
        let ciphers = body.clamped16()?;
        body.piece8();
        Some(Self {
            carrier,
            version,
            random,
            session_id,
            ciphers,
            extensions: Extensions::read(body),
        })
    }

    /// The newest version that is offered.
    #[must_use]
    pub fn newest_version(&self) -> u16 {
        version::newest(self.versions()).unwrap_or(self.version)
    }

    /// The first version of the list of those that are offered.
    #[must_use]
    pub fn first_version(&self) -> u16 {
        self.versions().next().unwrap_or(self.version)
    }

    fn versions(&self) -> impl Iterator<Item = u16> {
        let data = self.extensions.find(extension::VERSIONS);
        without_grease(
            Reader(data.unwrap_or_default())
                .clamped8()
                .unwrap_or_default(),
        )
    }

    /// Name of the server that is asked for (RFC 6066 section 3). It is whatever the client wrote.
    #[must_use]
    pub fn server_name(&self) -> Option<&'a [u8]> {
        let list = self.extensions.find(extension::SERVER_NAME)?;
        let mut entries = Reader(Reader(list).clamped16()?);
        while let Some(kind) = entries.u8() {
            let name = entries.clamped16()?;
            if kind == 0 {
                return (!name.is_empty()).then_some(name);
            }
        }
        None
    }

    /// Whether a server is asked for by name, be the name readable or not.
    #[must_use]
    pub fn has_server_name(&self) -> bool {
        self.extensions.find(extension::SERVER_NAME).is_some()
    }

    /// Application protocols that are offered (RFC 7301).
    pub fn application_protocols(&self) -> impl Iterator<Item = &'a [u8]> {
        self.extensions.application_protocols()
    }

    /// Whether part of the hello is encrypted: this one is the outer hello then, or pretends to be (RFC 9849).
    #[must_use]
    pub fn has_encrypted_hello(&self) -> bool {
        self.extensions.find(extension::ENCRYPTED_HELLO).is_some()
    }

    /// Whether data may follow before the server has said anything (RFC 8446 section 4.2.10).
    #[must_use]
    pub fn has_early_data(&self) -> bool {
        self.extensions.find(extension::EARLY_DATA).is_some()
    }

    /// Cipher suites, without GREASE.
    pub fn ciphers(&self) -> impl Iterator<Item = u16> + Clone {
        without_grease(self.ciphers)
    }

    /// Types of the extensions, without GREASE.
    pub fn extension_types(&self) -> impl Iterator<Item = u16> + Clone {
        self.extensions.types()
    }

    /// Types of the extensions but server name and application protocols, without GREASE.
    pub fn anonymous_extension_types(&self) -> impl Iterator<Item = u16> + Clone {
        let is_named = |kind: &u16| [extension::SERVER_NAME, extension::ALPN].contains(kind);
        self.extensions.types().filter(move |kind| !is_named(kind))
    }

    /// Groups for key exchange, without GREASE (RFC 8446 section 4.2.7).
    pub fn groups(&self) -> impl Iterator<Item = u16> + Clone {
        self.extensions.list(extension::GROUPS)
    }

    /// Signature algorithms, without GREASE (RFC 8446 section 4.2.3).
    pub fn signatures(&self) -> impl Iterator<Item = u16> + Clone {
        self.extensions.list(extension::SIGNATURES)
    }

    /// Formats of points on elliptic curves (RFC 8422 section 5.1.2).
    #[must_use]
    pub fn point_formats(&self) -> &'a [u8] {
        let data = self.extensions.find(extension::POINT_FORMATS);
        Reader(data.unwrap_or_default())
            .clamped8()
            .unwrap_or_default()
    }
}

impl<'a> ServerHello<'a> {
    /// Reads the body of the message. `None` if it ends before the cipher suite.
    #[must_use]
    pub fn read(body: &'a [u8]) -> Option<Self> {
        let mut body = Reader(body);
        let version = body.u16()?;
        let random = body.take(32)?.first_chunk()?;
        // Drafts 18 to 21 of TLS 1.3 had neither session id nor compression.
        let is_draft = matches!(version, 0x7f00..=0x7f15);
        if !is_draft {
            body.piece8()?;
        }
        let cipher = body.u16()?;
        if !is_draft {
            body.u8();
        }
        Some(Self {
            version,
            random,
            cipher,
            extensions: Extensions::read(body),
        })
    }

    /// Whether this is a HelloRetryRequest: the client is to say hello again.
    #[must_use]
    pub fn is_retry(&self) -> bool {
        *self.random == RETRY
    }

    /// The version that is chosen.
    #[must_use]
    pub fn chosen_version(&self) -> u16 {
        let data = self.extensions.find(extension::VERSIONS);
        data.and_then(|data| Reader(data).u16())
            .unwrap_or(self.version)
    }

    /// Types of the extensions, without GREASE.
    pub fn extension_types(&self) -> impl Iterator<Item = u16> + Clone {
        self.extensions.types()
    }

    /// The application protocol that is chosen, if that can be seen.
    #[must_use]
    pub fn application_protocol(&self) -> Option<&'a [u8]> {
        self.extensions.application_protocols().next()
    }

    /// Whether records are encrypted before they are authenticated (RFC 7366).
    #[must_use]
    pub fn encrypts_then_authenticates(&self) -> bool {
        self.extensions.find(extension::ENCRYPT_THEN_MAC).is_some()
    }
}

/// Extensions of a hello: none if the list is missing.
#[derive(Debug, Clone, Copy)]
struct Extensions<'a>(&'a [u8]);

impl<'a> Extensions<'a> {
    fn read(mut body: Reader<'a>) -> Self {
        Self(body.clamped16().unwrap_or_default())
    }

    fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> + Clone {
        let mut rest = Reader(self.0);
        std::iter::from_fn(move || Some((rest.u16()?, rest.clamped16()?)))
    }

    fn find(self, kind: u16) -> Option<&'a [u8]> {
        let mut found = self.iter().filter(|(one, _)| *one == kind);
        found.next().map(|(_, data)| data)
    }

    fn types(self) -> impl Iterator<Item = u16> + Clone {
        let types = self.iter().map(|(kind, _)| kind);
        types.filter(|kind| !is_grease(*kind))
    }

    /// What an extension holds that is a list of numbers behind its length.
    fn list(self, kind: u16) -> impl Iterator<Item = u16> + Clone {
        let data = self.find(kind).unwrap_or_default();
        without_grease(Reader(data).clamped16().unwrap_or_default())
    }

    fn application_protocols(self) -> impl Iterator<Item = &'a [u8]> {
        let data = self.find(extension::ALPN).unwrap_or_default();
        let mut list = Reader(Reader(data).clamped16().unwrap_or_default());
        std::iter::from_fn(move || list.piece8())
    }
}

fn without_grease(list: &[u8]) -> impl Iterator<Item = u16> + Clone {
    numbers(list).filter(|number| !is_grease(*number))
}
