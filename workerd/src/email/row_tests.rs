//! The reference's conformance cases for mail, row by row, with the target where it names one.

use lc_daemon::config::EmailContent;

use super::content::{ContentFilter, Fit, Group};
use super::imap::command::{Command as ImapCommand, mailbox_name};
use super::imap::response::Response;
use super::mime;
use super::pop3::command::Command as PopCommand;
use super::pop3::reply::{Listed, Reply as PopReply, Status};
use super::smtp::command::{Command, address};
use super::smtp::reply::Reply;
use crate::session::Content;

/// What a line of SMTP says, as the table names it.
fn smtp(line: &str) -> Vec<(&'static str, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let Some(command) = Command::of(line.as_bytes()) else {
        return Vec::new();
    };
    let verb = command.verb.name();
    let mut fields = vec![("command", verb.to_owned())];
    let mut put = |name, value: Option<String>| fields.extend(value.map(|value| (name, value)));
    match verb {
        "HELO" | "EHLO" => put("client_helo", Some(text(command.argument))),
        "MAIL" => {
            put("mail_from", command.address().map(text));
            put("message_size", command.size().map(|size| size.to_string()));
        }
        "RCPT" => put("rcpt_to", command.address().map(text)),
        "AUTH" => put(
            "auth_method",
            command
                .mechanism()
                .map(|(name, _)| text(name).to_uppercase()),
        ),
        "STARTTLS" => put("starttls_requested", Some("true".into())),
        "BDAT" => put("chunk", command.chunk().map(|chunk| format!("{chunk:?}"))),
        _ => {}
    }
    fields
}

fn smtp_reply(line: &str) -> Vec<(&'static str, String)> {
    let Some(reply) = Reply::of(line.as_bytes()) else {
        return Vec::new();
    };
    let mut fields = vec![("response_code", reply.code.to_string())];
    let mut put = |name, value: String| fields.push((name, value));
    if !reply.text.is_empty() {
        put(
            "response_text",
            String::from_utf8_lossy(reply.text).into_owned(),
        );
    }
    if reply.announces_tls() {
        put("encrypted", "true".into());
    }
    if reply.offers_tls() {
        put("starttls_offered", "true".into());
    }
    fields
}

#[test]
fn smtp_lines() {
    type Fields = &'static [(&'static str, &'static str)];
    let rows: &[(u32, &str, Fields)] = &[
        (
            1,
            "EHLO client.example.org",
            &[("command", "EHLO"), ("client_helo", "client.example.org")],
        ),
        (
            2,
            "helo  host.example",
            &[("command", "HELO"), ("client_helo", "host.example")],
        ),
        (
            3,
            "MAIL FROM:<user@example.com> SIZE=12345",
            &[
                ("command", "MAIL"),
                ("mail_from", "user@example.com"),
                ("message_size", "12345"),
            ],
        ),
        (
            4,
            "mail from: <sender@test.com>",
            &[("command", "MAIL"), ("mail_from", "sender@test.com")],
        ),
        (5, "MAIL FROM:<>", &[("command", "MAIL")]),
        (
            6,
            "MAIL FROM:bare@example.com BODY=8BITMIME",
            &[("command", "MAIL"), ("mail_from", "bare@example.com")],
        ),
        (
            7,
            "RCPT TO:<recipient@example.com>",
            &[("command", "RCPT"), ("rcpt_to", "recipient@example.com")],
        ),
        (
            8,
            "RCPT TO:<@relay.example:bob@example.net>",
            &[
                ("command", "RCPT"),
                ("rcpt_to", "@relay.example:bob@example.net"),
            ],
        ),
        (9, "DATA", &[("command", "DATA")]),
        (10, "Database dump attached", &[]),
        (10, "QUITE", &[]),
        (10, "RSET now", &[("command", "RSET")]),
        (
            11,
            "STARTTLS",
            &[("command", "STARTTLS"), ("starttls_requested", "true")],
        ),
        (
            12,
            "AUTH plain AGFsaWNlAHNlY3JldA==",
            &[("command", "AUTH"), ("auth_method", "PLAIN")],
        ),
        (
            13,
            "BDAT 1024 LAST",
            &[("command", "BDAT"), ("chunk", "(1024, true)")],
        ),
        (
            13,
            "bdat 86",
            &[("command", "BDAT"), ("chunk", "(86, false)")],
        ),
        (14, "   ", &[]),
    ];
    for (row, line, expected) in rows {
        let found = smtp(line);
        let found: Vec<_> = found
            .iter()
            .map(|(name, value)| (*name, &value[..]))
            .collect();
        assert_eq!(found, *expected, "{row}");
    }
    let rows: &[(u32, &str, Fields)] = &[
        (
            15,
            "220 mail.example.com ESMTP Postfix",
            &[
                ("response_code", "220"),
                ("response_text", "mail.example.com ESMTP Postfix"),
            ],
        ),
        (
            16,
            "220 2.0.0 Ready to start TLS",
            &[
                ("response_code", "220"),
                ("response_text", "2.0.0 Ready to start TLS"),
                ("encrypted", "true"),
            ],
        ),
        (
            17,
            "250-STARTTLS",
            &[
                ("response_code", "250"),
                ("response_text", "STARTTLS"),
                ("starttls_offered", "true"),
            ],
        ),
        (
            18,
            "354 End data with <CR><LF>.<CR><LF>",
            &[
                ("response_code", "354"),
                ("response_text", "End data with <CR><LF>.<CR><LF>"),
            ],
        ),
        (19, "hello there", &[]),
        (20, "250", &[("response_code", "250")]),
    ];
    for (row, line, expected) in rows {
        let found = smtp_reply(line);
        let found: Vec<_> = found
            .iter()
            .map(|(name, value)| (*name, &value[..]))
            .collect();
        assert_eq!(found, *expected, "{row}");
    }
}

