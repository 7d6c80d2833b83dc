//! A protocol within TLS: sessions of rustls, whose data a toy reads.

use lc_daemon::key_log::Lines;
use rustls::crypto::ring::ALL_CIPHER_SUITES;
use shm_layout::counters::WorkerCounter as Counter;

use super::decrypt_tests::{QUESTION, Session, talk};
use super::inside::Inside;
use crate::flows::Direction::{Request, Response};
use crate::reassembly::Event;
use crate::session::script::{Script, Told};
use crate::session::{At, Course, Exchange, Note, Protocol, Tell};

/// Keeps what is said. A question, up to its empty line, is an exchange with all that is answered.
#[derive(Default)]
struct Toy {
    said: [Vec<u8>; 2],
}

impl Protocol for Toy {
    type State = Option<Exchange>;

    fn has_content_filter(&self) -> bool {
        false
    }

    fn datagram(&mut self, _: &At, _: &mut Self::State, _: &[u8], _: &mut impl Tell) -> Course {
        Course::Foreign
    }

    fn stream(
        &mut self,
        at: &At,
        state: &mut Self::State,
        event: Event<'_>,
        tell: &mut impl Tell,
    ) -> Course {
        if let Event::Data { offset, bytes } = event {
            let said = &mut self.said[at.direction as usize];
            assert_eq!(said.len() as u64, offset);
            said.extend(bytes);
            let exchange = *state.get_or_insert_with(|| tell.begin());
            tell.note(exchange, offset, Note::default());
            tell.belongs(Some(exchange), offset + bytes.len() as u64);
        }
        Course::Follow
    }
}

fn sessions(answer: &[u8]) -> Vec<Session> {
    let is_read =
        |suite: &&rustls::SupportedCipherSuite| !format!("{:?}", suite.suite()).contains("RSA");
    let suites = ALL_CIPHER_SUITES.iter().filter(is_read);
    suites.map(|suite| talk(*suite, answer)).collect()
}

fn learn(inside: &mut Inside<Toy>, log: &[u8]) {
    Lines::default().take(log, |entry| inside.learn(&entry.unwrap(), 0));
}

#[test]
fn what_is_said_within_is_heard_with_its_place() {
    let answer = vec![b'x'; 30_000];
    for session in sessions(&answer) {
        for size in [300, 1460, usize::MAX] {
            let mut inside = Inside::new(Toy::default());
            learn(&mut inside, &session.log);
            let mut script = Script::new(&mut inside, 443);
            script.pieces(Request, &session.sent[0], size.min(session.sent[0].len()));
            script.pieces(Response, &session.sent[1], size.min(session.sent[1].len()));
            // The client is read before the server has chosen: what it has encrypted waits.
            script.end(Request, crate::reassembly::End::Finished);
            let told = script.told;
            for (direction, sent) in [(Request, &session.sent[0]), (Response, &session.sent[1])] {
                let claims = told.iter().filter_map(|told| match told {
                    Told::Belongs(of, exchange, end) if *of == direction => Some((*exchange, *end)),
                    _ => None,
                });
                let claims: Vec<_> = claims.collect();
                assert!(claims.is_sorted_by_key(|(_, end)| *end));
                assert_eq!(claims[0].0, None, "the hello is of no exchange");
                assert!(claims.iter().any(|(exchange, _)| exchange.is_some()));
                assert_eq!(claims.last().unwrap().1, sent.len() as u64);
            }
            let [question, answered] = &inside.protocol().said;
            assert_eq!(question, QUESTION);
            assert!(*answered == answer);
        }
    }
}

#[test]
fn records_wait_for_secrets_and_without_them_nothing_is_said() {
    for session in sessions(b"answer") {
        let mut inside = Inside::new(Toy::default());
        let [client, server] = &session.sent;
        let mut script = Script::new(&mut inside, 443);
        script
            .pieces(Request, client, 100)
            .pieces(Response, &server[..server.len() - 1], 100);
        let is_some = |told: &Told| matches!(told, Told::Belongs(_, Some(_), _));
        assert!(!script.told.iter().any(is_some));
        assert!(inside.waiting_bytes() > 0);
    }
}

#[test]
fn a_session_goes_on_when_its_secrets_come_and_gives_up_when_they_do_not() {
    for session in sessions(b"answer") {
        for has_secrets in [true, false] {
            let mut inside = Inside::new(Toy::default());
            let mut script = Script::new(&mut inside, 443);
            let [client, server] = &session.sent;
            script.bytes(Request, client).bytes(Response, server);
            assert!(matches!(
                script.told.last(),
                Some(Told::Course(Response, Course::Wait))
            ));
            if has_secrets {
                learn(script.protocol(), &session.log);
            }
            script.go_on();
            let is_over = matches!(
                script.told.last(),
                Some(Told::Course(_, Course::RestOfBoth(None)))
            );
            assert_eq!(is_over, !has_secrets);
            let counted = script.counted;
            let [question, answered] = &inside.protocol().said;
            assert_eq!(question == QUESTION && answered == b"answer", has_secrets);
            assert_eq!(question.is_empty(), !has_secrets);
            let fate = match has_secrets {
                true => Counter::TlsDecrypted,
                false => Counter::TlsUndecrypted,
            };
            assert_eq!(counted, [fate]);
        }
    }
}
