//! ESP that is not encrypted (RFC 4303, RFC 2410), opened where it stands.
//!
//! IMS signalling is often sent in ESP with authentication alone. Nothing in such a packet says so, nor how long its integrity
//! check value (ICV) is. So each packet is read from its end, as a receiver would, for each length that an ICV may have, and is
//! believed if what then stands in it is sound:
//!
//! ```text
//!   SPI 4 | sequence 4 | inner header and payload | padding 1, 2, 3, ... | pad length 1 | next header 1 | ICV
//! ```
//!
//! | content | proof | likely |
//! |---|---|---|
//! | UDP | its length ends where the padding begins | - |
//! | TCP | its checksum fits, or SIP stands in it | its header length fits |
//! | IP (tunnel mode) | its length ends where the padding begins | - |
//! | SCTP, ICMP | - | there is room for its header |
//!
//! Proof is enough. What is likely is believed of everything with [`Esp::null`], since then the operator vouches for it, and of an
//! association of the same next header and ICV that has been proven. By [`Esp::heuristic`], SIP over UDP or TCP that starts right
//! behind ESP's header also proves itself with an ICV of unusual length.
//!
//! Associations are remembered by destination and SPI, in a table of fixed size, for five minutes of packet time. That only ever
//! says which reading to try and what is likely; each packet is still judged by its content, and an association that makes no sense any
//! more is forgotten, so one wrong guess cannot spoil the packets that follow.
//!
//! ESP within UDP (RFC 3948) counts, and behind extension headers; fragments are put together first; in ESP within ESP, the inner one
//! stays closed. What is found is told as offsets
//! into the frame: no byte is moved or changed.

use std::time::Duration;

use lc_daemon::config::Esp;

use crate::decode::{Addr, Decoded, Transport, decode_inner, decode_transport};

const ESP: u8 = 50;
const NAT_TRAVERSAL: u16 = 4500;
/// SPI and sequence number.
const HEADER: usize = 8;
/// Pad length and next header.
const TRAILER: usize = 2;
/// Lengths of ICVs that are in use, the most common ones first: 96 bits (HMAC-MD5, HMAC-SHA1, AES-XCBC), 128 (HMAC-SHA-256), 64, none,
/// 192 (HMAC-SHA-384), 256 (HMAC-SHA-512).
const ICV_SIZES: [usize; 6] = [12, 16, 8, 0, 24, 32];
/// Longest ICV of SIP that proves itself.
const LONGEST_ICV: usize = 64;
/// Associations that are remembered.
const ASSOCIATIONS: usize = 1024;
const MEMORY_NS: u64 = Duration::from_secs(300).as_nanos() as u64;
/// Packets in a row without sense that an association survives.
const MOST_MISSES: u8 = 3;

/// See the module.
#[derive(Debug)]
pub struct EspNull {
    settings: Esp,
    associations: Box<[Option<Association>]>,
}

#[derive(Debug, Clone, Copy)]
struct Association {
    destination: Addr,
    spi: u32,
    reading: Reading,
    seen_ns: u64,
    misses: u8,
}

/// How a packet can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    next_header: u8,
    icv_len: usize,
}

/// How far a reading is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Belief {
    Likely,
    Proven,
}

/// A reading that is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    reading: Reading,
    /// Bytes of the inner packet.
    len: usize,
    belief: Belief,
}

impl Default for EspNull {
    /// Looks into none.
    fn default() -> Self {
        Self::new(Esp::default())
    }
}

impl EspNull {
    /// Opens what `settings` say.
    #[must_use]
    pub fn new(settings: Esp) -> Self {
        let slots = if settings.is_off() { 0 } else { ASSOCIATIONS };
        Self {
            settings,
            associations: vec![None; slots].into_boxed_slice(),
        }
    }

    /// Whether [`Self::open`] would look at such a packet; it needs all of its bytes then.
    #[must_use]
    #[inline]
    pub fn concerns(&self, decoded: &Decoded) -> bool {
        if self.settings.is_off() || decoded.fragment {
            return false;
        }
        let is_udp = decoded.transport == Some(Transport::Udp);
        decoded.protocol == ESP
            || is_udp && matches!(decoded.ports, Some((NAT_TRAVERSAL, _) | (_, NAT_TRAVERSAL)))
    }

