//! One call: what is known of it.

use shm_layout::prefetch::prefetch;

use super::dialog::{Dialogs, State};
use super::endpoints::{Endpoint, Ends};
use super::identities::Identities;
use super::sources::Source;
use crate::desk::held::{Chain, Position};
use crate::desk::verdict::{Ids, Standing};
use crate::rtp::{Content, Format, Stream};

/// Most endpoints of a call.
pub const MOST_ENDPOINTS: usize = 64;

/// Most flows of a call that were found to be its though nobody announced an end of them.
pub const MOST_ENDS: usize = 32;

/// Most sources of media of a call that are followed.
pub const MOST_STREAMS: usize = 32;

/// Most payload types of a call that are told apart.
pub const MOST_FORMATS: usize = 16;

/// What is sent to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// RTP, and RTCP where the two share a port.
    Media = 0,
    /// RTCP.
    Control = 1,
    /// Media that are not RTP: T.38 over UDPTL, MSRP.
    Other = 2,
}

/// A call. What a packet of media needs of it stands first, in two cache lines; then, in the third, what is told of a packet that is forwarded.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Call {
    /// Tells it from others that had its place before.
    pub(super) stamp: u32,
    /// The list that it is in.
    pub(super) list: u8,
    pub(super) standing: Standing,
    /// Whether its media are media for sure, and not noise that looks like it.
    pub(super) is_media: bool,
    /// Whether its media wait no more while it is undecided, because some were shed.
    pub(super) sheds_media: bool,
    /// When it will have been silent for too long, in nanoseconds.
    pub(super) deadline_ns: u64,
    /// Its packets that wait.
    pub(super) chain: Chain,
    /// The sources of its media.
    pub(super) streams: Vec<Stream>,

    pub(super) dialogs: Dialogs,
    /// What its session descriptions say of payload types.
    pub(super) formats: Vec<Format>,
    /// Packets that the capture had lost, of any call, before it began.
    pub(super) lost_before: u64,
    /// Which of its streams stand among its sources, or need not: a bit each.
    pub(super) noted: u32,

    /// Its Call-ID, or `rtp-` and the SSRC of media whose signalling was not seen.
    pub(super) id: Box<[u8]>,
    pub(super) ids: Ids,
    /// Packets of it that were lost by our own fault.
    pub(super) incomplete: u32,
    /// As many of them as are counted; none before it is wanted.
    pub(super) incomplete_counted: u32,

    pub(super) identities: Identities,
    pub(super) endpoints: Vec<(Endpoint, Role)>,
    /// Both ends of flows that are its though nobody announced one: of media without signalling, that of their flow.
    pub(super) ends: Vec<Ends>,
    /// The sources of its media, in order of time, for which announced ends vouch, or which its flow has, if nobody announced that.
    pub(super) sources: Vec<Source>,
    /// When its media began, if their signalling was not seen, in nanoseconds.
    pub(super) began_ns: u64,
    /// The filters that it was compared with last.
    pub(super) generation: u64,
    /// The first of its packets that wait, if it stands in line to have them forwarded.
    pub(super) ready_at: Option<Position>,
    /// The lists of doubts that it stands in.
    pub(super) in_doubt: [bool; 2],
    /// Where it was last told of in the log of calls.
    pub(super) told_at: Option<u64>,
    /// What it adds to the bytes of all.
    pub(super) bytes: usize,
    /// Its neighbours among the calls of its kind, by deadline.
    pub(super) previous: u32,
    pub(super) next: u32,
    /// Whether packets that wait may carry messages of other calls as well.
    pub(super) shares: bool,
    /// Whether another worker counts it.
    pub(super) is_others: bool,
    /// Whether it stands in [`Calls::next_changed`](super::calls::Calls::next_changed).
    pub(super) is_changed: bool,
}

