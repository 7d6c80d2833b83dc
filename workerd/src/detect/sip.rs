//! SIP (RFC 3261 section 7).
//!
//! A request is a known method, a URI and `SIP/2.0`, separated by single blanks, on one line. Of a method
//! that an extension may bring, which is any token (section 25.1), the URI must be one of SIP or a telephone's, and the
//! method in capitals. A response is `SIP/2.0`, a blank and three digits. Headers end at the first empty line; a line that
//! starts with a blank continues the one before (section 7.3.1). Over TCP, UDP and SCTP, any port.
//!
//! Session descriptions (RFC 8866) announce media endpoints to the signatures of media.

use super::confidence::Confidence;
use super::context::{Context, FIN, Layer, RST};
use super::details::{Details, Text, Value, Writer};
use super::fields::{decimal, head, position, split, starts_with, word};
use super::memory::{MediaKind, Memory};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};
use crate::decode::Addr;
use memchr::memchr;
use std::fmt::{self, Write};
use std::net::IpAddr;

/// See the module.
pub struct Sip;

const PORTS: &[u16] = &[5060, 5061];
const VERSION: &[u8] = b"SIP/2.0";
/// Methods of requests (RFC 3261, 3262, 3311, 3428, 3515, 3903, 6086, 6665).
pub const METHODS: &[&[u8]] = &[
    b"INVITE",
    b"ACK",
    b"BYE",
    b"CANCEL",
    b"REGISTER",
    b"OPTIONS",
    b"PRACK",
    b"SUBSCRIBE",
    b"NOTIFY",
    b"PUBLISH",
    b"INFO",
    b"REFER",
    b"MESSAGE",
    b"UPDATE",
];
/// Longest method that is looked for.
const LONGEST_METHOD: usize = 32;
/// Longest first line that is looked at.
const LONGEST_LINE: usize = 2048;
/// Most media lines of a session description.
const MOST_MEDIA: usize = 32;
/// Expedited forwarding (RFC 3246), as operators mark signalling.
const EXPEDITED: u8 = 0xb8;

impl Signature for Sip {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Sip]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        matches!(layer, Layer::Tcp | Layer::Udp | Layer::Sctp) && first.is_ascii_uppercase()
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        matched(context.payload)?;
        let standard = context.on(PORTS);
        let headers = Headers::of(context.payload);
        let off = match (headers.call_id, headers.from, headers.any) {
            (Some(_), Some(_), _) => 693,
            (Some(_), None, _) => 696,
            (None, Some(_), _) => 698,
            (None, None, true) => 703,
            (None, None, false) => 760,
        };
        verdict(Protocol::Sip, Confidence::by_port(standard, 1000, off))
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        if context.payload.is_empty() {
            if context.tcp_flags & (FIN | RST) != 0 {
                details.put("type", "tcp_teardown");
            }
        } else if let Some(matched) = matched(context.payload) {
            message(context.payload, matched, details);
        }
    }

    fn watches(&self) -> bool {
        true
    }

    fn watch(&self, context: &Context<'_>, notes: &mut Notes<'_>) {
        if matched(context.payload).is_none() {
            return;
        }
        notes.memory.pair(context.addresses, context.time_ns);
        let body = body(context.payload);
        if memchr::memmem::find(body, b"m=").is_some() {
            let call_id = Headers::of(context.payload).call_id.unwrap_or_default();
            announce(body, call_id, context.time_ns, notes.memory);
        }
    }
}

/// A TCP connection between SIP peers that ends, marked as their signalling is: SIP, though it
/// carries nothing.
pub fn teardown(context: &Context<'_>, memory: &Memory) -> Option<Verdict> {
    let ends = context.tcp() && context.tcp_flags & (FIN | RST) != 0;
    if !ends || context.payload.len() >= 8 || context.traffic_class != EXPEDITED {
        return None;
    }
    if !memory.paired(context.addresses, context.time_ns) {
        return None;
    }
    verdict(Protocol::Sip, Confidence::LOW)
}

/// The method of a request or the version of a response, if a message starts here.
fn matched(payload: &[u8]) -> Option<&[u8]> {
    if let Some(status) = payload.strip_prefix(b"SIP/2.0 ") {
        let code = head(status, 3);
        return code.iter().all(u8::is_ascii_digit).then_some(VERSION);
    }
    let (method, _) = split(head(payload, LONGEST_METHOD + 1), b' ')?;
    let known = METHODS.contains(&method);
    if !known && !possible_extension(method, &payload[method.len() + 1..]) {
        return None;
    }
    let line = first_line(payload)?;
    let uri = line.get(method.len() + 1..)?.strip_suffix(b" SIP/2.0")?;
    (!uri.is_empty() && !uri.contains(&b' ')).then_some(method)
}

