//! Records of TLS 1.2 and 1.3, decrypted with the secrets of a key log.
//!
//! Nothing is pretended: what is given out was authenticated by its key. So a wrong key, a lost record or a secret of another session give nothing.
//!
//! TLS 1.3 changes its keys on the way: early data, handshake, data, and again with each KeyUpdate. Where a record does not open with the key at hand, the next one is tried from its first record on; so it is not needed to
//! follow the messages that announce the change, and a missing secret costs what was encrypted with it alone.

use std::ops::Range;

use aes::{Aes128, Aes256};
use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use lc_daemon::key_log::{Label, Secret};
use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use ring::hmac;
use zeroize::Zeroizing;

use super::record::{Content, Header};
use super::schedule::{Hash, expand_label};
use super::secrets::Secrets;
use super::version::{TLS_1_2, TLS_1_3};

const TAG: usize = 16;
const BLOCK: usize = 16;
/// Records in a row that don't open before a direction is given up.
const MOST_FAILURES: u16 = 256;

/// How a cipher suite encrypts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cipher {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20,
    Aes128Cbc(Mac),
    Aes256Cbc(Mac),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mac {
    Sha1,
    Sha256,
    Sha384,
}

/// By the number of the suite; `None` if it is not decrypted.
fn suite(number: u16) -> Option<(Cipher, Hash)> {
    use Cipher::{Aes128Cbc, Aes128Gcm, Aes256Cbc, Aes256Gcm, ChaCha20};
    Some(match number {
        0x1301 | 0x009c | 0x009e | 0xc02b | 0xc02f => (Aes128Gcm, Hash::Sha256),
        0x1302 | 0x009d | 0x009f | 0xc02c | 0xc030 => (Aes256Gcm, Hash::Sha384),
        0x1303 | 0xcca8 | 0xcca9 | 0xccaa => (ChaCha20, Hash::Sha256),
        0x002f | 0x0033 | 0xc009 | 0xc013 => (Aes128Cbc(Mac::Sha1), Hash::Sha256),
        0x0035 | 0x0039 | 0xc00a | 0xc014 => (Aes256Cbc(Mac::Sha1), Hash::Sha256),
        0x003c | 0x0067 | 0xc023 | 0xc027 => (Aes128Cbc(Mac::Sha256), Hash::Sha256),
        0x003d | 0x006b => (Aes256Cbc(Mac::Sha256), Hash::Sha256),
        0xc024 | 0xc028 => (Aes256Cbc(Mac::Sha384), Hash::Sha384),
        _ => return None,
    })
}

impl Cipher {
    fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes128Cbc(_) => 16,
            Self::Aes256Gcm | Self::ChaCha20 | Self::Aes256Cbc(_) => 32,
        }
    }

    /// Bytes of the nonce that come from the key schedule of TLS 1.2.
    fn iv_len(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 4,
            Self::ChaCha20 => 12,
            Self::Aes128Cbc(_) | Self::Aes256Cbc(_) => 0,
        }
    }

    fn mac(self) -> Option<Mac> {
        match self {
            Self::Aes128Cbc(mac) | Self::Aes256Cbc(mac) => Some(mac),
            _ => None,
        }
    }

    fn aead(self, key: &[u8]) -> Option<LessSafeKey> {
        let algorithm = match self {
            Self::Aes128Gcm => &AES_128_GCM,
            Self::Aes256Gcm => &AES_256_GCM,
            Self::ChaCha20 => &CHACHA20_POLY1305,
            Self::Aes128Cbc(_) | Self::Aes256Cbc(_) => return None,
        };
        UnboundKey::new(algorithm, key).ok().map(LessSafeKey::new)
    }
}

impl Mac {
    fn key(self, bytes: &[u8]) -> hmac::Key {
        let algorithm = match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
        };
        hmac::Key::new(algorithm, bytes)
    }

    fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }
}

