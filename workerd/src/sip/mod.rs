//! SIP and session descriptions: the one parser for detection, filters and calls.
//!
//! ```text
//!   datagram ----------------------------+
//!   TCP or TLS stream -> stream::Stream -+-> message::Message -+-> identity: who calls whom
//!      (framer, or websocket)                                  +-> sdp::Session: where media is wanted
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`message`] | start line, headers and body of one message |
//! | [`header`], [`lines`], [`method`] | names, values, line ends, folding, methods |
//! | [`address`] | display names, URIs, tags and parameters |
//! | [`identity`] | Call-ID, parties, subscribers, networks, what ties calls together |
//! | [`body`], [`sdp`] | which part of a body describes the session, and the endpoints that it announces |
//! | [`framer`], [`websocket`], [`stream`] | messages of byte streams |
//!
//! Strangers write what is read here. Any bytes are accepted; nothing panics or loops, work is linear in the bytes, and every number of
//! things has a bound, named in the modules. Messages, headers, addresses and sessions borrow from the packet: nothing is allocated
//! for them. Text stays bytes until it is shown ([`header::Value`]).
//!
//! Grammar is enforced where a wrong reading would cost more than a missed one (start lines, Call-IDs), and nowhere else: what a
//! helpful server understands is understood. Why not a library: those for Rust (`rsip`, `rvoip-sip-core`, `sipmsg` and others) copy
//! every header into owned strings, refuse messages that are not UTF-8 or have one bad header, and have no answer to streams with
//! gaps, which are all that a sniffer sees.
//!
//! ```
//! use lc_workerd::sip::message::Message;
//! use lc_workerd::sip::sdp::Session;
//!
//! let bytes = b"INVITE sip:bob@b.example SIP/2.0\r\nf: \"Al\" <sip:alice@a.example>;tag=1\r\ni: c1\r\n\r\n\
//!     v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 49170 RTP/AVP 0\r\n";
//! let message = Message::parse(bytes).unwrap();
//! assert_eq!(message.call_id(), Ok(&b"c1"[..]));
//! assert_eq!(message.from().unwrap().uri.user, b"alice");
//! let endpoint = Session::of(&message).unwrap().endpoints().next().unwrap();
//! assert_eq!((endpoint.address.1, endpoint.rtcp.unwrap().1), (49170, 49171));
//! ```

pub mod address;
pub mod body;
pub mod framer;
pub mod header;
pub mod identity;
pub mod lines;
pub mod message;
pub mod method;
pub mod sdp;
pub mod stream;
pub mod websocket;
