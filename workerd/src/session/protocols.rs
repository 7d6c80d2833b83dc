//! The protocols of a node's modes.

use lc_daemon::config::{self, Config, NoFilterPolicy, TlsFlow};

use super::roster::{Carrier, Roster, Terms};
use super::tracker::{At, Course, Protocol, Tell};
use crate::detect;
use crate::dns::{self, Dns};
use crate::email::imap::Imap;
use crate::email::pop3::Pop3;
use crate::email::smtp::Smtp;
use crate::reassembly::Event;
use crate::tls::tracker::{self as tls, Tls};

/// Those that are followed. The default follows none.
#[derive(Default)]
pub struct Protocols {
    /// DNS, mDNS, LLMNR.
    pub dns: Option<Mode<Dns>>,
    /// TLS, DTLS, QUIC.
    pub tls: Option<Mode<Tls>>,
    /// SMTP.
    pub smtp: Option<Mode<Smtp>>,
    /// IMAP.
    pub imap: Option<Mode<Imap>>,
    /// POP3.
    pub pop3: Option<Mode<Pop3>>,
}

/// A protocol as its mode has it.
pub struct Mode<P> {
    /// The protocol.
    pub protocol: P,
    /// What becomes of its exchanges while no filter is in force.
    pub policy: NoFilterPolicy,
    /// Whether only its datagrams are followed.
    pub udp_only: bool,
}

/// What the protocol of a session remembers.
pub enum State {
    /// Of DNS.
    Dns(dns::tracker::State),
    /// Of TLS.
    Tls(Box<tls::State>),
    /// Of SMTP.
    Smtp(<Smtp as Protocol>::State),
    /// Of IMAP.
    Imap(<Imap as Protocol>::State),
    /// Of POP3.
    Pop3(<Pop3 as Protocol>::State),
}

impl Protocols {
    /// Those of the node's modes.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let has = |mode| config.modes.has(mode);
        let (mail, has_mail) = (config.email.protocols, has(config::Mode::Email));
        let mail_policy = config.modes.policy(config::Mode::Email);
        Self {
            dns: has(config::Mode::Dns).then(|| Mode {
                protocol: Dns::new(&config.dns),
                policy: config.modes.policy(config::Mode::Dns),
                udp_only: config.dns.udp_only,
            }),
            tls: has(config::Mode::Tls).then(|| Mode {
                protocol: Tls::new(match config.tls.flow {
                    TlsFlow::Full => tls::Extent::Full,
                    TlsFlow::Handshake => tls::Extent::Handshake,
                }),
                policy: config.modes.policy(config::Mode::Tls),
                udp_only: false,
            }),
            smtp: (has_mail && mail.smtp).then(|| Mode::of(Smtp::new(&config.email), mail_policy)),
            imap: (has_mail && mail.imap).then(|| Mode::of(Imap::new(&config.email), mail_policy)),
            pop3: (has_mail && mail.pop3).then(|| Mode::of(Pop3::new(&config.email), mail_policy)),
        }
    }
}

impl<P: Protocol> Mode<P> {
    fn of(protocol: P, policy: NoFilterPolicy) -> Self {
        Self {
            protocol,
            policy,
            udp_only: false,
        }
    }

    fn terms(&self) -> Terms {
        Terms {
            policy: self.policy,
            has_content_filter: self.protocol.has_content_filter(),
        }
    }

    fn follows(&self, carrier: Carrier) -> bool {
        carrier == Carrier::Datagrams || !self.udp_only
    }
}

impl Roster for Protocols {
    type State = State;

    fn begin(&mut self, protocol: detect::Protocol, carrier: Carrier) -> Option<State> {
        use detect::Protocol as P;
        fn is_followed<T: Protocol>(mode: &Option<Mode<T>>, carrier: Carrier) -> bool {
            mode.as_ref().is_some_and(|mode| mode.follows(carrier))
        }
        match protocol {
            P::Dns if is_followed(&self.dns, carrier) => Some(State::Dns(Default::default())),
            P::Tls | P::Dtls | P::Quic if is_followed(&self.tls, carrier) => {
                Some(State::Tls(Box::default()))
            }
            P::Smtp if is_followed(&self.smtp, carrier) => Some(State::Smtp(None)),
            P::Imap if is_followed(&self.imap, carrier) => Some(State::Imap(None)),
            P::Pop3 if is_followed(&self.pop3, carrier) => Some(State::Pop3(None)),
            _ => None,
        }
    }

    fn is_one_exchange(&self, protocol: detect::Protocol) -> bool {
        use detect::Protocol::{Dtls, Imap, Pop3, Quic, Tls};
        matches!(protocol, Tls | Dtls | Quic | Imap | Pop3)
    }

    fn terms(&self, state: &State) -> Terms {
        let terms = match state {
            State::Dns(_) => self.dns.as_ref().map(Mode::terms),
            State::Tls(_) => self.tls.as_ref().map(Mode::terms),
            State::Smtp(_) => self.smtp.as_ref().map(Mode::terms),
            State::Imap(_) => self.imap.as_ref().map(Mode::terms),
            State::Pop3(_) => self.pop3.as_ref().map(Mode::terms),
        };
        terms.unwrap_or(Terms {
            policy: NoFilterPolicy::Deny,
            has_content_filter: false,
        })
    }

    fn datagram(
        &mut self,
        at: &At,
        state: &mut State,
        payload: &[u8],
        tell: &mut impl Tell,
    ) -> Course {
        match (state, self) {
            (State::Dns(state), Self { dns: Some(dns), .. }) => {
                dns.protocol.datagram(at, state, payload, tell)
            }
            (State::Tls(state), Self { tls: Some(tls), .. }) => {
                tls.protocol.datagram(at, state, payload, tell)
            }
            _ => Course::Foreign,
        }
    }

    fn stream(
        &mut self,
        at: &At,
        state: &mut State,
        event: Event<'_>,
        tell: &mut impl Tell,
    ) -> Course {
        match (state, self) {
            (State::Dns(state), Self { dns: Some(dns), .. }) => {
                dns.protocol.stream(at, state, event, tell)
            }
            (State::Tls(state), Self { tls: Some(tls), .. }) => {
                tls.protocol.stream(at, state, event, tell)
            }
            (
                State::Smtp(state),
                Self {
                    smtp: Some(smtp), ..
                },
            ) => smtp.protocol.stream(at, state, event, tell),
            (
                State::Imap(state),
                Self {
                    imap: Some(imap), ..
                },
            ) => imap.protocol.stream(at, state, event, tell),
            (
                State::Pop3(state),
                Self {
                    pop3: Some(pop3), ..
                },
            ) => pop3.protocol.stream(at, state, event, tell),
            _ => Course::Foreign,
        }
    }
}