/// What a session has agreed on.
#[derive(Debug, Clone, Copy)]
pub struct Agreement<'a> {
    /// The version.
    pub version: u16,
    /// The cipher suite.
    pub cipher: u16,
    /// Random of the ClientHello.
    pub client_random: &'a [u8; 32],
    /// Random of the ServerHello.
    pub server_random: &'a [u8; 32],
    /// Whether CBC suites encrypt before they authenticate (RFC 7366).
    pub encrypts_then_authenticates: bool,
}

impl Agreement<'_> {
    /// Whether what is agreed on is decrypted at all.
    #[must_use]
    pub fn is_decrypted(&self) -> bool {
        let suite = suite(self.cipher);
        suite.is_some_and(|(cipher, _)| match self.version {
            TLS_1_2 => !matches!(self.cipher, 0x1301..=0x1303),
            TLS_1_3 => cipher.mac().is_none(),
            _ => false,
        })
    }
}

/// Decrypts what one side sends.
pub struct Opener(Keys);

enum Keys {
    Older(Box<Older>),
    Newer(Box<Newer>),
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Opener")
    }
}

/// Where in a record its content lies, once it is decrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What it is.
    pub content: Content,
    /// Within the bytes that were given.
    pub range: Range<usize>,
}

impl Opener {
    /// For the client's side, or the server's. `None` if the version or the suite is not decrypted, or the secrets don't have what it takes.
    #[must_use]
    pub fn new(agreement: &Agreement<'_>, secrets: &Secrets, is_client: bool) -> Option<Self> {
        let (cipher, hash) = suite(agreement.cipher)?;
        let keys = match agreement.version {
            TLS_1_2 => {
                let keys = Older::new(agreement, secrets, is_client, cipher, hash)?;
                Keys::Older(Box::new(keys))
            }
            TLS_1_3 if cipher.mac().is_none() => {
                Keys::Newer(Box::new(Newer::new(secrets, is_client, cipher, hash)?))
            }
            _ => return None,
        };
        Some(Self(keys))
    }

    /// Decrypts the next record in place: `bytes` is its content. `None` if it does not open.
    pub fn open(&mut self, header: Header, bytes: &mut [u8]) -> Option<Opened> {
        match &mut self.0 {
            Keys::Older(keys) => keys.open(header, bytes),
            Keys::Newer(keys) => keys.open(header, bytes),
        }
    }
}

/// Keys of TLS 1.2, and the number of the next record.
struct Older {
    cipher: Protection,
    number: u64,
}

enum Protection {
    Aead {
        key: Box<LessSafeKey>,
        /// All of the nonce, or the first four bytes of it.
        iv: Vec<u8>,
    },
    Cbc {
        cipher: Cipher,
        key: Zeroizing<Vec<u8>>,
        mac: hmac::Key,
        mac_len: usize,
        encrypts_first: bool,
    },
}

impl Older {
    fn new(
        agreement: &Agreement<'_>,
        secrets: &Secrets,
        is_client: bool,
        cipher: Cipher,
        hash: Hash,
    ) -> Option<Self> {
        let master = secrets.get(Label::ClientRandom)?;
        let mac_len = cipher.mac().map_or(0, Mac::len);
        let lens = [mac_len, cipher.key_len(), cipher.iv_len()];
        let mut block = Zeroizing::new(vec![0; 2 * lens.iter().sum::<usize>()]);
        let seed: [&[u8]; 2] = [agreement.server_random, agreement.client_random];
        hash.prf(master.bytes(), b"key expansion", &seed, &mut block);
        // Of each kind the client's, then the server's (RFC 5246 section 6.3).
        let mut rest = &block[..];
        let [mac_key, key, iv] = lens.map(|len| {
            let (pair, behind) = rest.split_at(2 * len);
            rest = behind;
            let (client, server) = pair.split_at(len);
            if is_client { client } else { server }
        });
        let cipher = match cipher.mac() {
            None => Protection::Aead {
                key: Box::new(cipher.aead(key)?),
                iv: iv.to_vec(),
            },
            Some(mac) => Protection::Cbc {
                cipher,
                key: Zeroizing::new(key.to_vec()),
                mac: mac.key(mac_key),
                mac_len,
                encrypts_first: agreement.encrypts_then_authenticates,
            },
        };
        Some(Self { cipher, number: 0 })
    }

