//! Data of records as text: the reference's formats where it has one, else those of zone files.
//!
//! | type | text | source |
//! |---|---|---|
//! | A, AAAA | the address; an IPv4 address in IPv6 as IPv4 | RFC 5952 |
//! | NS, CNAME, PTR, DNAME | the name | |
//! | MX | preference, exchange | |
//! | TXT | the texts with blanks between them | |
//! | SOA | primary server, mailbox | |
//! | SRV | priority, weight, port, target | RFC 2782 |
//! | NAPTR | order, preference, "flags", "services", "regexp", replacement | RFC 3403 |
//! | DS, CDS | key tag, algorithm, digest type, digest | RFC 4034 section 5.3 |
//! | RRSIG | type, algorithm, labels, TTL, expiration, inception, key tag, signer, signature | RFC 4034 section 3.2, times in seconds since 1970 |
//! | DNSKEY, CDNSKEY | flags, protocol, algorithm, key | RFC 4034 section 2.2 |
//! | TLSA, SMIMEA | usage, selector, matching type, data | RFC 6698 section 2.2 |
//! | SVCB, HTTPS | priority, target, key=value ... | RFC 9460 section 2.1 |
//! | CAA | flags, tag, "value" | RFC 8659 section 4.1.1 |
//! | others, and what is not as its type demands | `<data N bytes>` | |
//!
//! Names have no dot at their end. The root is empty; in the types that the reference does not read it is a dot.

use super::codes::{kind, record_type};
use super::message::Record;
use super::name::Name;
use super::text::{push_base64, push_hex, push_number, push_quoted, push_utf8};
use crate::address_text::AddressText;
use crate::decode::Addr;
use crate::extract::reader::Reader;

impl Record<'_> {
    /// Appends its data as text.
    pub fn push_data(&self, out: &mut Vec<u8>) {
        if self.data.is_empty() {
            return;
        }
        let start = out.len();
        if self.push_known(out).is_none() {
            out.truncate(start);
            out.extend_from_slice(b"<data ");
            push_number(out, self.data.len());
            out.extend_from_slice(b" bytes>");
        }
    }

    /// `None` if the type is not known, or the data are not as it demands.
    fn push_known(&self, out: &mut Vec<u8>) -> Option<()> {
        let mut data = Reader(self.data);
        match self.kind {
            kind::A => {
                let address = u32::from_be_bytes(self.data.try_into().ok()?);
                push_address(out, Addr::V4(address));
            }
            kind::AAAA => push_v6(out, self.data.try_into().ok()?),
            kind::NS | kind::CNAME | kind::PTR | kind::DNAME => {
                self.name_at(0)?.0.push_text(out);
            }
            kind::MX => {
                push_number(out, data.u16()?);
                out.push(b' ');
                self.name_at(2)?.0.push_text(out);
            }
            kind::TXT => push_texts(out, data),
            kind::SOA => {
                let (primary, rest) = self.name_at(0)?;
                primary.push_text(out);
                out.push(b' ');
                let (mailbox, _) = self.name_at(self.data.len() - rest.len())?;
                mailbox.push_text(out);
            }
            kind::SRV => {
                for _ in 0..3 {
                    push_number(out, data.u16()?);
                    out.push(b' ');
                }
                self.name_at(6)?.0.push_text(out);
            }
            kind::NAPTR => self.push_naptr(out)?,
            kind::DS | kind::CDS => {
                push_number(out, data.u16()?);
                push_bytes(out, &mut data, 2)?;
                out.push(b' ');
                push_hex(out, data.0);
            }
            kind::RRSIG => self.push_signature(out)?,
            kind::DNSKEY | kind::CDNSKEY => {
                push_number(out, data.u16()?);
                push_bytes(out, &mut data, 2)?;
                out.push(b' ');
                push_base64(out, data.0);
            }
            kind::TLSA | kind::SMIMEA => {
                push_number(out, data.u8()?);
                push_bytes(out, &mut data, 2)?;
                out.push(b' ');
                push_hex(out, data.0);
            }
            kind::SVCB | kind::HTTPS => self.push_service(out)?,
            kind::CAA => {
                push_number(out, data.u8()?);
                out.push(b' ');
                push_utf8(out, data.piece8()?);
                out.push(b' ');
                push_quoted(out, data.0);
            }
            _ => return None,
        }
        Some(())
    }

    fn push_naptr(&self, out: &mut Vec<u8>) -> Option<()> {
        let mut data = Reader(self.data);
        for _ in 0..2 {
            push_number(out, data.u16()?);
            out.push(b' ');
        }
        for _ in 0..3 {
            push_quoted(out, data.piece8()?);
            out.push(b' ');
        }
        let (replacement, _) = self.name_at(self.data.len() - data.0.len())?;
        push_name(out, replacement);
        Some(())
    }

    fn push_signature(&self, out: &mut Vec<u8>) -> Option<()> {
        let mut data = Reader(self.data);
        out.extend_from_slice(record_type(data.u16()?).as_str().as_bytes());
        push_bytes(out, &mut data, 2)?;
        for _ in 0..3 {
            out.push(b' ');
            push_number(out, u32_of(&mut data)?);
        }
        out.push(b' ');
        push_number(out, data.u16()?);
        out.push(b' ');
        let (signer, signature) = self.name_at(18)?;
        push_name(out, signer);
        out.push(b' ');
        push_base64(out, signature);
        Some(())
    }

    fn push_service(&self, out: &mut Vec<u8>) -> Option<()> {
        push_number(out, Reader(self.data).u16()?);
        out.push(b' ');
        let (target, parameters) = self.name_at(2)?;
        push_name(out, target);
        let mut parameters = Reader(parameters);
        while !parameters.0.is_empty() {
            out.push(b' ');
            push_parameter(out, parameters.u16()?, parameters.piece16()?)?;
        }
        Some(())
    }
}