    /// What stands in the ESP packet that was decoded from `frame`, if it makes sense unencrypted. Offsets count from the first byte
    /// of `frame`.
    pub fn open(&mut self, decoded: &Decoded, frame: &[u8], time_ns: u64) -> Option<Decoded> {
        if !self.concerns(decoded) {
            return None;
        }
        let (at, end) = place(decoded, frame)?;
        let spi = u32::from_be_bytes(*frame.get(at..)?.first_chunk()?);
        let addresses = decoded.addresses?;
        let inner = at + HEADER;
        let bytes = frame.get(inner..end.min(frame.len()))?;
        let known = self.recall(addresses.1, spi, time_ns);
        let found = match end <= frame.len() {
            true => self.read(bytes, addresses, known),
            // The end was not captured: only an association tells.
            false => known.and_then(|reading| read_start(bytes, end - inner, reading)),
        };
        let opened = found.and_then(|found| {
            let frame = frame.get(..(inner + found.len).min(frame.len()))?;
            match found.reading.next_header {
                4 | 41 => decode_inner(decoded, frame, inner),
                protocol => decode_transport(decoded, protocol, frame, inner),
            }
        });
        let proven = found.filter(|found| found.belief == Belief::Proven && opened.is_some());
        self.remember(
            addresses.1,
            spi,
            time_ns,
            proven.map(|found| found.reading),
            opened.is_some(),
        );
        opened
    }

    /// The best reading of the bytes behind ESP's header.
    fn read(&self, bytes: &[u8], addresses: (Addr, Addr), known: Option<Reading>) -> Option<Found> {
        let mut likely = None;
        let configured = self.settings.icv_len.map(usize::from);
        let first = known.map(|reading| reading.icv_len);
        let sizes = first.into_iter().chain(ICV_SIZES);
        let sizes = sizes.filter(|size| configured.is_none_or(|configured| configured == *size));
        for icv_len in sizes.chain(configured) {
            let Some(found) = read_end(bytes, icv_len, addresses) else {
                continue;
            };
            if found.belief == Belief::Proven {
                return Some(found);
            }
            if self.settings.null || known == Some(found.reading) {
                likely = likely.or(Some(found));
            }
        }
        let by_content = || self.settings.heuristic.then(|| read_sip(bytes)).flatten();
        likely.or_else(by_content)
    }

    fn recall(&self, destination: Addr, spi: u32, time_ns: u64) -> Option<Reading> {
        let association = self.associations.get(slot(destination, spi))?.as_ref()?;
        let same = association.destination == destination && association.spi == spi;
        let fresh = time_ns.abs_diff(association.seen_ns) <= MEMORY_NS;
        (same && fresh).then_some(association.reading)
    }

    fn remember(
        &mut self,
        destination: Addr,
        spi: u32,
        time_ns: u64,
        proven: Option<Reading>,
        made_sense: bool,
    ) {
        let Some(slot) = self.associations.get_mut(slot(destination, spi)) else {
            return;
        };
        if let Some(reading) = proven {
            *slot = Some(Association {
                destination,
                spi,
                reading,
                seen_ns: time_ns,
                misses: 0,
            });
            return;
        }
        let Some(association) = slot
            .as_mut()
            .filter(|known| known.destination == destination && known.spi == spi)
        else {
            return;
        };
        association.misses = if made_sense {
            0
        } else {
            association.misses + 1
        };
        if association.misses > MOST_MISSES {
            *slot = None;
        }
    }
}

/// Where ESP's header starts and where the packet ends.
fn place(decoded: &Decoded, frame: &[u8]) -> Option<(usize, usize)> {
    let end = match decoded.end {
        0 => frame.len(),
        end => end,
    };
    if decoded.protocol == ESP {
        return Some((decoded.header, end));
    }
    let len = frame.get(decoded.header + 4..)?.first_chunk()?;
    let len = usize::from(u16::from_be_bytes(*len));
    let at = decoded.payload;
    // Four zero bytes mark IKE, and a single byte keeps the way open (RFC 3948 section 2).
    let is_esp = at != 0 && len > 8 + HEADER && frame.get(at..at + 4)? != [0; 4];
    is_esp.then_some((at, end.min(decoded.header + len)))
}

