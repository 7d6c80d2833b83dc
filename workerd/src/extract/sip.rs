//! Fields of a SIP message (RFC 3261) that is whole in its packet, or begins in it.
//!
//! Identities come from From, To, P-Asserted-Identity, P-Preferred-Identity (RFC 3325), P-Called-Party-ID (RFC 7315) and the
//! Request-URI, in this order, all values of each. Read as leniently as a server that wants to help: blanks before the colon, folded
//! lines, any line ends, empty lines before the message. The body has no identities.

use super::identity::{Identity, bare, identities};
use super::lines::{Lines, find_ignoring_case, header, starts_ignoring_case};
use super::sdp;
use crate::detect::SIP_METHODS;
use crate::matcher::{Fields, Kind, Kinds};
use memchr::memchr;

/// What a SIP message has.
pub const KINDS: Kinds = Kinds::of(&[
    Kind::SipUser,
    Kind::SipUri,
    Kind::CallId,
    Kind::Codec,
    Kind::Imsi,
    Kind::Imei,
]);

/// Longest name of a method.
const METHOD: usize = 24;
/// Longest instance id that can be an IMEI, with separators and parameters.
const INSTANCE: usize = 80;
/// Most header lines that are put in order; more are read as they come.
const MOST_HEADERS: usize = 64;

/// A header with something to compare. In the order in which the fields are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    Authorization,
    From,
    To,
    Asserted,
    Preferred,
    CalledParty,
    Contact,
    CallId,
}

const ORDER: &[Header] = &[
    Header::Authorization,
    Header::From,
    Header::To,
    Header::Asserted,
    Header::Preferred,
    Header::CalledParty,
];

impl Header {
    fn of_name(name: &[u8]) -> Option<Self> {
        const NAMES: &[(&[u8], Header)] = &[
            (b"from", Header::From),
            (b"f", Header::From),
            (b"to", Header::To),
            (b"t", Header::To),
            (b"p-asserted-identity", Header::Asserted),
            (b"p-preferred-identity", Header::Preferred),
            (b"p-called-party-id", Header::CalledParty),
            (b"authorization", Header::Authorization),
            (b"contact", Header::Contact),
            (b"m", Header::Contact),
            (b"call-id", Header::CallId),
            (b"i", Header::CallId),
        ];
        let of_name = |(one, _): &&(&[u8], Self)| name.eq_ignore_ascii_case(one);
        NAMES.iter().find(of_name).map(|(_, header)| *header)
    }
}

/// Whether a SIP message may start so.
#[must_use]
pub fn may_begin(head: &[u8]) -> bool {
    let head = message(head);
    let name = head
        .iter()
        .take(METHOD + 1)
        .take_while(|byte| is_token(**byte))
        .count();
    match head.get(name) {
        Some(b' ' | b'\t') => (1..=METHOD).contains(&name),
        Some(b'/') => name == 3 && starts_ignoring_case(head, b"sip/"),
        Some(_) => false,
        // Cut, or all line ends so far.
        None => true,
    }
}

/// Adds the wanted fields. False if it is no SIP message.
pub fn extract(payload: &[u8], wanted: Kinds, fields: &mut Fields) -> bool {
    if !may_begin(payload) {
        return false;
    }
    let text = message(payload);
    let mut lines = Lines::new(text);
    let Some(first) = lines.next() else {
        return false;
    };
    let Some(request_uri) = start_line(first) else {
        return false;
    };
    let mut headers = [(Header::CallId, &[][..]); MOST_HEADERS];
    let mut count = 0;
    for line in lines.by_ref() {
        let Some((name, value)) = header(line) else {
            continue;
        };
        match Header::of_name(name) {
            None => {}
            Some(Header::CallId) if wanted.has(Kind::CallId) => fields.push(Kind::CallId, value),
            Some(Header::Contact) if wanted.has(Kind::Imei) => contact(value, fields),
            Some(Header::CallId | Header::Contact) => {}
            Some(header) => match headers.get_mut(count) {
                Some(place) => {
                    *place = (header, value);
                    count += 1;
                }
                None => push_header(header, value, wanted, fields),
            },
        }
    }
    for wished in ORDER {
        for (header, value) in &headers[..count] {
            if header == wished {
                push_header(*header, value, wanted, fields);
            }
        }
    }
    if let Some(identity) = bare(request_uri) {
        push_identity(&identity, wanted, fields);
    } else if wanted.has(Kind::SipUri) && !request_uri.is_empty() {
        fields.push(Kind::SipUri, request_uri);
    }
    if wanted.has(Kind::Codec) {
        sdp::extract(lines.rest(), fields);
    }
    true
}