impl Call {
    /// What packets of media need of calls, in steps: each has fetched into the cache what it finds where the one before it has had fetched. The first
    /// is [`Call::prefetch`].
    pub(super) const PREFETCHES: [fn(&Self); 3] = [
        |call| {
            call.streams.iter().take(2).for_each(prefetch);
            if call.standing >= Standing::Passed {
                prefetch(&call.id);
            }
        },
        |call| {
            if call.standing >= Standing::Passed {
                call.id.first().into_iter().for_each(prefetch);
                call.ids.prefetch_list();
            }
        },
        |call| {
            if call.standing >= Standing::Passed {
                call.ids.prefetch_first();
            }
        },
    ];

    /// Has fetched into the cache what stands in the call itself.
    #[inline]
    pub(super) fn prefetch(&self) {
        prefetch(&self.stamp);
        prefetch(&self.dialogs);
    }

    /// Its Call-ID, or `rtp-` and eight hexadecimal digits of an SSRC.
    #[must_use]
    pub fn id(&self) -> &[u8] {
        &self.id
    }

    /// How far it has come.
    #[must_use]
    pub fn state(&self) -> State {
        self.dialogs.state()
    }

    /// Whether it is wanted.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// The filters that it matches.
    #[must_use]
    pub fn ids(&self) -> &Ids {
        &self.ids
    }

    /// Its packets that wait.
    #[must_use]
    pub fn chain(&self) -> Chain {
        self.chain
    }

    /// Where media of it are expected.
    #[must_use]
    pub fn endpoints(&self) -> &[(Endpoint, Role)] {
        &self.endpoints
    }

    /// Both ends of flows that are its though nobody announced one.
    #[must_use]
    pub fn ends(&self) -> &[Ends] {
        &self.ends
    }

    /// What its sources sent first.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The sources of its media.
    #[must_use]
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// What a payload type carries in it. Without a word, 101 is taken for events, as nearly everywhere.
    #[must_use]
    pub fn format(&self, payload_type: u8) -> Format {
        let is_it = |format: &&Format| format.payload_type == payload_type;
        match self.formats.iter().find(is_it) {
            Some(format) => *format,
            None if payload_type == 101 && self.formats.is_empty() => {
                Format::new(payload_type, b"telephone-event", 8_000)
            }
            None => Format::of_type(payload_type),
        }
    }

    /// Adds a source of media that is not among those that are followed.
    pub(super) fn add_stream(&mut self, stream: Stream) {
        // Most calls have two.
        if self.streams.len() == self.streams.capacity() {
            self.streams.reserve_exact(2);
        }
        self.streams.push(stream);
    }

    /// Adds what a session description says; the last word counts.
    pub(super) fn add_formats(&mut self, formats: &[Format]) {
        for format in formats {
            let is_full = self.formats.len() == MOST_FORMATS;
            let is_it = |known: &&mut Format| known.payload_type == format.payload_type;
            // What is so by itself need not be kept.
            let is_known = *format == Format::of_type(format.payload_type);
            match self.formats.iter_mut().find(is_it) {
                Some(known) => *known = *format,
                None if is_known || is_full => {}
                None => self.formats.push(*format),
            }
        }
    }

    /// Whether a payload type carries events or noise.
    #[must_use]
    pub fn content(&self, payload_type: u8) -> Content {
        self.format(payload_type).content
    }

    /// Packets of it that were lost by our own fault.
    #[must_use]
    pub fn incomplete(&self) -> u32 {
        self.incomplete
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub(super) fn measure(&self) -> usize {
        /// An entry of the tables that lead to a call, or to one of its endpoints: key, value, and what the table keeps free.
        const ENTRY: usize = 96;
        size_of::<Self>()
            + self.id.len()
            + self.dialogs.bytes()
            + self.ids.bytes()
            + self.identities.bytes()
            + self.streams.capacity() * size_of::<Stream>()
            + self.formats.capacity() * size_of::<Format>()
            + self.endpoints.capacity() * size_of::<(Endpoint, Role)>()
            + self.ends.capacity() * size_of::<Ends>()
            + self.sources.capacity() * size_of::<Source>()
            + ENTRY * (1 + self.endpoints.len() + 2 * self.ends.len() + self.sources.len())
    }
}
