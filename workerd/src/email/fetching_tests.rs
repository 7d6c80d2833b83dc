//! POP3 and IMAP sessions, as they are told.

use lc_daemon::config::{Email, EmailContent};
use proptest::prelude::*;

use super::harness::*;
use super::imap::Imap;
use super::pop3::Pop3;
use crate::matcher::Kind;
use crate::session::script::{Script, Told};
use crate::session::{Content, Course, Exchange, Protocol};

const POP3: Lines<'_> = &[
    (S, "+OK ready\r\n"),
    (C, "USER alice@example.com\r\n"),
    (S, "+OK\r\n"),
    (C, "PASS s3cret word\r\n"),
    (S, "+OK in\r\n"),
    (C, "STAT\r\n"),
    (S, "+OK 2 320\r\n"),
    (C, "LIST\r\n"),
    (S, "+OK 2 messages\r\n1 120\r\n2 200\r\n.\r\n"),
    (C, "UIDL 1\r\n"),
    (S, "+OK 1 whqtsw\r\n"),
    (C, "RETR 1\r\n"),
    (
        S,
        "+OK 120 octets\r\nFrom: Bob <bob@example.net>\r\nTo: alice@example.com\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <m1@x>\r\n\r\n+OK is no reply here\r\n..dotted secret\r\n.\r\n",
    ),
    (C, "DELE 1\r\nQUIT\r\n"),
    (S, "+OK gone\r\n+OK bye\r\n"),
];

const IMAP: Lines<'_> = &[
    (S, "* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n"),
    (C, "a1 LOGIN {17}\r\n"),
    (S, "+ go\r\n"),
    (C, "alice@example.com {6+}\r\ns3cret\r\n"),
    (S, "a1 OK in\r\n"),
    (C, "a2 SELECT \"Sent Items\"\r\n"),
    (
        S,
        "* 3 EXISTS\r\n* OK [UIDVALIDITY 7] valid\r\na2 OK [READ-WRITE] selected\r\n",
    ),
    (C, "a3 FETCH 1:3 (ENVELOPE)\r\n"),
    (
        S,
        "* 1 FETCH (ENVELOPE (NIL {12}\r\nFirst \"one\"! ((NIL NIL \"carol\" \"x\")) NIL NIL NIL NIL NIL NIL \"<e@x>\"))\r\na3 OK done\r\n",
    ),
    (C, "a4 UID FETCH 5 BODY[]\r\n"),
    (
        S,
        "* 2 FETCH (UID 5 BODY[] {92}\r\nFrom: bob@example.net\r\nTo: dave@example.org\r\nSubject: Plan\r\n\r\na4 OK is no reply\r\nhere it is)\r\n FLAGS (\\Seen))\r\na4 OK done\r\n",
    ),
    (C, "a5 APPEND Drafts (\\Draft) {32}\r\n"),
    (S, "+ go\r\n"),
    (C, "Subject: draft\r\n\r\na6 LOGIN x y\r\n\r\n"),
    (S, "a5 OK appended\r\n"),
    (C, "a6 IDLE\r\n"),
    (S, "+ idling\r\n"),
    (C, "DONE\r\n"),
    (S, "a6 OK done\r\n"),
    (C, "a7 LOGOUT\r\n"),
    (S, "* BYE\r\na7 OK bye\r\n"),
];

fn pop3(settings: &Email, said: Lines<'_>, size: usize) -> Vec<Told> {
    play_on(&mut Pop3::new(settings), said, size)
}

fn imap(settings: &Email, said: Lines<'_>, size: usize) -> Vec<Told> {
    play_on(&mut Imap::new(settings), said, size)
}

/// All of what is told, in bytes.
fn bytes(told: &[Told]) -> Vec<u8> {
    let mut all = Vec::new();
    for one in told {
        match one {
            Told::Note {
                details,
                blocks,
                info,
                ..
            }
            | Told::About {
                details,
                blocks,
                info,
                ..
            } => {
                all.extend_from_slice(&[details, blocks, info.as_bytes()].concat());
            }
            Told::Compare(_, _, text) => all.extend_from_slice(text.as_bytes()),
            _ => {}
        }
    }
    all
}

fn holds(told: &[Told], text: &str) -> bool {
    memchr::memmem::find(&bytes(told), text.as_bytes()).is_some()
}

