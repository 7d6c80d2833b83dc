//! The protocols of a node's modes.

use lc_daemon::config::{self, Config, NoFilterPolicy, TlsFlow};
use lc_daemon::key_log::Entry;

use super::roster::{Carrier, Roster, Terms};
use super::tracker::{At, Cited, Course, Place, Protocol, Tell};
use crate::detect;
use crate::dns::Dns;
use crate::email::imap::Imap;
use crate::email::pop3::Pop3;
use crate::email::smtp::Smtp;
use crate::http::Http;
use crate::reassembly::Event;
use crate::tls::inside::Inside;
use crate::tls::tracker::{Extent, Tls};

/// HTTP within TLS.
pub type Https = Inside<Http>;

/// A protocol as its mode has it.
pub struct Mode<P> {
    /// The protocol.
    pub protocol: P,
    /// What becomes of its exchanges while no filter is in force.
    pub policy: NoFilterPolicy,
    /// Whether only its datagrams are followed.
    pub udp_only: bool,
}

impl<P: Protocol> Mode<P> {
    fn terms(&self) -> Terms {
        Terms {
            policy: self.policy,
            has_content_filter: self.protocol.has_content_filter(),
        }
    }

    fn begin(&self, carrier: Carrier) -> Option<P::State> {
        let is_followed = carrier == Carrier::Datagrams || !self.udp_only;
        is_followed.then(P::State::default)
    }
}

/// Declares [`Protocols`] and [`State`], and asks each session's own.
macro_rules! protocols {
    ($($(#[$doc:meta])* $field:ident: $protocol:ident, $($detected:ident)|+;)*) => {
        /// Those that are followed. The default follows none.
        #[derive(Default)]
        pub struct Protocols {
            $($(#[$doc])* pub $field: Option<Mode<$protocol>>,)*
        }

        /// What the protocol of a session remembers.
        pub enum State {
            $($(#[$doc])* $protocol(<$protocol as Protocol>::State),)*
        }

        impl Roster for Protocols {
            type State = State;

            fn begin(&mut self, protocol: detect::Protocol, carrier: Carrier) -> Option<State> {
                $(if matches!(protocol, $(detect::Protocol::$detected)|+)
                    && let Some(mode) = &self.$field
                {
                    return mode.begin(carrier).map(State::$protocol);
                })*
                None
            }

            fn is_one_exchange(&self, protocol: detect::Protocol) -> bool {
                use detect::Protocol::{Dtls, Imap, Pop3, Quic, Tls};
                match protocol {
                    Tls => self.https.is_none(),
                    _ => matches!(protocol, Dtls | Quic | Imap | Pop3),
                }
            }

            fn terms(&self, state: &State) -> Terms {
                let terms = match state {
                    $(State::$protocol(_) => self.$field.as_ref().map(Mode::terms),)*
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
                    $((State::$protocol(state), Self { $field: Some(mode), .. }) => {
                        mode.protocol.datagram(at, state, payload, tell)
                    })*
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
                    $((State::$protocol(state), Self { $field: Some(mode), .. }) => {
                        mode.protocol.stream(at, state, event, tell)
                    })*
                    _ => Course::Foreign,
                }
            }

            fn place(&self, state: &State, cited: &mut Cited) -> Option<Place> {
                match state {
                    $(State::$protocol(state) => {
                        self.$field.as_ref()?.protocol.place(state, cited)
                    })*
                }
            }

            fn steps(&self, state: &State) -> u64 {
                let steps = match state {
                    $(State::$protocol(state) => {
                        self.$field.as_ref().map(|mode| mode.protocol.steps(state))
                    })*
                };
                steps.unwrap_or(0)
            }

            fn resume(&self, state: &mut State, place: &[u8], cited: &Cited) {
                match state {
                    $(State::$protocol(state) => if let Some(mode) = &self.$field {
                        *state = mode.protocol.resume(place, cited);
                    })*
                }
            }

            fn can_go_on(&self, state: &State) -> bool {
                match (state, self) {
                    $((State::$protocol(state), Self { $field: Some(mode), .. }) => {
                        mode.protocol.can_go_on(state)
                    })*
                    _ => true,
                }
            }

            fn go_on(&mut self, at: &At, state: &mut State, tell: &mut impl Tell) -> Course {
                match (state, self) {
                    $((State::$protocol(state), Self { $field: Some(mode), .. }) => {
                        mode.protocol.go_on(at, state, tell)
                    })*
                    _ => Course::Foreign,
                }
            }

            fn learn(&mut self, entry: &Entry, now_ns: u64) {
                if let Some(https) = &mut self.https {
                    https.protocol.learn(entry, now_ns);
                }
            }
        }
    };
}

protocols! {
    /// DNS, mDNS, LLMNR.
    dns: Dns, Dns;
    /// HTTP/1, with what leads to WebSocket, and HTTP/2.
    http: Http, Http | Http2 | Grpc | WebSocket;
    /// HTTP within TLS, where secrets of it are known.
    https: Https, Tls;
    /// SMTP.
    smtp: Smtp, Smtp;
    /// IMAP.
    imap: Imap, Imap;
    /// POP3.
    pop3: Pop3, Pop3;
    /// TLS, DTLS, QUIC; and what may lead to TLS, where nobody else follows it.
    tls: Tls, Tls | Dtls | Quic | Http | Smtp | Imap | Pop3 | Ftp | Ldap | MySql | PostgreSql | Rdp;
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
            http: has(config::Mode::Http).then(|| Mode {
                protocol: Http::new(&config.http),
                policy: config.modes.policy(config::Mode::Http),
                udp_only: false,
            }),
            https: config.http.key_log.is_some().then(|| Mode {
                protocol: Inside::new(Http::new(&config.http)),
                policy: config.modes.policy(config::Mode::Http),
                udp_only: false,
            }),
            tls: has(config::Mode::Tls).then(|| Mode {
                protocol: Tls::new(match config.tls.flow {
                    TlsFlow::Full => Extent::Full,
                    TlsFlow::Handshake => Extent::Handshake,
                }),
                policy: config.modes.policy(config::Mode::Tls),
                udp_only: false,
            }),
            smtp: (has_mail && mail.smtp).then(|| Mode {
                protocol: Smtp::new(&config.email),
                policy: mail_policy,
                udp_only: false,
            }),
            imap: (has_mail && mail.imap).then(|| Mode {
                protocol: Imap::new(&config.email),
                policy: mail_policy,
                udp_only: false,
            }),
            pop3: (has_mail && mail.pop3).then(|| Mode {
                protocol: Pop3::new(&config.email),
                policy: mail_policy,
                udp_only: false,
            }),
        }
    }
}
