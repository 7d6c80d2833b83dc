//! What filters are compared with: fields of packets, each of a kind.

use super::lower::push_lower;

/// Most fields of one packet; more are taken for an attack, and left out.
pub const MOST_FIELDS: usize = 1024;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident,)*) => {
        /// What a field is. In the order in which the ids of the filters that match are told.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];
        }
    };
}

kinds! {
    /// A name of a DNS message, without the dot at its end.
    DnsName,
    /// Sender or recipient of a mail.
    EmailAddress,
    /// Subject of a mail.
    EmailSubject,
    /// Server name that a TLS client asks for.
    TlsSni,
    /// JA3 of a ClientHello: 32 hexadecimal digits.
    TlsJa3,
    /// JA3S of a ServerHello: 32 hexadecimal digits.
    TlsJa3s,
    /// JA4 of a ClientHello.
    TlsJa4,
    /// Host of an HTTP request, with its port if it has one.
    HttpHost,
    /// Target of an HTTP request, with its query.
    HttpUrl,
    /// International mobile subscriber identity: 15 digits.
    Imsi,
    /// The first 14 digits of an international mobile equipment identity: without its check digit.
    Imei,
    /// User part of a SIP identity.
    SipUser,
    /// URI of a SIP identity, without `sip:` or `sips:`.
    SipUri,
    /// Call-ID of a SIP message.
    CallId,
    /// Name of a codec that a SIP message offers.
    Codec,
}

/// A set of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kinds(u32);

impl Kinds {
    /// No kind.
    pub const NONE: Self = Self(0);
    /// Every kind.
    pub const ALL: Self = Self((1 << Kind::ALL.len()) - 1);

    /// These kinds.
    #[must_use]
    pub const fn of(kinds: &[Kind]) -> Self {
        let (mut set, mut n) = (0, 0);
        while n < kinds.len() {
            set |= 1 << kinds[n] as u32;
            n += 1;
        }
        Self(set)
    }

    /// Adds a kind.
    pub fn insert(&mut self, kind: Kind) {
        self.0 |= 1 << kind as u32;
    }

    /// Whether `kind` is one of them.
    #[must_use]
    #[inline]
    pub const fn has(self, kind: Kind) -> bool {
        self.0 >> kind as u32 & 1 != 0
    }

    /// Whether any of `others` is one of them.
    #[must_use]
    #[inline]
    pub const fn has_any(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Whether there is none.
    #[must_use]
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// The fields of some packets, lower-cased. Cleared and used again, it allocates nothing.
#[derive(Debug, Default)]
pub struct Fields {
    text: Vec<u8>,
    fields: Vec<Field>,
    packet: u32,
    of_packet: usize,
    left_out: u64,
}

#[derive(Debug, Clone, Copy)]
struct Field {
    kind: Kind,
    packet: u32,
    start: usize,
    end: usize,
}

impl Fields {
    /// Forgets all fields; the next one is of packet 0.
    pub fn clear(&mut self) {
        self.text.clear();
        self.fields.clear();
        (self.packet, self.of_packet, self.left_out) = (0, 0, 0);
    }

    /// The next field is of the next packet.
    pub fn next_packet(&mut self) {
        self.packet += 1;
        self.of_packet = 0;
    }

    /// Adds a field of the present packet, unless it has [`MOST_FIELDS`] already.
    pub fn push(&mut self, kind: Kind, text: &[u8]) {
        self.push_parts(kind, &[text]);
    }

    /// Adds a field that consists of several parts.
    pub fn push_parts(&mut self, kind: Kind, parts: &[&[u8]]) {
        self.push_pieces(kind, parts.iter().copied());
    }

    /// Adds a field that may be folded: line ends in it are left out (RFC 5322 section 2.2.3).
    pub fn push_unfolded(&mut self, kind: Kind, text: &[u8]) {
        self.push_pieces(kind, text.split(|byte| matches!(byte, b'\r' | b'\n')));
    }

    /// Adds a field that consists of any number of parts.
    pub fn push_pieces<'a>(&mut self, kind: Kind, parts: impl Iterator<Item = &'a [u8]>) {
        if self.of_packet == MOST_FIELDS {
            self.left_out += 1;
            return;
        }
        let start = self.text.len();
        for part in parts {
            push_lower(&mut self.text, part);
        }
        let (packet, end) = (self.packet, self.text.len());
        self.fields.push(Field {
            kind,
            packet,
            start,
            end,
        });
        self.of_packet += 1;
    }

    /// Whether there are none.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Fields that were left out, because their packets have [`MOST_FIELDS`].
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Packet, kind and text of each field.
    pub fn iter(&self) -> impl Iterator<Item = (u32, Kind, &[u8])> {
        self.fields
            .iter()
            .map(|field| (field.packet, field.kind, &self.text[field.start..field.end]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_are_too_many_are_left_out_and_counted() {
        let mut fields = Fields::default();
        for _ in 0..2 {
            (0..MOST_FIELDS + 3).for_each(|_| fields.push(Kind::DnsName, b"a"));
            fields.next_packet();
        }
        assert_eq!(
            (fields.iter().count(), fields.left_out()),
            (2 * MOST_FIELDS, 6)
        );
        fields.clear();
        assert_eq!(fields.left_out(), 0);
    }
}
