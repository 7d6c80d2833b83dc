//! HTTP/1.1 exchanges (RFC 9112): one to three requests on a connection, with bodies.

use super::dialogue::{Dialogue, Turn};
use super::frame::Ports;
use super::path::{Path, Side};
use super::rng::Rng;

/// One connection to a web server.
pub(super) fn conversation(path: Path, mut rng: Rng) -> Dialogue {
    let host = format!("www.{}.example", rng.word(8));
    let mut turns = Vec::new();
    for _ in 0..rng.range(1, 4) {
        let target = format!("/{}/{}.html", rng.word(5), rng.word(7));
        turns.push(Turn::new(
            Side::Client,
            format!(
                "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: lc-bench\r\nAccept: */*\r\n\r\n"
            ),
        ));
        let text = rng.word(64);
        let body = text.repeat(rng.range(1, 80) as usize);
        turns.push(Turn::new(
            Side::Server,
            format!(
                "HTTP/1.1 200 OK\r\nServer: lc-bench\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        ));
    }
    let ports = Ports {
        client: rng.range(32_768, 61_000) as u16,
        server: *rng.choose(&[80, 8080]),
    };
    Dialogue::new(path, ports, turns, rng)
}
