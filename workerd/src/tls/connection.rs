//! What is known of a connection, whatever carries it: who has said hello, and what may still be told.

use shm_layout::counters::WorkerCounter as Counter;

use super::describe::Describe;
use super::fields;
use super::handshake::{Message, kind};
use super::hello::{Carrier, ClientHello, ServerHello};
use super::version;
use crate::flows::Direction;
use crate::matcher::Kinds;
use crate::session::{At, Content, Course, Exchange, Tell};

/// What has become of a hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Hello {
    /// It may come.
    #[default]
    Awaited,
    /// It has come, and is told.
    Told,
    /// It was not seen, and will not be.
    Lost,
}

/// A connection: the exchange that it is, and how far its handshake has come.
#[derive(Debug, Default)]
pub struct Connection {
    exchange: Option<Exchange>,
    is_settled: bool,
    /// The direction that the ClientHello came in.
    client: Option<Direction>,
    hellos: [Hello; 2],
    /// A HelloRetryRequest was seen, and no ServerHello.
    is_retried: bool,
    has_early_data: bool,
    /// When the client has said hello last, in nanoseconds.
    asked_ns: Option<u64>,
    /// The newest that is offered, or what is chosen.
    version: Option<u16>,
    /// Which directions have no more hellos and certificates in clear.
    is_dark: [bool; 2],
}

const CLIENT: usize = 0;
const SERVER: usize = 1;

impl Connection {
    /// The exchange, which begins now if it has not. `is_bounded`: only the handshake is wanted, which then is what fits the mode's settings.
    pub fn exchange(&mut self, is_bounded: bool, tell: &mut impl Tell) -> Exchange {
        *self.exchange.get_or_insert_with(|| {
            let exchange = tell.begin();
            if is_bounded {
                tell.content(exchange, Content::Fits);
            }
            exchange
        })
    }

