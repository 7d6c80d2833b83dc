//! Identities in SIP header values (RFC 3261 section 25.1: `name-addr`, `addr-spec`), and what filters compare of them.
//!
//! Unlike the reference, every URI of a list counts, schemes have any case, `tel:` URIs (RFC 3966) have a user, and what stands in a
//! display name is none.

use super::lines::{find_ignoring_case, starts_ignoring_case};
use memchr::{memchr, memchr_iter};

/// One URI of a header value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity<'a> {
    /// User part; the number of a `tel:` URI. Empty if there is none.
    pub user: &'a [u8],
    /// What follows the `@` behind the user.
    pub domain: &'a [u8],
    /// The URI without `sip:` or `sips:`; with any other scheme.
    pub uri: &'a [u8],
}

/// Calls `found` for every identity of a header value, in order.
pub fn identities<'a>(mut value: &'a [u8], mut found: impl FnMut(Identity<'a>)) {
    let mut quotes = true;
    while !value.is_empty() {
        let (element, rest) = element(value, &mut quotes);
        if let Some(identity) = identity(element) {
            found(identity);
        }
        value = rest;
    }
}

/// The first element of a list, and those behind its comma. Behind a quote that is not closed, none are `quotes`.
fn element<'a>(value: &'a [u8], quotes: &mut bool) -> (&'a [u8], &'a [u8]) {
    let (mut at, mut in_brackets) = (0, false);
    while at < value.len() {
        match value[at] {
            b'"' if !in_brackets && *quotes => {
                let closing = quoted(&value[at..]);
                *quotes = closing > 0;
                at += closing;
            }
            b'<' => in_brackets = true,
            b'>' => in_brackets = false,
            b',' if !in_brackets => return (&value[..at], &value[at + 1..]),
            _ => {}
        }
        at += 1;
    }
    (value, &[])
}

/// How far behind the opening quote at the start the closing one stands; 0 if there is none: then it is no quote.
fn quoted(text: &[u8]) -> usize {
    let is_escape = |at: usize| {
        text[1..at]
            .iter()
            .rev()
            .take_while(|byte| **byte == b'\\')
            .count()
            % 2
            == 1
    };
    memchr_iter(b'"', text)
        .skip(1)
        .find(|at| !is_escape(*at))
        .unwrap_or(0)
}

fn identity(element: &[u8]) -> Option<Identity<'_>> {
    let mut rest = element.trim_ascii_start();
    if rest.first() == Some(&b'"') {
        let closing = quoted(rest);
        rest = if closing == 0 {
            rest
        } else {
            &rest[closing + 1..]
        };
    }
    if let Some(open) = memchr(b'<', rest) {
        let inside = &rest[open + 1..];
        let uri = &inside[..memchr(b'>', inside).unwrap_or(inside.len())];
        return (!uri.is_empty()).then(|| of_uri(uri.trim_ascii(), |_| false));
    }
    bare(rest)
}

/// The identity of a URI that stands without brackets, also that of a request line: parameters do not belong to it.
#[must_use]
pub fn bare(text: &[u8]) -> Option<Identity<'_>> {
    let starts = |scheme: &[u8]| {
        let at = find_ignoring_case(text, scheme)?;
        let is_word = at == 0 || !text[at - 1].is_ascii_alphanumeric();
        is_word.then_some(at)
    };
    let start = [&b"sip:"[..], b"sips:", b"tel:"]
        .into_iter()
        .filter_map(starts)
        .min()?;
    let uri = &text[start..];
    let end = uri
        .iter()
        .position(|byte| byte.is_ascii_whitespace() || *byte == b'>');
    Some(of_uri(&uri[..end.unwrap_or(uri.len())], |byte| {
        byte == b';'
    }))
}

/// `ends`: which byte ends the URI, but for its user part.
fn of_uri(uri: &[u8], ends: fn(u8) -> bool) -> Identity<'_> {
    let cut = |text: &'_ [u8]| {
        text.iter()
            .position(|byte| ends(*byte))
            .unwrap_or(text.len())
    };
    for scheme in [&b"sip:"[..], b"sips:"] {
        if starts_ignoring_case(uri, scheme) {
            let uri = &uri[scheme.len()..];
            let (user, domain) = match memchr(b'@', uri) {
                Some(at) => (&uri[..at], &uri[at + 1..]),
                None => (&[][..], &[][..]),
            };
            return Identity {
                user,
                domain,
                uri: &uri[..cut(uri)],
            };
        }
    }
    let user = match starts_ignoring_case(uri, b"tel:") {
        true => &uri[4..memchr(b';', uri).unwrap_or(uri.len()).max(4)],
        false => &[],
    };
    Identity {
        user,
        domain: &[],
        uri: &uri[..cut(uri)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(value: &str) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut list = vec![];
        identities(value.as_bytes(), |one| {
            list.push((text(one.user), text(one.uri)))
        });
        list
    }

    #[test]
    fn identities_are_read_as_the_table_says() {
        for (value, user, uri) in [
            (
                "Alicent <sip:alicent@domain.com>;tag=123",
                "alicent",
                "alicent@domain.com",
            ),
            ("<sip:robb@example.org>", "robb", "robb@example.org"),
            (
                "sip:+49123456789@carrier.com",
                "+49123456789",
                "+49123456789@carrier.com",
            ),
            (
                "sips:alice.smith@secure.example.com",
                "alice.smith",
                "alice.smith@secure.example.com",
            ),
            (
                "<sip:*31#+49123456789@carrier.com>",
                "*31#+49123456789",
                "*31#+49123456789@carrier.com",
            ),
            (
                "<sip:user@192.168.1.100:5060>",
                "user",
                "user@192.168.1.100:5060",
            ),
            ("<sip:alice;x=1@h;lr>", "alice;x=1", "alice;x=1@h;lr"),
            // The reference has no user here (W14).
            ("<tel:+4912>;phone-context=a", "+4912", "tel:+4912"),
            // The reference takes the user from the display name (W17).
            ("\"sip:a@z\" <sip:b@y>", "b", "b@y"),
            ("<sip:1234>", "", "1234"),
            ("<urn:service:sos>", "", "urn:service:sos"),
        ] {
            assert_eq!(all(value), [(user.to_owned(), uri.to_owned())], "{value}");
        }
        for value in ["user@example.com", "", "\"sip:a@b\"", "<>", "gossip:x@y"] {
            assert_eq!(all(value), [], "{value}");
        }
    }

    #[test]
    fn every_uri_of_a_list_counts() {
        let users = |value| {
            all(value)
                .into_iter()
                .map(|(user, _)| user)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            users(
                "<sip:a@x>, \"B, \\\" <sip:no@x>\" <SIPS:b@x>;p=\"1,2\",sip:c@x;tag=1, <tel:+49;x>"
            ),
            ["a", "b", "c", "+49"]
        );
        assert_eq!(users("\"unclosed <sip:a@x>"), ["a"]);
        assert_eq!(users("<sip:a@x"), ["a"]);
        assert_eq!(users(",,<sip:a,b@x>,"), ["a,b"]);
    }
}
