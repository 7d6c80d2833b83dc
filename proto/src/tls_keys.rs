//! `CapturedPacket.tls_keys` (field 10), encoded into a buffer that is used again.
//!
//! A processor keeps the first message of each client random and ignores later ones, so a message must have all secrets of its session.
//!
//! ```
//! use lc_proto::tls_keys::TlsKeys;
//! let mut out = Vec::new();
//! let secrets = [&[7; 48][..], b"", b"", b"", b"", b"", b"", b""];
//! TlsKeys { client_random: &[1; 32], secrets, src_ip: "192.0.2.1", src_port: 40000, ..TlsKeys::default() }.put(&mut out);
//! ```

use crate::wire::{delimited_len, put_varint, scalar_field_len};

/// Tag of field 10 of `CapturedPacket`.
const TLS_KEYS_TAG: u8 = 0x52;

/// Secrets of a session. What is empty is left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct TlsKeys<'a> {
    /// Random of the ClientHello: 32 bytes.
    pub client_random: &'a [u8],
    /// Random of the ServerHello: 32 bytes, or none.
    pub server_random: &'a [u8],
    /// 0x0303 for TLS 1.2, 0x0304 for TLS 1.3; 0 if it is not known.
    pub version: u16,
    /// The cipher suite; 0 if it is not known.
    pub cipher: u16,
    /// In the order of fields 5 to 12: what stands in a key log under `CLIENT_RANDOM`, `CLIENT_HANDSHAKE_TRAFFIC_SECRET`, `SERVER_HANDSHAKE_TRAFFIC_SECRET`,
    /// `CLIENT_TRAFFIC_SECRET_0`, `SERVER_TRAFFIC_SECRET_0`, `EXPORTER_SECRET`, `EARLY_EXPORTER_SECRET`, `CLIENT_EARLY_TRAFFIC_SECRET`.
    pub secrets: [&'a [u8]; 8],
    /// Source address of the packet.
    pub src_ip: &'a str,
    /// Its source port.
    pub src_port: u16,
    /// Its destination address.
    pub dst_ip: &'a str,
    /// Its destination port.
    pub dst_port: u16,
}

impl TlsKeys<'_> {
    /// Appends the field.
    pub fn put(&self, out: &mut Vec<u8>) {
        let mut texts = [(0, &b""[..]); 12];
        texts[0] = (1, self.client_random);
        texts[1] = (2, self.server_random);
        for (n, secret) in self.secrets.iter().enumerate() {
            texts[2 + n] = (5 + n as u8, secret);
        }
        texts[10] = (13, self.src_ip.as_bytes());
        texts[11] = (15, self.dst_ip.as_bytes());
        // Fields 3, 4 and 14 have tags of one byte, 16 one of two.
        let numbers = [(3, self.version), (4, self.cipher), (14, self.src_port)];
        let texts_len: usize = texts
            .iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(_, text)| delimited_len(text.len()))
            .sum();
        let numbers_len: usize = numbers
            .iter()
            .map(|(_, number)| scalar_field_len(u64::from(*number)))
            .sum();
        let last_len = match scalar_field_len(self.dst_port.into()) {
            0 => 0,
            len => len + 1,
        };
        out.push(TLS_KEYS_TAG);
        put_varint(out, texts_len + numbers_len + last_len);
        for (field, text) in texts {
            if !text.is_empty() {
                out.push(field << 3 | 2);
                put_varint(out, text.len());
                out.extend_from_slice(text);
            }
        }
        for (field, number) in numbers {
            if number > 0 {
                out.push(field << 3);
                put_varint(out, number.into());
            }
        }
        if self.dst_port > 0 {
            out.extend_from_slice(&[0x80, 0x01]);
            put_varint(out, self.dst_port.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::data::CapturedPacket;

    proptest! {
        #[test]
        fn a_processor_reads_what_was_put(
            random in prop::collection::vec(any::<u8>(), 32),
            secrets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..49), 8),
            numbers in any::<[u16; 4]>(),
            address in "[0-9.:]{0,40}",
        ) {
            let keys = TlsKeys {
                client_random: &random,
                server_random: &random,
                version: numbers[0],
                cipher: numbers[1],
                secrets: std::array::from_fn(|n| &secrets[n][..]),
                src_ip: &address,
                src_port: numbers[2],
                dst_ip: "::1",
                dst_port: numbers[3],
            };
            let mut encoded = Vec::new();
            keys.put(&mut encoded);
            let packet = CapturedPacket::decode(&encoded[..]).unwrap();
            prop_assert_eq!(packet.encoded_len(), encoded.len());
            let read = packet.tls_keys.unwrap();
            prop_assert!(read.client_random == random && read.server_random == random);
            prop_assert_eq!([read.tls_version, read.cipher_suite, read.src_port, read.dst_port], numbers.map(u32::from));
            prop_assert_eq!((read.src_ip, read.dst_ip), (address, "::1".to_owned()));
            let read = [
                read.pre_master_secret,
                read.client_handshake_traffic_secret,
                read.server_handshake_traffic_secret,
                read.client_traffic_secret_0,
                read.server_traffic_secret_0,
                read.exporter_secret,
                read.early_exporter_secret,
                read.client_early_traffic_secret,
            ];
            let read = read.map(|secret| secret.to_vec());
            prop_assert_eq!(&read[..], &secrets[..]);
        }
    }
}
