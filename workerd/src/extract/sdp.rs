//! Names of the codecs in a session description (RFC 8866).
//!
//! Payload types have names in `a=rtpmap` lines, or by RFC 3551 section 6.

use super::lines::Lines;
use crate::matcher::{Fields, Kind};

/// Adds the codecs of a body.
pub fn extract(body: &[u8], fields: &mut Fields) {
    let mut lines = Lines::new(body);
    while let Some(line) = lines.next_unfolded() {
        if let Some(map) = line.strip_prefix(b"a=rtpmap:") {
            // "96 opus/48000/2"
            let name = words(map)
                .nth(1)
                .and_then(|name| name.split(|byte| *byte == b'/').next());
            name.into_iter()
                .for_each(|name| fields.push(Kind::Codec, name));
        } else if let Some(media) = line.strip_prefix(b"m=") {
            // "audio 4000 RTP/AVP 0 8 101"
            let types = words(media).skip(3);
            let names =
                types.filter_map(|number| name(std::str::from_utf8(number).ok()?.parse().ok()?));
            names.for_each(|name| fields.push(Kind::Codec, name.as_bytes()));
        }
    }
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

/// Names of payload types that need no `a=rtpmap`.
fn name(payload_type: u8) -> Option<&'static str> {
    Some(match payload_type {
        0 => "PCMU",
        3 => "GSM",
        4 => "G723",
        5 | 6 | 16 | 17 => "DVI4",
        7 => "LPC",
        8 => "PCMA",
        9 => "G722",
        10 | 11 => "L16",
        12 => "QCELP",
        13 => "CN",
        14 => "MPA",
        15 => "G728",
        18 => "G729",
        25 => "CelB",
        26 => "JPEG",
        28 => "nv",
        31 => "H261",
        32 => "MPV",
        33 => "MP2T",
        34 => "H263",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_have_names_by_line_or_by_number() {
        let body = b"v=0\r\nm=audio 4000 RTP/AVP 0 8 96\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:97\r\nm=video 0\r\nm=x 1 2 300 x\n";
        let mut fields = Fields::default();
        extract(body, &mut fields);
        let names: Vec<_> = fields.iter().map(|(_, _, name)| name).collect();
        assert_eq!(names, [&b"pcmu"[..], b"pcma", b"opus"]);
    }
}