/// Whether `method` may be one of an extension, asked for by what follows it.
fn possible_extension(method: &[u8], rest: &[u8]) -> bool {
    let capital =
        |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"-_.".contains(byte);
    let schemes: [&[u8]; 3] = [b"sip:", b"sips:", b"tel:"];
    schemes.iter().any(|scheme| starts_with(rest, scheme)) && method.iter().all(capital)
}

/// Without its line end; a line without an end is as long as the bytes.
fn first_line(payload: &[u8]) -> Option<&[u8]> {
    let start = head(payload, LONGEST_LINE);
    match memchr(b'\n', start) {
        Some(end) => Some(start[..end].trim_ascii_end()),
        None if payload.len() <= LONGEST_LINE => Some(payload.trim_ascii_end()),
        None => None,
    }
}

/// The headers that are told of.
#[derive(Default)]
struct Headers<'a> {
    any: bool,
    from: Option<&'a [u8]>,
    to: Option<&'a [u8]>,
    call_id: Option<&'a [u8]>,
    cseq: Option<&'a [u8]>,
    contact: Option<&'a [u8]>,
    user_agent: Option<&'a [u8]>,
    via: Option<&'a [u8]>,
}

impl<'a> Headers<'a> {
    fn of(payload: &'a [u8]) -> Self {
        let mut found = Self::default();
        for (name, value) in headers(payload) {
            found.any = true;
            let is = |long: &[u8], short: u8| {
                name.eq_ignore_ascii_case(long)
                    || matches!(name, [one] if one.eq_ignore_ascii_case(&short))
            };
            if is(b"from", b'f') {
                found.from = Some(value);
            } else if is(b"to", b't') {
                found.to = Some(value);
            } else if is(b"call-id", b'i') {
                found.call_id = Some(value);
            } else if is(b"contact", b'm') {
                found.contact = Some(value);
            } else if is(b"via", b'v') {
                found.via = found.via.or(Some(value));
            } else if name.eq_ignore_ascii_case(b"cseq") {
                found.cseq = Some(value);
            } else if name.eq_ignore_ascii_case(b"user-agent") {
                found.user_agent = Some(value);
            }
        }
        found
    }
}

/// Names and values of the headers; a value may still be folded.
fn headers(payload: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = split(payload, b'\n').map_or(&[][..], |(_, rest)| rest);
    std::iter::from_fn(move || {
        loop {
            let end = logical_line(rest)?;
            let line = &rest[..end];
            rest = &rest[(end + 1).min(rest.len())..];
            if let Some((name, value)) = split(line, b':')
                && !name.trim_ascii().is_empty()
            {
                return Some((name.trim_ascii(), value.trim_ascii()));
            }
        }
    })
}

/// Where the line with its continuations ends; `None` at the empty line or the end.
fn logical_line(rest: &[u8]) -> Option<usize> {
    let mut end = memchr(b'\n', rest).unwrap_or(rest.len());
    if rest[..end].trim_ascii().is_empty() {
        return None;
    }
    while let Some(b' ' | b'\t') = rest.get(end + 1) {
        let next = end + 1;
        end = memchr(b'\n', &rest[next..]).map_or(rest.len(), |at| next + at);
    }
    Some(end)
}

/// What follows the first empty line.
fn body(payload: &[u8]) -> &[u8] {
    let mut rest = payload;
    while let Some((line, next)) = split(rest, b'\n') {
        rest = next;
        if line.trim_ascii().is_empty() {
            return rest;
        }
    }
    &[]
}

fn message(payload: &[u8], matched: &[u8], details: &mut Details) {
    details.text("matched_method", matched);
    let line = first_line(payload).unwrap_or_default();
    details.text("first_line", line);
    let (first, rest) = word(line);
    if matched == VERSION {
        let (code, reason) = word(rest);
        details.put("type", "response");
        details.text_if_any("status_code", code);
        details.text_if_any("reason", reason);
        details.set_info(Protocol::Sip.name());
    } else {
        details.put("type", "request");
        details.text("method", first);
        details.set_info_to("method");
    }
    let found = Headers::of(payload);
    party(details, ["from", "from_user", "from_tag"], found.from);
    party(details, ["to", "to_user", "to_tag"], found.to);
    for (key, value) in [
        ("call_id", found.call_id),
        ("cseq", found.cseq),
        ("contact", found.contact),
        ("user_agent", found.user_agent),
        ("via", found.via),
    ] {
        if let Some(value) = value {
            details.put(key, Unfolded(value));
        }
    }
    details.list("headers", '\n', headers(payload).map(Header));
    session(body(payload), details);
}

