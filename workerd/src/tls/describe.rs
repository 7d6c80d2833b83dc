//! What is told of the packets in which hellos and certificates end. `docs/METADATA.md` lists the keys.

use std::borrow::Cow;
use std::fmt::Write;

use lc_proto::details::Details;

use super::certificate::Certificates;
use super::fingerprint::{Version, ja3, ja3s, ja4, write_ja3, write_ja3s};
use super::hello::{Carrier, ClientHello, ServerHello};
use super::version;
use crate::session::Note;

/// Most bytes of a text out of a hello, and of a list of such texts.
const LONGEST_TEXT: usize = 512;
const LONGEST_LIST: usize = 2048;
/// Most bytes of the text behind JA3; what is longer is left out, since a piece of it says nothing.
const LONGEST_JA3: usize = 4096;

/// Makes notes. Its room is used again.
#[derive(Debug, Default)]
pub struct Describe {
    details: Details,
    info: String,
    text: Vec<u8>,
}

impl Describe {
    /// Of the packet in which a ClientHello ends.
    pub fn client(&mut self, hello: &ClientHello<'_>) -> Note<'_> {
        self.begin("ClientHello", hello.newest_version());
        if let Some(name) = hello.server_name() {
            let name = lossy(name, LONGEST_TEXT);
            self.details.put("tls.sni", &name);
            self.info.push(' ');
            self.info.push_str(&name);
        }
        self.text.clear();
        for protocol in hello.application_protocols() {
            self.join(protocol);
        }
        self.put_joined("tls.alpn");
        self.put_digits("tls.ja3", &ja3(hello, Version::Legacy));
        self.text.clear();
        let text = &mut self.text;
        write_ja3(hello, Version::Legacy, &mut |part| push_bounded(text, part));
        self.put_unless_long("tls.ja3_string");
        self.put_digits("tls.ja4", &ja4(hello));
        if hello.has_encrypted_hello() {
            self.details.put("tls.ech", "true");
        }
        self.note(hello.carrier)
    }

    /// Of the packet in which a ServerHello ends, so many nanoseconds after the ClientHello.
    pub fn server(
        &mut self,
        hello: &ServerHello<'_>,
        carrier: Carrier,
        waited_ns: Option<u64>,
    ) -> Note<'_> {
        let name = if hello.is_retry() {
            "HelloRetryRequest"
        } else {
            "ServerHello"
        };
        self.begin(name, hello.chosen_version());
        self.put_number("tls.cipher", hello.cipher);
        if let Some(protocol) = hello.application_protocol() {
            self.details.put("tls.alpn", &lossy(protocol, LONGEST_TEXT));
        }
        self.put_digits("tls.ja3s", &ja3s(hello, Version::Legacy));
        self.text.clear();
        let text = &mut self.text;
        write_ja3s(hello, Version::Legacy, &mut |part| push_bounded(text, part));
        self.put_unless_long("tls.ja3s_string");
        if let Some(waited_ns) = waited_ns {
            let microseconds = waited_ns / 1_000;
            self.put_with("tls.handshake_ms", |out| {
                // Writing to a vector does not fail.
                let _ = std::io::Write::write_fmt(
                    out,
                    format_args!("{}.{:03}", microseconds / 1_000, microseconds % 1_000),
                );
            });
        }
        self.note(carrier)
    }

    /// Of the packet in which a Certificate message of TLS 1.2 or older ends. `None` if it has no certificate.
    pub fn certificates(
        &mut self,
        body: &[u8],
        carrier: Carrier,
        is_server: bool,
    ) -> Option<Note<'_>> {
        let chain = Certificates::read(body)?;
        self.details.clear();
        self.info.clear();
        let whose = if is_server { "server" } else { "client" };
        self.details.put("tls.cert.of", whose);
        self.details.put("tls.cert.sha256", &chain.sha256());
        self.put_decimal("tls.cert.chain", chain.count());
        self.info.push_str("Certificate");
        if let Some(leaf) = chain.leaf() {
            let subject = lossy(leaf.subject.as_bytes(), LONGEST_TEXT);
            self.details.put("tls.cert.subject", &subject);
            self.details.put(
                "tls.cert.issuer",
                &lossy(leaf.issuer.as_bytes(), LONGEST_TEXT),
            );
            self.details.put("tls.cert.serial", &leaf.serial);
            self.details.put("tls.cert.not_before", &leaf.not_before);
            self.details.put("tls.cert.not_after", &leaf.not_after);
            self.info.push(' ');
            self.info.push_str(&subject);
            self.text.clear();
            for name in &leaf.names {
                self.join(name.as_bytes());
            }
            self.put_joined("tls.cert.sans");
        }
        Some(self.note(carrier))
    }

    /// Of the packet in which a hello of SSL 2.0 ends.
    pub fn old(&mut self, is_client: bool, version: u16) -> Note<'_> {
        let name = if is_client {
            "ClientHello"
        } else {
            "ServerHello"
        };
        self.begin(name, version);
        self.details.put("tls.form", "SSL 2.0");
        self.note(Carrier::Stream)
    }

    fn begin(&mut self, message: &str, version: u16) {
        let version = version::name(version);
        self.details.clear();
        self.info.clear();
        self.details.put("tls.version", &version);
        // Writing to a text does not fail.
        let _ = write!(self.info, "{message} {version}");
    }

    fn note(&self, carrier: Carrier) -> Note<'_> {
        Note {
            protocol: match carrier {
                Carrier::Stream => "TLS",
                Carrier::Dtls => "DTLS",
                Carrier::Quic => "QUIC",
            },
            info: &self.info,
            details: self.details.encoded(),
            ..Note::default()
        }
    }

    fn put_digits(&mut self, key: &str, digits: &[u8]) {
        self.put_with(key, |out| out.extend_from_slice(digits));
    }

    fn put_number(&mut self, key: &str, number: u16) {
        self.put_with(key, |out| {
            let digit = |shift: u32| char::from_digit(u32::from(number >> shift & 15), 16);
            let digits = [12, 8, 4, 0].map(|shift| digit(shift).map_or(b'0', |digit| digit as u8));
            out.extend_from_slice(&digits);
        });
    }

    fn put_decimal(&mut self, key: &str, number: usize) {
        let mut text = itoa::Buffer::new();
        self.details.put(key, text.format(number));
    }

    fn put_with(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
        let write = |out: &mut Vec<u8>| {
            write(out);
            Ok::<_, std::convert::Infallible>(())
        };
        let Ok(_) = self.details.put_with(key, write);
    }

    /// Adds to the list at hand, unless that gets too long.
    fn join(&mut self, text: &[u8]) {
        if self.text.len() + text.len() < LONGEST_LIST {
            if !self.text.is_empty() {
                self.text.push(b',');
            }
            self.text.extend_from_slice(text);
        }
    }

    fn put_joined(&mut self, key: &str) {
        if !self.text.is_empty() {
            self.details.put(key, &lossy(&self.text, LONGEST_LIST));
        }
    }

    fn put_unless_long(&mut self, key: &str) {
        if self.text.len() <= LONGEST_JA3 {
            self.details.put(key, &lossy(&self.text, LONGEST_JA3));
        }
    }
}

/// Appends, up to one byte more than is wanted.
fn push_bounded(text: &mut Vec<u8>, part: &[u8]) {
    if text.len() <= LONGEST_JA3 {
        text.extend_from_slice(part);
    }
}

/// At most `most` bytes as text; what is not UTF-8 is replaced.
fn lossy(bytes: &[u8], most: usize) -> Cow<'_, str> {
    String::from_utf8_lossy(&bytes[..bytes.len().min(most)])
}
