//! Checks of everything that reads strangers' bytes: each takes any bytes, and panics if what reads them breaks its word.
//!
//! | check | what reads | what must hold |
//! |---|---|---|
//! | [`block`] | a block of the kernel's packet ring | ends, within bounds |
//! | [`calls`] | a worker that follows calls, and dies now and then: SIP over UDP and TCP, fragments, media, verdicts | each packet once at most, as it came, and accounted for; memory within its bounds |
//! | [`capture_file`] | pcap and pcapng, compressed or not | ends, packets within bounds |
//! | [`headers`] | steering and decoding of one packet | within bounds; a worker that there is |
//! | [`http1`], [`http2`] | the tracker of a connection of HTTP; of HTTP/2, blocks of fields too | chunks make no difference; every exchange is settled; memory bounded |
//! | [`packet`] | a worker's whole way, packet after packet: headers, fields, filters, flows, detection, encoding | what is sent is the packet, readable by any protobuf reader |
//! | [`mail`]: `smtp`, `imap`, `pop3`, `mime` | sessions of mail, with gaps; mails | pieces make no difference; what is told has come; bounded |
//! | [`detection`] | detection and description of one flow | ends, without a panic |
//! | [`dns_message`] | one DNS message | told of as text, within the bounds of its size |
//! | [`dns_stream`] | DNS messages of a stream | chunks make no difference; memory bounded |
//! | [`fragments`] | IP fragments of a few datagrams | whole with the bytes that came first; every packet comes back; memory within its bounds |
//! | [`rtp`] | RTP and RTCP, and the statistics of a stream | agree with a simpler model |
//! | [`reassembly`] | segments of TCP connections | each byte once, offsets without holes, memory within its bounds |
//! | [`filter_snapshot`] | the snapshot of the filters, and what compiles it | refused or compiled |
//! | [`filters`] | any filters, and any payload that they are compared with | refused or compiled; what is found is announced by the first bytes |
//! | [`sdp`] | one session description | endpoints and codecs within their bounds |
//! | [`sip_message`] | one SIP message | everything told lies in the message; look-ups agree with the list of headers |
//! | [`sip_stream`] | SIP messages of a stream, bare or in a WebSocket | chunks make no difference; memory bounded; nothing whole over a gap |
//! | [`tls`] | TLS connections over streams, QUIC and DTLS | pieces make no difference; nothing is compared once it is settled; memory bounded, and given back |
//!
//! The fuzz targets in `fuzz_targets/` are nothing but calls of these, and the test `replay` runs each over all inputs below
//! `corpus/`: what fuzzing once found stays found, without sanitizers and in a moment. Inputs are the bytes themselves, or
//! lists of them as [`Input`] describes.
//!
//! Not here: the processor's messages, which prost reads; BPF expressions, which libpcap compiles; and the disk buffer, whose
//! bytes are guarded by checksums that fuzzing does not get past (`fwdd/tests/overflow_model.rs` damages them instead).

#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    reason = "a check panics where something is wrong"
)]

pub mod block;
pub mod calls;
pub mod capture_file;
pub mod detection;
pub mod dns_message;
pub mod dns_stream;
pub mod filter_snapshot;
pub mod filters;
pub mod fragments;
pub mod headers;
pub mod http1;
pub mod http2;
pub mod key_log;
pub mod mail;
pub mod packet;
pub mod reassembly;
pub mod rtp;
pub mod sdp;
pub mod sip_message;
pub mod sip_stream;
pub mod tls;

mod http_session;
mod input;

pub use input::Input;

/// A check: panics if something is wrong.
pub type Check = fn(&[u8]);

/// All checks, under the names of their fuzz targets and corpora.
pub const CHECKS: [(&str, Check); 26] = [
    ("block", block::check),
    ("calls", calls::check),
    ("capture_file", capture_file::check),
    ("detection", detection::check),
    ("dns_message", dns_message::check),
    ("dns_stream", dns_stream::check),
    ("dtls", tls::check_dtls),
    ("filter_snapshot", filter_snapshot::check),
    ("filters", filters::check),
    ("fragments", fragments::check),
    ("headers", headers::check),
    ("http1", http1::check),
    ("http2", http2::check),
    ("imap", mail::imap),
    ("key_log", key_log::check),
    ("mime", mail::mime),
    ("packet", packet::check),
    ("pop3", mail::pop3),
    ("quic_initial", tls::check_quic),
    ("reassembly", reassembly::check),
    ("rtp", rtp::check),
    ("sdp", sdp::check),
    ("sip_message", sip_message::check),
    ("sip_stream", sip_stream::check),
    ("smtp", mail::smtp),
    ("tls_stream", tls::check_stream),
];
