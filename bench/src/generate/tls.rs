//! TLS 1.3 connections (RFC 8446) up to the first encrypted records: the hellos can be parsed in
//! full, the client's names its server (RFC 6066), and what follows is opaque.

use super::dialogue::{Dialogue, Turn};
use super::frame::Ports;
use super::path::{Path, Side};
use super::rng::Rng;

const RECORD_CHANGE_CIPHER_SPEC: u8 = 20;
const RECORD_HANDSHAKE: u8 = 22;
const RECORD_APPLICATION_DATA: u8 = 23;

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;

const SERVER_NAME: u16 = 0;
const SUPPORTED_GROUPS: u16 = 10;
const SIGNATURE_ALGORITHMS: u16 = 13;
const APPLICATION_PROTOCOLS: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
const PSK_KEY_EXCHANGE_MODES: u16 = 45;
const KEY_SHARE: u16 = 51;

const TLS_1_2: [u8; 2] = [3, 3];
const TLS_1_3: [u8; 2] = [3, 4];
const X25519: [u8; 2] = [0, 29];

/// One connection to a TLS server on port 443 or 8443.
pub(super) fn conversation(path: Path, mut rng: Rng) -> Dialogue {
    let name = format!("{}.{}.example", rng.word(6), rng.word(9));
    let session: [u8; 32] = rng.bytes();
    let mut answer = record(RECORD_HANDSHAKE, &server_hello(&session, &mut rng));
    answer.extend(record(RECORD_CHANGE_CIPHER_SPEC, &[1]));
    answer.extend(encrypted(2_200, &mut rng));
    let mut finished = record(RECORD_CHANGE_CIPHER_SPEC, &[1]);
    finished.extend(encrypted(69, &mut rng));
    let request = rng.range(100, 700) as usize;
    let response = rng.range(200, 6_000) as usize;
    let turns = vec![
        Turn::new(
            Side::Client,
            record(RECORD_HANDSHAKE, &client_hello(&name, &session, &mut rng)),
        ),
        Turn::new(Side::Server, answer),
        Turn::new(Side::Client, finished),
        Turn::new(Side::Client, encrypted(request, &mut rng)),
        Turn::new(Side::Server, encrypted(response, &mut rng)),
    ];
    let ports = Ports {
        client: rng.range(32_768, 61_000) as u16,
        server: *rng.choose(&[443, 443, 443, 8443]),
    };
    Dialogue::new(path, ports, turns, rng)
}

/// The ClientHello message for server `name`.
fn client_hello(name: &str, session: &[u8; 32], rng: &mut Rng) -> Vec<u8> {
    let mut server_name = vec![0];
    server_name.extend(vector16(name.as_bytes()));
    let protocols = [vector8(b"h2"), vector8(b"http/1.1")].concat();
    let mut share = X25519.to_vec();
    share.extend(vector16(&rng.bytes::<32>()));
    let extensions = [
        extension(SERVER_NAME, &vector16(&server_name)),
        extension(SUPPORTED_GROUPS, &vector16(&[0, 29, 0, 23, 0, 24])),
        extension(
            SIGNATURE_ALGORITHMS,
            &vector16(&[4, 3, 8, 4, 4, 1, 5, 3, 8, 5]),
        ),
        extension(APPLICATION_PROTOCOLS, &vector16(&protocols)),
        extension(SUPPORTED_VERSIONS, &vector8(&[3, 4, 3, 3])),
        extension(PSK_KEY_EXCHANGE_MODES, &vector8(&[1])),
        extension(KEY_SHARE, &vector16(&share)),
    ]
    .concat();
    let mut body = TLS_1_2.to_vec();
    body.extend(rng.bytes::<32>());
    body.extend(vector8(session));
    body.extend(vector16(&[
        0x13, 0x01, 0x13, 0x02, 0x13, 0x03, 0xc0, 0x2b, 0xc0, 0x2f,
    ]));
    body.extend(vector8(&[0]));
    body.extend(vector16(&extensions));
    handshake(CLIENT_HELLO, &body)
}

/// The ServerHello message that selects TLS 1.3 and AES-128-GCM.
fn server_hello(session: &[u8; 32], rng: &mut Rng) -> Vec<u8> {
    let mut share = X25519.to_vec();
    share.extend(vector16(&rng.bytes::<32>()));
    let extensions = [
        extension(SUPPORTED_VERSIONS, &TLS_1_3),
        extension(KEY_SHARE, &share),
    ]
    .concat();
    let mut body = TLS_1_2.to_vec();
    body.extend(rng.bytes::<32>());
    body.extend(vector8(session));
    body.extend([0x13, 0x01, 0]);
    body.extend(vector16(&extensions));
    handshake(SERVER_HELLO, &body)
}

/// An application data record of `length` random bytes.
fn encrypted(length: usize, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rng.fill(&mut bytes);
    record(RECORD_APPLICATION_DATA, &bytes)
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut record = vec![kind];
    record.extend(TLS_1_2);
    record.extend(vector16(content));
    record
}

fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (body.len() as u32).to_be_bytes();
    let mut message = vec![kind];
    message.extend(length);
    message.extend(body);
    message
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    let mut extension = kind.to_be_bytes().to_vec();
    extension.extend(vector16(content));
    extension
}

/// `content` behind its length in one byte.
fn vector8(content: &[u8]) -> Vec<u8> {
    let mut vector = vec![content.len() as u8];
    vector.extend(content);
    vector
}

/// `content` behind its length in two bytes.
fn vector16(content: &[u8]) -> Vec<u8> {
    let mut vector = (content.len() as u16).to_be_bytes().to_vec();
    vector.extend(content);
    vector
}