#[test]
fn smtp_fields_of_heads() {
    let head = |text: &str| mime::head(format!("{text}\r\n\r\n").as_bytes());
    // 21, 40
    let subject = |text| head(text).subjects.remove(0);
    assert_eq!(
        subject("Subject: Re: [URGENT] Invoice #12345").text,
        "Re: [URGENT] Invoice #12345"
    );
    assert_eq!(
        subject("Subject: Test\r\nFrom: user@example.com").text,
        "Test"
    );
    // 22
    assert_eq!(
        head("message-id:  <abc.123@example.com>").message_id,
        "abc.123@example.com"
    );
    // 23: both are compared.
    let encoded = subject("Subject: =?UTF-8?B?U2VjcmV0?=");
    assert_eq!(
        (&encoded.text[..], &encoded.raw[..]),
        ("Secret", &b"=?UTF-8?B?U2VjcmV0?="[..])
    );
}

#[test]
fn smtp_content_filters() {
    let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let senders = |texts| EmailContent {
        senders: list(texts),
        ..EmailContent::default()
    };
    let keywords = |texts| EmailContent {
        keywords: list(texts),
        ..EmailContent::default()
    };
    let none = EmailContent::default;
    let both = EmailContent {
        keywords: list(&["confidential"]),
        ..senders(&["*@example.com"])
    };
    type Said = &'static [(Group, &'static str)];
    let rows: [(u32, EmailContent, Said, bool); 9] = [
        (
            24,
            none(),
            &[
                (Group::Sender, "user@example.com"),
                (Group::Recipient, "recipient@test.com"),
                (Group::Subject, "Test Subject"),
            ],
            true,
        ),
        (
            25,
            senders(&["*@example.com"]),
            &[(Group::Sender, "user@example.com")],
            true,
        ),
        (
            26,
            EmailContent {
                recipients: list(&["admin@*"]),
                ..none()
            },
            &[
                (Group::Recipient, "user@test.com"),
                (Group::Recipient, "admin@other.com"),
            ],
            true,
        ),
        (
            27,
            EmailContent {
                subjects: list(&["*invoice*"]),
                ..none()
            },
            &[(Group::Subject, "Invoice #12345")],
            true,
        ),
        (
            28,
            keywords(&["confidential", "secret"]),
            &[
                (Group::Keywords, "Hello"),
                (Group::Keywords, "This is TOP SECRET data."),
            ],
            true,
        ),
        (
            29,
            both,
            &[
                (Group::Sender, "user@example.com"),
                (Group::Subject, "Hello"),
                (Group::Keywords, "Regular message."),
            ],
            false,
        ),
        (
            30,
            senders(&["*@example.com", "*@test.com"]),
            &[(Group::Sender, "user@test.com")],
            true,
        ),
        (
            31,
            senders(&["*@EXAMPLE.COM"]),
            &[(Group::Sender, "USER@EXAMPLE.COM")],
            true,
        ),
        (31, senders(&["*"]), &[(Group::Sender, "")], false),
    ];
    for (row, content, said, is_match) in rows {
        let (mut filter, mut fit) = (ContentFilter::new(&content), Fit::default());
        for (group, text) in said {
            filter.compare(&mut fit, *group, text.as_bytes());
        }
        fit.close_all();
        let expected = if is_match {
            Content::Fits
        } else {
            Content::Fails
        };
        assert_eq!(filter.verdict(fit), Some(expected), "{row}");
    }
}

