//! The reference's conformance cases for mail, row by row, with the target where it names one.

use lc_daemon::config::EmailContent;

use super::content::{ContentFilter, Fit, Group};
use super::mime;
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