    fn open(&mut self, header: Header, bytes: &mut [u8]) -> Option<Opened> {
        let number = self.number;
        self.number += 1;
        let range = match &self.cipher {
            Protection::Aead { key, iv } => {
                // GCM has the rest of the nonce in the record (RFC 5288 section 3), ChaCha20 none (RFC 7905 section 2).
                let explicit = 12 - iv.len();
                let (start, content) = bytes.split_at_mut_checked(explicit)?;
                let mut nonce = [0; 12];
                nonce[..iv.len()].copy_from_slice(iv);
                nonce[iv.len()..].copy_from_slice(start);
                if explicit == 0 {
                    nonce = numbered(nonce, number);
                }
                let len = content.len().checked_sub(TAG)?;
                let aad = Aad::from(additional_data(number, header, len));
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.open_in_place(nonce, aad, content).ok()?;
                explicit..explicit + len
            }
            Protection::Cbc {
                cipher,
                key,
                mac,
                mac_len,
                encrypts_first: true,
            } => {
                let (content, tag) =
                    bytes.split_at_mut_checked(bytes.len().checked_sub(*mac_len)?)?;
                let signed = additional_data(number, header, content.len());
                verify(mac, &[&signed, content], tag)?;
                decrypt(*cipher, key, content)?
            }
            Protection::Cbc {
                cipher,
                key,
                mac,
                mac_len,
                encrypts_first: false,
            } => {
                let content = decrypt(*cipher, key, bytes)?;
                let end = content.end.checked_sub(*mac_len)?;
                let signed = additional_data(number, header, end.checked_sub(content.start)?);
                let tag = &bytes[end..content.end];
                verify(mac, &[&signed, &bytes[content.start..end]], tag)?;
                content.start..end
            }
        };
        Some(Opened {
            content: header.content,
            range,
        })
    }
}

fn verify(key: &hmac::Key, parts: &[&[u8]], tag: &[u8]) -> Option<()> {
    let mut context = hmac::Context::with_key(key);
    parts.iter().for_each(|part| context.update(part));
    (context.sign().as_ref() == tag).then_some(())
}

/// Decrypts blocks behind their initialisation vector. What it says lies within `bytes`, without the padding: N + 1 bytes of the value N (RFC 5246 section 6.2.3.2).
fn decrypt(cipher: Cipher, key: &[u8], bytes: &mut [u8]) -> Option<Range<usize>> {
    let (iv, blocks) = bytes.split_at_mut_checked(BLOCK)?;
    match cipher {
        Cipher::Aes128Cbc(_) => {
            let mode = cbc::Decryptor::<Aes128>::new_from_slices(key, iv).ok()?;
            mode.decrypt_padded::<NoPadding>(blocks).ok()?;
        }
        Cipher::Aes256Cbc(_) => {
            let mode = cbc::Decryptor::<Aes256>::new_from_slices(key, iv).ok()?;
            mode.decrypt_padded::<NoPadding>(blocks).ok()?;
        }
        _ => return None,
    }
    let padding = usize::from(*blocks.last()?) + 1;
    let len = blocks.len().checked_sub(padding)?;
    let is_padding = blocks[len..]
        .iter()
        .all(|byte| usize::from(*byte) == padding - 1);
    is_padding.then_some(BLOCK..BLOCK + len)
}

/// Number, type, version and length of a record (RFC 5246 section 6.2.3.3).
fn additional_data(number: u64, header: Header, len: usize) -> [u8; 13] {
    let mut data = [0; 13];
    data[..8].copy_from_slice(&number.to_be_bytes());
    data[8] = header.content.number();
    data[9..11].copy_from_slice(&header.version.to_be_bytes());
    data[11..].copy_from_slice(&(len as u16).to_be_bytes());
    data
}

/// The nonce of a record (RFC 8446 section 5.3).
fn numbered(iv: [u8; 12], number: u64) -> [u8; 12] {
    let mut nonce = iv;
    for (byte, other) in nonce[4..].iter_mut().zip(number.to_be_bytes()) {
        *byte ^= other;
    }
    nonce
}