/// Reads the bytes behind ESP's header from their end.
fn read_end(bytes: &[u8], icv_len: usize, addresses: (Addr, Addr)) -> Option<Found> {
    let (next_header, len) = trailer(bytes, icv_len)?;
    let belief = believe(next_header, bytes.get(..len)?, addresses)?;
    Some(Found {
        reading: Reading {
            next_header,
            icv_len,
        },
        len,
        belief,
    })
}

/// The next header and the length before the padding, if there is one.
fn trailer(bytes: &[u8], icv_len: usize) -> Option<(u8, usize)> {
    let end = bytes.len().checked_sub(icv_len + TRAILER)?;
    let [pad_len, next_header] = *bytes.get(end..)?.first_chunk()?;
    let len = end.checked_sub(pad_len.into())?;
    let padding = bytes.get(len..end)?;
    let is_padding = padding.iter().zip(1..=u8::MAX).all(|(pad, n)| *pad == n);
    (is_padding && len > 0).then_some((next_header, len))
}

/// How far `inner`, all of it, can be what `next_header` says.
fn believe(next_header: u8, inner: &[u8], addresses: (Addr, Addr)) -> Option<Belief> {
    let word = |at: usize| {
        Some(usize::from(u16::from_be_bytes(
            *inner.get(at..)?.first_chunk()?,
        )))
    };
    let proven_by = |proof: bool| proof.then_some(Belief::Proven);
    match next_header {
        17 => proven_by(inner.len() >= 8 && word(4)? == inner.len()),
        6 => {
            let payload = tcp_payload(inner)?;
            match is_sip(payload) || checksum_fits(inner, addresses) {
                true => Some(Belief::Proven),
                false => Some(Belief::Likely),
            }
        }
        4 => proven_by(inner.len() >= 20 && inner[0] >> 4 == 4 && word(2)? == inner.len()),
        41 => proven_by(inner.len() >= 40 && inner[0] >> 4 == 6 && word(4)? + 40 == inner.len()),
        132 => (inner.len() >= 16).then_some(Belief::Likely),
        1 | 58 => (inner.len() >= 8).then_some(Belief::Likely),
        _ => None,
    }
}

/// Reads the start of `len` bytes behind ESP's header whose end is missing.
fn read_start(bytes: &[u8], len: usize, reading: Reading) -> Option<Found> {
    let len = len.checked_sub(reading.icv_len + TRAILER)?;
    let len = match reading.next_header {
        17 => {
            let claimed = u16::from_be_bytes(*bytes.get(4..)?.first_chunk()?).into();
            (8..=len).contains(&claimed).then_some(claimed)?
        }
        _ => len,
    };
    Some(Found {
        reading,
        len,
        belief: Belief::Likely,
    })
}

/// SIP right behind ESP's header, whatever follows.
fn read_sip(bytes: &[u8]) -> Option<Found> {
    let found = |next_header: u8, len: usize| {
        let mut sizes = (0..=LONGEST_ICV).step_by(4);
        let fitting = sizes.find(|icv_len| trailer(bytes, *icv_len) == Some((next_header, len)));
        Found {
            reading: Reading {
                next_header,
                icv_len: fitting.unwrap_or(0),
            },
            len,
            belief: Belief::Proven,
        }
    };
    let len = usize::from(u16::from_be_bytes(*bytes.get(4..)?.first_chunk()?));
    if len + TRAILER <= bytes.len() && bytes.get(8..len).is_some_and(is_sip) {
        return Some(found(17, len));
    }
    if !is_sip(tcp_payload(bytes)?) {
        return None;
    }
    let ends = (0..=LONGEST_ICV).step_by(4);
    let len = ends
        .filter_map(|icv_len| trailer(bytes, icv_len))
        .find(|(next_header, len)| *next_header == 6 && *len >= 20)
        .map_or(bytes.len(), |(_, len)| len);
    Some(found(6, len))
}

/// What follows a TCP header.
fn tcp_payload(segment: &[u8]) -> Option<&[u8]> {
    let header_len = usize::from(segment.get(12)? >> 4) * 4;
    (header_len >= 20).then(|| segment.get(header_len..))?
}