/// A From or To header: whole, its user and its tag.
fn party(details: &mut Details, keys: [&'static str; 3], value: Option<&[u8]>) {
    let Some(value) = value else {
        return;
    };
    details.put(keys[0], Unfolded(value));
    let address = behind_display_name(value);
    details.text(keys[1], user(address));
    details.text(keys[2], tag(address));
}

/// What follows a quoted display name (RFC 3261 section 25.1), where anything may stand.
fn behind_display_name(value: &[u8]) -> &[u8] {
    let Some(quoted) = value.strip_prefix(b"\"") else {
        return value;
    };
    let mut escaped = false;
    let end = quoted.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    end.map_or(value, |end| &quoted[end + 1..])
}

/// The user of a `sip:` URI; empty for other schemes and for URIs without one.
fn user(address: &[u8]) -> &[u8] {
    let Some(at) = position(address, b"sip:") else {
        return &[];
    };
    split(&address[at + 4..], b'@').map_or(&[], |(user, _)| user)
}

fn tag(address: &[u8]) -> &[u8] {
    let Some(at) = position(address, b";tag=") else {
        return &[];
    };
    let tag = &address[at + 5..];
    let ends = |byte: &u8| matches!(byte, b';' | b' ' | b'\r' | b'\n' | b'>');
    &tag[..tag.iter().position(ends).unwrap_or(tag.len())]
}

/// `media_ports` and `media_ip` of a session description.
fn session(body: &[u8], details: &mut Details) {
    let mut ports = super::fields::lines(body).filter_map(media_port).peekable();
    if ports.peek().is_none() {
        return;
    }
    details.list("media_ports", ',', ports.take(MOST_MEDIA));
    let address = super::fields::lines(body).filter_map(connection).last();
    details.text_if_any("media_ip", address.unwrap_or_default());
}

/// The port of an `m=` line, unless it is 0 (RFC 3264 section 6: refused).
fn media_port(line: &[u8]) -> Option<u16> {
    let (_, rest) = word(line.strip_prefix(b"m=")?);
    let (port, protocol) = word(rest);
    let digits = port.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let port = u16::try_from(decimal(&port[..digits])?).ok()?;
    (port != 0 && !protocol.is_empty()).then_some(port)
}

/// The address of a `c=` line, unless it is 0.0.0.0 (on hold).
fn connection(line: &[u8]) -> Option<&[u8]> {
    let (_, rest) = word(line.strip_prefix(b"c=")?);
    let (_, address) = word(rest);
    let address = word(address).0;
    let address = split(address, b'/').map_or(address, |(address, _)| address);
    (!address.is_empty() && address != b"0.0.0.0").then_some(address)
}

/// Tells the media signatures of every endpoint in a session description.
fn announce(body: &[u8], call_id: &[u8], time_ns: u64, memory: &mut Memory) {
    let mut session_address = None;
    let mut pending: Option<(u16, MediaKind, Option<Addr>)> = None;
    let mut settle = |pending: Option<(u16, MediaKind, Option<Addr>)>| {
        if let Some((port, kind, Some(address))) = pending {
            memory.announce((address, port), kind, call_id, time_ns);
        }
    };
    let mut media = 0;
    for line in super::fields::lines(body) {
        if line.starts_with(b"c=") {
            let address = connection(line).and_then(address);
            match &mut pending {
                Some(media) => media.2 = address,
                None => session_address = address,
            }
        } else if line.starts_with(b"m=") {
            settle(pending.take());
            media += 1;
            if media > MOST_MEDIA {
                return;
            }
            pending = media_port(line).map(|port| (port, kind(line), session_address));
        }
    }
    settle(pending);
}

fn kind(line: &[u8]) -> MediaKind {
    if starts_with(line, b"m=image") && super::fields::contains(line, b"udptl") {
        MediaKind::T38
    } else if super::fields::contains(line, b"/savp") {
        MediaKind::Srtp
    } else {
        MediaKind::Rtp
    }
}

fn address(text: &[u8]) -> Option<Addr> {
    match std::str::from_utf8(head(text, 46)).ok()?.parse().ok()? {
        IpAddr::V4(address) => Some(Addr::V4(address.to_bits())),
        IpAddr::V6(address) => Some(Addr::of_v6(address.to_bits())),
    }
}

/// A header's value on one line.
struct Unfolded<'a>(&'a [u8]);

