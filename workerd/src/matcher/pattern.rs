//! The two pattern languages of text filters, as one structure: literal parts with stars between them.
//!
//! | language | plain text | star at an edge | inner star | escape | of |
//! |---|---|---|---|---|---|
//! | affix | contained | prefix, suffix | literal | `\*` | SIP users, SIP URIs, phone numbers |
//! | glob | equal | any run | any run | none | names, mail, HTTP, Call-IDs, codecs |
//!
//! Both compare lower-cased text ([`lower`]).

use super::lower::lower;
use memchr::memmem;

/// A compiled pattern: literal parts that occur in this order without overlapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// None is empty.
    pub parts: Vec<Vec<u8>>,
    /// Whether anything may stand before the first part.
    pub open_start: bool,
    /// Whether anything may stand behind the last part.
    pub open_end: bool,
}

/// Stands for an escaped star while stars are looked for.
const ESCAPED: char = '\0';

impl Pattern {
    /// Reads an affix pattern: at most one star on each side is one, and `\*` is a literal star.
    #[must_use]
    pub fn affix(pattern: &str) -> Self {
        let escaped = pattern.replace("\\*", "\0");
        let (rest, leading) = match escaped.strip_prefix('*') {
            Some(rest) => (rest, true),
            None => (escaped.as_str(), false),
        };
        let (text, trailing) = match rest.strip_suffix('*') {
            Some(text) => (text, true),
            None => (rest, leading && rest.is_empty()),
        };
        let text = lower(text.replace(ESCAPED, "*").as_bytes());
        let contains = leading == trailing;
        Self {
            open_start: leading || contains,
            open_end: trailing || contains,
            parts: if text.is_empty() { vec![] } else { vec![text] },
        }
    }

    /// Reads a glob: each `*` is any run, also an empty one.
    #[must_use]
    pub fn glob(pattern: &str) -> Self {
        let parts = pattern.split('*').filter(|part| !part.is_empty());
        Self {
            parts: parts.map(|part| lower(part.as_bytes())).collect(),
            open_start: pattern.starts_with('*'),
            open_end: pattern.ends_with('*'),
        }
    }

    /// Exactly `text`.
    #[must_use]
    pub fn exactly(text: &[u8]) -> Self {
        Self {
            parts: match text.is_empty() {
                true => vec![],
                false => vec![lower(text)],
            },
            open_start: false,
            open_end: false,
        }
    }

    /// Whether it matches `text`, which is lower-cased.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        self.rest(text).is_some_and(|rest| {
            self.open_start || self.open_end || rest.is_empty() || self.parts.len() > 1
        })
    }

    /// What is left when every part has been found; `None` if one is missing.
    fn rest<'a>(&self, mut rest: &'a [u8]) -> Option<&'a [u8]> {
        let mut parts = &self.parts[..];
        if let (false, Some((first, others))) = (self.open_start, parts.split_first()) {
            rest = rest.strip_prefix(&first[..])?;
            parts = others;
        }
        if let (false, Some((last, others))) = (self.open_end, parts.split_last()) {
            rest = rest.strip_suffix(&last[..])?;
            parts = others;
        }
        // The first place of each leaves the most room for the others.
        for part in parts {
            rest = &rest[memmem::find(rest, part)? + part.len()..];
        }
        Some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows U1 to U3 and U5 of the reference's conformance cases: compared with users alone, not with names.
    #[test]
    fn users_match_affix_patterns() {
        for (pattern, user, is_match) in [
            ("*456789", "+49123456789", true),
            ("alice*", "bob", false),
            ("alicent", "asmith", false),
            ("\\*31#", "*31#123456789", true),
        ] {
            let found = Pattern::affix(pattern).matches(user.as_bytes());
            assert_eq!(found, is_match, "{pattern} {user}");
        }
    }

    #[test]
    fn affix_patterns_are_read_as_the_table_says() {
        for (pattern, text, kind) in [
            ("alice", "alice", "contains"),
            ("456789", "456789", "contains"),
            ("", "", "contains"),
            ("*456789", "456789", "suffix"),
            ("*+49123456", "+49123456", "suffix"),
            ("alice*", "alice", "prefix"),
            ("+4912*", "+4912", "prefix"),
            ("*alice*", "alice", "contains"),
            ("\\*alice", "*alice", "contains"),
            ("alice\\*", "alice*", "contains"),
            ("al\\*ice", "al*ice", "contains"),
            ("*\\*31#", "*31#", "suffix"),
            ("\\*31\\*", "*31*", "contains"),
            ("\\*alice*", "*alice", "prefix"),
            ("*alice\\*", "alice*", "suffix"),
            ("*", "", "contains"),
            ("**", "", "contains"),
            ("***", "*", "contains"),
            ("a**", "a*", "prefix"),
            ("**a", "*a", "suffix"),
            ("a*b", "a*b", "contains"),
            ("*a*b*", "a*b", "contains"),
            ("\\**", "*", "prefix"),
            ("\\\\*", "\\*", "contains"),
        ] {
            let read = Pattern::affix(pattern);
            let found = match (read.open_start, read.open_end) {
                (true, true) => "contains",
                (true, false) => "suffix",
                (false, true) => "prefix",
                (false, false) => "exact",
            };
            assert_eq!(
                (read.parts.concat().as_slice(), found),
                (text.as_bytes(), kind),
                "{pattern}"
            );
        }
    }

    #[test]
    fn globs_match_as_the_table_says() {
        for (pattern, value, expected) in [
            ("", "", true),
            ("", "example.com", false),
            ("EXAMPLE.COM", "example.com", true),
            ("example.com", "example.org", false),
            ("*.example.com", "www.example.com", true),
            ("*.example.com", ".example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "smtp.mail.example.com", true),
            ("admin.*", "admin.", true),
            ("admin.*", "user.example.com", false),
            ("*MALWARE*", "this.malware.com", true),
            ("foo*bar", "foobar", true),
            ("foo*bar", "fooXXXbaz", false),
            ("*foo*bar*", "foobar", true),
            ("*foo*bar*", "fooXXX", false),
            ("*", "", true),
            ("**a", "a", true),
            ("ab*ba", "aba", false),
            ("a*b*c", "aXbYc", true),
            // The reference misses these two (W22).
            ("*a*b", "xaxbxb", true),
            ("a*b*b", "aXbYbZb", true),
            ("?x", "ax", false),
            ("[ab]", "a", false),
            ("\\*x", "*x", false),
            ("example.com", "example.com.", false),
            ("*.bad-domain.*", "www.bad-domain.com", true),
        ] {
            let matches = Pattern::glob(pattern).matches(&lower(value.as_bytes()));
            assert_eq!(matches, expected, "{pattern} {value}");
        }
    }

    #[test]
    fn exact_patterns_match_nothing_else() {
        assert!(Pattern::exactly(b"AB").matches(b"ab"));
        for other in ["a", "abb", "aab", ""] {
            assert!(
                !Pattern::exactly(b"ab").matches(other.as_bytes()),
                "{other}"
            );
        }
        assert!(Pattern::exactly(b"").matches(b""));
    }
}
