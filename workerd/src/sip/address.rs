//! Addresses in header values: `name-addr` and `addr-spec` (RFC 3261 section 25.1), `tel:` URIs (RFC 3966).
//!
//! Schemes have any case, every element of a list counts, and what stands in a display name is no address. Where a value breaks the
//! grammar, what a helpful server would understand is taken: brackets that are not closed, quotes that are not closed, a bare URI
//! behind a name. Nothing is unescaped but by [`Uri::unescaped_user`].

use memchr::{memchr, memchr_iter};

/// A URI of a header value, with what stands around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address<'a> {
    /// The display name, without quotes; with its escapes.
    pub display: &'a [u8],
    /// The URI.
    pub uri: Uri<'a>,
    /// The parameters behind it, from the first `;`.
    pub params: &'a [u8],
}

impl<'a> Address<'a> {
    /// The tag of From and To (RFC 3261 section 19.3); empty if there is none.
    #[must_use]
    pub fn tag(&self) -> &'a [u8] {
        self.param(b"tag").unwrap_or_default()
    }

    /// The value of a parameter, without quotes; empty if it has none. `name` is lower-case.
    #[must_use]
    pub fn param(&self, name: &[u8]) -> Option<&'a [u8]> {
        params(self.params).find_map(|(one, value)| one.eq_ignore_ascii_case(name).then_some(value))
    }
}

/// A URI. Of `sip:` and `sips:` URIs, user and host are told; of `tel:`, the number is the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uri<'a> {
    /// As it stands, with its scheme. Without parameters if it stands without brackets: those belong to the header.
    pub text: &'a [u8],
    /// Without `sip:` or `sips:`, but with any other scheme.
    pub without_scheme: &'a [u8],
    /// The user part as it stands: with parameters, a password and escapes. Empty if there is none.
    pub user: &'a [u8],
    /// What follows the `@` behind the user, up to where the URI ends.
    pub domain: &'a [u8],
}

impl<'a> Uri<'a> {
    /// The URI of a request line, or one that stands without brackets. `None` if its scheme is none of `sip`, `sips` and `tel`.
    #[must_use]
    pub fn bare(text: &'a [u8]) -> Option<Self> {
        bare(text).map(|(_, uri, _)| uri)
    }

    /// The host, without port and parameters; an IPv6 address without its brackets. Empty if there is none.
    #[must_use]
    pub fn host(&self) -> &'a [u8] {
        let domain = match (self.domain, starts(self.text, b"tel:")) {
            ([], false) => self.without_scheme,
            (domain, _) => domain,
        };
        if let Some(inside) = domain.strip_prefix(b"[") {
            return &inside[..memchr(b']', inside).unwrap_or(inside.len())];
        }
        let ends = |byte: &u8| matches!(byte, b':' | b';' | b'?' | b'>');
        &domain[..domain.iter().position(ends).unwrap_or(domain.len())]
    }

    /// The user part with `%41` as `A` (RFC 3261 section 19.1.2). Uses `scratch` only if there are escapes.
    #[must_use]
    pub fn unescaped_user<'s>(&self, scratch: &'s mut Vec<u8>) -> &'s [u8]
    where
        'a: 's,
    {
        if memchr(b'%', self.user).is_none() {
            return self.user;
        }
        scratch.clear();
        let mut rest = self.user;
        while let Some((&byte, behind)) = rest.split_first() {
            let escaped = match (byte, behind) {
                (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
                _ => None,
            };
            match escaped {
                Some((high, low)) => {
                    scratch.push(high << 4 | low);
                    rest = &behind[2..];
                }
                None => {
                    scratch.push(byte);
                    rest = behind;
                }
            }
        }
        scratch
    }
}

/// All addresses of a header value, in order. Work is linear in the value.
#[must_use]
pub fn addresses(value: &[u8]) -> Addresses<'_> {
    Addresses {
        rest: value,
        quotes: true,
    }
}

/// See [`addresses`].
#[derive(Debug, Clone)]
pub struct Addresses<'a> {
    rest: &'a [u8],
    /// False behind a quote that is not closed: no later one can be.
    quotes: bool,
}

impl<'a> Iterator for Addresses<'a> {
    type Item = Address<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let element = self.next_element();
            if let Some(address) = address(element) {
                return Some(address);
            }
        }
        None
    }
}

impl<'a> Addresses<'a> {
    /// Cuts the first element of the list off, at a comma outside of quotes and brackets.
    fn next_element(&mut self) -> &'a [u8] {
        let value = self.rest;
        let (mut at, mut in_brackets) = (0, false);
        while at < value.len() {
            match value[at] {
                b'"' if !in_brackets && self.quotes => {
                    let closing = quoted(&value[at..]);
                    self.quotes = closing.is_some();
                    at += closing.unwrap_or(0);
                }
                b'<' => in_brackets = true,
                b'>' => in_brackets = false,
                b',' if !in_brackets => {
                    self.rest = &value[at + 1..];
                    return &value[..at];
                }
                _ => {}
            }
            at += 1;
        }
        self.rest = &[];
        value
    }
}

