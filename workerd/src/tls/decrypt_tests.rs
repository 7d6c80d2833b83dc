//! Records of real sessions, between rustls and itself, decrypted with the key log that it writes.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use lc_daemon::key_log::{Entry, Label, Lines, Secret};
use rustls::crypto::ring::{ALL_CIPHER_SUITES, default_provider};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection,
};

use super::decrypt::{Agreement, Opener};
use super::hello::{Carrier, ClientHello, ServerHello};
use super::record::{Content, Header};
use super::schedule::Hash;
use super::secrets::{Secrets, Store};

/// A key log in memory.
#[derive(Debug, Default)]
struct Log(Mutex<Vec<u8>>);

impl rustls::KeyLog for Log {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8]| {
            bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        let line = format!("{label} {} {}\n", hex(client_random), hex(secret));
        self.0.lock().unwrap().extend(line.into_bytes());
    }
}

/// What was sent, by direction, and the key log.
pub struct Session {
    /// What each side sent.
    pub sent: [Vec<u8>; 2],
    /// The key log.
    pub log: Vec<u8>,
}

pub const QUESTION: &[u8] = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n";

/// Asks and answers, with a renewal of keys in between if the version has that.
pub fn talk(suite: rustls::SupportedCipherSuite, answer: &[u8]) -> Session {
    let certified = rcgen::generate_simple_self_signed(["example.com".to_owned()]).unwrap();
    let certificate = certified.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let mut provider = default_provider();
    provider.cipher_suites = vec![suite];
    let provider = Arc::new(provider);
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .unwrap();
    let log = Arc::new(Log::default());
    server.key_log = log.clone();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("example.com").unwrap();
    let mut client = Connection::from(ClientConnection::new(Arc::new(client), name).unwrap());
    let mut server = Connection::from(ServerConnection::new(Arc::new(server)).unwrap());
    let mut sent = [Vec::new(), Vec::new()];
    exchange(&mut client, &mut server, &mut sent);
    client.writer().write_all(QUESTION).unwrap();
    exchange(&mut client, &mut server, &mut sent);
    if suite.tls13().is_some() {
        server.refresh_traffic_keys().unwrap();
        client.refresh_traffic_keys().unwrap();
    }
    for piece in answer.chunks(20_000) {
        server.writer().write_all(piece).unwrap();
        exchange(&mut client, &mut server, &mut sent);
    }
    let log = log.0.lock().unwrap().clone();
    Session { sent, log }
}

fn exchange(client: &mut Connection, server: &mut Connection, sent: &mut [Vec<u8>; 2]) {
    let mut unread = vec![0; 1 << 16];
    while client.wants_write() || server.wants_write() {
        for (n, sent) in sent.iter_mut().enumerate() {
            let (from, to) = match n {
                0 => (&mut *client, &mut *server),
                _ => (&mut *server, &mut *client),
            };
            let mut bytes = Vec::new();
            while from.wants_write() {
                from.write_tls(&mut bytes).unwrap();
            }
            sent.extend(&bytes);
            let mut bytes = &bytes[..];
            while !bytes.is_empty() {
                to.read_tls(&mut bytes).unwrap();
                to.process_new_packets().unwrap();
                while to.reader().read(&mut unread).is_ok_and(|len| len > 0) {}
            }
        }
    }
}

fn records(mut bytes: &[u8]) -> Vec<(Header, Vec<u8>)> {
    let mut records = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk() {
        let header = Header::read(head).unwrap();
        let (content, rest) = rest.split_at(header.len.into());
        records.push((header, content.to_vec()));
        bytes = rest;
    }
    records
}

/// What each side has said as data.
fn decrypted(session: &Session) -> [Vec<u8>; 2] {
    let mut store = Store::default();
    let mut lines = Lines::default();
    for piece in session.log.chunks(7) {
        lines.take(piece, |entry| {
            store.add(&entry.unwrap(), 0);
        });
    }
    let [client, server] = session.sent.each_ref().map(|sent| records(sent));
    let client_hello = ClientHello::read(&client[0].1[4..], Carrier::Stream).unwrap();
    let server_hello = ServerHello::read(&server[0].1[4..]).unwrap();
    let secrets = store.get(client_hello.random).unwrap().clone();
    let agreement = Agreement {
        version: server_hello.chosen_version(),
        cipher: server_hello.cipher,
        client_random: client_hello.random,
        server_random: server_hello.random,
        encrypts_then_authenticates: server_hello.encrypts_then_authenticates(),
    };
    let mut said = [Vec::new(), Vec::new()];
    for (n, (records, said)) in [&client, &server].into_iter().zip(&mut said).enumerate() {
        let mut opener = Opener::new(&agreement, &secrets, n == 0).unwrap();
        let mut is_encrypted = false;
        for (header, bytes) in records {
            let mut bytes = bytes.clone();
            let is_new = agreement.version == 0x0304;
            if header.content == Content::ChangeCipherSpec {
                is_encrypted = true;
            } else if is_encrypted || is_new && header.content == Content::Data {
                let opened = opener.open(*header, &mut bytes).unwrap();
                if opened.content == Content::Data {
                    said.extend_from_slice(&bytes[opened.range]);
                }
            }
        }
    }
    said
}

#[test]
fn sessions_are_read_with_their_key_log() {
    let answer: Vec<u8> = (0..50_000_u32).map(|n| ((n * n) >> 7) as u8).collect();
    let mut read = 0;
    for suite in ALL_CIPHER_SUITES {
        // The certificate is of elliptic curves.
        let name = format!("{:?}", suite.suite());
        if name.contains("RSA") {
            continue;
        }
        let session = talk(*suite, &answer);
        let [question, answered] = decrypted(&session);
        assert_eq!(question, QUESTION, "{name}");
        assert!(answered == answer, "{name}");
        read += 1;
    }
    assert_eq!(read, 6);
}

