//! SMTP sessions, as they are told.

use lc_daemon::config::{Email, EmailContent};
use lc_proto::data::{EmailMetadata, PacketMetadata};
use proptest::prelude::*;
use prost::Message;

use super::harness::*;
use super::smtp::Smtp;
use crate::matcher::Kind;
use crate::reassembly::End;
use crate::session::script::{Script, Told};
use crate::session::{Content, Course, Exchange};

/// Row 34 of the reference's cases.
const DIALOGUE: Lines<'_> = &[
    (S, "220 mail.example.com ESMTP\r\n"),
    (C, "EHLO client.example.org\r\n"),
    (S, "250-mail.example.com\r\n250 PIPELINING\r\n"),
    (C, "MAIL FROM:<alice@example.com>\r\n"),
    (S, "250 2.1.0 Ok\r\n"),
    (C, "RCPT TO:<bob@example.net>\r\n"),
    (S, "250 2.1.5 Ok\r\n"),
    (C, "DATA\r\n"),
    (S, "354 End data with <CR><LF>.<CR><LF>\r\n"),
    (
        C,
        "Subject: Quarterly report\r\nMessage-ID: <m1@example.com>\r\n\r\nplease keep this confidential\r\nbye\r\n.\r\n",
    ),
    (S, "250 2.0.0 Ok: queued\r\n"),
    (C, "QUIT\r\n"),
    (S, "221 2.0.0 Bye\r\n"),
];

fn play(settings: &Email, said: Lines<'_>) -> Vec<Told> {
    play_pieces(settings, said, usize::MAX)
}

fn play_pieces(settings: &Email, said: Lines<'_>, size: usize) -> Vec<Told> {
    play_on(&mut Smtp::new(settings), said, size)
}

#[test]
fn row_34_a_whole_dialogue() {
    let told = play(&settings(), DIALOGUE);
    let expected = EmailMetadata {
        mail_from: "alice@example.com".into(),
        rcpt_to: vec!["bob@example.net".into()],
        subject: "Quarterly report".into(),
        message_id: "m1@example.com".into(),
        body_preview: "please keep this confidential\nbye".into(),
        body_size: 34,
        body_truncated: false,
    };
    assert_eq!(blocks(&told), [expected]);
    assert_eq!(owners(&told, C), [(0, len(DIALOGUE, C))]);
    assert_eq!(owners(&told, S), [(0, len(DIALOGUE, S))]);
    assert_eq!(
        compared(&told),
        [
            (0, Kind::EmailAddress, "alice@example.com"),
            (0, Kind::EmailAddress, "bob@example.net"),
            (0, Kind::EmailSubject, "Quarterly report"),
        ]
    );
    assert_eq!(settled(&told), [0]);
    assert_eq!(noted(&told, "email.command"), "EHLO,MAIL,RCPT,DATA,QUIT");
    assert_eq!(noted(&told, "email.reply"), "220,250,250,250,354,250,221");
    assert_eq!(
        noted(&told, "email.reply_to"),
        "EHLO,MAIL,RCPT,DATA,text,QUIT"
    );
    assert_eq!(
        detail(&told, "email.client").as_deref(),
        Some("client.example.org")
    );
    assert_eq!(
        detail(&told, "email.banner").as_deref(),
        Some("mail.example.com ESMTP")
    );
}

#[test]
fn a_mail_is_sure_when_its_head_has_come() {
    let told = play(&settings(), DIALOGUE);
    let place = |wanted: &dyn Fn(&Told) -> bool| told.iter().position(wanted).unwrap();
    let settles = place(&|one| matches!(one, Told::Settle(_)));
    let subject = place(&|one| matches!(one, Told::Compare(_, Kind::EmailSubject, _)));
    let quit = place(&|one| matches!(one, Told::Belongs(C, _, end) if *end == len(DIALOGUE, C)));
    assert!(subject < settles && settles < quit);
}

