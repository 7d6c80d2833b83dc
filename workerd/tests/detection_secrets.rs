//! Credentials of mail never show in what detection tells of packets: whole and in pieces, from the beginning and from the middle, on usual ports and others, and
//! also where they look like commands.

#![allow(clippy::unwrap_used)]

use lc_workerd::detect::{Context, Details, Detector, Flow, Layer};

/// Part of every secret here; nothing else has it.
const SECRET: &str = "c2VjcmV0";

const CLIENT: bool = true;
const SERVER: bool = false;

/// What both ends say, and the usual port.
struct Dialogue {
    port: u16,
    said: &'static [(bool, &'static str)],
}

const DIALOGUES: &[Dialogue] = &[
    Dialogue {
        port: 587,
        said: &[
            (SERVER, "220 mx.example ESMTP\r\n"),
            (CLIENT, "EHLO client.example\r\n"),
            (SERVER, "250-mx.example\r\n250 AUTH PLAIN LOGIN\r\n"),
            (CLIENT, "AUTH PLAIN AGFsaWNlAc2VjcmV0==\r\n"),
            (SERVER, "535 5.7.8 no\r\n"),
            (CLIENT, "AUTH PLAIN\r\n"),
            (SERVER, "334 \r\n"),
            (CLIENT, "HELPc2VjcmV0DATA\r\n"),
            (SERVER, "535 5.7.8 no\r\n"),
            (CLIENT, "AUTH LOGIN\r\n"),
            (SERVER, "334 VXNlcm5hbWU6\r\n"),
            (CLIENT, "YWxpY2U=\r\n"),
            (SERVER, "334 UGFzc3dvcmQ6\r\n"),
            (CLIENT, "NOOPc2VjcmV0\r\n"),
            (SERVER, "235 2.7.0 yes\r\n"),
            (CLIENT, "MAIL FROM:<a@b.example>\r\n"),
            (SERVER, "250 2.1.0 Ok\r\n"),
        ],
    },
    Dialogue {
        port: 25,
        said: &[
            (SERVER, "220 mx.example ESMTP\r\n"),
            (
                CLIENT,
                "EHLO x\r\nAUTH PLAIN =\r\nHELO c2VjcmV0\r\nc2VjcmV0\r\n",
            ),
            (CLIENT, "EHLO c2VjcmV0\r\n"),
            (CLIENT, "QUIT c2VjcmV0\r\n"),
            (SERVER, "535 5.7.8 no\r\n"),
        ],
    },
    Dialogue {
        port: 143,
        said: &[
            (SERVER, "* OK IMAP4rev1 ready\r\n"),
            (CLIENT, "a1 LOGIN alice c2VjcmV0\r\n"),
            (SERVER, "a1 NO no\r\n"),
            (CLIENT, "a2 LOGIN alice \"c2VjcmV0 a9 NOOP c2VjcmV0\"\r\n"),
            (SERVER, "a2 NO no\r\n"),
            (CLIENT, "a3 login {5}\r\n"),
            (SERVER, "+ go\r\n"),
            (CLIENT, "alice {28}\r\n"),
            (SERVER, "+ go\r\n"),
            (CLIENT, "c2VjcmV0 NOOP a9 c2VjcmV0!!\r\n"),
            (SERVER, "a3 NO no\r\n"),
            (CLIENT, "a4 AUTHENTICATE PLAIN\r\n"),
            (SERVER, "+ \r\n"),
            (CLIENT, "c2VjcmV0 LOGOUT\r\n"),
            (SERVER, "a4 NO no\r\n"),
            (CLIENT, "a5 AUTHENTICATE PLAIN c2VjcmV0\r\n"),
            (SERVER, "a5 OK yes\r\n"),
            (
                CLIENT,
                "a6 NOOP\r\na7 LOGIN {5+}\r\nalice {8+}\r\nc2VjcmV0\r\n",
            ),
            (CLIENT, "c2VjcmV0 NOOP\r\n"),
            (SERVER, "a6 OK done\r\na7 OK done\r\n"),
        ],
    },
    Dialogue {
        port: 110,
        said: &[
            (SERVER, "+OK POP3 ready <1@x.example>\r\n"),
            (CLIENT, "USER alice\r\n"),
            (SERVER, "+OK\r\n"),
            (CLIENT, "PASS c2VjcmV0 USER c2VjcmV0 QUIT c2VjcmV0\r\n"),
            (SERVER, "-ERR no\r\n"),
            (CLIENT, "APOP alice c2VjcmV0560ecc979e58001b3e22fbaa\r\n"),
            (SERVER, "-ERR no\r\n"),
            (CLIENT, "AUTH PLAIN\r\n"),
            (SERVER, "+ \r\n"),
            (CLIENT, "LISTc2VjcmV0\r\n"),
            (SERVER, "-ERR no\r\n"),
            (CLIENT, "AUTH PLAIN STATc2VjcmV0\r\n"),
            (SERVER, "-ERR no\r\n"),
            (CLIENT, "USER alice\r\nPASS c2VjcmV0 LIST\r\n"),
            (CLIENT, "USER c2VjcmV0\r\n"),
            (SERVER, "+OK\r\n+OK\r\n"),
            (CLIENT, "STAT\r\n"),
        ],
    },
];