#[test]
fn a_mail_is_fetched_by_pop3() {
    for size in [usize::MAX, 1, 9] {
        let told = pop3(&settings(), POP3, size);
        let email = block(&told);
        assert_eq!(
            (&email.mail_from[..], &email.rcpt_to[0][..]),
            ("bob@example.net", "alice@example.com")
        );
        assert_eq!(
            (&email.subject[..], &email.message_id[..]),
            ("Gr\u{fc}\u{df}e", "m1@x")
        );
        assert_eq!(email.body_preview, "+OK is no reply here\n.dotted secret");
        assert_eq!(owners(&told, C), [(0, len(POP3, C))]);
        assert_eq!(owners(&told, S), [(0, len(POP3, S))]);
        assert_eq!(settled(&told), [0]);
        assert_eq!(
            noted(&told, "email.command"),
            "USER,PASS,STAT,LIST,UIDL,RETR,DELE,QUIT"
        );
        assert_eq!(
            noted(&told, "email.reply_to"),
            "USER,PASS,STAT,LIST,UIDL,RETR,DELE,QUIT"
        );
        for (key, value) in [
            ("email.auth_user", "alice@example.com"),
            ("email.auth_method", "USER/PASS"),
            ("email.message", "1"),
            ("email.uid", "whqtsw"),
            ("email.messages", "2"),
            ("email.total_size", "320"),
        ] {
            assert_eq!(detail(&told, key).as_deref(), Some(value), "{key}");
        }
        assert_eq!(
            compared(&told),
            [
                (0, Kind::EmailAddress, "alice@example.com"),
                (0, Kind::EmailSubject, "Gr\u{fc}\u{df}e"),
                (0, Kind::EmailSubject, "=?utf-8?q?Gr=C3=BC=C3=9Fe?="),
                (0, Kind::EmailAddress, "bob@example.net"),
                (0, Kind::EmailAddress, "alice@example.com"),
            ]
        );
    }
}

#[test]
fn mails_are_fetched_and_appended_by_imap() {
    for size in [usize::MAX, 1, 9] {
        let told = imap(&settings(), IMAP, size);
        let email = block(&told);
        assert_eq!(
            (&email.subject[..], &email.body_preview[..]),
            ("draft", "a6 LOGIN x y")
        );
        assert_eq!(owners(&told, C), [(0, len(IMAP, C))]);
        assert_eq!(owners(&told, S), [(0, len(IMAP, S))]);
        assert_eq!(settled(&told), [0]);
        let commands = "LOGIN,SELECT,FETCH,UID FETCH,APPEND,IDLE,DONE,LOGOUT";
        assert_eq!(noted(&told, "email.command"), commands);
        assert_eq!(
            noted(&told, "email.reply_to"),
            commands.replace("DONE,", "")
        );
        assert_eq!(noted(&told, "email.reply"), "OK,OK,OK,OK,OK,OK,BYE,OK");
        let texts: Vec<_> = compared(&told)
            .into_iter()
            .map(|(_, _, text)| text.to_owned())
            .collect();
        assert_eq!(
            texts,
            [
                "alice@example.com",
                "First \"one\"!",
                "First \"one\"!",
                "carol@x",
                "Plan",
                "bob@example.net",
                "dave@example.org",
                "draft",
            ]
        );
        assert_eq!(detail(&told, "email.mailbox").as_deref(), Some("Drafts"));
        assert_eq!(
            detail(&told, "email.auth_user").as_deref(),
            Some("alice@example.com")
        );
        assert!(holds(&told, "here it is)"));
        assert!(!holds(&told, "s3cret"));
    }
}

