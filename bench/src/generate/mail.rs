//! SMTP sessions (RFC 5321): one message is handed over, with headers and body (RFC 5322).

use super::dialogue::{Dialogue, Turn};
use super::frame::Ports;
use super::path::{Path, Side};
use super::rng::Rng;

/// One session with a mail server.
pub(super) fn conversation(path: Path, mut rng: Rng) -> Dialogue {
    let sender = format!("{}@{}.example", rng.word(6), rng.word(5));
    let recipient = format!("{}@{}.example", rng.word(6), rng.word(5));
    let line = format!("{}\r\n", rng.word(70));
    let body = line.repeat(rng.range(2, 60) as usize);
    let message = format!(
        "From: <{sender}>\r\nTo: <{recipient}>\r\nSubject: Report {}\r\n\
         Message-ID: <{}@lc-bench.example>\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\r\n{body}.\r\n",
        rng.word(4),
        rng.word(12),
    );
    let server = |text: &str| Turn::new(Side::Server, format!("{text}\r\n"));
    let client = |text: String| Turn::new(Side::Client, format!("{text}\r\n"));
    let turns = vec![
        server("220 mx.lc-bench.example ESMTP"),
        client("EHLO client.lc-bench.example".into()),
        server("250-mx.lc-bench.example\r\n250 8BITMIME"),
        client(format!("MAIL FROM:<{sender}>")),
        server("250 2.1.0 Ok"),
        client(format!("RCPT TO:<{recipient}>")),
        server("250 2.1.5 Ok"),
        client("DATA".into()),
        server("354 End data with <CR><LF>.<CR><LF>"),
        Turn::new(Side::Client, message),
        server("250 2.0.0 Ok: queued"),
        client("QUIT".into()),
        server("221 2.0.0 Bye"),
    ];
    let ports = Ports {
        client: rng.range(32_768, 61_000) as u16,
        server: 25,
    };
    Dialogue::new(path, ports, turns, rng)
}
