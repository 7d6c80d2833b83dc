//! What a packet's metadata tells of its call, beside what the packet says itself: what was lost of the call, what its media have been through, digits.
//!
//! The keys are those of `docs/METADATA.md`.

use std::fmt::{self, Write};

use super::call::Call;
use crate::detect::{Details, Value, Writer};
use crate::rtp::{self, Content, Event, Header, Stream};

/// What was lost of the call by the node's own fault, so far; and what the capture has lost meanwhile, which may have been the call's. Nothing if nothing was.
pub fn put_losses(details: &mut Details, call: &Call, lost_by_capture: u64) {
    if call.incomplete() > 0 {
        details.put("call_lost_packets", call.incomplete());
    }
    let meanwhile = lost_by_capture.saturating_sub(call.lost_before);
    if meanwhile > 0 {
        details.put("capture_lost_packets", meanwhile);
    }
}

/// What each stream of the call's media has been through, one to a line.
pub fn put_streams(details: &mut Details, call: &Call) {
    details.list("rtp_streams", '\n', call.streams().iter().map(Line));
}

/// What a packet of media that is not encrypted says.
pub fn put_media(details: &mut Details, call: &Call, payload: &[u8]) {
    let Some(header) = Header::read(payload) else {
        return;
    };
    let media = payload.get(header.len..).unwrap_or_default();
    match call.format(header.payload_type).content {
        Content::Media => {}
        Content::Noise => {
            if let Some(level) = rtp::noise_level(media) {
                details.put("comfort_noise_level", level);
            }
        }
        Content::Event => {
            let Some(event) = Event::read(media) else {
                return;
            };
            match event.digit() {
                Some(digit) => details.put("dtmf_event", digit),
                None => details.put("dtmf_event", event.code),
            }
            details.flag("dtmf_end", event.is_end);
            details.put("dtmf_volume", event.volume);
            details.put("dtmf_duration", event.duration);
        }
    }
}

/// A stream, as text.
struct Line<'a>(&'a Stream);

impl Value for Line<'_> {
    fn write(&self, out: &mut Writer<'_>) -> fmt::Result {
        let stream = self.0;
        write!(
            out,
            "ssrc={} received={} lost={} reordered={} repeated={} restarts={}",
            stream.ssrc(),
            stream.received(),
            stream.lost(),
            stream.reordered(),
            stream.repeated(),
            stream.restarts(),
        )?;
        if let Some(jitter_us) = stream.jitter_us() {
            write!(out, " jitter_us={jitter_us}")?;
        }
        if stream.events() > 0 {
            write!(out, " events={}", stream.events())?;
        }
        if stream.noise() > 0 {
            write!(out, " comfort_noise={}", stream.noise())?;
        }
        Ok(())
    }
}
