//! Fields of a single packet: what text filters are compared with.
//!
//! | module | protocol | fields |
//! |---|---|---|
//! | [`sip`], by [`crate::sip`] | SIP over UDP, or in one TCP segment | users, URIs, IMSI, IMEI, Call-ID, codecs |
//! | [`dns`], by [`crate::dns`] | DNS over UDP, or in one TCP segment; mDNS, LLMNR | names; users, where names are telephone numbers |
//! | [`tls`] | TLS hellos in one segment | server name, JA3, JA3S, JA4 |
//! | [`http`] | the head of an HTTP/1 request, as far as it is in the segment | host, URL |
//! | [`smtp`] | SMTP commands, the head of a mail | addresses, subject |
//!
//! What a payload is, its content tells, never a port. Any bytes are accepted; nothing panics, loops or allocates (but for the room
//! in [`Fields`], which is kept). Work is linear in the payload. Only wanted kinds are looked for; [`is_candidate`] tells from the first
//! bytes whether the rest of a packet is worth a look.
//!
//! Not here: whatever takes more than one packet.
//!
//! ```
//! use lc_workerd::decode::Transport;
//! use lc_workerd::extract::{extract, is_candidate};
//! use lc_workerd::matcher::{Fields, Kind, Kinds};
//!
//! let payload = b"GET /login HTTP/1.1\r\nHost: example.com\r\n\r\n";
//! let wanted = Kinds::of(&[Kind::HttpUrl]);
//! let mut fields = Fields::default();
//! if is_candidate(Transport::Tcp, payload, wanted) {
//!     extract(Transport::Tcp, payload, wanted, &mut fields);
//! }
//! assert_eq!(fields.iter().collect::<Vec<_>>(), [(0, Kind::HttpUrl, &b"/login"[..])]);
//! ```

pub mod dns;
pub mod http;
pub mod lines;
pub mod reader;
pub mod sip;
pub mod smtp;
pub mod tls;

use crate::decode::Transport;
use crate::matcher::{Fields, Kinds};

/// Bytes of a payload that [`is_candidate`] has to see.
pub const HEAD: usize = 40;

/// Whether a payload that starts with `head` may have wanted fields.
#[must_use]
#[inline]
pub fn is_candidate(transport: Transport, head: &[u8], wanted: Kinds) -> bool {
    if head.is_empty() || wanted.is_empty() {
        return false;
    }
    let is_sip = wanted.has_any(sip::KINDS) && sip::may_begin(head);
    match transport {
        Transport::Udp => is_sip || wanted.has_any(dns::KINDS) && dns::may_begin(head),
        Transport::Tcp => {
            is_sip
                || wanted.has_any(tls::KINDS) && tls::may_begin(head)
                || wanted.has_any(http::KINDS) && http::may_begin(head)
                || wanted.has_any(smtp::KINDS) && smtp::may_begin(head)
                || wanted.has_any(dns::KINDS) && head.len() > 2 && dns::may_begin(&head[2..])
        }
        Transport::Sctp | Transport::Icmp | Transport::IcmpV6 => false,
    }
}

/// Adds the wanted fields of a payload.
pub fn extract(transport: Transport, payload: &[u8], wanted: Kinds, fields: &mut Fields) {
    if wanted.has_any(sip::KINDS) && sip::extract(payload, wanted, fields) {
        return;
    }
    match transport {
        Transport::Udp if wanted.has_any(dns::KINDS) => {
            dns::extract(payload, wanted, fields);
        }
        Transport::Tcp => {
            let _ = wanted.has_any(tls::KINDS) && tls::extract(payload, wanted, fields)
                || wanted.has_any(http::KINDS) && http::extract(payload, wanted, fields)
                || wanted.has_any(smtp::KINDS) && smtp::extract(payload, wanted, fields)
                || wanted.has_any(dns::KINDS) && dns::extract_stream(payload, wanted, fields);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_accepted(
            start in prop::sample::select(vec![
                "", "INVITE sip:a@b SIP/2.0\r\n", "\r\nSIP/2.0 200 OK\r\nFrom: ", "GET / HTTP/1.1\r\nHost:", "MAIL FROM:<",
                "\u{16}\u{3}\u{1}", "\u{0}\u{1}\u{1}\u{0}\u{0}\u{1}\u{0}\u{1}\u{0}\u{0}\u{0}\u{0}", "Subject: ", "m=audio 1 RTP/AVP 0",
            ]),
            rest in prop::collection::vec(any::<u8>(), 0..300),
            udp in any::<bool>(),
        ) {
            let payload = [start.as_bytes(), &rest].concat();
            let transport = if udp { Transport::Udp } else { Transport::Tcp };
            let mut fields = Fields::default();
            extract(transport, &payload, Kinds::ALL, &mut fields);
            if !fields.is_empty() {
                prop_assert!(is_candidate(transport, &payload[..payload.len().min(HEAD)], Kinds::ALL));
            }
        }

        #[test]
        fn noise_has_no_fields(rest in prop::collection::vec(any::<u8>(), 20..200), udp in any::<bool>()) {
            let transport = if udp { Transport::Udp } else { Transport::Tcp };
            let mut fields = Fields::default();
            extract(transport, &rest, Kinds::ALL, &mut fields);
            prop_assert!(fields.is_empty());
        }
    }

    #[test]
    fn what_does_not_begin_like_a_message_has_no_fields() {
        for payload in [
            &b"BYE\x0c\x0csip:a@b SIP/2.0\r\nCall-ID: t@x\r\n\r\n"[..],
            b"BYE\r\n sip:a@b SIP/2.0\r\nCall-ID: t@x\r\n\r\n",
        ] {
            for transport in [Transport::Udp, Transport::Tcp] {
                let mut fields = Fields::default();
                assert!(!is_candidate(transport, payload, Kinds::ALL));
                extract(transport, payload, Kinds::ALL, &mut fields);
                assert!(fields.is_empty());
            }
        }
    }
}