/// All that is told of these packets.
fn told(packets: impl Iterator<Item = (bool, Vec<u8>)>, port: u16) -> Vec<String> {
    let (mut detector, mut flow, mut details) = (Detector::new(), Flow::default(), Details::new());
    let mut told = Vec::new();
    for (is_client, payload) in packets {
        let ports = match is_client {
            CLIENT => (40_000, port),
            SERVER => (port, 40_000),
        };
        let mut context = Context::new(Layer::Tcp, ports, &payload);
        context.forward = is_client;
        if detector.observe(&context, &mut flow).is_some() {
            detector.describe(&context, &mut flow, &mut details);
            told.push(details.info().to_owned());
            told.extend(details.iter().map(|(key, value)| format!("{key}={value}")));
        }
    }
    told
}

#[test]
fn credentials_are_not_told() {
    for Dialogue { port, said } in DIALOGUES {
        for port in [*port, 4001] {
            for size in [usize::MAX, 40, 17, 8] {
                let pieces = said.iter().flat_map(|(is_client, text)| {
                    let pieces = text.as_bytes().chunks(size);
                    pieces.map(|piece| (*is_client, piece.to_vec()))
                });
                let told = told(pieces, port);
                let is_whole = size == usize::MAX;
                assert!(!is_whole || told.len() > 4, "port {port}: {told:?}");
                // In pieces, part of a secret is one too.
                let is_secret = |told: &&String| {
                    told.contains(SECRET) || size < 40 && told.contains(&SECRET[..4])
                };
                let wrong: Vec<_> = told.iter().filter(is_secret).collect();
                assert!(wrong.is_empty(), "port {port}, by {size}: {wrong:?}");
            }
        }
    }
}

#[test]
fn credentials_are_not_told_of_a_session_that_is_picked_up_in_its_middle() {
    for Dialogue { port, said } in DIALOGUES {
        for first in 1..said.len() {
            // What only what was missed could make a secret of.
            let is_ambiguous = |text: &str| {
                text.starts_with("c2VjcmV0 ")
                    || ["EHLO ", "QUIT ", "USER "].iter().any(|verb| {
                        text.strip_prefix(verb)
                            .is_some_and(|rest| rest.contains(SECRET))
                    })
            };
            if is_ambiguous(said[first].1) {
                continue;
            }
            let rest = said[first..].iter();
            let rest = rest.map(|(is_client, text)| (*is_client, text.as_bytes().to_vec()));
            let told = told(rest, *port);
            let wrong: Vec<_> = told.iter().filter(|told| told.contains(SECRET)).collect();
            assert!(wrong.is_empty(), "port {port}, from {first}: {wrong:?}");
        }
    }
}

#[test]
fn commands_are_told_again_once_the_server_has_answered() {
    for Dialogue { port, said } in DIALOGUES {
        let packets = said
            .iter()
            .map(|(is_client, text)| (*is_client, text.as_bytes().to_vec()));
        let told = told(packets, *port);
        let last = match port {
            587 => "command=MAIL",
            110 => "command=STAT",
            _ => continue,
        };
        assert!(told.iter().any(|told| told == last), "{told:?}");
    }
}