#[test]
fn smtp_addresses_of_arguments() {
    for (row, argument, expected) in [
        (38, "\"John Doe\" <john@example.com>", "john@example.com"),
        (39, "  < user@example.com >  ", "user@example.com"),
        (0, "user@example.com SIZE=12345", "user@example.com"),
        (0, "invalid", ""),
        (0, "", ""),
        (0, "<\"a>b\"@example.com> SIZE=1", "\"a>b\"@example.com"),
    ] {
        let found = address(argument.as_bytes()).unwrap_or_default();
        assert_eq!(found, expected.as_bytes(), "{row}");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What is there of fields.
fn present(fields: Vec<(&'static str, Option<String>)>) -> Vec<(&'static str, String)> {
    let present = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    present.filter(|(_, value)| !value.is_empty()).collect()
}

fn is_said(found: &[(&'static str, String)], expected: &[(&str, &str)], row: u32) {
    let found: Vec<_> = found
        .iter()
        .map(|(name, value)| (*name, &value[..]))
        .collect();
    assert_eq!(found, expected, "{row}");
}

/// What a line of the client says in IMAP, as the table names it.
fn imap(line: &str) -> Vec<(&'static str, String)> {
    let Some(command) = ImapCommand::of(line.as_bytes()) else {
        return Vec::new();
    };
    let mailboxes: Vec<_> = command
        .mailboxes()
        .iter()
        .map(|raw| mailbox_name(raw))
        .collect();
    let is = |name: &str| command.verb == Some(name);
    let first = command.first().map(|first| text(&first));
    present(vec![
        ("imap_tag", Some(text(command.tag))),
        ("command", Some(command.name().into_owned())),
        ("imap_mailbox", Some(mailboxes.join(" "))),
        (
            "imap_seq_num",
            command.message().map(|number| number.to_string()),
        ),
        ("auth_user", first.clone().filter(|_| is("LOGIN"))),
        ("auth_method", first.filter(|_| is("AUTHENTICATE"))),
    ])
}

/// What a line of the server says in IMAP.
fn imap_response(line: &str) -> Vec<(&'static str, String)> {
    let Some(response) = Response::of(line.as_bytes()) else {
        return Vec::new();
    };
    let envelope = response.envelope.clone().unwrap_or_default();
    let number = |number: Option<u32>| number.map(|number| number.to_string());
    present(vec![
        ("imap_tag", Some(text(response.tag))),
        ("imap_status", Some(response.status.to_owned())),
        ("response_text", Some(text(response.text))),
        ("imap_exists", number(response.exists)),
        ("imap_seq_num", number(response.message)),
        ("imap_flags", Some(response.flags.join(" "))),
        ("imap_uid", number(response.uid)),
        ("imap_uid_validity", number(response.uid_validity)),
        ("imap_uid_next", number(response.uid_next)),
        ("message_size", response.size.map(|size| size.to_string())),
        ("subject", Some(text(&envelope.subject))),
        ("message_id", Some(envelope.message_id)),
        (
            "starttls_offered",
            Some("true".into()).filter(|_| response.offers_tls),
        ),
    ])
}

#[test]
fn imap_lines() {
    type Fields = &'static [(&'static str, &'static str)];
    let rows: &[(u32, &str, Fields)] = &[
        (
            1,
            "A001 LOGIN \"alice@example.com\" \"s3cret\"",
            &[
                ("imap_tag", "A001"),
                ("command", "LOGIN"),
                ("auth_user", "alice@example.com"),
            ],
        ),
        (
            2,
            "A002 SELECT \"INBOX\"",
            &[
                ("imap_tag", "A002"),
                ("command", "SELECT"),
                ("imap_mailbox", "INBOX"),
            ],
        ),
        (
            3,
            "A004 AUTHENTICATE plain AGFsaWNl",
            &[
                ("imap_tag", "A004"),
                ("command", "AUTHENTICATE"),
                ("auth_method", "plain"),
            ],
        ),
        (
            4,
            "A005 STATUS \"Sent Items\" (MESSAGES UNSEEN)",
            &[
                ("imap_tag", "A005"),
                ("command", "STATUS"),
                ("imap_mailbox", "Sent Items"),
            ],
        ),
        (
            5,
            "A006 APPEND INBOX (\\Seen) {310}",
            &[
                ("imap_tag", "A006"),
                ("command", "APPEND"),
                ("imap_mailbox", "INBOX"),
            ],
        ),
        (
            6,
            "A007 FETCH 12 (FLAGS BODY.PEEK[HEADER])",
            &[
                ("imap_tag", "A007"),
                ("command", "FETCH"),
                ("imap_seq_num", "12"),
            ],
        ),
        (
            7,
            "A008 FETCH 1:* (FLAGS)",
            &[("imap_tag", "A008"), ("command", "FETCH")],
        ),
        (
            8,
            "A009 UID FETCH 4827 (RFC822)",
            &[
                ("imap_tag", "A009"),
                ("command", "UID FETCH"),
                ("imap_seq_num", "4827"),
            ],
        ),
        (
            9,
            "A010 uid fetch 5 (FLAGS)",
            &[
                ("imap_tag", "A010"),
                ("command", "UID FETCH"),
                ("imap_seq_num", "5"),
            ],
        ),
        (
            10,
            "A011 UID SEARCH SUBJECT \"x\"",
            &[("imap_tag", "A011"), ("command", "UID SEARCH")],
        ),
        (
            11,
            "A012 COPY 2:4 Archive",
            &[
                ("imap_tag", "A012"),
                ("command", "COPY"),
                ("imap_mailbox", "Archive"),
            ],
        ),
        (
            12,
            "A014 STARTTLS",
            &[("imap_tag", "A014"), ("command", "STARTTLS")],
        ),
        (
            13,
            "A015 IDLE",
            &[("imap_tag", "A015"), ("command", "IDLE")],
        ),
        (14, "DONE", &[("command", "DONE")]),
        (
            15,
            "A016 RENAME Old New",
            &[
                ("imap_tag", "A016"),
                ("command", "RENAME"),
                ("imap_mailbox", "Old New"),
            ],
        ),
        (
            16,
            "A017 XYZZY",
            &[("imap_tag", "A017"), ("command", "XYZZY")],
        ),
        (
            17,
            "hello world",
            &[("imap_tag", "hello"), ("command", "WORLD")],
        ),
        (
            0,
            "A1 SELECT \"&U,BTFw- &- &AOQ-\"",
            &[
                ("imap_tag", "A1"),
                ("command", "SELECT"),
                ("imap_mailbox", "台北 & ä"),
            ],
        ),
        (
            0,
            "A1 SELECT &broken",
            &[
                ("imap_tag", "A1"),
                ("command", "SELECT"),
                ("imap_mailbox", "&broken"),
            ],
        ),
    ];
    for (row, line, expected) in rows {
        is_said(&imap(line), expected, *row);
    }
    let rows: &[(u32, &str, Fields)] = &[
        (
            18,
            "* OK IMAP4rev1 ready",
            &[("imap_status", "OK"), ("response_text", "IMAP4rev1 ready")],
        ),
        (19, "* 23 EXISTS", &[("imap_exists", "23")]),
        (
            20,
            "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)",
            &[(
                "imap_flags",
                "\\Answered \\Flagged \\Deleted \\Seen \\Draft",
            )],
        ),
        (
            21,
            "* OK [UIDVALIDITY 3857529045] UIDs valid",
            &[
                ("imap_status", "OK"),
                ("response_text", "[UIDVALIDITY 3857529045] UIDs valid"),
                ("imap_uid_validity", "3857529045"),
            ],
        ),
        (
            0,
            "* OK [UIDNEXT 17] next",
            &[
                ("imap_status", "OK"),
                ("response_text", "[UIDNEXT 17] next"),
                ("imap_uid_next", "17"),
            ],
        ),
        (
            22,
            "* 12 FETCH (FLAGS (\\Seen) RFC822.SIZE 44827 UID 99)",
            &[
                ("imap_seq_num", "12"),
                ("imap_flags", "\\Seen"),
                ("imap_uid", "99"),
                ("message_size", "44827"),
            ],
        ),
        (
            23,
            "* 1 FETCH (ENVELOPE (\"Mon, 1 Jan 2024\" \"Budget\" NIL NIL NIL NIL NIL NIL NIL \"<m@x>\"))",
            &[
                ("imap_seq_num", "1"),
                ("subject", "Budget"),
                ("message_id", "<m@x>"),
            ],
        ),
        (
            24,
            "* 1 FETCH (ENVELOPE (\"Mon, 1 Jan 2024\" \"Budget\" ((\"A\" NIL \"a\" \"x.example\")) NIL NIL NIL NIL NIL NIL \"<m@x>\"))",
            &[
                ("imap_seq_num", "1"),
                ("subject", "Budget"),
                ("message_id", "<m@x>"),
            ],
        ),
        (
            25,
            "A002 OK [READ-WRITE] SELECT completed",
            &[
                ("imap_tag", "A002"),
                ("imap_status", "OK"),
                ("response_text", "[READ-WRITE] SELECT completed"),
            ],
        ),
        (26, "A001 ok done", &[]),
        (
            27,
            "+ idling",
            &[("imap_status", "CONTINUE"), ("response_text", "idling")],
        ),
        (
            28,
            "* CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN",
            &[
                ("response_text", "IMAP4rev1 STARTTLS AUTH=PLAIN"),
                ("starttls_offered", "true"),
            ],
        ),
        (
            29,
            "* LIST (\\HasNoChildren) \"/\" \"INBOX\"",
            &[("response_text", "(\\HasNoChildren) \"/\" \"INBOX\"")],
        ),
        (31, "just body text", &[]),
    ];
    for (row, line, expected) in rows {
        is_said(&imap_response(line), expected, *row);
    }
    // 30
    assert_eq!(
        mime::head(b"Subject: Hello from literal").subjects[0].text,
        "Hello from literal"
    );
    let line = b"* 2 FETCH (ENVELOPE (NIL \"a \\\"b\\\"\" ((NIL NIL \"a\" \"x\")(NIL NIL \"b\" \"x\")) ((NIL NIL \"s\" \"x\")) NIL ((\"C\" NIL \"c\" \"y\")) NIL NIL NIL NIL) UID 7)";
    let response = Response::of(line).unwrap();
    let envelope = response.envelope.unwrap();
    assert_eq!(
        (&envelope.subject[..], response.uid),
        (&b"a \"b\""[..], Some(7))
    );
    assert_eq!(
        (envelope.from, envelope.to),
        (vec!["a@x".into(), "b@x".into()], vec!["c@y".into()])
    );
}

/// What a line of the client says in POP3, as the table names it.
fn pop3(line: &str) -> Vec<(&'static str, String)> {
    let Some(command) = PopCommand::of(line.as_bytes()) else {
        return Vec::new();
    };
    let is = |verb: &str| command.verb == Some(verb);
    let name = command.name().map(text);
    let method = match command.verb {
        Some("USER") => Some("USER/PASS".into()),
        Some("APOP") => Some("APOP".into()),
        Some("AUTH") => name.clone(),
        _ => None,
    };
    present(vec![
        ("recognised", command.verb.map(|_| "true".into())),
        ("command", Some(text(command.word).to_uppercase())),
        ("auth_method", method),
        ("auth_user", name.filter(|_| is("USER") || is("APOP"))),
        (
            "pop3_msg_num",
            command.message().map(|number| number.to_string()),
        ),
    ])
}

/// What a line of the server says in POP3.
fn pop3_reply(line: &str) -> Vec<(&'static str, String)> {
    if let Some(reply) = PopReply::of(line.as_bytes()).filter(|reply| reply.status != Status::GoOn)
    {
        let totals = reply.totals();
        let offers_tls = reply
            .text
            .split(|byte| *byte == b' ')
            .any(|word| word == b"STLS");
        return present(vec![
            ("pop3_status", Some(reply.status.name().to_owned())),
            ("response_text", Some(text(reply.text))),
            ("pop3_msg_count", totals.map(|(mails, _)| mails.to_string())),
            (
                "pop3_total_size",
                totals.map(|(_, bytes)| bytes.to_string()),
            ),
            (
                "starttls_offered",
                Some("true".into()).filter(|_| offers_tls),
            ),
        ]);
    }
    let Some(listed) = Listed::of(line.as_bytes()) else {
        return Vec::new();
    };
    let size = listed.size().map(|size| size.to_string());
    present(vec![
        ("pop3_msg_num", Some(listed.message.to_string())),
        (
            "message_id",
            Some(text(listed.value)).filter(|_| size.is_none()),
        ),
        ("pop3_msg_size", size),
    ])
}

#[test]
fn pop3_lines() {
    type Fields = &'static [(&'static str, &'static str)];
    let rows: &[(u32, &str, Fields)] = &[
        (
            1,
            "USER alice@example.com",
            &[
                ("recognised", "true"),
                ("command", "USER"),
                ("auth_method", "USER/PASS"),
                ("auth_user", "alice@example.com"),
            ],
        ),
        (
            2,
            "PASS s3cret",
            &[("recognised", "true"), ("command", "PASS")],
        ),
        (
            3,
            "APOP mrose c4c9334bac560ecc979e58001b3e22fb",
            &[
                ("recognised", "true"),
                ("command", "APOP"),
                ("auth_method", "APOP"),
                ("auth_user", "mrose"),
            ],
        ),
        (
            4,
            "AUTH CRAM-MD5",
            &[
                ("recognised", "true"),
                ("command", "AUTH"),
                ("auth_method", "CRAM-MD5"),
            ],
        ),
        (5, "STAT", &[("recognised", "true"), ("command", "STAT")]),
        (
            6,
            "LIST 2",
            &[
                ("recognised", "true"),
                ("command", "LIST"),
                ("pop3_msg_num", "2"),
            ],
        ),
        (
            7,
            "RETR 7",
            &[
                ("recognised", "true"),
                ("command", "RETR"),
                ("pop3_msg_num", "7"),
            ],
        ),
        (
            8,
            "RETR 4294967296",
            &[("recognised", "true"), ("command", "RETR")],
        ),
        (
            9,
            "TOP 1 10",
            &[
                ("recognised", "true"),
                ("command", "TOP"),
                ("pop3_msg_num", "1"),
            ],
        ),
        (10, "STLS", &[("recognised", "true"), ("command", "STLS")]),
        (11, "QUIT", &[("recognised", "true"), ("command", "QUIT")]),
        (12, "XTND XMIT", &[("command", "XTND")]),
        (13, "", &[]),
    ];
    for (row, line, expected) in rows {
        is_said(&pop3(line), expected, *row);
    }
    let rows: &[(u32, &str, Fields)] = &[
        (
            14,
            "+OK POP3 server ready <1896.697170952@dbc.mtview.ca.us>",
            &[
                ("pop3_status", "+OK"),
                (
                    "response_text",
                    "POP3 server ready <1896.697170952@dbc.mtview.ca.us>",
                ),
            ],
        ),
        (
            15,
            "+OK 2 320",
            &[
                ("pop3_status", "+OK"),
                ("response_text", "2 320"),
                ("pop3_msg_count", "2"),
                ("pop3_total_size", "320"),
            ],
        ),
        (
            16,
            "+OK 3 messages (120 octets)",
            &[
                ("pop3_status", "+OK"),
                ("response_text", "3 messages (120 octets)"),
            ],
        ),
        (
            17,
            "-ERR no such message",
            &[
                ("pop3_status", "-ERR"),
                ("response_text", "no such message"),
            ],
        ),
        (
            18,
            "1 120",
            &[("pop3_msg_num", "1"), ("pop3_msg_size", "120")],
        ),
        (
            19,
            "1 whqtswO00WBw418f9t5JxYwZ",
            &[
                ("pop3_msg_num", "1"),
                ("message_id", "whqtswO00WBw418f9t5JxYwZ"),
            ],
        ),
        (
            20,
            "1 99",
            &[("pop3_msg_num", "1"), ("pop3_msg_size", "99")],
        ),
        (26, "some body line", &[]),
        (
            27,
            "+OK CAPA STLS follows",
            &[
                ("pop3_status", "+OK"),
                ("response_text", "CAPA STLS follows"),
                ("starttls_offered", "true"),
            ],
        ),
        (28, "+ok hi", &[]),
    ];
    for (row, line, expected) in rows {
        is_said(&pop3_reply(line), expected, *row);
    }
    // 21 to 24
    let head = mime::head(
        b"From: Alice <alice@example.com>\r\nSubject: Hello\r\nMessage-ID: <1@x.example>",
    );
    assert_eq!(
        (
            &head.from[0][..],
            &head.subjects[0].text[..],
            &head.message_id[..]
        ),
        ("alice@example.com", "Hello", "1@x.example")
    );
    assert_eq!(
        mime::head(b"From: carol@example.org (Carol)").from,
        ["carol@example.org"]
    );
}