/// A record of a CBC suite as RFC 5246 section 6.2.3.2 and RFC 7366 make it.
fn sealed(
    mac: &ring::hmac::Key,
    key: &[u8],
    content: &[u8],
    encrypts_first: bool,
    padding: u8,
) -> (Header, Vec<u8>) {
    let sign = |len: usize, parts: &[&[u8]]| {
        let mut context = ring::hmac::Context::with_key(mac);
        context.update(&[0, 0, 0, 0, 0, 0, 0, 0, 23, 3, 3]);
        context.update(&(len as u16).to_be_bytes());
        parts.iter().for_each(|part| context.update(part));
        context.sign().as_ref().to_vec()
    };
    let mut blocks = content.to_vec();
    if !encrypts_first {
        blocks.extend(sign(content.len(), &[content]));
    }
    let short = 15 - blocks.len() as u8 % 16 + padding * 16;
    blocks.extend(vec![short; usize::from(short) + 1]);
    let iv = [9; 16];
    let len = blocks.len();
    match key.len() {
        16 => {
            let mode = cbc::Encryptor::<aes::Aes128>::new_from_slices(key, &iv).unwrap();
            mode.encrypt_padded::<NoPadding>(&mut blocks, len).unwrap();
        }
        _ => {
            let mode = cbc::Encryptor::<aes::Aes256>::new_from_slices(key, &iv).unwrap();
            mode.encrypt_padded::<NoPadding>(&mut blocks, len).unwrap();
        }
    }
    let mut bytes = [&iv[..], &blocks].concat();
    if encrypts_first {
        let tag = sign(bytes.len(), &[&bytes]);
        bytes.extend(tag);
    }
    let header = Header {
        content: Content::Data,
        version: 0x0303,
        len: bytes.len() as u16,
    };
    (header, bytes)
}

fn with_master(master: &[u8; 48]) -> Secrets {
    let mut store = Store::default();
    let entry = Entry {
        label: Label::ClientRandom,
        client_random: [1; 32],
        secret: Secret::new(master).unwrap(),
    };
    store.add(&entry, 0);
    store.get(&[1; 32]).unwrap().clone()
}

#[test]
fn block_ciphers_with_either_order_and_any_padding() {
    let (master, content) = ([5; 48], b"twenty bytes of data");
    for (cipher, key_len, algorithm, hash) in [
        (
            0x002f,
            16,
            ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256,
        ),
        (
            0x0035,
            32,
            ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256,
        ),
        (0x003c, 16, ring::hmac::HMAC_SHA256, Hash::Sha256),
        (0x003d, 32, ring::hmac::HMAC_SHA256, Hash::Sha256),
        (0xc028, 32, ring::hmac::HMAC_SHA384, Hash::Sha384),
    ] {
        let mac_len = algorithm.digest_algorithm().output_len();
        let mut block = vec![0; 2 * (mac_len + key_len)];
        hash.prf(&master, b"key expansion", &[&[2; 32], &[1; 32]], &mut block);
        let mac = ring::hmac::Key::new(algorithm, &block[mac_len..2 * mac_len]);
        let key = &block[2 * mac_len + key_len..];
        for (encrypts_first, padding) in [(false, 0), (false, 15), (true, 0), (true, 15)] {
            let agreement = Agreement {
                version: 0x0303,
                cipher,
                client_random: &[1; 32],
                server_random: &[2; 32],
                encrypts_then_authenticates: encrypts_first,
            };
            let secrets = with_master(&master);
            let (header, bytes) = sealed(&mac, key, content, encrypts_first, padding);
            let mut opener = Opener::new(&agreement, &secrets, false).unwrap();
            let mut room = bytes.clone();
            let opened = opener.open(header, &mut room).unwrap();
            assert_eq!(&room[opened.range], content, "{cipher:04x}");
            // Another number, and a changed byte, open nothing.
            assert!(opener.open(header, &mut bytes.clone()).is_none());
            let mut changed = bytes;
            changed[20] ^= 1;
            let mut opener = Opener::new(&agreement, &secrets, false).unwrap();
            assert!(opener.open(header, &mut changed).is_none());
        }
    }
}

#[test]
fn other_secrets_open_nothing() {
    let suite = ALL_CIPHER_SUITES
        .iter()
        .find(|suite| suite.tls13().is_some())
        .unwrap();
    let (one, other) = (talk(*suite, b"one"), talk(*suite, b"other"));
    let [client, server] = one.sent.each_ref().map(|sent| records(sent));
    let client_hello = ClientHello::read(&client[0].1[4..], Carrier::Stream).unwrap();
    let server_hello = ServerHello::read(&server[0].1[4..]).unwrap();
    let mut store = Store::default();
    let mut randoms = Vec::new();
    Lines::default().take(&other.log, |entry| {
        let entry = entry.unwrap();
        randoms.push(entry.client_random);
        store.add(&entry, 0);
    });
    assert!(store.get(client_hello.random).is_none());
    let secrets = store.get(&randoms[0]).unwrap();
    let agreement = Agreement {
        version: server_hello.chosen_version(),
        cipher: server_hello.cipher,
        client_random: client_hello.random,
        server_random: server_hello.random,
        encrypts_then_authenticates: false,
    };
    let mut opener = Opener::new(&agreement, secrets, true).unwrap();
    for (header, bytes) in &client {
        assert!(opener.open(*header, &mut bytes.clone()).is_none());
    }
}