#[test]
fn the_operators_patterns_are_decided_as_early_as_can_be() {
    let list = |text: &str| vec![text.to_owned()];
    type Change<'a> = Box<dyn FnOnce(&mut EmailContent) + 'a>;
    let cases: Vec<(Change<'_>, Content, &str)> = vec![
        (
            Box::new(|c| c.senders = list("alice@*")),
            Content::Fits,
            "MAIL",
        ),
        (
            Box::new(|c| c.senders = list("bob@*")),
            Content::Fails,
            "DATA",
        ),
        (
            Box::new(|c| c.recipients = list("*@example.NET")),
            Content::Fits,
            "RCPT",
        ),
        (
            Box::new(|c| c.addresses = list("bob@*")),
            Content::Fits,
            "RCPT",
        ),
        (
            Box::new(|c| c.subjects = list("*report*")),
            Content::Fits,
            "text",
        ),
        (
            Box::new(|c| c.subjects = list("report")),
            Content::Fails,
            "text",
        ),
        (
            Box::new(|c| c.keywords = list("CONFIDENTIAL")),
            Content::Fits,
            "text",
        ),
        (
            Box::new(|c| c.keywords = list("quarterly")),
            Content::Fits,
            "text",
        ),
        (
            Box::new(|c| c.keywords = list("absent")),
            Content::Fails,
            "text",
        ),
        (
            Box::new(|c| c.commands = list("rcpt")),
            Content::Fits,
            "RCPT",
        ),
        (
            Box::new(|c| c.commands = list("vrfy")),
            Content::Fails,
            "end",
        ),
        (
            Box::new(|c| c.mailboxes = list("*")),
            Content::Fails,
            "start",
        ),
    ];
    for (n, (change, expected, when)) in cases.into_iter().enumerate() {
        let settings = content(change);
        let told = play(&settings, DIALOGUE);
        assert_eq!(contents(&told), [(0, expected)], "{n}");
        assert_eq!(settled(&told), [0], "{n}");
        let at = told
            .iter()
            .position(|one| matches!(one, Told::Content(..)))
            .unwrap();
        let claimed = owners(&told[..at], C).pop().map_or(0, |(_, end)| end);
        let ends: u64 = match when {
            "start" => 0,
            "MAIL" => 56,
            "RCPT" => 83,
            "DATA" => 89,
            "text" => len(DIALOGUE, C) - 6,
            _ => len(DIALOGUE, C),
        };
        assert_eq!(claimed, ends, "{n} {when}");
    }
}

#[test]
fn each_mail_of_a_connection_is_an_exchange() {
    let said: Lines<'_> = &[
        (S, "220 x\r\n"),
        (C, "HELO a\r\n"),
        (S, "250 x\r\n"),
        (C, "MAIL FROM:<a@x>\r\n"),
        (S, "250 ok\r\n"),
        (C, "RCPT TO:<b@x>\r\n"),
        (S, "250 ok\r\n"),
        (C, "DATA\r\n"),
        (S, "354 go\r\n"),
        (
            C,
            "Subject: one\r\n\r\n1\r\n.\r\nMAIL FROM:<c@x>\r\nRCPT TO:<d@x>\r\nDATA\r\n",
        ),
        (S, "250 sent\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
        (C, "Subject: two\r\n\r\n2\r\n.\r\nQUIT\r\n"),
        (S, "250 sent\r\n221 bye\r\n"),
    ];
    for size in [usize::MAX, 1, 7] {
        let told = play_pieces(&settings(), said, size);
        let subjects: Vec<_> = blocks(&told)
            .into_iter()
            .map(|email| (email.mail_from, email.subject))
            .collect();
        assert_eq!(
            subjects,
            [("a@x".into(), "one".into()), ("c@x".into(), "two".into())]
        );
        // HELO to the first text; what the second MAIL begins.
        assert_eq!(owners(&told, C), [(0, 68), (1, len(said, C))], "{size}");
        assert_eq!(owners(&told, S), [(0, 48), (1, len(said, S))], "{size}");
        assert_eq!(settled(&told), [0, 1]);
    }
}

