//! Fields of a SIP message (RFC 3261) that is whole in its packet, or begins in it.
//!
//! Identities come from From, To, P-Asserted-Identity, P-Preferred-Identity (RFC 3325), P-Called-Party-ID (RFC 7315) and the
//! Request-URI, in this order, all values of each. Read as leniently as a server that wants to help: blanks before the colon, folded
//! lines, any line ends, empty lines before the message, escapes in users (as they stand, and what they stand for). The body has no
//! identities. See [`crate::sip`] for what is read and its bounds.

use crate::matcher::{Fields, Kind, Kinds};
use crate::sip::address::Uri;
use crate::sip::header::Name;
use crate::sip::message::{LONGEST_METHOD, Message, Start, is_token};
use crate::sip::sdp::Session;

/// What a SIP message has.
pub const KINDS: Kinds = Kinds::of(&[
    Kind::SipUser,
    Kind::SipUri,
    Kind::CallId,
    Kind::Codec,
    Kind::Imsi,
    Kind::Imei,
]);

/// Headers with identities, in the order in which they are compared.
const IDENTITIES: &[Name] = &[
    Name::From,
    Name::To,
    Name::AssertedIdentity,
    Name::PreferredIdentity,
    Name::CalledParty,
];

/// Whether a SIP message may start so.
#[must_use]
pub fn may_begin(head: &[u8]) -> bool {
    let head = head.trim_ascii_start();
    let name = head
        .iter()
        .take(LONGEST_METHOD + 1)
        .take_while(|byte| is_token(**byte))
        .count();
    match head.get(name) {
        Some(b' ' | b'\t') => (1..=LONGEST_METHOD).contains(&name),
        Some(b'/') => head[..name].eq_ignore_ascii_case(b"sip"),
        Some(_) => false,
        // Cut, or all line ends so far.
        None => true,
    }
}

/// Adds the wanted fields. False if it is no SIP message.
pub fn extract(payload: &[u8], wanted: Kinds, fields: &mut Fields) -> bool {
    let Some(message) = Message::parse_doubtful(payload) else {
        return false;
    };
    if wanted.has(Kind::CallId) {
        let ids = message.values(Name::CallId);
        ids.for_each(|id| fields.push(Kind::CallId, id.0));
    }
    if wanted.has(Kind::Imei) {
        let imeis = message.imeis();
        imeis.for_each(|imei| fields.push(Kind::Imei, &imei.0));
    }
    if wanted.has(Kind::Imsi) {
        message
            .imsis()
            .for_each(|imsi| fields.push(Kind::Imsi, imsi));
    }
    if wanted.has(Kind::SipUser) || wanted.has(Kind::SipUri) {
        for name in IDENTITIES {
            for address in message.addresses(*name) {
                push_uri(&address.uri, wanted, fields);
            }
        }
        if let Some(uri) = message.request_uri() {
            push_uri(&uri, wanted, fields);
        } else if let Start::Request { uri, .. } = message.start()
            && wanted.has(Kind::SipUri)
            && !uri.is_empty()
        {
            fields.push(Kind::SipUri, uri);
        }
    }
    if wanted.has(Kind::Codec)
        && let Some(session) = Session::of(&message)
    {
        let codecs = session.media().flat_map(|media| media.codecs());
        codecs.for_each(|codec| fields.push(Kind::Codec, codec.name));
    }
    true
}

fn push_uri(uri: &Uri<'_>, wanted: Kinds, fields: &mut Fields) {
    if wanted.has(Kind::SipUser) && !uri.user.is_empty() {
        fields.push(Kind::SipUser, uri.user);
        let mut scratch = Vec::new();
        let unescaped = uri.unescaped_user(&mut scratch);
        if unescaped != uri.user {
            fields.push(Kind::SipUser, unescaped);
        }
    }
    if wanted.has(Kind::SipUri) && !uri.without_scheme.is_empty() {
        fields.push(Kind::SipUri, uri.without_scheme);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(payload: &[u8], kind: Kind) -> Vec<String> {
        let mut fields = Fields::default();
        extract(payload, Kinds::of(&[kind]), &mut fields);
        let texts = fields.iter().map(|(_, _, text)| text);
        texts
            .map(|text| String::from_utf8_lossy(text).into_owned())
            .collect()
    }

    #[test]
    fn escaped_users_are_found_as_they_stand_and_as_they_are_meant() {
        let message = b"BYE sip:x@y SIP/2.0\r\nFrom: <sip:%61lice@b>\r\n\r\n";
        assert_eq!(found(message, Kind::SipUser), ["%61lice", "alice", "x"]);
    }

    #[test]
    fn codecs_have_names_by_line_or_by_number() {
        let message = b"BYE sip:x@y SIP/2.0\r\n\r\nv=0\r\nm=audio 4000 RTP/AVP 0 8 96\r\na=rtpmap:96 opus/48000/2\r\n\
            a=rtpmap:97\r\nm=video 0\r\nm=x 1 2 300 x\n";
        assert_eq!(found(message, Kind::Codec), ["pcmu", "pcma", "opus"]);
    }
}
