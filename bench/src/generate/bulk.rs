//! Bulk transfers over TCP: one side sends random bytes in frames of a chosen size.

use super::dialogue::{Content, Dialogue, Turn};
use super::frame::{Ports, TCP_HEADER};
use super::path::{Path, Side};
use super::rng::Rng;
use super::traffic::FrameSize;

/// Frame lengths of the simple Internet mix, in the ratio 7:4:1.
const IMIX: [u16; 12] = [64, 64, 64, 64, 64, 64, 64, 594, 594, 594, 594, 1514];

/// An upload or download of 20 to 200 data segments.
pub(super) fn conversation(path: Path, size: FrameSize, mut rng: Rng) -> Dialogue {
    let headers = (path.header_len() + TCP_HEADER) as u16;
    let segments = (0..rng.range(20, 201))
        .map(|_| {
            let frame = match size {
                FrameSize::Fixed(size) => size,
                FrameSize::Imix => *rng.choose(&IMIX),
            };
            frame.saturating_sub(headers).max(1)
        })
        .collect();
    let turn = Turn {
        from: *rng.choose(&[Side::Client, Side::Server]),
        content: Content::Segments(segments),
    };
    let ports = Ports {
        client: rng.range(32_768, 61_000) as u16,
        server: *rng.choose(&[873, 5001, 9000]),
    };
    Dialogue::new(path, ports, vec![turn], rng)
}
