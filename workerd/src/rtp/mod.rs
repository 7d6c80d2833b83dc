//! Media: RTP and RTCP headers (RFC 3550), and what a stream of packets from one source has been through.
//!
//! ```
//! use lc_workerd::rtp::{Header, Stream};
//!
//! let packet = [&[0x80, 0, 0, 7, 0, 0, 0, 160, 0xca, 0xfe, 0xba, 0xbe][..], &[0; 160]].concat();
//! let header = Header::read(&packet).expect("a header of RTP");
//! assert_eq!((header.payload_type, header.sequence, header.ssrc), (0, 7, 0xcafe_babe));
//!
//! let mut stream = Stream::begin(&header, 8_000, 0);
//! let next = Header { sequence: 9, timestamp: 480, ..header };
//! stream.observe(&next, 40_000_000);
//! assert_eq!((stream.received(), stream.lost()), (2, 1));
//! ```

mod event;
mod format;
mod header;
mod stream;

pub use event::{Event, noise_level};
pub use format::{Content, Format};
pub use header::{Header, control_type, sender_report};
pub use stream::{Stream, static_clock_rate};
