//! The fixed header of RTP (RFC 3550 section 5.1), and what tells RTCP from it (RFC 5761 section 4).

/// What the fixed header of a packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Payload type, 0 to 127.
    pub payload_type: u8,
    /// Whether the packet begins a talkspurt, or ends a frame.
    pub marker: bool,
    /// Sequence number.
    pub sequence: u16,
    /// Sampling time of the first byte of media, in units of the payload type's clock.
    pub timestamp: u32,
    /// Synchronization source.
    pub ssrc: u32,
    /// Bytes of the header, its sources and its extension.
    pub len: usize,
}

impl Header {
    /// Reads the header of a UDP payload; none if it cannot be RTP: too short, of another version, or RTCP.
    #[must_use]
    #[inline]
    pub fn read(payload: &[u8]) -> Option<Self> {
        let fixed: &[u8; 12] = payload.first_chunk()?;
        if fixed[0] >> 6 != 2 || control_type(payload).is_some() {
            return None;
        }
        let mut len = 12 + usize::from(fixed[0] & 15) * 4;
        if payload.len() < len {
            return None;
        }
        if fixed[0] & 0x10 != 0 {
            let extension: &[u8; 4] = payload.get(len..)?.first_chunk()?;
            len += 4 + usize::from(u16::from_be_bytes([extension[2], extension[3]])) * 4;
        }
        Some(Self {
            payload_type: fixed[1] & 0x7f,
            marker: fixed[1] & 0x80 != 0,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            len,
        })
    }
}

/// The packet type of the first RTCP packet in a UDP payload, 192 to 223; none if it is not RTCP.
#[must_use]
#[inline]
pub fn control_type(payload: &[u8]) -> Option<u8> {
    let head: &[u8; 8] = payload.first_chunk()?;
    let fits = (usize::from(u16::from_be_bytes([head[2], head[3]])) + 1) * 4 <= payload.len();
    (head[0] >> 6 == 2 && (192..=223).contains(&head[1]) && fits).then_some(head[1])
}

/// The synchronization source of a report of a sender of RTP, and the time of its clock at which it was sent (RFC 3550 section 6.4.1), by its UDP payload.
#[must_use]
pub fn sender_report(payload: &[u8]) -> Option<(u32, u32)> {
    let is_report = control_type(payload) == Some(200);
    let report: &[u8; 20] = payload.first_chunk().filter(|_| is_report)?;
    let word = |at: usize| {
        let bytes = [report[at], report[at + 1], report[at + 2], report[at + 3]];
        u32::from_be_bytes(bytes)
    };
    Some((word(4), word(16)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = (0..hex.len()).step_by(2);
        digits
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn headers_are_read() {
        // N1 to N4 of the reference.
        assert!(Header::read(&bytes("800000010000000000000001")).is_some());
        assert!(Header::read(&bytes("000000010000000000000001")).is_none());
        assert!(Header::read(&bytes("8000000100000000000000")).is_none());
        let header = Header::read(&bytes("80081234abcdef0112345678")).unwrap();
        assert_eq!((header.ssrc, header.payload_type), (305_419_896, 8));
        assert_eq!((header.sequence, header.timestamp), (4660, 2_882_400_001));
        assert!(!header.marker);
        // Two sources and an extension of one word.
        let long = bytes("928800010000000200000003aaaaaaaabbbbbbbbbede0001deadbeef00");
        let header = Header::read(&long).unwrap();
        assert_eq!((header.len, header.marker), (28, true));
        // Sources that are not there.
        assert!(Header::read(&bytes("8f0800010000000200000003")).is_none());
    }

    #[test]
    fn control_is_not_media() {
        let report = bytes("80c80006000000010000000200000003000000040000000500000006");
        assert_eq!(
            (control_type(&report), Header::read(&report)),
            (Some(200), None)
        );
        // X5: a report that ends after 16 bytes.
        assert_eq!(
            control_type(&bytes("80c80003000000010000000200000003")),
            Some(200)
        );
        // A marker and payload type 72 with a sequence number that is no length.
        let media = bytes("80c8fff0000000010000000200000003");
        assert_eq!(control_type(&media), None);
        assert_eq!(Header::read(&media).unwrap().payload_type, 72);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_within_bounds(mut payload in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(first) = payload.first_mut() {
                *first = *first & 0x3f | 0x80;
            }
            let _ = Header::read(&payload);
        }
    }
}
