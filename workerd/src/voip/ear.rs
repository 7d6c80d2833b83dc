//! What SIP messages say to the calls, whatever carried them.

use super::call::{MOST_FORMATS, Role};
use super::endpoints::Endpoint;
use super::signal::{self, Signal, Tags};
use super::switchboard::{Message as CallMessage, Ruling, Switchboard};
use crate::decode::Decoded;
use crate::extract;
use crate::matcher::Judge;
use crate::matcher::{Fields, Kinds};
use crate::rtp::Format;
use crate::sip::address::Address;
use crate::sip::message::{Message, Start};
use crate::sip::method::Method;
use crate::sip::sdp::{Codec, Profile, Session};

/// What was heard, since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// SIP messages.
    pub messages: u64,
    /// SIP messages without a Call-ID that can be taken, or not whole.
    pub malformed: u64,
}

/// Has calls take note of messages.
pub struct Ear {
    longest_message: usize,
    tags: Tags,
    fields: Fields,
    expected: Vec<(Endpoint, Role)>,
    formats: Vec<Format>,
    /// What was heard.
    pub counts: Counts,
}

impl Ear {
    /// Takes messages of so many bytes at most.
    #[must_use]
    pub fn new(longest_message: usize) -> Self {
        Self {
            longest_message,
            tags: Tags::default(),
            fields: Fields::default(),
            expected: Vec::new(),
            formats: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// A message, whose bytes are `text`, in a packet of `bytes` bytes. None if it is of no call.
    pub fn hear(
        &mut self,
        (board, judge): (&mut Switchboard, Judge<'_>),
        decoded: &Decoded,
        (text, message): (&[u8], &Message<'_>),
        bytes: u32,
    ) -> Option<Ruling> {
        self.counts.messages += 1;
        let fits = text.len() <= self.longest_message;
        let Some(call_id) = message.call_id().ok().filter(|_| fits) else {
            self.counts.malformed += 1;
            return None;
        };
        self.fields.clear();
        extract::sip::extract(text, Kinds::ALL, &mut self.fields);
        self.expected.clear();
        self.formats.clear();
        if let Some(session) = Session::of(message) {
            for endpoint in session.endpoints() {
                let role = match endpoint.profile {
                    Profile::Rtp | Profile::Srtp => Role::Media,
                    _ => Role::Other,
                };
                self.expected.push((endpoint.address, role));
                let control = endpoint.rtcp.map(|control| (control, Role::Control));
                self.expected.extend(control);
            }
            let codecs = session.media().flat_map(|media| media.codecs());
            let formats = codecs.take(MOST_FORMATS).map(|codec| {
                let Codec {
                    payload_type,
                    name,
                    clock_rate,
                } = codec;
                Format::new(payload_type, name, clock_rate)
            });
            self.formats.extend(formats);
        }
        let call_message = CallMessage {
            call_id,
            signal: self.signal(message),
            endpoints: &self.expected,
            formats: &self.formats,
        };
        Some(board.message(judge, &call_message, decoded, &self.fields, bytes))
    }

    fn signal(&self, message: &Message<'_>) -> Signal {
        let start = match message.start() {
            Start::Request { method, .. } => signal::Start::Request(meaning(method)),
            Start::Response { code, .. } => {
                let answered = Method::of_token(message.cseq_method());
                signal::Start::Response(code, meaning(answered))
            }
        };
        let (from, to) = (message.from(), message.to());
        let tags = [&from, &to].map(|address| address.as_ref().map_or(&[][..], Address::tag));
        Signal {
            start,
            dialog: self.tags.dialog(tags[0], tags[1]),
        }
    }
}

/// What a method means to a call.
fn meaning(method: Method) -> signal::Method {
    match method {
        Method::Invite => signal::Method::Invite,
        Method::Ack => signal::Method::Ack,
        Method::Bye => signal::Method::Bye,
        Method::Cancel => signal::Method::Cancel,
        Method::Prack | Method::Update | Method::Info => signal::Method::WithinCall,
        _ => signal::Method::Alone,
    }
}