#[test]
fn the_operators_patterns_are_compared_with_connections() {
    let list = |text: &str| vec![text.to_owned()];
    type Change<'a> = Box<dyn FnOnce(&mut EmailContent) + 'a>;
    let cases: Vec<(Change<'_>, Content, Content)> = vec![
        (
            Box::new(|c| c.senders = list("bob@*")),
            Content::Fits,
            Content::Fits,
        ),
        (
            Box::new(|c| c.recipients = list("alice@*")),
            Content::Fits,
            Content::Fits,
        ),
        (
            Box::new(|c| c.addresses = list("carol@*")),
            Content::Fails,
            Content::Fits,
        ),
        (
            Box::new(|c| c.subjects = list("gr\u{fc}\u{df}e")),
            Content::Fits,
            Content::Fails,
        ),
        (
            Box::new(|c| c.mailboxes = list("sent items")),
            Content::Fails,
            Content::Fits,
        ),
        (
            Box::new(|c| c.commands = list("uid*")),
            Content::Fits,
            Content::Fits,
        ),
        (
            Box::new(|c| c.commands = list("idle")),
            Content::Fails,
            Content::Fits,
        ),
        (
            Box::new(|c| c.keywords = list("dotted secret")),
            Content::Fits,
            Content::Fails,
        ),
        (
            Box::new(|c| c.keywords = list("here it")),
            Content::Fails,
            Content::Fits,
        ),
    ];
    for (n, (change, by_pop3, by_imap)) in cases.into_iter().enumerate() {
        let settings = content(change);
        for size in [usize::MAX, 5] {
            assert_eq!(
                contents(&pop3(&settings, POP3, size)),
                [(0, by_pop3)],
                "{n}"
            );
            assert_eq!(
                contents(&imap(&settings, IMAP, size)),
                [(0, by_imap)],
                "{n}"
            );
        }
    }
}

#[test]
fn secrets_of_pop3_are_not_told() {
    for said in [
        &[
            (C, "AUTH PLAIN\r\n"),
            (S, "+ \r\n"),
            (C, "AGFsaWNlAHMzY3JldA==\r\n"),
        ][..],
        &[(C, "AUTH PLAIN AGFsaWNlAHMzY3JldA==\r\n")],
        &[
            (C, "AUTH LOGIN\r\n"),
            (S, "+ VXNlcm5hbWU6\r\n"),
            (C, "YWxpY2U=\r\n"),
            (S, "+ UGFzc3dvcmQ6\r\n"),
            (C, "czNjcmV0\r\n"),
        ],
        &[
            (C, "USER alice\r\n"),
            (S, "+OK\r\n"),
            (C, "PASS s3cret\r\n"),
        ],
        &[(C, "APOP alice s3cret\r\n")],
    ] {
        for hears_server in [true, false] {
            let mut whole = vec![(S, "+OK ready\r\n")];
            whole.extend_from_slice(said);
            whole.extend([(S, "+OK in\r\n"), (C, "STAT\r\n"), (S, "+OK 1 2\r\n")]);
            whole.retain(|(direction, _)| hears_server || *direction == C);
            let told = pop3(&settings(), &whole, 4);
            for secret in ["s3cret", "czNjcmV0", "AGFsaWNl"] {
                assert!(!holds(&told, secret));
            }
            assert_eq!(detail(&told, "email.auth_user").as_deref(), Some("alice"));
            assert!(noted(&told, "email.command").ends_with(",STAT"));
        }
    }
}

#[test]
fn secrets_of_imap_are_not_told() {
    for said in [
        &[
            (C, "a AUTHENTICATE PLAIN\r\n"),
            (S, "+ \r\n"),
            (C, "AGFsaWNlAHMzY3JldA==\r\n"),
        ][..],
        &[(C, "a AUTHENTICATE PLAIN AGFsaWNlAHMzY3JldA==\r\n")],
        &[(C, "a LOGIN alice s3cret\r\n")],
        &[(C, "a LOGIN \"alice\" \"s3cret\"\r\n")],
        &[
            (C, "a LOGIN {5}\r\n"),
            (S, "+ \r\n"),
            (C, "alice {6}\r\n"),
            (S, "+ \r\n"),
            (C, "s3cret\r\n"),
        ],
    ] {
        for hears_server in [true, false] {
            let mut whole = vec![(S, "* OK ready\r\n")];
            whole.extend_from_slice(said);
            whole.extend([(S, "a OK in\r\n"), (C, "b NOOP\r\n"), (S, "b OK\r\n")]);
            whole.retain(|(direction, _)| hears_server || *direction == C);
            let told = imap(&settings(), &whole, 4);
            for secret in ["s3cret", "czNjcmV0", "AGFsaWNl"] {
                assert!(!holds(&told, secret));
            }
            assert_eq!(detail(&told, "email.auth_user").as_deref(), Some("alice"));
            assert!(noted(&told, "email.command").ends_with(",NOOP"));
        }
    }
}