/// Parameters behind a value: names and values, without blanks and quotes.
pub fn params(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let start = memchr(b';', text).map_or(text.len(), |at| at + 1);
    first_and_other_params(&text[start..])
}

/// Parameters of a header that has nothing else: the first has no `;` before it.
pub fn first_and_other_params(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let (mut rest, mut quotes) = (text, true);
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (mut at, mut equals) = (0, None);
            while let Some(byte) = rest.get(at) {
                match byte {
                    b'"' if quotes => {
                        let closing = quoted(&rest[at..]);
                        quotes = closing.is_some();
                        at += closing.unwrap_or(0);
                    }
                    b'=' if equals.is_none() => equals = Some(at),
                    b';' => break,
                    _ => {}
                }
                at += 1;
            }
            let (name, value) = match equals {
                Some(equals) => (&rest[..equals], &rest[equals + 1..at]),
                None => (&rest[..at], &[][..]),
            };
            rest = rest.get(at + 1..).unwrap_or_default();
            let (name, value) = (name.trim_ascii(), unquoted(value.trim_ascii()));
            if !name.is_empty() {
                return Some((name, value));
            }
        }
        None
    })
}

/// Text without the quotes around it.
#[must_use]
pub fn unquoted(text: &[u8]) -> &[u8] {
    let inside = text.strip_prefix(b"\"");
    inside
        .and_then(|text| text.strip_suffix(b"\""))
        .unwrap_or(text)
}

/// How far behind the opening quote at the start the closing one stands; `None` if there is none: then it is no quote.
fn quoted(text: &[u8]) -> Option<usize> {
    let mut quotes = memchr_iter(b'"', text).skip(1);
    // Backslashes directly before the quote are looked at once each: every run belongs to one quote.
    quotes.find(|at| {
        let backslashes = text[1..*at]
            .iter()
            .rev()
            .take_while(|byte| **byte == b'\\')
            .count();
        backslashes % 2 == 0
    })
}

fn address(element: &[u8]) -> Option<Address<'_>> {
    let element = element.trim_ascii();
    let (mut display, mut rest) = (&[][..], element);
    if element.first() == Some(&b'"')
        && let Some(closing) = quoted(element)
    {
        (display, rest) = (&element[1..closing], &element[closing + 1..]);
    }
    if let Some(open) = memchr(b'<', rest) {
        if display.is_empty() {
            display = rest[..open].trim_ascii();
        }
        let inside = &rest[open + 1..];
        let close = memchr(b'>', inside).unwrap_or(inside.len());
        let uri = inside[..close].trim_ascii();
        let params = &inside[(close + 1).min(inside.len())..];
        return (!inside[..close].is_empty()).then(|| Address {
            display,
            uri: uri_of(uri, uri.len()),
            params,
        });
    }
    let (before, uri, params) = bare(rest)?;
    if display.is_empty() {
        display = before.trim_ascii();
    }
    Some(Address {
        display,
        uri,
        params,
    })
}

/// What stands before a URI without brackets, the URI, and the parameters behind it.
fn bare(text: &[u8]) -> Option<(&[u8], Uri<'_>, &[u8])> {
    let start = find_scheme(text)?;
    let uri = &text[start..];
    let ends = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'>';
    let end = uri.iter().position(ends).unwrap_or(uri.len());
    // Parameters of the user stand before the `@`.
    let user = match starts(uri, b"tel:") {
        true => 0,
        false => memchr(b'@', &uri[..end]).unwrap_or(0),
    };
    let params = memchr(b';', &uri[user..]).map_or(&[][..], |at| &uri[user + at..]);
    let text_end = memchr(b';', &uri[..end]).unwrap_or(end);
    Some((&text[..start], uri_of(&uri[..end], text_end), params))
}

/// Where the first `sip:`, `sips:` or `tel:` stands that begins a word.
fn find_scheme(text: &[u8]) -> Option<usize> {
    memchr_iter(b':', text).find_map(|colon| {
        [&b"sip"[..], b"sips", b"tel"].iter().find_map(|scheme| {
            let start = colon.checked_sub(scheme.len())?;
            let is_word = start == 0 || !text[start - 1].is_ascii_alphanumeric();
            (is_word && text[start..colon].eq_ignore_ascii_case(scheme)).then_some(start)
        })
    })
}

/// `end`: how much of it is the URI's text; its user may be behind.
fn uri_of(uri: &[u8], end: usize) -> Uri<'_> {
    for scheme in [&b"sip:"[..], b"sips:"] {
        if starts(uri, scheme) {
            let behind = &uri[scheme.len()..];
            let (user, domain) = match memchr(b'@', behind) {
                Some(at) => (&behind[..at], &behind[at + 1..]),
                None => (&[][..], &[][..]),
            };
            return Uri {
                text: &uri[..end],
                without_scheme: uri.get(scheme.len()..end).unwrap_or_default(),
                user,
                domain,
            };
        }
    }
    let user = match starts(uri, b"tel:") {
        true => &uri[4..memchr(b';', uri).unwrap_or(uri.len()).max(4)],
        false => &[],
    };
    Uri {
        text: &uri[..end],
        without_scheme: &uri[..end],
        user,
        domain: &[],
    }
}