impl Value for Unfolded<'_> {
    fn write(&self, out: &mut Writer<'_>) -> fmt::Result {
        for (number, line) in super::fields::lines(self.0).enumerate() {
            if number > 0 {
                out.write_char(' ')?;
            }
            Text(line).write(out)?;
        }
        Ok(())
    }
}

/// A header as an entry of a map.
struct Header<'a>((&'a [u8], &'a [u8]));

impl Value for Header<'_> {
    fn write(&self, out: &mut Writer<'_>) -> fmt::Result {
        let (name, value) = self.0;
        for byte in name {
            out.write_char(byte.to_ascii_lowercase().into())?;
        }
        out.write_char('=')?;
        Unfolded(value).write(out)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Detector, Flow};
    use super::*;

    fn described(payload: &[u8]) -> Option<Details> {
        let (mut detector, mut flow, mut details) =
            (Detector::new(), Flow::default(), Details::new());
        let context = Context::new(Layer::Udp, (5060, 5060), payload);
        let verdict = detector.observe(&context, &mut flow)?;
        detector.describe(&context, &mut flow, &mut details);
        (verdict.protocol == Protocol::Sip).then_some(details)
    }

    #[test]
    fn folded_headers_are_one_value() {
        let details = described(
            b"INFO sip:b@x SIP/2.0\r\nFrom: \"x;tag=no <sip:no@x>\"\r\n <sip:a@x>\r\n\t;tag=7\r\nTo: t\r\n\r\n",
        )
        .unwrap();
        assert_eq!(details.get("from_user"), Some("a"));
        assert_eq!(details.get("from_tag"), Some("7"));
        assert_eq!(
            details.get("from"),
            Some("\"x;tag=no <sip:no@x>\" <sip:a@x> ;tag=7")
        );
        assert_eq!(details.get("to"), Some("t"));
    }

    #[test]
    fn extensions_bring_methods() {
        let details = described(b"NEW-METHOD sip:b@x SIP/2.0\r\nFrom: <sip:a@x>\r\n\r\n").unwrap();
        assert_eq!(details.info(), "NEW-METHOD");
        assert_eq!(details.get("matched_method"), Some("NEW-METHOD"));
        for payload in [
            &b"NEWMETHOD x:b@x SIP/2.0\r\n"[..],
            b"Newmethod sip:b@x SIP/2.0\r\n",
            b"NEWMETHOD sip:b@x SIP/3.0\r\n",
            b"A_METHOD_LONGER_THAN_32_CHARACTERS sip:b@x SIP/2.0\r\n",
            b" sip:b@x SIP/2.0\r\n",
        ] {
            assert!(described(payload).is_none());
        }
    }

    #[test]
    fn words_that_start_like_methods_are_not_sip() {
        for payload in [
            &b"INFORMATION: x SIP/2.0\r\n"[..],
            b"INVITE sip:x\r\n",
            b"INVITE  SIP/2.0\r\n",
            b"INVITE \r\n",
            b"INVITE ",
            b"INVITE a b SIP/2.0\r\n",
            b"OPTIONS * RTSP/1.0\r\n",
            b"SIP/2.0 abc\r\n",
        ] {
            assert!(described(payload).is_none());
        }
    }

    #[test]
    fn announced_media_is_recognised_at_its_first_packet() {
        let mut detector = Detector::new();
        let mut offer = b"INVITE sip:b@x SIP/2.0\r\nCall-ID: c1\r\n\r\nc=IN IP4 192.0.2.1\r\n\
            m=audio 7001 RTP/AVP 0\r\nm=audio 7003 RTP/SAVP 0\r\nc=IN IP6 2001:db8::1\r\n"
            .to_vec();
        offer.extend(b"m=image 7005 udptl t38\r\n");
        detector.observe(
            &Context::new(Layer::Udp, (5060, 5060), &offer),
            &mut Flow::default(),
        );
        let rtp = [0x80, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 1];
        let mut protocol = |address, port, payload: &[u8]| {
            let mut context = Context::new(Layer::Udp, (9, port), payload);
            context.addresses.1 = address;
            let verdict = detector.observe(&context, &mut Flow::default());
            verdict.map(|verdict| verdict.protocol)
        };
        let v4 = Addr::V4(0xc000_0201);
        let v6 = Addr::V6(0x2001_0db8_0000_0000_0000_0000_0000_0001);
        assert_eq!(protocol(v4, 7001, &rtp), Some(Protocol::Rtp));
        assert_eq!(protocol(v6, 7003, &rtp), Some(Protocol::Srtp));
        assert_eq!(protocol(v4, 7003, &rtp), None);
        assert_eq!(protocol(v4, 7009, &rtp), None);
    }
}