#[test]
fn tls_and_compression_end_what_can_be_read() {
    let said: Lines<'_> = &[(S, "+OK\r\n"), (C, "STLS\r\n"), (S, "+OK go\r\n")];
    let told = pop3(&settings(), said, usize::MAX);
    assert!(told.contains(&Told::Course(S, Course::Becomes(len(said, S), Exchange(0)))));
    assert_eq!(settled(&told), [0]);
    let said: Lines<'_> = &[(S, "* OK\r\n"), (C, "a STARTTLS\r\n"), (S, "a OK go\r\n")];
    let told = imap(&settings(), said, usize::MAX);
    assert!(told.contains(&Told::Course(S, Course::Becomes(len(said, S), Exchange(0)))));
    let said: Lines<'_> = &[
        (S, "* OK\r\n"),
        (C, "a COMPRESS DEFLATE\r\n"),
        (S, "a OK go\r\n"),
    ];
    let told = imap(&settings(), said, usize::MAX);
    assert!(told.contains(&Told::Course(S, Course::RestOfBoth(Some(Exchange(0))))));
    assert_eq!(detail(&told, "email.compressed").as_deref(), Some("true"));
    // The server is not captured.
    let told = imap(
        &settings(),
        &[(C, "a STARTTLS\r\n"), (C, "\u{16}\u{3}")],
        usize::MAX,
    );
    assert!(told.contains(&Told::Course(C, Course::Becomes(12, Exchange(0)))));
}

#[test]
fn a_literal_that_is_refused_does_not_come() {
    let told = imap(
        &settings(),
        &[
            (S, "* OK\r\n"),
            (C, "a APPEND INBOX {3000}\r\n"),
            (S, "a NO too large\r\n"),
            (C, "b SELECT INBOX\r\n"),
            (S, "b OK\r\n"),
        ],
        usize::MAX,
    );
    assert_eq!(noted(&told, "email.command"), "APPEND,SELECT");
}

#[test]
fn connections_are_picked_up_and_gone_on_with_behind_gaps() {
    let settings = settings();
    let mut protocol = Pop3::new(&settings);
    let mut script = Script::new(&mut protocol, 110);
    script.gap(C, None).gap(S, None);
    script.bytes(S, b"Subject: joined\r\n\r\ntext\r\n.\r\n");
    script
        .bytes(C, b"RETR 2\r\n")
        .bytes(S, b"+OK\r\nSubject: torn")
        .gap(S, Some(9));
    script.bytes(S, b"To: b@x\r\n\r\n.\r\n");
    script.gap(C, Some(9)).gap(S, Some(9));
    script
        .bytes(C, b"RETR 3\r\n")
        .bytes(S, b"+OK\r\nSubject: next\r\n\r\n.\r\n");
    let subjects: Vec<_> = compared(&script.told)
        .into_iter()
        .filter(|(_, kind, _)| *kind == Kind::EmailSubject)
        .map(|(_, _, text)| text.to_owned())
        .collect();
    assert_eq!(subjects, ["joined", "torn", "next"]);

    let mut protocol = Imap::new(&settings);
    let mut script = Script::new(&mut protocol, 143);
    script.gap(C, None).gap(S, None);
    script.bytes(S, b"To: x\r\nSubject: joined\r\n\r\n)\r\na1 OK\r\n");
    script
        .bytes(C, b"a2 FETCH 1 BODY[]\r\n")
        .bytes(S, b"* 1 FETCH (BODY[] {38}\r\nSubject: torn\r\n\r\n");
    script.gap(S, Some(19)).bytes(S, b"\r\n)\r\na2 OK\r\n");
    script.bytes(C, b"a3 FETCH 2 BODY[HEADER]\r\n").bytes(
        S,
        b"* 2 FETCH (BODY[HEADER] {17}\r\nSubject: next\r\n\r\n)\r\na3 OK\r\n",
    );
    let subjects: Vec<_> = compared(&script.told)
        .into_iter()
        .filter(|(_, kind, _)| *kind == Kind::EmailSubject)
        .map(|(_, _, text)| text.to_owned())
        .collect();
    assert_eq!(subjects, ["joined", "torn", "next"]);
    assert_eq!(noted(&script.told, "email.reply_to"), "FETCH,FETCH");
}

