//! `PacketMetadata.sip` and `PacketMetadata.rtp` (fields 7 and 8), encoded into a buffer that is used again.
//!
//! Texts come from packets as bytes; what is not UTF-8 in them is replaced, since a processor refuses a batch whose strings are not.
//!
//! ```
//! use lc_proto::voip::{Rtp, Sip};
//! let mut blocks = Vec::new();
//! Sip { call_id: b"a84b4c76e66710", ..Sip::default() }.put(&mut blocks);
//! Rtp { ssrc: 1, payload_type: 8, sequence: 2, timestamp: 160 }.put(&mut blocks);
//! ```

use std::borrow::Cow;

use crate::wire::{delimited_len, put_varint, scalar_field_len};

/// What stands in a SIP message; of media, the Call-ID alone. Empty texts are left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sip<'a> {
    /// Method of a request; empty of a response.
    pub method: &'a [u8],
    /// Call-ID.
    pub call_id: &'a [u8],
    /// User part of From.
    pub from_user: &'a [u8],
    /// User part of To.
    pub to_user: &'a [u8],
    /// Status code of a response, 0 of a request.
    pub response_code: u16,
    /// P-Asserted-Identity as it stands in the message (RFC 3325).
    pub p_asserted_identity: &'a [u8],
    /// Tag of From.
    pub from_tag: &'a [u8],
    /// Tag of To.
    pub to_tag: &'a [u8],
    /// URI of From.
    pub from_uri: &'a [u8],
    /// URI of To.
    pub to_uri: &'a [u8],
    /// P-Access-Network-Info, taken apart.
    pub access_network: Option<AccessNetwork<'a>>,
    /// P-Visited-Network-ID (RFC 7315 section 4.3).
    pub visited_network_id: &'a [u8],
    /// Method that CSeq names.
    pub cseq_method: &'a [u8],
}

/// P-Access-Network-Info (RFC 7315 section 4.4).
#[derive(Debug, Clone, Copy, Default)]
pub struct AccessNetwork<'a> {
    /// Access technology.
    pub access_type: &'a [u8],
    /// Address of the wireless access point.
    pub bssid: &'a [u8],
    /// Cell identity.
    pub cell_id: &'a [u8],
    /// Local address of the terminal.
    pub local_ip: &'a [u8],
    /// All parameters, by name.
    pub parameters: &'a [(&'a [u8], &'a [u8])],
}

/// Header of an RTP packet (RFC 3550 section 5.1).
#[derive(Debug, Clone, Copy, Default)]
pub struct Rtp {
    /// Synchronization source.
    pub ssrc: u32,
    /// Payload type, 7 bits.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Media timestamp.
    pub timestamp: u32,
}

impl Sip<'_> {
    /// Appends the field.
    pub fn put(&self, out: &mut Vec<u8>) {
        let texts = [
            (0x0a, text(self.method)),
            (0x12, text(self.call_id)),
            (0x1a, text(self.from_user)),
            (0x22, text(self.to_user)),
            (0x32, text(self.p_asserted_identity)),
            (0x3a, text(self.from_tag)),
            (0x42, text(self.to_tag)),
            (0x4a, text(self.from_uri)),
            (0x52, text(self.to_uri)),
            (0x62, text(self.visited_network_id)),
            (0x6a, text(self.cseq_method)),
        ];
        let code = u64::from(self.response_code);
        let mut network = Vec::new();
        if let Some(access) = &self.access_network {
            access.put(&mut network);
        }
        let len = texts_len(&texts) + scalar_field_len(code) + network.len();
        put_head(out, 0x3a, len);
        put_texts(out, &texts);
        put_scalar(out, 0x28, code);
        out.extend_from_slice(&network);
    }
}

impl AccessNetwork<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        let texts = [
            (0x0a, text(self.access_type)),
            (0x12, text(self.bssid)),
            (0x1a, text(self.cell_id)),
            (0x22, text(self.local_ip)),
        ];
        let entries = || {
            let entries = self.parameters.iter();
            entries.map(|(key, value)| [(0x0a, text(key)), (0x12, text(value))])
        };
        let parameters: usize = entries()
            .map(|entry| delimited_len(texts_len(&entry)))
            .sum();
        put_head(out, 0x5a, texts_len(&texts) + parameters);
        put_texts(out, &texts);
        for entry in entries() {
            put_head(out, 0x2a, texts_len(&entry));
            put_texts(out, &entry);
        }
    }
}