#[test]
fn a_mail_that_is_refused_or_given_up_is_over() {
    for (refusal, more) in [
        (&[(C, "MAIL FROM:<a@x>\r\n"), (S, "550 no\r\n")][..], ""),
        (
            &[
                (C, "MAIL FROM:<a@x>\r\n"),
                (S, "250 ok\r\n"),
                (C, "RSET\r\n"),
                (S, "250 ok\r\n"),
            ],
            "",
        ),
        (
            &[
                (C, "MAIL FROM:<a@x>\r\n"),
                (S, "250 ok\r\n"),
                (C, "EHLO a\r\n"),
                (S, "250 ok\r\n"),
            ],
            "",
        ),
    ] {
        let mut said = vec![(S, "220 x\r\n"), (C, "HELO a\r\n"), (S, "250 x\r\n")];
        said.extend_from_slice(refusal);
        let first = len(&said, C);
        said.extend([
            (C, "MAIL FROM:<b@x>\r\n"),
            (S, "250 ok\r\n"),
            (C, "QUIT\r\n"),
            (S, "221 x\r\n"),
        ]);
        let told = play(&settings(), &said);
        let senders: Vec<_> = blocks(&told)
            .into_iter()
            .map(|email| email.mail_from)
            .collect();
        assert_eq!(senders, ["a@x", "b@x"], "{more}");
        assert_eq!(owners(&told, C), [(0, first), (1, len(&said, C))]);
    }
}

#[test]
fn a_second_mail_command_counts_if_the_server_takes_it() {
    for (reply, sender) in [("503 nested\r\n", "a@x"), ("250 ok\r\n", "b@x")] {
        let told = play(
            &settings(),
            &[
                (S, "220 x\r\n"),
                (C, "HELO a\r\n"),
                (S, "250 x\r\n"),
                (C, "MAIL FROM:<a@x>\r\n"),
                (S, "250 ok\r\n"),
                (C, "MAIL FROM:<b@x>\r\n"),
                (S, reply),
                (C, "RCPT TO:<c@x>\r\n"),
                (S, "250 ok\r\n"),
            ],
        );
        assert_eq!(block(&told).mail_from, sender);
        assert_eq!(blocks(&told).len(), 1);
    }
}

#[test]
fn data_that_is_refused_has_no_text() {
    let told = play(
        &settings(),
        &[
            (S, "220 x\r\n"),
            (C, "HELO a\r\n"),
            (S, "250 x\r\n"),
            (C, "DATA\r\n"),
            (S, "503 no\r\n"),
            (C, "MAIL FROM:<a@x>\r\n"),
            (S, "250 ok\r\n"),
        ],
    );
    assert_eq!(block(&told).mail_from, "a@x");
    // It was sent all the same.
    let told = play(
        &settings(),
        &[
            (S, "220 x\r\n"),
            (C, "HELO a\r\nMAIL FROM:<a@x>\r\nDATA\r\nhello\r\n"),
            (S, "250 x\r\n250 ok\r\n503 no\r\n"),
            (C, "MAIL FROM:<b@x>\r\n"),
            (S, "500 ?\r\n250 ok\r\n"),
        ],
    );
    let senders: Vec<_> = blocks(&told)
        .into_iter()
        .map(|email| email.mail_from)
        .collect();
    assert_eq!(senders, ["a@x", "b@x"]);
}