/// What follows the line ends that may stand before a message (RFC 3261 section 7.5).
fn message(payload: &[u8]) -> &[u8] {
    let start = payload.iter().position(|byte| !byte.is_ascii_whitespace());
    &payload[start.unwrap_or(payload.len())..]
}

/// The Request-URI; empty in a status line. `None` if the line starts no SIP message.
fn start_line(line: &[u8]) -> Option<&[u8]> {
    let is_version = |word: &[u8]| starts_ignoring_case(word, b"sip/");
    let mut words = line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let method = words.next()?;
    if is_version(method) {
        return Some(&[]);
    }
    let uri = words.next()?;
    let is_method = method.len() <= METHOD && method.iter().all(|byte| is_token(*byte));
    match words.next() {
        Some(version) if is_version(version) => is_method.then_some(uri),
        // A line that is cut, or whose version is disguised.
        _ => SIP_METHODS.contains(&method).then_some(&[][..]),
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

fn push_header(header: Header, value: &[u8], wanted: Kinds, fields: &mut Fields) {
    if header == Header::Authorization {
        if wanted.has(Kind::Imsi) {
            authorization(value, fields);
        }
        return;
    }
    identities(value, |identity| {
        push_identity(&identity, wanted, fields);
        if header == Header::Asserted && wanted.has(Kind::Imsi) {
            push_imsi(identity.user, identity.domain, fields);
        }
    });
}

fn push_identity(identity: &Identity<'_>, wanted: Kinds, fields: &mut Fields) {
    if wanted.has(Kind::SipUser) && !identity.user.is_empty() {
        fields.push(Kind::SipUser, identity.user);
    }
    if wanted.has(Kind::SipUri) && !identity.uri.is_empty() {
        fields.push(Kind::SipUri, identity.uri);
    }
}

/// The private identity of an IMS subscriber: IMSI@domain (3GPP TS 23.003 section 13.3).
fn authorization(value: &[u8], fields: &mut Fields) {
    let Some(at) = find_ignoring_case(value, b"username=") else {
        return;
    };
    let value = &value[at + b"username=".len()..];
    let name = match value.strip_prefix(b"\"") {
        Some(quoted) => memchr(b'"', quoted).map(|end| &quoted[..end]),
        None => value.split(|byte| b", \t\r\n".contains(byte)).next(),
    };
    let Some(mut name) = name else {
        return;
    };
    for scheme in [&b"sip:"[..], b"sips:"] {
        if starts_ignoring_case(name, scheme) {
            name = &name[scheme.len()..];
        }
    }
    if let Some(at) = memchr(b'@', name) {
        push_imsi(&name[..at], &name[at + 1..], fields);
    }
}

fn push_imsi(user: &[u8], domain: &[u8], fields: &mut Fields) {
    let is_mobile = [&b"3gppnetwork.org"[..], b".mnc"]
        .iter()
        .any(|part| find_ignoring_case(domain, part).is_some());
    if is_mobile && user.len() == 15 && user.iter().all(u8::is_ascii_digit) {
        fields.push(Kind::Imsi, user);
    }
}

/// Instance ids of a Contact: `urn:gsma:imei:` (RFC 7254), or an older form of it.
fn contact(mut value: &[u8], fields: &mut Fields) {
    while let Some(at) = find_ignoring_case(value, b"+sip.instance") {
        value = &value[at + b"+sip.instance".len()..];
        let Some(equals) = memchr(b'=', value) else {
            return;
        };
        value = &value[equals + 1..];
        let start = value.iter().position(|byte| !b" \"<".contains(byte));
        let instance = &value[start.unwrap_or(value.len())..];
        let instance = &instance[..instance.len().min(INSTANCE)];
        let end = instance.iter().position(|byte| b"\">;, ".contains(byte));
        push_imei(&instance[..end.unwrap_or(instance.len())], fields);
    }
}

fn push_imei(urn: &[u8], fields: &mut Fields) {
    let schemes = [&b"urn:gsma:imei:"[..], b"urn:urn-7:3gpp-imei:"];
    let Some(scheme) = schemes
        .iter()
        .find(|scheme| starts_ignoring_case(urn, scheme))
    else {
        return;
    };
    let (mut digits, mut count) = ([0; 15], 0);
    for digit in urn[scheme.len()..]
        .iter()
        .filter(|byte| byte.is_ascii_digit())
    {
        match digits.get_mut(count) {
            Some(place) => *place = *digit,
            None => return,
        }
        count += 1;
    }
    if count >= 14 {
        fields.push(Kind::Imei, &digits[..14]);
    }
}