/// A name where the root has to be seen.
fn push_name(out: &mut Vec<u8>, name: Name<'_>) {
    match name.is_root() {
        true => out.push(b'.'),
        false => name.push_text(out),
    }
}

fn push_address(out: &mut Vec<u8>, address: Addr) {
    out.extend_from_slice(AddressText::new(address).as_str().as_bytes());
}

fn push_v6(out: &mut Vec<u8>, address: [u8; 16]) {
    let address = u128::from_be_bytes(address);
    push_address(
        out,
        match address >> 32 == 0xffff {
            true => Addr::V4(address as u32),
            false => Addr::V6(address),
        },
    );
}

/// Texts behind their lengths; the last one may be cut.
fn push_texts(out: &mut Vec<u8>, mut data: Reader<'_>) {
    let mut is_first = true;
    while let Some(len) = data.u8() {
        if !std::mem::take(&mut is_first) {
            out.push(b' ');
        }
        let len = usize::from(len).min(data.0.len());
        push_utf8(out, data.take(len).unwrap_or_default());
    }
}

/// Numbers of one byte, each behind a blank.
fn push_bytes(out: &mut Vec<u8>, data: &mut Reader<'_>, count: usize) -> Option<()> {
    for byte in data.take(count)? {
        out.push(b' ');
        push_number(out, *byte);
    }
    Some(())
}

fn u32_of(data: &mut Reader<'_>) -> Option<u32> {
    Some(u32::from(data.u16()?) << 16 | u32::from(data.u16()?))
}

/// A parameter of a service (RFC 9460 section 14.3.2).
fn push_parameter(out: &mut Vec<u8>, key: u16, value: &[u8]) -> Option<()> {
    let name = match key {
        0 => "mandatory",
        1 => "alpn",
        2 => "no-default-alpn",
        3 => "port",
        4 => "ipv4hint",
        5 => "ech",
        6 => "ipv6hint",
        _ => "",
    };
    push_key(out, name, key);
    if value.is_empty() {
        return Some(());
    }
    out.push(b'=');
    let mut value = Reader(value);
    match key {
        0 => push_list(out, &mut value, |out, value| {
            let key = value.u16()?;
            push_key(out, "", key);
            Some(())
        }),
        1 => push_list(out, &mut value, |out, value| {
            push_utf8(out, value.piece8()?);
            Some(())
        }),
        3 => {
            push_number(out, value.u16()?);
            Some(())
        }
        4 => push_list(out, &mut value, |out, value| {
            push_address(out, Addr::V4(u32_of(value)?));
            Some(())
        }),
        5 => {
            push_base64(out, value.0);
            Some(())
        }
        6 => push_list(out, &mut value, |out, value| {
            let address = value.take(16)?.try_into().ok()?;
            push_address(out, Addr::V6(u128::from_be_bytes(address)));
            Some(())
        }),
        _ => {
            push_quoted(out, value.0);
            Some(())
        }
    }
}

fn push_key(out: &mut Vec<u8>, name: &str, number: u16) {
    out.extend_from_slice(name.as_bytes());
    if name.is_empty() {
        out.extend_from_slice(b"key");
        push_number(out, number);
    }
}

/// Items with commas between them.
fn push_list(
    out: &mut Vec<u8>,
    value: &mut Reader<'_>,
    mut push_item: impl FnMut(&mut Vec<u8>, &mut Reader<'_>) -> Option<()>,
) -> Option<()> {
    push_item(out, value)?;
    while !value.0.is_empty() {
        out.push(b',');
        push_item(out, value)?;
    }
    Some(())
}
