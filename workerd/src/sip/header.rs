//! Names and values of header fields.

use std::fmt::{self, Display, Write};

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $long:literal $(| $compact:literal)?,)*) => {
        /// A header field that is looked for, whatever the case of its name and whether it is in its compact form.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Name {
            $($(#[$doc])* $name,)*
        }

        impl Name {
            /// All names.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The header field of this name, in lower case.
            fn of_lower(name: &[u8]) -> Option<Self> {
                // The tokens are byte strings of the table below.
                $(if name == $long.as_bytes() $(|| name == $compact.as_bytes())? {
                    return Some(Self::$name);
                })*
                None
            }

            /// Its full name, in lower case.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $long,)*
                }
            }
        }
    };
}

names! {
    /// RFC 3261.
    Via = "via" | "v",
    /// RFC 3261.
    From = "from" | "f",
    /// RFC 3261.
    To = "to" | "t",
    /// RFC 3261.
    CallId = "call-id" | "i",
    /// RFC 3261.
    CSeq = "cseq",
    /// RFC 3261.
    Contact = "contact" | "m",
    /// RFC 3261.
    ContentLength = "content-length" | "l",
    /// RFC 3261.
    ContentType = "content-type" | "c",
    /// RFC 3261.
    ContentEncoding = "content-encoding" | "e",
    /// RFC 3261.
    UserAgent = "user-agent",
    /// RFC 3261.
    Expires = "expires",
    /// RFC 3261.
    Authorization = "authorization",
    /// RFC 3261.
    ProxyAuthorization = "proxy-authorization",
    /// RFC 3261. Has no compact form: `n` is Identity-Info (RFC 4474).
    InReplyTo = "in-reply-to",
    /// RFC 3325.
    AssertedIdentity = "p-asserted-identity",
    /// RFC 3325.
    PreferredIdentity = "p-preferred-identity",
    /// RFC 7315.
    CalledParty = "p-called-party-id",
    /// RFC 7315.
    AccessNetwork = "p-access-network-info",
    /// RFC 7315.
    VisitedNetwork = "p-visited-network-id",
    /// RFC 7315.
    ChargingVector = "p-charging-vector",
    /// RFC 4028.
    SessionExpires = "session-expires" | "x",
    /// RFC 8224.
    Identity = "identity" | "y",
    /// RFC 7989.
    SessionId = "session-id",
    /// RFC 3891.
    Replaces = "replaces",
    /// RFC 3515.
    ReferTo = "refer-to" | "r",
    /// RFC 3892.
    ReferredBy = "referred-by" | "b",
    /// RFC 5806.
    Diversion = "diversion",
    /// RFC 7044.
    HistoryInfo = "history-info",
    /// Of B2BUAs: the Call-ID of the other leg.
    XCallId = "x-call-id",
    /// Of B2BUAs: the Call-ID of the other leg.
    XCid = "x-cid",
    /// Before RFC 3325.
    RemotePartyId = "remote-party-id",
    /// RFC 3326.
    Reason = "reason",
    /// RFC 6665.
    Event = "event" | "o",
}

/// Longest name in the table.
const LONGEST: usize = 21;

/// By length of a name, the first letters that names of the table have, by their lowest five bits: most others end here.
const FIRST_LETTERS: [u32; LONGEST + 1] = {
    let mut letters = [0; LONGEST + 1];
    // Compact forms.
    letters[1] = u32::MAX;
    let mut number = 0;
    while number < Name::ALL.len() {
        let name = Name::ALL[number].as_str().as_bytes();
        letters[name.len()] |= 1 << (name[0] & 31);
        number += 1;
    }
    letters
};

impl Name {
    /// The header field of this name, in any case.
    #[must_use]
    #[inline]
    pub fn of(name: &[u8]) -> Option<Self> {
        let letters = FIRST_LETTERS.get(name.len())?;
        if letters >> (name.first()? & 31) & 1 == 0 {
            return None;
        }
        let mut lower = [0; LONGEST];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        Self::of_lower(lower)
    }
}

/// A header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name as it stands.
    pub name: &'a [u8],
    /// Its value.
    pub value: Value<'a>,
}

/// The value of a header field, without the blanks around it. May be folded, and may be no UTF-8.
///
/// As text ([`Display`], [`Value::write_to`]), it is on one line, and what is no UTF-8 is U+FFFD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value<'a>(pub &'a [u8]);

impl<'a> Value<'a> {
    /// As it stands, with line ends if it is folded.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether it goes over several lines.
    #[must_use]
    pub fn is_folded(self) -> bool {
        memchr::memchr2(b'\r', b'\n', self.0).is_some()
    }

    /// Writes it as text.
    pub fn write_to(self, out: &mut impl Write) -> fmt::Result {
        let lines = self.0.split(|byte| matches!(byte, b'\r' | b'\n'));
        let lines = lines
            .map(<[u8]>::trim_ascii)
            .filter(|line| !line.is_empty());
        for (number, line) in lines.enumerate() {
            if number > 0 {
                out.write_char(' ')?;
            }
            for chunk in line.utf8_chunks() {
                out.write_str(chunk.valid())?;
                if !chunk.invalid().is_empty() {
                    out.write_char(char::REPLACEMENT_CHARACTER)?;
                }
            }
        }
        Ok(())
    }
}

impl Display for Value<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_any_case_and_compact_forms() {
        for name in Name::ALL {
            assert_eq!(
                Name::of(name.as_str().to_ascii_uppercase().as_bytes()),
                Some(*name)
            );
            assert!(name.as_str().len() <= LONGEST);
        }
        assert!(Name::ALL.len() <= 64);
        for (compact, name) in [
            ("c", Some(Name::ContentType)),
            ("X", Some(Name::SessionExpires)),
            ("e", Some(Name::ContentEncoding)),
            ("y", Some(Name::Identity)),
            ("I", Some(Name::CallId)),
            ("m", Some(Name::Contact)),
            ("p", None),
            ("n", None),
            ("a-name-that-is-longer-than-all-others", None),
        ] {
            assert_eq!(Name::of(compact.as_bytes()), name, "{compact}");
        }
    }

    #[test]
    fn values_are_text_on_one_line() {
        let value = Value(b"a\r\n \t b\xff c\n\td");
        assert!(value.is_folded());
        assert_eq!(value.to_string(), "a b\u{fffd} c d");
    }
}
