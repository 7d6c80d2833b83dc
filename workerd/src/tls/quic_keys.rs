//! How Initial packets of QUIC are protected (RFC 9001 section 5, RFC 9369 section 3).
//!
//! Their keys come from the connection id that the client has chosen for the server: anybody who sees the first packet can read them.

use ring::aead::quic::HeaderProtectionKey;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey, quic};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};

use super::schedule::expand_label;

/// Longest connection id.
pub const LONGEST_ID: usize = 20;

/// A version whose Initial packets can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    salt: &'static [u8; 20],
    is_second: bool,
}

/// What a long header's type means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketKind {
    /// Carries hellos.
    Initial,
    /// Carries data of a client that knows the server.
    ZeroRtt,
    /// Carries the encrypted part of the handshake.
    Handshake,
    /// Has the client begin anew.
    Retry,
}

const FIRST: &[u8; 20] =
    b"\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a";
const SECOND: &[u8; 20] =
    b"\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9";
/// Drafts 29 to 32.
const DRAFT_29: &[u8; 20] =
    b"\xaf\xbf\xec\x28\x99\x93\xd2\x4c\x9e\x97\x86\xf1\x9c\x61\x11\xe0\x43\x90\xa8\x99";
/// Drafts 23 to 28.
const DRAFT_23: &[u8; 20] =
    b"\xc3\xee\xf7\x12\xc7\x2e\xbb\x5a\x11\xa7\xd2\x43\x2b\xb4\x63\x65\xbe\xf9\xf5\x02";

impl Version {
    /// By its number.
    #[must_use]
    pub fn numbered(number: u32) -> Option<Self> {
        let (salt, is_second) = match number {
            1 | 0xff00_0021..=0xff00_0022 => (FIRST, false),
            0x6b33_43cf => (SECOND, true),
            0xff00_001d..=0xff00_0020 => (DRAFT_29, false),
            0xff00_0017..=0xff00_001c => (DRAFT_23, false),
            _ => return None,
        };
        Some(Self { salt, is_second })
    }

    /// What the first byte of a long header says.
    #[must_use]
    pub fn kind(self, first: u8) -> PacketKind {
        let number = (first >> 4 & 3).wrapping_sub(self.is_second.into()) & 3;
        match number {
            0 => PacketKind::Initial,
            1 => PacketKind::ZeroRtt,
            2 => PacketKind::Handshake,
            _ => PacketKind::Retry,
        }
    }
}

/// Keys of what one side sends.
pub struct Keys {
    key: LessSafeKey,
    iv: [u8; 12],
    mask: HeaderProtectionKey,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Keys")
    }
}

impl Keys {
    /// Of the client or the server, for a connection that began with the id `id`. `None` only if the library fails.
    #[must_use]
    pub fn derive(version: Version, id: &[u8], is_client: bool) -> Option<Self> {
        let [key, iv, mask]: [&[u8]; 3] = match version.is_second {
            true => [b"quicv2 key", b"quicv2 iv", b"quicv2 hp"],
            false => [b"quic key", b"quic iv", b"quic hp"],
        };
        let side: &[u8] = if is_client {
            b"client in"
        } else {
            b"server in"
        };
        let initial = Salt::new(HKDF_SHA256, version.salt).extract(id);
        let secret: [u8; 32] = expand(&initial, side)?;
        let secret = Prk::new_less_safe(HKDF_SHA256, &secret);
        let key: [u8; 16] = expand(&secret, key)?;
        let mask: [u8; 16] = expand(&secret, mask)?;
        Some(Self {
            key: LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).ok()?),
            iv: expand(&secret, iv)?,
            mask: HeaderProtectionKey::new(&quic::AES_128, &mask).ok()?,
        })
    }

    /// The content of `packet`, whose packet number stands at `number_at`, in `room`. `None` if these are not its keys.
    pub fn open<'r>(
        &self,
        packet: &[u8],
        number_at: usize,
        room: &'r mut Vec<u8>,
    ) -> Option<&'r [u8]> {
        let sample = packet.get(number_at + 4..number_at + 20)?;
        let mask = self.mask.new_mask(sample).ok()?;
        room.clear();
        room.extend_from_slice(packet);
        room[0] ^= mask[0] & 0x0f;
        let number_len = usize::from(room[0] & 3) + 1;
        let mut nonce = self.iv;
        // Packet numbers of Initial packets begin with 0 and are few: they stand there as a whole.
        for n in 0..number_len {
            room[number_at + n] ^= mask[1 + n];
            nonce[12 - number_len + n] ^= room[number_at + n];
        }
        let (header, content) = room.split_at_mut(number_at + number_len);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self.key.open_in_place(nonce, Aad::from(header), content);
        opened.ok().map(|opened| &*opened)
    }
}

#[cfg(test)]
impl Keys {
    /// A packet of `header`, which ends with a packet number of one byte, and `content`.
    pub fn seal(&self, mut header: Vec<u8>, content: &[u8]) -> Vec<u8> {
        let number_at = header.len() - 1;
        let mut nonce = self.iv;
        nonce[11] ^= header[number_at];
        let nonce = Nonce::assume_unique_for_key(nonce);
        let mut content = content.to_vec();
        let aad = Aad::from(&header);
        self.key
            .seal_in_place_append_tag(nonce, aad, &mut content)
            .unwrap();
        header.extend(content);
        let sample = &header[number_at + 4..number_at + 20];
        let mask = self.mask.new_mask(sample).unwrap();
        header[0] ^= mask[0] & 0x0f;
        header[number_at] ^= mask[1];
        header
    }
}

fn expand<const LEN: usize>(secret: &Prk, label: &[u8]) -> Option<[u8; LEN]> {
    let mut out = [0; LEN];
    expand_label(secret, label, &mut out)?;
    Some(out)
}