#[test]
fn chunks_are_counted_not_read_as_lines() {
    let said: Lines<'_> = &[
        (S, "220 x\r\n"),
        (C, "EHLO a\r\n"),
        (S, "250-x\r\n250 CHUNKING\r\n"),
        (
            C,
            "MAIL FROM:<a@x> BODY=BINARYMIME\r\nRCPT TO:<b@x>\r\nBDAT 20\r\nSubject: s\r\n\r\nQUIT\r\nBDAT 8 LAST\r\n.\r\n.\r\nx\rQUIT\r\n",
        ),
        (S, "250 ok\r\n250 ok\r\n250 ok\r\n250 sent\r\n221 x\r\n"),
    ];
    for size in [usize::MAX, 1, 11] {
        let told = play_pieces(&settings(), said, size);
        let email = block(&told);
        assert_eq!(
            (&email.subject[..], &email.body_preview[..], email.body_size),
            ("s", "QUIT\n.\n.\nx\r", 11)
        );
        assert_eq!(
            noted(&told, "email.command"),
            "EHLO,MAIL,RCPT,BDAT,BDAT,QUIT"
        );
        assert_eq!(
            noted(&told, "email.reply_to"),
            "EHLO,MAIL,RCPT,BDAT,text,QUIT"
        );
    }
}

#[test]
fn lmtp_answers_a_text_for_each_recipient() {
    let told = play(
        &settings(),
        &[
            (S, "220 x LMTP\r\n"),
            (C, "LHLO a\r\n"),
            (S, "250 x\r\n"),
            (
                C,
                "MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\nRCPT TO:<c@x>\r\nRCPT TO:<d@x>\r\nDATA\r\n",
            ),
            (S, "250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n"),
            (C, "Subject: s\r\n\r\n.\r\nMAIL FROM:<e@x>\r\n"),
            (S, "250 b\r\n250 d\r\n250 ok\r\n"),
        ],
    );
    assert!(noted(&told, "email.reply_to").ends_with("DATA,text,text,MAIL"));
    assert_eq!(blocks(&told)[0].rcpt_to, ["b@x", "c@x", "d@x"]);
}

#[test]
fn tls_goes_on_behind_the_servers_consent() {
    let said: Lines<'_> = &[
        (S, "220 x\r\n"),
        (C, "EHLO a\r\n"),
        (S, "250-x\r\n250 STARTTLS\r\n"),
        (C, "STARTTLS\r\n"),
        (S, "220 go ahead\r\n"),
    ];
    let told = play(&settings(), said);
    let becomes = Told::Course(S, Course::Becomes(len(said, S), Exchange(0)));
    assert!(told.contains(&becomes));
    assert_eq!(detail(&told, "email.starttls").as_deref(), Some("started"));
    assert_eq!(settled(&told), [0]);
    // The server is not captured.
    let told = play(
        &settings(),
        &[(C, "EHLO a\r\nSTARTTLS\r\n"), (C, "\u{16}\u{3}\u{1}")],
    );
    assert!(told.contains(&Told::Course(C, Course::Becomes(18, Exchange(0)))));
    // The client is not captured.
    let told = play(
        &settings(),
        &[(
            S,
            "220 x\r\n250-x\r\n250 STARTTLS\r\n220 2.0.0 Ready to start TLS\r\n",
        )],
    );
    assert!(told.contains(&Told::Course(S, Course::Becomes(58, Exchange(0)))));
    // It is refused.
    let refused = [&said[..4], &[(S, "454 no\r\n"), (C, "MAIL FROM:<a@x>\r\n")]].concat();
    assert_eq!(block(&play(&settings(), &refused)).mail_from, "a@x");
}