/// Whether `text` starts with `start`, in any case.
fn starts(text: &[u8], start: &[u8]) -> bool {
    text.get(..start.len())
        .is_some_and(|text| text.eq_ignore_ascii_case(start))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    fn all(value: &str) -> Vec<(String, String)> {
        addresses(value.as_bytes())
            .map(|one| (text(one.uri.user), text(one.uri.without_scheme)))
            .collect()
    }

    /// Table 14.4b of the filters, and rows D1 to D6.
    #[test]
    fn users_and_uris_are_read_as_the_tables_say() {
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
            ("\"x <y>\" <sip:a@b>", "a", "a@b"),
            ("<sip:1234>", "", "1234"),
            ("<urn:service:sos>", "", "urn:service:sos"),
            // D1, D5; D2; D3; D6.
            (
                "Ann <sip:ann@alpha.example>;tag=123",
                "ann",
                "ann@alpha.example",
            ),
            (
                "sips:a.smith@secure.example",
                "a.smith",
                "a.smith@secure.example",
            ),
            (
                "<sip:*31#+4930123456@carrier.example>",
                "*31#+4930123456",
                "*31#+4930123456@carrier.example",
            ),
            ("<sip:ann@192.0.2.5:5060>", "ann", "ann@192.0.2.5:5060"),
            // Probes of section 3.
            (
                "<sip:+1;phone-context=x@h;user=phone>",
                "+1;phone-context=x",
                "+1;phone-context=x@h;user=phone",
            ),
            ("sip:user:pw@h", "user:pw", "user:pw@h"),
            ("<tel:+4930>", "+4930", "tel:+4930"),
            ("SIP:a@b", "a", "a@b"),
            ("sip:a%40b@h", "a%40b", "a%40b@h"),
            ("<sip:a@b?x=y>", "a", "a@b?x=y"),
            ("Doe, John <sip:j@x>;tag=1", "j", "j@x"),
            ("<sip:>;sip:;1001@45.93.16.168:61959", "", ""),
        ] {
            assert_eq!(all(value), [(user.to_owned(), uri.to_owned())], "{value}");
        }
        for value in [
            "user@example.com",
            "",
            "\"sip:a@b\"",
            "<>",
            "gossip:x@y",
            "ann@alpha.example",
        ] {
            assert_eq!(all(value), [], "{value}, D4");
        }
    }

    #[test]
    fn full_uris_end_where_header_parameters_begin() {
        let full = |value: &str| {
            addresses(value.as_bytes())
                .next()
                .map(|one| text(one.uri.text))
        };
        let some = |uri: &str| Some(uri.to_owned());
        assert_eq!(
            full("sip:ben@beta.example;transport=tcp"),
            some("sip:ben@beta.example"),
            "D7"
        );
        assert_eq!(
            full("<sip:b@x;transport=tcp>;q=1"),
            some("sip:b@x;transport=tcp")
        );
        assert_eq!(full("<tel:+4930>"), some("tel:+4930"));
    }

    #[test]
    fn tags_are_parameters_of_the_header() {
        for (value, tag) in [
            (
                "Ann <sip:ann@alpha.example>;tag=xyz789;other=param",
                "xyz789",
            ), // D8
            ("Ann <sip:ann@alpha.example>", ""), // D9
            ("<sip:a@b;tag=uri>;tag=hdr", "hdr"),
            ("<sip:a@b>\r\n ;tag=zz", "zz"), // X23
            ("sip:a@b;x;TAG = 7 ;y=1", "7"),
            ("sip:+1;tag=no@b;tag=yes", "yes"),
            ("\"a;tag=no\" <sip:a@b>;p=\"1;tag=no\";tag=t", "t"),
            ("<sip:a@b>;p=\"unclosed;tag=t", "t"),
        ] {
            let address = addresses(value.as_bytes()).next().unwrap();
            assert_eq!(text(address.tag()), tag, "{value}");
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

    #[test]
    fn hosts_names_and_escapes() {
        let one = |value: &'static str| addresses(value.as_bytes()).next().unwrap();
        assert_eq!(
            text(one("<sip:a@[2001:db8::1]:5060;lr>").uri.host()),
            "2001:db8::1"
        );
        assert_eq!(
            text(one("<sip:a@b.example:5060;lr>").uri.host()),
            "b.example"
        );
        assert_eq!(text(one("sip:b.example;tag=1").uri.host()), "b.example");
        assert_eq!(text(one("<tel:+49>").uri.host()), "");
        assert_eq!(
            text(one("\"A \\\"B\\\"\" <sip:a@b>").display),
            "A \\\"B\\\""
        );
        assert_eq!(text(one("Ann Lee <sip:a@b>").display), "Ann Lee");
        let mut scratch = vec![];
        let user = one("<sip:%61l%69ce%4@b>").uri;
        assert_eq!(user.unescaped_user(&mut scratch), b"alice%4");
        assert_eq!(one("sip:a@b").uri.unescaped_user(&mut scratch), b"a");
    }
}
