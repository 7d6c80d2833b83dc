//! Names of numbers, as the reference tells them: what it has no name for is told by its number.

/// Types of records that are spoken of here.
pub mod kind {
    /// An IPv4 address (RFC 1035).
    pub const A: u16 = 1;
    /// An authoritative name server.
    pub const NS: u16 = 2;
    /// The canonical name of an alias.
    pub const CNAME: u16 = 5;
    /// The start of a zone of authority.
    pub const SOA: u16 = 6;
    /// Anything (RFC 1035); known from tunnels.
    pub const NULL: u16 = 10;
    /// Another name.
    pub const PTR: u16 = 12;
    /// A mail exchange.
    pub const MX: u16 = 15;
    /// Texts.
    pub const TXT: u16 = 16;
    /// An IPv6 address (RFC 3596).
    pub const AAAA: u16 = 28;
    /// The location of a service (RFC 2782).
    pub const SRV: u16 = 33;
    /// A rule to rewrite a text (RFC 3403).
    pub const NAPTR: u16 = 35;
    /// An alias for a whole subtree (RFC 6672).
    pub const DNAME: u16 = 39;
    /// Extensions (RFC 6891).
    pub const OPT: u16 = 41;
    /// Digest of a zone's key (RFC 4034).
    pub const DS: u16 = 43;
    /// Signature of records (RFC 4034).
    pub const RRSIG: u16 = 46;
    /// Key of a zone (RFC 4034).
    pub const DNSKEY: u16 = 48;
    /// Certificate of a TLS server (RFC 6698).
    pub const TLSA: u16 = 52;
    /// Certificate of a mail user (RFC 8162).
    pub const SMIMEA: u16 = 53;
    /// DS wished by the child (RFC 7344).
    pub const CDS: u16 = 59;
    /// DNSKEY wished by the child (RFC 7344).
    pub const CDNSKEY: u16 = 60;
    /// How to reach a service (RFC 9460).
    pub const SVCB: u16 = 64;
    /// The same for HTTP (RFC 9460).
    pub const HTTPS: u16 = 65;
    /// Who may issue certificates (RFC 8659).
    pub const CAA: u16 = 257;
}

/// A short text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// A name.
    Name(&'static str),
    /// A prefix with a number.
    Numbered(Numbered),
}

/// See [`Word`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbered {
    bytes: [u8; Self::LONGEST],
    len: u8,
}

impl Word {
    fn numbered(prefix: &'static str, number: u16) -> Self {
        let mut word = Numbered {
            bytes: [0; Numbered::LONGEST],
            len: 0,
        };
        word.push(prefix);
        word.push(itoa::Buffer::new().format(number));
        Self::Numbered(word)
    }

    /// The text.
    #[must_use]
    #[inline]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Numbered(word) => word.as_str(),
        }
    }
}

impl Numbered {
    /// `OPCODE65535` would be the longest.
    const LONGEST: usize = 11;

    fn push(&mut self, text: &str) {
        let start = usize::from(self.len);
        let end = start + text.len();
        if let Some(place) = self.bytes.get_mut(start..end) {
            place.copy_from_slice(text.as_bytes());
            self.len = end as u8;
        }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

/// An operation (4 bits).
#[must_use]
pub fn opcode(number: u8) -> Word {
    Word::Name(match number {
        0 => "QUERY",
        1 => "IQUERY",
        2 => "STATUS",
        4 => "NOTIFY",
        5 => "UPDATE",
        _ => return Word::numbered("OPCODE", number.into()),
    })
}

/// A response code, extended (12 bits).
#[must_use]
pub fn response_code(number: u16) -> Word {
    const NAMES: [&str; 11] = [
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET",
        "NXRRSET", "NOTAUTH", "NOTZONE",
    ];
    match NAMES.get(usize::from(number)) {
        Some(name) => Word::Name(name),
        None => Word::numbered("RCODE", number),
    }
}

/// A type of records, or of questions.
#[must_use]
pub fn record_type(number: u16) -> Word {
    Word::Name(match number {
        kind::A => "A",
        kind::NS => "NS",
        kind::CNAME => "CNAME",
        kind::SOA => "SOA",
        kind::PTR => "PTR",
        kind::MX => "MX",
        kind::TXT => "TXT",
        kind::AAAA => "AAAA",
        kind::SRV => "SRV",
        _ => return Word::numbered("TYPE", number),
    })
}

/// A class. The highest bit, which has a meaning of its own in mDNS, is taken as part of the number.
#[must_use]
pub fn class(number: u16) -> Word {
    Word::Name(match number {
        1 => "IN",
        2 => "CS",
        3 => "CH",
        4 => "HS",
        255 => "ANY",
        _ => return Word::numbered("CLASS", number),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_without_names_are_told_as_numbers() {
        for (word, expected) in [
            (opcode(0), "QUERY"),
            (opcode(3), "OPCODE3"),
            (opcode(6), "OPCODE6"),
            (opcode(15), "OPCODE15"),
            (response_code(3), "NXDOMAIN"),
            (response_code(11), "RCODE11"),
            (response_code(4095), "RCODE4095"),
            (record_type(28), "AAAA"),
            (record_type(10), "TYPE10"),
            (record_type(65), "TYPE65"),
            (record_type(255), "TYPE255"),
            (record_type(65535), "TYPE65535"),
            (class(255), "ANY"),
            (class(32769), "CLASS32769"),
        ] {
            assert_eq!(word.as_str(), expected);
        }
    }
}
