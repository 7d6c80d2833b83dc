//! What SMTP, IMAP and POP3 have in common for those who follow them: streams alone, and the operator's wishes.

use std::marker::PhantomData;

use lc_daemon::config::Email;

use super::means::Means;
use crate::reassembly::Event;
use crate::session::{At, Cited, Course, Exchange, Place, Protocol, Tell};

/// First byte of a TLS record that carries a handshake (RFC 8446 section 5.1): how a client goes on once it has asked for TLS.
pub const HANDSHAKE: u8 = 0x16;

/// A protocol of mail, as one worker follows it; `C` is a connection of it.
#[derive(Debug)]
pub struct Follower<C> {
    means: Means,
    conversations: PhantomData<fn() -> C>,
}

/// A connection.
pub trait Conversation: Sized {
    /// It begins, with its first exchange.
    fn begin(exchange: Exchange) -> Self;

    /// Takes in what happened in one direction.
    fn hear(
        &mut self,
        at: &At,
        event: Event<'_>,
        means: &mut Means,
        tell: &mut impl Tell,
    ) -> Course;

    /// See [`Protocol::place`].
    fn place(&self, _cited: &mut Cited) -> Option<Place> {
        None
    }

    /// See [`Protocol::steps`].
    fn steps(&self) -> u64 {
        0
    }

    /// See [`Protocol::resume`]; none if the place is none.
    fn resume(_place: &[u8], _cited: &Cited) -> Option<Self> {
        None
    }
}

impl<C> Follower<C> {
    /// As the operator wants it.
    #[must_use]
    pub fn new(settings: &Email) -> Self {
        Self {
            means: Means::new(settings),
            conversations: PhantomData,
        }
    }
}

impl<C: Conversation> Protocol for Follower<C> {
    type State = Option<Box<C>>;

    fn has_content_filter(&self) -> bool {
        !self.means.content.is_empty()
    }

    /// None of them is spoken over UDP.
    fn datagram(&mut self, _: &At, _: &mut Self::State, _: &[u8], _: &mut impl Tell) -> Course {
        Course::Foreign
    }

    fn stream(
        &mut self,
        at: &At,
        state: &mut Self::State,
        event: Event<'_>,
        tell: &mut impl Tell,
    ) -> Course {
        let conversation = state.get_or_insert_with(|| Box::new(C::begin(tell.begin())));
        conversation.hear(at, event, &mut self.means, tell)
    }

    fn place(&self, state: &Self::State, cited: &mut Cited) -> Option<Place> {
        state.as_ref()?.place(cited)
    }

    fn steps(&self, state: &Self::State) -> u64 {
        state.as_deref().map_or(0, C::steps)
    }

    fn resume(&self, place: &[u8], cited: &Cited) -> Self::State {
        C::resume(place, cited).map(Box::new)
    }
}