    /// Whether anything was said that only TLS says.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.hellos.contains(&Hello::Told)
    }

    /// The exchange, if it has begun.
    #[must_use]
    pub fn begun(&self) -> Option<Exchange> {
        self.exchange
    }

    /// The version that is spoken: as chosen, or else the newest that is offered.
    #[must_use]
    pub fn version(&self) -> Option<u16> {
        self.version
    }

    /// Whether the server has answered, even if that was not seen.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.hellos[SERVER] != Hello::Awaited
    }

    /// Whether the answer was seen.
    #[must_use]
    pub fn has_answer(&self) -> bool {
        self.hellos[SERVER] == Hello::Told
    }

    /// Whether `direction` comes from the client, as far as is known.
    #[must_use]
    pub fn is_of_client(&self, direction: Direction) -> bool {
        direction == self.client.unwrap_or(Direction::Request)
    }

    /// Whether nothing more can be read in `direction`.
    #[must_use]
    pub fn is_dark(&self, direction: Direction) -> bool {
        self.is_dark[direction as usize]
    }

    /// Whether the client is to say hello again, and what is in between means nothing.
    #[must_use]
    pub fn is_retried(&self) -> bool {
        self.is_retried
    }

    /// How it goes on, if all of it is wanted: where nothing more can be read, nobody needs to look.
    pub fn course(&self, direction: Direction, exchange: Exchange) -> Course {
        match self.is_dark {
            [true, true] => Course::RestOfBoth(Some(exchange)),
            _ if self.is_dark(direction) => Course::Rest(Some(exchange)),
            _ => Course::Follow,
        }
    }

    /// Takes in a message that ends with the byte at `offset`. What is wrong in it is told as far as it can be read.
    pub fn take(
        &mut self,
        at: &At,
        message: Message<'_>,
        carrier: Carrier,
        offset: u64,
        describe: &mut Describe,
        tell: &mut impl Tell,
    ) {
        let Some(exchange) = self.exchange else {
            return;
        };
        match (message.kind, message.body) {
            (kind::CLIENT_HELLO, Some(body)) => {
                let hello = ClientHello::read(body, carrier);
                count(hello.is_some(), tell);
                if let Some(hello) = hello {
                    self.client_said(at, &hello);
                    fields::of_client(&hello, self.wanted(tell), |kind, text| {
                        tell.compare(exchange, kind, text);
                    });
                    tell.note(exchange, offset, describe.client(&hello));
                }
            }
            (kind::SERVER_HELLO | kind::HELLO_RETRY_REQUEST, Some(body)) => {
                let hello = ServerHello::read(body);
                count(hello.is_some(), tell);
                if let Some(hello) = hello {
                    let asked_ns = self.asked_ns;
                    let is_retry = hello.is_retry() || message.kind == kind::HELLO_RETRY_REQUEST;
                    self.server_said(at, &hello, is_retry);
                    fields::of_server(&hello, self.wanted(tell), |kind, text| {
                        tell.compare(exchange, kind, text);
                    });
                    let waited_ns = asked_ns.and_then(|asked| at.time_ns.checked_sub(asked));
                    tell.note(
                        exchange,
                        offset,
                        describe.server(&hello, carrier, waited_ns),
                    );
                }
            }
            // They take long to read.
            (kind::CERTIFICATE, Some(body)) if !tell.is_unwanted(exchange) => {
                let is_server = !self.is_of_client(at.direction);
                if let Some(note) = describe.certificates(body, carrier, is_server) {
                    tell.note(exchange, offset, note);
                }
            }
            (kind::SERVER_HELLO_DONE, _) => self.goes_dark(at.direction),
            (kind::CLIENT_KEY_EXCHANGE, _) => self.went_on(at.direction, tell),
            _ => {}
        }
        self.judge(tell);
    }

    /// Takes in a hello of SSL 2.0: it has nothing that filters are compared with.
    pub fn take_old(
        &mut self,
        at: &At,
        is_client: bool,
        version: u16,
        offset: u64,
        describe: &mut Describe,
        tell: &mut impl Tell,
    ) {
        let Some(exchange) = self.exchange else {
            return;
        };
        if is_client {
            (self.client, self.asked_ns) = (Some(at.direction), Some(at.time_ns));
        }
        self.hellos[if is_client { CLIENT } else { SERVER }] = Hello::Told;
        self.version = Some(version);
        tell.note(exchange, offset, describe.old(is_client, version));
        self.judge(tell);
    }

    /// What may be compared: nothing once it is settled, such as hellos that come again.
    fn wanted(&self, tell: &impl Tell) -> Kinds {
        match self.is_settled {
            true => Kinds::NONE,
            false => tell.wanted(),
        }
    }

    fn client_said(&mut self, at: &At, hello: &ClientHello<'_>) {
        self.client = Some(at.direction);
        self.asked_ns = Some(at.time_ns);
        self.has_early_data = hello.has_early_data();
        self.hellos[CLIENT] = Hello::Told;
        if self.hellos[SERVER] != Hello::Told {
            self.version = Some(hello.newest_version());
        }
    }

    fn server_said(&mut self, at: &At, hello: &ServerHello<'_>, is_retry: bool) {
        self.client.get_or_insert(opposite(at.direction));
        self.version = Some(hello.chosen_version());
        self.is_retried = is_retry;
        if is_retry {
            return;
        }
        self.hellos[SERVER] = Hello::Told;
        if version::hides_handshake(hello.chosen_version()) {
            self.goes_dark(at.direction);
        }
    }

    /// `direction` goes on behind its handshake in clear: no hello and no certificate comes any more. Who goes on has had an answer; and where the answer was not
    /// seen so far, it was not captured.
    pub fn went_on(&mut self, direction: Direction, tell: &mut impl Tell) {
        self.goes_dark(direction);
        self.lose(CLIENT);
        if !(self.is_of_client(direction) && self.has_early_data) {
            self.lose(SERVER);
        }
        self.judge(tell);
    }

    /// What may have been in `direction` was not seen, and will not be.
    pub fn was_lost(&mut self, direction: Direction, tell: &mut impl Tell) {
        self.goes_dark(direction);
        self.lose(if self.is_of_client(direction) {
            CLIENT
        } else {
            SERVER
        });
        self.judge(tell);
    }

    fn goes_dark(&mut self, direction: Direction) {
        self.is_dark[direction as usize] = true;
    }

    fn lose(&mut self, role: usize) {
        if self.hellos[role] == Hello::Awaited {
            self.hellos[role] = Hello::Lost;
        }
    }

    /// Settles when both hellos are known, or known to be lost.
    fn judge(&mut self, tell: &mut impl Tell) {
        let is_open = self.hellos.contains(&Hello::Awaited);
        if let (false, false, Some(exchange)) = (is_open, self.is_settled, self.exchange) {
            self.is_settled = true;
            tell.settle(exchange);
        }
    }
}

/// Counts a hello, or what came in place of one.
fn count(is_hello: bool, tell: &mut impl Tell) {
    tell.count(match is_hello {
        true => Counter::TlsHellos,
        false => Counter::TlsMalformed,
    });
}

fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Request => Direction::Response,
        Direction::Response => Direction::Request,
    }
}