#[test]
fn secrets_are_not_told() {
    for authentication in [
        &[(C, "AUTH PLAIN AGFsaWNlAHMzY3JldA==\r\n")][..],
        &[
            (C, "auth plain\r\n"),
            (S, "334 \r\n"),
            (C, "AGFsaWNlAHMzY3JldA==\r\n"),
        ],
        &[
            (C, "AUTH LOGIN\r\n"),
            (S, "334 VXNlcm5hbWU6\r\n"),
            (C, "YWxpY2U=\r\n"),
            (S, "334 UGFzc3dvcmQ6\r\n"),
            (C, "czNjcmV0\r\n"),
        ],
        &[
            (C, "AUTH LOGIN YWxpY2U=\r\n"),
            (S, "334 UGFzc3dvcmQ6\r\n"),
            (C, "czNjcmV0\r\n"),
        ],
    ] {
        for hears_server in [true, false] {
            let mut said = vec![
                (S, "220 x\r\n"),
                (C, "EHLO a\r\n"),
                (S, "250 AUTH PLAIN LOGIN\r\n"),
            ];
            said.extend_from_slice(authentication);
            said.extend([
                (S, "235 ok\r\n"),
                (C, "MAIL FROM:<a@x>\r\n"),
                (S, "250 ok\r\n"),
            ]);
            said.retain(|(direction, _)| hears_server || *direction == C);
            for size in [usize::MAX, 3] {
                let told = play_pieces(&settings(), &said, size);
                let all = format!("{told:?}");
                for secret in ["s3cret", "czNjcmV0", "AGFsaWNlAHMzY3JldA"] {
                    assert!(!all.contains(secret), "{all}");
                }
                let bytes: Vec<_> = told
                    .iter()
                    .flat_map(|one| match one {
                        Told::Note {
                            details, blocks, ..
                        }
                        | Told::About {
                            details, blocks, ..
                        } => [&details[..], blocks].concat(),
                        _ => Vec::new(),
                    })
                    .collect();
                assert!(
                    !bytes.windows(5).any(|window| window == b"cret\0"
                        || window == b"s3cre"
                        || window == b"czNjc")
                );
                assert_eq!(detail(&told, "email.auth_user").as_deref(), Some("alice"));
                assert_eq!(block(&told).mail_from, "a@x");
            }
        }
    }
}

#[test]
fn one_side_is_enough() {
    let client: Vec<_> = DIALOGUE
        .iter()
        .copied()
        .filter(|(direction, _)| *direction == C)
        .collect();
    let told = play(&settings(), &client);
    assert_eq!(blocks(&told), blocks(&play(&settings(), DIALOGUE)));
    let server: Vec<_> = DIALOGUE
        .iter()
        .copied()
        .filter(|(direction, _)| *direction == S)
        .collect();
    let told = play(&settings(), &server);
    assert_eq!(owners(&told, S), [(0, len(&server, S))]);
    assert_eq!(settled(&told), [0]);
}

/// Row 35: as row 34, but the SYN was not seen, so that the sides are the wrong way round.
#[test]
fn row_35_the_client_shows_in_what_is_said() {
    let turned: Vec<_> = DIALOGUE
        .iter()
        .map(|(direction, text)| (direction.reversed(), *text))
        .collect();
    let told = play(&settings(), &turned);
    assert_eq!(blocks(&told), blocks(&play(&settings(), DIALOGUE)));
}

fn joined(said: Lines<'_>) -> Vec<Told> {
    let settings = settings();
    let mut smtp = Smtp::new(&settings);
    let mut script = Script::new(&mut smtp, 25);
    script.gap(C, None).gap(S, None);
    for (direction, text) in said {
        script.bytes(*direction, text.as_bytes());
    }
    script.end(C, End::Finished).end(S, End::Finished);
    script.told
}

#[test]
fn a_connection_is_picked_up_anywhere() {
    let expected = block(&play(&settings(), DIALOGUE));
    for from in 1..=8 {
        let email = block(&joined(&DIALOGUE[from..]));
        assert_eq!(email.subject, expected.subject, "{from}");
        assert_eq!(email.body_preview, expected.body_preview, "{from}");
        assert_eq!(email.mail_from.is_empty(), from > 3, "{from}");
    }
    let replies = noted(&joined(&DIALOGUE[1..]), "email.reply_to");
    assert_eq!(replies, "EHLO,MAIL,RCPT,DATA,text,QUIT");
    // In the text: with the first field of its head, else with the next mail.
    let email = block(&joined(&DIALOGUE[9..]));
    assert_eq!(
        (&email.subject[..], email.body_size),
        ("Quarterly report", 34)
    );
    let told = joined(&[
        (C, "of a text\r\n.\r\nMAIL FROM:<b@x>\r\n"),
        (S, "250 sent\r\n250 ok\r\n"),
    ]);
    assert_eq!(block(&told).mail_from, "b@x");
}