/// Whether a start line of SIP begins (RFC 3261 section 7): its version, or a method of capital letters and a URI.
fn is_sip(payload: &[u8]) -> bool {
    const LONGEST_METHOD: usize = 10;
    let method_len = payload
        .iter()
        .take(LONGEST_METHOD + 1)
        .take_while(|byte| byte.is_ascii_uppercase())
        .count();
    let uri = payload.get(method_len..).unwrap_or_default();
    let schemes: [&[u8]; 4] = [b" sip:", b" sips:", b" tel:", b" urn:"];
    let is_request = (3..=LONGEST_METHOD).contains(&method_len)
        && schemes.iter().any(|scheme| {
            uri.get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        });
    is_request || payload.starts_with(b"SIP/2.0 ")
}

/// The checksum of TCP (RFC 9293 section 3.1) over the addresses and the segment.
fn checksum_fits(segment: &[u8], (source, destination): (Addr, Addr)) -> bool {
    let sum = |bytes: &[u8]| -> u64 {
        let words = bytes.chunks(2);
        words
            .map(|word| u64::from(word[0]) << 8 | u64::from(word.get(1).copied().unwrap_or(0)))
            .sum()
    };
    let address = |address: Addr| match address {
        Addr::V4(address) => sum(&address.to_be_bytes()),
        Addr::V6(address) => sum(&address.to_be_bytes()),
    };
    let mut total =
        address(source) + address(destination) + 6 + segment.len() as u64 + sum(segment);
    while total > 0xffff {
        total = (total >> 16) + (total & 0xffff);
    }
    total == 0xffff
}