/// Keys of TLS 1.3: those at hand, and what comes then.
struct Newer {
    cipher: Cipher,
    hash: Hash,
    /// Traffic secrets that are not in use, the next one first; the last one is followed by its updates.
    next: Vec<Secret>,
    at_hand: Option<Epoch>,
    failures: u16,
}

struct Epoch {
    secret: Secret,
    key: LessSafeKey,
    iv: [u8; 12],
    number: u64,
}

impl Newer {
    fn new(secrets: &Secrets, is_client: bool, cipher: Cipher, hash: Hash) -> Option<Self> {
        let labels: &[Label] = match is_client {
            true => &[
                Label::ClientEarly,
                Label::ClientHandshake,
                Label::ClientTraffic,
            ],
            false => &[Label::ServerHandshake, Label::ServerTraffic],
        };
        let secrets = labels.iter().filter_map(|label| secrets.get(*label));
        let next: Vec<Secret> = secrets.cloned().collect();
        (!next.is_empty()).then_some(Self {
            cipher,
            hash,
            next,
            at_hand: None,
            failures: 0,
        })
    }

    fn open(&mut self, header: Header, bytes: &mut [u8]) -> Option<Opened> {
        // Only what is encrypted looks like data.
        if header.content != Content::Data || self.failures == MOST_FAILURES {
            return None;
        }
        // What does not open is spoilt by the attempt.
        let sealed = bytes.to_vec();
        let mut at_hand = self.at_hand.take();
        if let Some(epoch) = &mut at_hand
            && let Some(opened) = epoch.open(header, bytes)
        {
            (self.at_hand, self.failures) = (at_hand, 0);
            return Some(opened);
        }
        let update = at_hand.as_ref().filter(|_| self.next.is_empty());
        let update = update.and_then(|epoch| epoch.updated(self.hash));
        for (n, secret) in self.next.iter().chain(&update).enumerate() {
            bytes.copy_from_slice(&sealed);
            let mut epoch = Epoch::new(secret, self.cipher, self.hash)?;
            if let Some(opened) = epoch.open(header, bytes) {
                let used = self.next.len().min(n + 1);
                self.next.drain(..used);
                (self.at_hand, self.failures) = (Some(epoch), 0);
                return Some(opened);
            }
        }
        (self.at_hand, self.failures) = (at_hand, self.failures + 1);
        None
    }
}

impl Epoch {
    fn new(secret: &Secret, cipher: Cipher, hash: Hash) -> Option<Self> {
        let expanded = hash.secret(secret.bytes());
        let mut key = Zeroizing::new([0; 32]);
        let key = &mut key[..cipher.key_len()];
        let mut iv = [0; 12];
        expand_label(&expanded, b"key", key)?;
        expand_label(&expanded, b"iv", &mut iv)?;
        Some(Self {
            secret: secret.clone(),
            key: cipher.aead(key)?,
            iv,
            number: 0,
        })
    }

    /// The secret behind a KeyUpdate (RFC 8446 section 7.2).
    fn updated(&self, hash: Hash) -> Option<Secret> {
        let mut secret = Zeroizing::new([0; 48]);
        let secret = &mut secret[..hash.bytes()];
        expand_label(&hash.secret(self.secret.bytes()), b"traffic upd", secret)?;
        Secret::new(secret)
    }

    fn open(&mut self, header: Header, bytes: &mut [u8]) -> Option<Opened> {
        let [major, minor] = header.version.to_be_bytes();
        let [high, low] = header.len.to_be_bytes();
        let aad = Aad::from([header.content.number(), major, minor, high, low]);
        let nonce = Nonce::assume_unique_for_key(numbered(self.iv, self.number));
        let inner = self.key.open_in_place(nonce, aad, bytes).ok()?;
        self.number += 1;
        // Content, its type, zeros (RFC 8446 section 5.2).
        let last = inner.iter().rposition(|byte| *byte != 0)?;
        Some(Opened {
            content: Content::numbered(inner[last])?,
            range: 0..last,
        })
    }
}
