//! The two sides of a connection: which one is the client shows in what is said.

use super::lines::Lines;
use crate::flows::Direction;

/// Lines that are nothing of the protocol after which a connection is given up that has said nothing else.
const MOST_FOREIGN: u32 = 16;

/// Both sides.
#[derive(Debug)]
pub struct Sides {
    /// Of each direction.
    pub lines: [Lines; 2],
    /// Where commands come from.
    pub client: Direction,
    /// Whether the beginning was missed, so that what is said may have begun earlier.
    pub is_joined: bool,
    /// Whether the first reply has come, or was missed.
    is_greeted: bool,
    is_heard: [bool; 2],
    has_ended: [bool; 2],
    spoke: Direction,
    /// Whether it is certain who the client is.
    is_certain: bool,
    /// Lines without meaning while that is not certain.
    foreign: u32,
}

impl Default for Sides {
    fn default() -> Self {
        Self {
            lines: Default::default(),
            client: Direction::Request,
            is_joined: false,
            is_greeted: false,
            is_heard: [false; 2],
            has_ended: [false; 2],
            spoke: Direction::Response,
            is_certain: false,
            foreign: 0,
        }
    }
}

/// What a successor is told of both sides, but for lines that have begun.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Told {
    /// Whether commands come in the direction of responses.
    #[prost(bool, tag = "1")]
    is_turned: bool,
    #[prost(bool, tag = "2")]
    is_joined: bool,
    #[prost(bool, tag = "3")]
    is_greeted: bool,
    #[prost(bool, repeated, tag = "4")]
    is_heard: Vec<bool>,
    #[prost(bool, repeated, tag = "5")]
    has_ended: Vec<bool>,
    /// Whether responses came last.
    #[prost(bool, tag = "6")]
    has_responded: bool,
    #[prost(bool, tag = "7")]
    is_certain: bool,
    #[prost(uint32, tag = "8")]
    foreign: u32,
}

impl Sides {
    /// As a successor is told.
    pub fn told(&self) -> Told {
        Told {
            is_turned: self.client == Direction::Response,
            is_joined: self.is_joined,
            is_greeted: self.is_greeted,
            is_heard: self.is_heard.to_vec(),
            has_ended: self.has_ended.to_vec(),
            has_responded: self.spoke == Direction::Response,
            is_certain: self.is_certain,
            foreign: self.foreign,
        }
    }

    /// As a predecessor has told.
    pub fn resumed(told: Told) -> Self {
        let direction = |is_response| match is_response {
            false => Direction::Request,
            true => Direction::Response,
        };
        let both = |flags: &[bool]| [0, 1].map(|way| flags.get(way).copied().unwrap_or(false));
        Self {
            lines: Default::default(),
            client: direction(told.is_turned),
            is_joined: told.is_joined,
            is_greeted: told.is_greeted,
            is_heard: both(&told.is_heard),
            has_ended: both(&told.has_ended),
            spoke: direction(told.has_responded),
            is_certain: told.is_certain,
            foreign: told.foreign,
        }
    }

    /// A side speaks. Whether it is the client after the server.
    pub fn speak(&mut self, direction: Direction) -> bool {
        self.is_heard[direction as usize] = true;
        let before = std::mem::replace(&mut self.spoke, direction);
        direction == self.client && before != direction
    }

    /// Bytes of a side are missing.
    pub fn gap(&mut self, direction: Direction, offset: u64, len: Option<u64>) {
        self.lines[direction as usize].clear();
        let is_joined = offset == 0 && len.is_none();
        self.is_joined |= is_joined;
        self.is_greeted |= is_joined;
    }

    /// The server replies. Whether that is its greeting, which answers nothing.
    pub fn greets(&mut self) -> bool {
        !std::mem::replace(&mut self.is_greeted, true)
    }

    /// A side has ended. Whether nothing more will be said: only the client's words count, but where it is not heard.
    pub fn end(&mut self, direction: Direction) -> bool {
        self.has_ended[direction as usize] = true;
        let other = direction.reversed() as usize;
        direction == self.client || self.has_ended[other] || !self.is_heard[other]
    }

    /// What a line looks like tells who the client is. Whether the connection has to be given up as something else.
    pub fn is_foreign(
        &mut self,
        direction: Direction,
        says_client: bool,
        says_server: bool,
    ) -> bool {
        if self.is_certain {
            return false;
        }
        if says_client == says_server {
            self.foreign += u32::from(!says_client);
            return self.foreign == MOST_FOREIGN && !self.is_joined;
        }
        self.is_certain = true;
        if says_client != (direction == self.client) {
            self.client = self.client.reversed();
        }
        false
    }

    /// Whether the server is captured.
    pub fn hears_server(&self) -> bool {
        self.is_heard[self.client.reversed() as usize]
    }
}