/// The place of an association in the table.
fn slot(destination: Addr, spi: u32) -> usize {
    let address = match destination {
        Addr::V4(address) => u64::from(address),
        Addr::V6(address) => (address >> 64) as u64 ^ address as u64,
    };
    let mixed = (address ^ u64::from(spi) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 54) as usize % ASSOCIATIONS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::decode;

    const SIP: &[u8] = b"INVITE sip:b@x SIP/2.0\r\n";
    const ENDS: (Addr, Addr) = (Addr::V4(0x0a00_0001), Addr::V4(0x0a00_0002));
    const HEURISTIC: Esp = Esp {
        null: false,
        heuristic: true,
        icv_len: None,
    };
    const NULL: Esp = Esp {
        null: true,
        heuristic: false,
        icv_len: None,
    };

    fn udp(payload: &[u8]) -> Vec<u8> {
        let len = (8 + payload.len() as u16).to_be_bytes();
        [&[0x13, 0xc4, 0x13, 0xc4, len[0], len[1], 0, 0], payload].concat()
    }

    fn tcp(payload: &[u8]) -> Vec<u8> {
        let header = [
            0x13, 0xc4, 0x13, 0xc4, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 1, 0, 0, 0, 0, 0,
        ];
        [&header, payload].concat()
    }

    /// What stands behind ESP's header.
    fn protected(inner: &[u8], next_header: u8, pad_len: u8, icv_len: usize) -> Vec<u8> {
        let padding: Vec<u8> = (1..=pad_len).collect();
        let icv: Vec<u8> = (0..icv_len)
            .map(|n| 0xa7 ^ (n as u8).wrapping_mul(29))
            .collect();
        [inner, &padding, &[pad_len, next_header], &icv].concat()
    }

    fn esp(spi: u32, rest: &[u8]) -> Vec<u8> {
        [&spi.to_be_bytes()[..], &[0, 0, 0, 1], rest].concat()
    }

    fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let len = (20 + payload.len() as u16).to_be_bytes();
        let mut packet = vec![0x45, 0, len[0], len[1], 0, 1, 0, 0, 64, protocol, 0, 0];
        packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend(payload);
        packet
    }

    fn v6(next_header: u8, payload: &[u8]) -> Vec<u8> {
        let len = (payload.len() as u16).to_be_bytes();
        let mut packet = vec![0x60, 0, 0, 0, len[0], len[1], next_header, 64];
        packet.extend(0x2001_0db8_u128.rotate_left(96).to_be_bytes());
        packet.extend((0x2001_0db8_u128.rotate_left(96) + 1).to_be_bytes());
        packet.extend(payload);
        packet
    }

    fn open(esp: &mut EspNull, packet: &[u8]) -> Option<Decoded> {
        esp.open(&decode(101, packet), packet, 0)
    }

    fn opened(settings: Esp, packet: &[u8]) -> Option<Decoded> {
        open(&mut EspNull::new(settings), packet)
    }

    fn found(settings: Esp, bytes: &[u8]) -> Option<(u8, usize)> {
        let found = EspNull::new(settings).read(bytes, ENDS, None)?;
        Some((found.reading.next_header, found.len))
    }

    /// Rows Q1 to Q7 and Q9, Q10 of the reference's conformance cases.
    #[test]
    fn trailers_are_read_as_configured() {
        let fixed = |icv_len| Esp {
            icv_len: Some(icv_len),
            ..NULL
        };
        let invite = udp(SIP);
        assert_eq!(found(NULL, &protected(&invite, 17, 2, 12)), Some((17, 32)));
        assert_eq!(
            found(fixed(0), &protected(&invite, 17, 0, 0)),
            Some((17, 32))
        );
        assert_eq!(found(fixed(16), &protected(&invite, 17, 2, 12)), None);
        assert_eq!(found(NULL, &protected(&tcp(b""), 6, 2, 12)), Some((6, 20)));
        let ciphertext: Vec<u8> = (0..41u32)
            .map(|n| match n {
                38 => 0xff,
                39 => 6,
                40 => 4,
                n => (3 + 7 * n) as u8,
            })
            .collect();
        assert_eq!(found(NULL, &ciphertext), None);
        assert!(Esp::default().is_off());
        assert!(!HEURISTIC.is_off() && !NULL.is_off());
    }

    #[test]
    fn a_look_alike_over_tcp_stays_closed() {
        let media = [&[0x80, 8][..], &[0; 30]].concat();
        let packet = v6(50, &esp(195_936_478, &protected(&tcp(&media), 59, 2, 12)));
        assert_eq!(opened(HEURISTIC, &packet), None);
    }

    #[test]
    fn a_message_over_tcp_comes_out_whole() {
        let message = b"MESSAGE sip:+49@ims.example SIP/2.0\r\nContent-Length: 4\r\n\r\ntest";
        let settings = Esp {
            icv_len: Some(12),
            ..NULL
        };
        let packet = v6(50, &esp(0xdead_beef, &protected(&tcp(message), 6, 2, 12)));
        let decoded = opened(settings, &packet).unwrap();
        assert_eq!(decoded.transport, Some(Transport::Tcp));
        assert_eq!(decoded.payload_of(&packet), message);
        assert_eq!(decoded.end - decoded.header, 82);
    }

    #[test]
    fn each_icv_is_found() {
        for icv_len in ICV_SIZES {
            for settings in [NULL, HEURISTIC] {
                for (next_header, inner) in [(17, udp(SIP)), (6, tcp(SIP))] {
                    let rest = protected(&inner, next_header, 3, icv_len);
                    let packet = v4(50, &esp(7, &rest));
                    let decoded = opened(settings, &packet).unwrap();
                    assert_eq!(decoded.payload_of(&packet), SIP, "{icv_len}");
                    assert_eq!(decoded.ports, Some((5060, 5060)));
                    assert_eq!(decoded.addresses, Some(ENDS));
                }
            }
        }
    }

    #[test]
    fn sip_proves_itself_with_an_unusual_icv() {
        for (next_header, inner) in [(17, udp(SIP)), (6, tcp(SIP))] {
            let packet = v4(50, &esp(7, &protected(&inner, next_header, 2, 20)));
            let decoded = opened(HEURISTIC, &packet).unwrap();
            assert_eq!(decoded.payload_of(&packet), SIP);
            assert_eq!(opened(NULL, &packet), None);
        }
    }

    #[test]
    fn it_is_found_behind_other_headers() {
        let rest = esp(7, &protected(&udp(SIP), 17, 2, 12));
        let port = [0x11, 0x94, 0x11, 0x94];
        let len = (8 + rest.len() as u16).to_be_bytes();
        let in_udp = [&port[..], &len, &[0, 0], &rest].concat();
        let options = [&[50, 0, 1, 4, 0, 0, 0, 0][..], &rest].concat();
        for packet in [
            v4(17, &in_udp),
            v6(17, &in_udp),
            v6(0, &options),
            v6(60, &options),
        ] {
            let decoded = opened(HEURISTIC, &packet).unwrap();
            assert_eq!(decoded.payload_of(&packet), SIP);
        }
        let ike = [&port[..], &len, &[0, 0, 0, 0, 0, 0], &rest[4..]].concat();
        assert_eq!(opened(HEURISTIC, &v4(17, &ike)), None);
        assert_eq!(
            opened(
                HEURISTIC,
                &v4(17, &[0x11, 0x94, 0x11, 0x94, 0, 9, 0, 0, 0xff])
            ),
            None
        );
    }

    #[test]
    fn tunnel_mode_is_opened() {
        let inner = v6(17, &udp(SIP));
        let packet = v4(50, &esp(7, &protected(&inner, 41, 2, 16)));
        let decoded = opened(HEURISTIC, &packet).unwrap();
        assert_eq!((decoded.outer, decoded.tunnels), (Some(ENDS), 1));
        assert_eq!(decoded.payload_of(&packet), SIP);
        let inner = v4(17, &udp(SIP));
        let packet = v6(50, &esp(7, &protected(&inner, 4, 0, 0)));
        let decoded = opened(HEURISTIC, &packet).unwrap();
        assert_eq!(decoded.addresses, Some(ENDS));
        assert_eq!(decoded.payload_of(&packet), SIP);
    }

    #[test]
    fn a_likely_segment_is_believed_of_a_proven_association() {
        let segment =
            |payload: &[u8], icv_len| v4(50, &esp(7, &protected(&tcp(payload), 6, 2, icv_len)));
        let mut heuristic = EspNull::new(HEURISTIC);
        assert_eq!(
            open(&mut heuristic, &segment(b"rest of a message", 12)),
            None
        );
        assert!(open(&mut heuristic, &segment(SIP, 12)).is_some());
        let packet = segment(b"rest of a message", 12);
        let decoded = open(&mut heuristic, &packet).unwrap();
        assert_eq!(decoded.payload_of(&packet), b"rest of a message");
        // Another reading is not: each packet is judged by its content.
        assert_eq!(open(&mut heuristic, &segment(b"rest", 16)), None);
        let old = heuristic.open(&decode(101, &packet), &packet, MEMORY_NS + 1);
        assert_eq!(old, None);
        let cut = &packet[..60];
        let decoded = open(&mut heuristic, cut).unwrap();
        assert_eq!(decoded.payload_of(cut), &b"rest of a message"[..12]);
    }

    #[test]
    fn a_wrong_guess_is_forgotten() {
        let mut heuristic = EspNull::new(HEURISTIC);
        let segment = |payload: &[u8]| v4(50, &esp(7, &protected(&tcp(payload), 6, 2, 12)));
        assert!(open(&mut heuristic, &segment(SIP)).is_some());
        let noise = v4(50, &esp(7, &[0xee; 60]));
        for _ in 0..=MOST_MISSES {
            assert_eq!(open(&mut heuristic, &noise), None);
        }
        assert_eq!(open(&mut heuristic, &segment(b"rest of a message")), None);
        // Ciphertext of an association does not keep its clear packets from being read.
        assert!(open(&mut heuristic, &segment(SIP)).is_some());
    }

    #[test]
    fn a_checksum_proves_a_segment() {
        let mut segment = tcp(b"anything");
        let mut sum: u32 = 0x0a00 + 1 + 0x0a00 + 2 + 6 + segment.len() as u32;
        sum += segment
            .chunks(2)
            .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
            .sum::<u32>();
        let sum = !((sum >> 16) + (sum & 0xffff)) as u16;
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        let packet = v4(50, &esp(7, &protected(&segment, 6, 2, 12)));
        let decoded = opened(HEURISTIC, &packet).unwrap();
        assert_eq!(decoded.payload_of(&packet), b"anything");
    }

    #[test]
    fn ciphertext_is_left_alone() {
        let mut state = 1_u64;
        let mut random = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        let (mut heuristic, mut opened) = (EspNull::new(HEURISTIC), 0);
        for n in 0..50_000_u32 {
            let rest: Vec<u8> = (0..40 + n as usize % 100).map(|_| random()).collect();
            opened += u32::from(open(&mut heuristic, &v4(50, &esp(n % 64, &rest))).is_some());
        }
        assert!(opened < 3, "{opened}");
    }
}