const SAYINGS: &[&str] = &[
    "+OK ready\r\n",
    "-ERR no\r\n",
    "+ \r\n",
    "1 120\r\n",
    ".\r\n",
    "USER a\r\n",
    "PASS b\r\n",
    "RETR 1\r\n",
    "LIST\r\n",
    "UIDL 2\r\n",
    "STLS\r\n",
    "AUTH PLAIN\r\n",
    "CAPA\r\n",
    "Subject: s\r\n",
    "\r\n",
    "text",
    "QUIT\r\n",
    "* OK ready\r\n",
    "a OK done\r\n",
    "a NO\r\n",
    "a LOGIN {1}\r\n",
    "a SELECT INBOX\r\n",
    "a APPEND x {9}\r\n",
    "b APPEND x {3+}\r\n",
    "a STARTTLS\r\n",
    "* 1 FETCH (BODY[] {18}\r\n",
    "* 2 FETCH (ENVELOPE (NIL \"s\"",
    "BODY[TEXT] {2}\r\n",
    ")\r\n",
    "(",
    "\"",
    "DONE\r\n",
    "a AUTHENTICATE PLAIN\r\n",
    "\u{16}",
    "{0}\r\n",
    "a COMPRESS DEFLATE\r\n",
];

fn any_bytes<P: Protocol>(protocol: &mut P, said: &[(bool, u8, Vec<u8>)]) {
    let mut script = Script::new(protocol, 110);
    for (client, what, bytes) in said {
        let direction = if *client { C } else { S };
        match what {
            0 => script.gap(direction, Some(u64::from(bytes[0]))),
            1 => script.gap(direction, None),
            _ => script.bytes(direction, bytes),
        };
    }
}

proptest! {
    #[test]
    fn pieces_make_no_difference(
        said in prop::collection::vec((any::<bool>(), prop::collection::vec(prop::sample::select(SAYINGS), 1..6)), 0..12),
        size in 1usize..9,
        wants in any::<bool>(),
    ) {
        let texts: Vec<_> = said.iter().map(|(client, words)| (if *client { C } else { S }, words.concat())).collect();
        let said: Vec<_> = texts.iter().map(|(direction, text)| (*direction, &text[..])).collect();
        let settings = content(|content| {
            if wants {
                content.keywords = vec!["text".into()];
            }
        });
        prop_assert_eq!(gist(&pop3(&settings, &said, size)), gist(&pop3(&settings, &said, usize::MAX)));
        prop_assert_eq!(gist(&imap(&settings, &said, size)), gist(&imap(&settings, &said, usize::MAX)));
    }

    #[test]
    fn any_bytes_are_accepted(
        said in prop::collection::vec((any::<bool>(), 0u8..4, prop::collection::vec(any::<u8>(), 1..40)), 0..12),
    ) {
        any_bytes(&mut Pop3::new(&settings()), &said);
        any_bytes(&mut Imap::new(&settings()), &said);
    }
}

#[test]
fn all_mails_of_a_packet_are_told() {
    let envelope = |number: u8, subject: &str| {
        format!(
            "* {number} FETCH (ENVELOPE (NIL \"{subject}\" ((NIL NIL \"a\" \"x\")) NIL NIL ((NIL NIL \"b\" \"x\")) NIL NIL NIL \"<{number}@x>\"))\r\n"
        )
    };
    let envelopes = [envelope(1, "one"), envelope(2, "two"), envelope(3, "three")].concat();
    let mail =
        |number| format!("+OK\r\nFrom: a@x\r\nTo: b@x\r\nSubject: {number}\r\n\r\ntext\r\n.\r\n");
    let mails = [mail("one"), mail("two"), mail("three")].concat();
    let by_imap = [
        (S, "* OK IMAP4rev1\r\n"),
        (C, "a1 FETCH 1:3 ENVELOPE\r\n"),
        (S, &envelopes),
    ];
    let by_pop3 = [
        (S, "+OK POP3\r\n"),
        (C, "RETR 1\r\nRETR 2\r\nRETR 3\r\n"),
        (S, &mails),
    ];
    for told in [
        imap(&settings(), &by_imap, usize::MAX),
        pop3(&settings(), &by_pop3, usize::MAX),
    ] {
        assert_eq!(
            noted(&told, "email.passed"),
            "a@x -> b@x: one\na@x -> b@x: two"
        );
        assert_eq!(block(&told).subject, "three");
    }
    // In packets of their own, each has its block.
    let [one, two] = [mail("one"), mail("two")];
    let apart = [by_pop3[0], by_pop3[1], (S, &*one), (S, &*two)];
    let told = pop3(&settings(), &apart, usize::MAX);
    assert_eq!(noted(&told, "email.passed"), "");
}