impl Rtp {
    /// Appends the field.
    pub fn put(&self, out: &mut Vec<u8>) {
        let numbers = [
            (0x08, u64::from(self.ssrc)),
            (0x10, u64::from(self.payload_type)),
            (0x18, u64::from(self.sequence)),
            (0x20, u64::from(self.timestamp)),
        ];
        let len = numbers
            .iter()
            .map(|(_, number)| scalar_field_len(*number))
            .sum();
        put_head(out, 0x42, len);
        for (tag, number) in numbers {
            put_scalar(out, tag, number);
        }
    }
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    // Most are, where a packet is media.
    if bytes.is_empty() {
        return Cow::Borrowed("");
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

fn texts_len(texts: &[(u8, Cow<'_, str>)]) -> usize {
    let texts = texts.iter().filter(|(_, text)| !text.is_empty());
    texts.map(|(_, text)| delimited_len(text.len())).sum()
}

fn put_texts(out: &mut Vec<u8>, texts: &[(u8, Cow<'_, str>)]) {
    for (tag, text) in texts {
        if !text.is_empty() {
            put_head(out, *tag, text.len());
            out.extend_from_slice(text.as_bytes());
        }
    }
}

fn put_head(out: &mut Vec<u8>, tag: u8, len: usize) {
    out.push(tag);
    put_varint(out, len);
}

fn put_scalar(out: &mut Vec<u8>, tag: u8, value: u64) {
    if value != 0 {
        put_head(out, tag, value as usize);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::data::{AccessNetworkInfo, PacketMetadata, RtpMetadata, SipMetadata};

    fn any_sip() -> impl Strategy<Value = SipMetadata> {
        let network = (
            ".{0,9}",
            ".{0,9}",
            ".{0,9}",
            prop::collection::hash_map(".{1,9}", ".{0,9}", 0..3),
        );
        (
            prop::collection::vec(".{0,30}", 11),
            any::<u16>(),
            prop::option::of(network),
        )
            .prop_map(|(texts, code, network)| SipMetadata {
                method: texts[0].clone(),
                call_id: texts[1].clone(),
                from_user: texts[2].clone(),
                to_user: texts[3].clone(),
                response_code: code.into(),
                p_asserted_identity: texts[4].clone(),
                from_tag: texts[5].clone(),
                to_tag: texts[6].clone(),
                from_uri: texts[7].clone(),
                to_uri: texts[8].clone(),
                access_network_info: network.map(|(access_type, bssid, cell_id, parameters)| {
                    AccessNetworkInfo {
                        access_type,
                        bssid,
                        cell_id,
                        local_ip: String::new(),
                        parameters: parameters.into_iter().collect(),
                    }
                }),
                visited_network_id: texts[9].clone(),
                cseq_method: texts[10].clone(),
            })
    }

    proptest! {
        #[test]
        fn decodes_to_what_was_put(sip in any_sip(), rtp in any::<(u32, u8, u16, u32)>()) {
            let network = sip.access_network_info.as_ref();
            let parameters: Vec<_> = network
                .into_iter()
                .flat_map(|network| &network.parameters)
                .map(|(key, value)| (key.as_bytes(), value.as_bytes()))
                .collect();
            let mut blocks = Vec::new();
            Sip {
                method: sip.method.as_bytes(),
                call_id: sip.call_id.as_bytes(),
                from_user: sip.from_user.as_bytes(),
                to_user: sip.to_user.as_bytes(),
                response_code: sip.response_code as u16,
                p_asserted_identity: sip.p_asserted_identity.as_bytes(),
                from_tag: sip.from_tag.as_bytes(),
                to_tag: sip.to_tag.as_bytes(),
                from_uri: sip.from_uri.as_bytes(),
                to_uri: sip.to_uri.as_bytes(),
                access_network: network.map(|network| AccessNetwork {
                    access_type: network.access_type.as_bytes(),
                    bssid: network.bssid.as_bytes(),
                    cell_id: network.cell_id.as_bytes(),
                    local_ip: network.local_ip.as_bytes(),
                    parameters: &parameters,
                }),
                visited_network_id: sip.visited_network_id.as_bytes(),
                cseq_method: sip.cseq_method.as_bytes(),
            }
            .put(&mut blocks);
            let (ssrc, payload_type, sequence, timestamp) = rtp;
            Rtp { ssrc, payload_type, sequence, timestamp }.put(&mut blocks);
            let decoded = PacketMetadata::decode(&blocks[..]).unwrap();
            prop_assert_eq!(decoded.sip.as_ref(), Some(&sip));
            let expected = RtpMetadata {
                ssrc,
                payload_type: payload_type.into(),
                sequence: sequence.into(),
                timestamp,
            };
            prop_assert_eq!(decoded.rtp, Some(expected));
            prop_assert_eq!(decoded.details, HashMap::new().into_iter().collect());
        }
    }

    #[test]
    fn what_is_not_text_is_replaced() {
        let mut blocks = Vec::new();
        Sip {
            call_id: b"a\xffb",
            ..Sip::default()
        }
        .put(&mut blocks);
        let decoded = PacketMetadata::decode(&blocks[..]).unwrap();
        assert_eq!(decoded.sip.unwrap().call_id, "a\u{fffd}b");
    }
}