#[test]
fn reading_goes_on_behind_gaps() {
    let settings = settings();
    let mut smtp = Smtp::new(&settings);
    let mut script = Script::new(&mut smtp, 25);
    for (direction, text) in &DIALOGUE[..9] {
        script.bytes(*direction, text.as_bytes());
    }
    // The end of the text is missing: the reply tells.
    script
        .bytes(C, b"Subject: torn\r\n\r\nbody")
        .gap(C, Some(100));
    script.bytes(S, b"250 sent\r\n");
    script
        .bytes(C, b"MAIL FROM:<c@x>\r\n")
        .bytes(S, b"250 ok\r\n");
    script.gap(S, Some(10)).gap(C, Some(10));
    script.bytes(C, b"DATA\r\n").bytes(S, b"354 go\r\n");
    script
        .bytes(C, b"Subject: next\r\n\r\n.\r\n")
        .bytes(S, b"250 sent\r\n");
    let blocks = blocks(&script.told);
    let subjects: Vec<_> = blocks
        .iter()
        .map(|email| (&email.mail_from[..], &email.subject[..]))
        .collect();
    assert_eq!(subjects, [("alice@example.com", "torn"), ("c@x", "next")]);
    assert_eq!((blocks[0].body_size, blocks[0].body_truncated), (104, true));
    assert!(noted(&script.told, "email.reply_to").ends_with("MAIL,DATA,text"));
}

/// A text may hold what only some servers take for its end: the answer tells.
#[test]
fn the_server_decides_what_ends_a_text() {
    let smuggled = "Subject: outer\r\n\r\nbody\n.\r\n";
    let inner = "MAIL FROM:<evil@x>\r\nkeyword\r\n";
    let mut said = DIALOGUE[..9].to_vec();
    said.extend([(C, smuggled), (S, "250 sent\r\n"), (C, inner)]);
    let told = play(&settings(), &said);
    let senders: Vec<_> = blocks(&told)
        .into_iter()
        .map(|email| email.mail_from)
        .collect();
    assert_eq!(senders, ["alice@example.com", "evil@x"]);
    let mut said = DIALOGUE[..9].to_vec();
    said.extend([(C, smuggled), (C, inner), (C, ".\r\n"), (S, "250 sent\r\n")]);
    let wanted = content(|content| content.keywords = vec!["keyword".into()]);
    let told = play(&wanted, &said);
    assert_eq!(blocks(&told).len(), 1);
    assert_eq!(contents(&told), [(0, Content::Fits)]);
}

#[test]
fn a_long_preview_stands_whole_where_the_mail_ends() {
    let text = "x".repeat(5_000);
    let mail = format!("Subject: long\r\n\r\n{text}\r\n.\r\n");
    let mut said = DIALOGUE[..9].to_vec();
    said.push((C, &mail));
    let settings = Email {
        body: Some(3_000),
        ..settings()
    };
    let told = play(&settings, &said);
    let email = block(&told);
    assert_eq!(
        (
            email.body_preview.len(),
            email.body_size,
            email.body_truncated
        ),
        (1_024, 5_001, true)
    );
    let whole = told.iter().find_map(|one| match one {
        Told::Note { blocks, offset, .. } if !blocks.is_empty() => Some((blocks, *offset)),
        _ => None,
    });
    let (whole, offset) = whole.unwrap();
    let whole = PacketMetadata::decode(&whole[..]).unwrap().email.unwrap();
    assert_eq!(
        (whole.body_preview.len(), whole.body_truncated),
        (3_000, true)
    );
    assert_eq!(offset, len(&said, C) - 1);
}

