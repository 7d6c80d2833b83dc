//! SIP (RFC 3261 section 7).
//!
//! A request is a known method, a URI and `SIP/2.0`, separated by single blanks, on one line. Of a method
//! that an extension may bring, which is any token (section 25.1), the URI must be one of SIP or a telephone's, and the
//! method in capitals. A response is `SIP/2.0`, a blank and three digits. Over TCP, UDP and SCTP, any port. Messages are
//! read by [`crate::sip`].
//!
//! Session descriptions (RFC 8866) announce media endpoints to the signatures of media.

use super::confidence::Confidence;
use super::context::{Context, FIN, Layer, RST};
use super::details::{self, Details, Writer};
use super::fields::word;
use super::memory::{MediaKind, Memory};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};
use crate::sip::address::{Address, addresses};
use crate::sip::header::{Header, Name, Value};
use crate::sip::message::{Form, Message, Start};
use crate::sip::method::Method;
use crate::sip::sdp::{Announced, Profile, Session};
use std::fmt::{self, Write};

/// See the module.
pub struct Sip;

const PORTS: &[u16] = &[5060, 5061];
const VERSION: &[u8] = b"SIP/2.0";
/// Longest first line that is looked at.
const LONGEST_LINE: usize = 2048;
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
        let message = message(context.payload)?;
        let standard = context.on(PORTS);
        let has = |name| message.value(name).is_some();
        let off = match (has(Name::CallId), has(Name::From), message.has_headers()) {
            (true, true, _) => 693,
            (true, false, _) => 696,
            (false, true, _) => 698,
            (false, false, true) => 703,
            (false, false, false) => 760,
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
        } else if let Some(message) = message(context.payload) {
            describe(&message, details);
        }
    }

    fn watches(&self) -> bool {
        true
    }

    fn watch(&self, context: &Context<'_>, notes: &mut Notes<'_>) {
        let Some(message) = message(context.payload) else {
            return;
        };
        notes.memory.pair(context.addresses, context.time_ns);
        if let Some(session) = Session::of(&message) {
            let call_id = message.last(Name::CallId).map_or(&[][..], |id| id.0);
            announce(&session, call_id, context.time_ns, notes.memory);
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

/// The message that begins at the payload's first byte, if its first line leaves no doubt.
fn message(payload: &[u8]) -> Option<Message<'_>> {
    if payload
        .first()
        .is_none_or(|first| !first.is_ascii_uppercase())
    {
        return None;
    }
    let message = Message::parse(payload)?;
    let is_sure = match message.start() {
        Start::Request {
            method: Method::Other,
            token,
            uri,
        } => possible_extension(token, uri),
        Start::Request { .. } | Start::Response { .. } => true,
    };
    (message.form() == Form::Exact && is_sure && message.line().len() <= LONGEST_LINE)
        .then_some(message)
}

/// Whether `method` may be one of an extension, asked for by its URI.
fn possible_extension(method: &[u8], uri: &[u8]) -> bool {
    let capital =
        |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"-_.".contains(byte);
    let schemes: [&[u8]; 3] = [b"sip:", b"sips:", b"tel:"];
    let starts = |scheme: &&[u8]| super::fields::starts_with(uri, scheme);
    schemes.iter().any(starts) && method.iter().all(capital)
}

fn describe(message: &Message<'_>, details: &mut Details) {
    let line = message.line();
    match message.start() {
        Start::Request { token, .. } => {
            details.text("matched_method", token);
            details.text("first_line", line);
            details.put("type", "request");
            details.text("method", token);
            details.set_info_to("method");
        }
        Start::Response { .. } => {
            details.text("matched_method", VERSION);
            details.text("first_line", line);
            let (code, reason) = word(word(line).1);
            details.put("type", "response");
            details.text_if_any("status_code", code);
            details.text_if_any("reason", reason);
            details.set_info(Protocol::Sip.name());
        }
    }
    party(
        details,
        ["from", "from_user", "from_tag"],
        message,
        Name::From,
    );
    party(details, ["to", "to_user", "to_tag"], message, Name::To);
    for (key, value) in [
        ("call_id", message.last(Name::CallId)),
        ("cseq", message.last(Name::CSeq)),
        ("contact", message.last(Name::Contact)),
        ("user_agent", message.last(Name::UserAgent)),
        ("via", message.value(Name::Via)),
    ] {
        if let Some(value) = value {
            details.put(key, value);
        }
    }
    details.list("headers", '\n', message.headers().map(Entry));
    if let Some(session) = Session::of(message) {
        describe_session(&session, details);
    }
}

/// A From or To header: whole, its user and its tag.
fn party(details: &mut Details, keys: [&'static str; 3], message: &Message<'_>, name: Name) {
    let Some(value) = message.last(name) else {
        return;
    };
    details.put(keys[0], value);
    let address = addresses(value.0).next();
    details.text(keys[1], address.map_or(&[], |address| address.uri.user));
    details.text(keys[2], address.as_ref().map_or(&[], Address::tag));
}

/// `media_ports` and `media_ip` of a session description.
fn describe_session(session: &Session<'_>, details: &mut Details) {
    let ports = session.media().map(|media| media.port);
    let mut ports = ports.filter(|port| *port != 0).peekable();
    if ports.peek().is_none() {
        return;
    }
    details.list("media_ports", ',', ports);
    let host = session.hosts().filter(|host| !host.is_nowhere()).last();
    details.text_if_any("media_ip", host.map_or(&[], |host| host.text));
}

/// Tells the media signatures of every endpoint in a session description.
fn announce(session: &Session<'_>, call_id: &[u8], time_ns: u64, memory: &mut Memory) {
    for endpoint in session.endpoints() {
        let kind = match endpoint.profile {
            Profile::Udptl => MediaKind::T38,
            Profile::Srtp => MediaKind::Srtp,
            Profile::Rtp | Profile::Msrp | Profile::Other => MediaKind::Rtp,
        };
        if endpoint.announced == Announced::Media {
            memory.announce(endpoint.address, kind, call_id, time_ns);
        }
    }
}

/// A header as an entry of a map.
struct Entry<'a>(Header<'a>);

impl details::Value for Entry<'_> {
    fn write(&self, out: &mut Writer<'_>) -> fmt::Result {
        for byte in self.0.name {
            out.write_char(byte.to_ascii_lowercase().into())?;
        }
        out.write_char('=')?;
        self.0.value.write_to(out)
    }
}

impl details::Value for Value<'_> {
    fn write(&self, out: &mut Writer<'_>) -> fmt::Result {
        self.write_to(out)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Detector, Flow};
    use super::*;
    use crate::decode::Addr;

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