#[test]
fn bodies_are_looked_into_only_if_wanted() {
    let mut wanted = content(|content| content.keywords = vec!["confidential".into()]);
    wanted.body = None;
    let told = play(&wanted, DIALOGUE);
    assert_eq!(contents(&told), [(0, Content::Fails)]);
    let email = block(&told);
    assert_eq!(
        (
            &email.body_preview[..],
            email.body_size,
            email.body_truncated
        ),
        ("", 34, true)
    );
}

#[test]
fn encoded_texts_are_searched() {
    let mail = "Subject: =?utf-8?b?R2VoZWlt?=\r\nContent-Transfer-Encoding: base64\r\n\r\nY29uZmlkZW50aWFs\r\n.\r\n";
    let mut said = DIALOGUE[..9].to_vec();
    said.push((C, mail));
    for word in ["confidential", "geheim", "R2VoZWlt", "Y29uZmlk"] {
        let told = play(
            &content(|content| content.keywords = vec![word.into()]),
            &said,
        );
        assert_eq!(contents(&told), [(0, Content::Fits)], "{word}");
        assert_eq!(block(&told).body_preview, "confidential");
    }
}

#[test]
fn what_is_not_smtp_is_given_back() {
    let noise = "nothing\n".repeat(20);
    let told = play(&settings(), &[(C, &noise)]);
    assert!(told.contains(&Told::Course(C, Course::Foreign)));
}

const SAYINGS: &[&str] = &[
    "220 x\r\n",
    "250 ok\r\n",
    "250-more\r\n",
    "354 go\r\n",
    "550 no\r\n",
    "334 \r\n",
    "235 ok\r\n",
    "221 bye\r\n",
    "EHLO a\r\n",
    "LHLO a\r\n",
    "MAIL FROM:<a@x> SIZE=5\r\n",
    "RCPT TO:<b@x>\r\n",
    "DATA\r\n",
    "RSET\r\n",
    "QUIT\r\n",
    "STARTTLS\r\n",
    "AUTH PLAIN\r\n",
    "AUTH LOGIN YQ==\r\n",
    "YQ==\r\n",
    "BDAT 9\r\n",
    "BDAT 0 LAST\r\n",
    "BDAT 5 LAST\r\n",
    "Subject: s\r\n t\r\n",
    "\r\n",
    "text",
    ".\r\n",
    "\n.\n",
    "..",
    "\r",
    "\u{16}",
    "keyword",
];

proptest! {
    #[test]
    fn pieces_make_no_difference(
        said in prop::collection::vec((any::<bool>(), prop::collection::vec(prop::sample::select(SAYINGS), 1..6)), 0..12),
        size in 1usize..9,
        noise in any::<bool>(),
    ) {
        let texts: Vec<_> = said.iter().map(|(client, words)| (if *client { C } else { S }, words.concat())).collect();
        let said: Vec<_> = texts.iter().map(|(direction, text)| (*direction, &text[..])).collect();
        let settings = content(|content| {
            if noise {
                content.keywords = vec!["keyword".into()];
                content.senders = vec!["a@*".into()];
            }
        });
        prop_assert_eq!(gist(&play_pieces(&settings, &said, size)), gist(&play(&settings, &said)));
    }

    #[test]
    fn any_bytes_are_accepted(
        said in prop::collection::vec((any::<bool>(), 0u8..4, prop::collection::vec(any::<u8>(), 1..40)), 0..12),
    ) {
        let settings = settings();
        let mut smtp = Smtp::new(&settings);
        let mut script = Script::new(&mut smtp, 25);
        for (client, what, bytes) in &said {
            let direction = if *client { C } else { S };
            match what {
                0 => script.gap(direction, Some(u64::from(bytes[0]))),
                1 => script.gap(direction, None),
                _ => script.bytes(direction, bytes),
            };
        }
    }
}
