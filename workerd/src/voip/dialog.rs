//! The life of a call, as its SIP messages tell it: by dialog, not by one message.
//!
//! ```text
//!              INVITE            1xx              2xx, ACK within a dialog
//!   (nothing) -------> Setup ----------> Setup ---------------------------> Established
//!       |                |  3xx to 6xx, CANCEL                                   |  BYE in its last dialog
//!       | others         +----------------------------> Over <------------------+
//!       v                                                 |  INVITE: tried again (with credentials, at another place)
//!   Transaction                                           +--> Setup
//! ```
//!
//! A call that forks has a dialog for each place that answers (RFC 3261 section 12); it is over when all that were confirmed have ended. A
//! failure of a re-INVITE leaves the call alone, but for 408 and 481, which end the dialog (RFC 3261 section 14.1). Messages may be missing and
//! come in any order: what shows that a dialog exists is believed.

use super::signal::{DialogId, Method, Signal, Start};

/// Most dialogs of a call that are told apart; more are taken as one.
const MOST_DIALOGS: usize = 16;

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum State {
    /// Requests and responses outside of a call.
    #[default]
    Transaction = 0,
    /// Asked for, not answered.
    Setup = 1,
    /// Answered.
    Established = 2,
    /// Ended, refused or given up; what is still on its way belongs to it.
    Over = 3,
    /// Media whose signalling was not seen.
    MediaOnly = 4,
}

impl State {
    /// All states.
    pub const ALL: [Self; 5] = [
        Self::Transaction,
        Self::Setup,
        Self::Established,
        Self::Over,
        Self::MediaOnly,
    ];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Early,
    Confirmed,
    Ended,
}

/// The dialogs of a call.
#[derive(Debug, Default)]
pub struct Dialogs {
    state: State,
    known: Vec<(DialogId, Phase)>,
}

impl Dialogs {
    /// Those of a call that is known from elsewhere to have come to `state`.
    #[must_use]
    pub fn at(state: State) -> Self {
        Self {
            state,
            known: Vec::new(),
        }
    }

    /// The call has come to `state` elsewhere. It never goes back.
    pub fn advance(&mut self, state: State) {
        let is_later = match (self.state, state) {
            (State::Over, _) | (_, State::Transaction | State::MediaOnly) => false,
            (State::Established, state) => state == State::Over,
            (_, State::Setup | State::Established | State::Over) => true,
        };
        if is_later {
            self.state = state;
        }
    }

    /// The call is over elsewhere, where packets may have come further than here: its media may be yet to come, but it is not expected to last.
    pub fn wind_down(&mut self) {
        if self.state == State::Established && self.known.is_empty() {
            self.state = State::Setup;
        }
    }

    /// How far the call has come.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Bytes of memory beside the value itself.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.known.capacity() * size_of::<(DialogId, Phase)>()
    }

    /// Takes note of a message. True if it is the last word on a request that began the call or transaction: nothing more will tell who takes
    /// part.
    pub fn observe(&mut self, signal: &Signal) -> bool {
        let Signal { start, dialog } = *signal;
        match start {
            Start::Request(Method::Invite) => {
                match dialog {
                    None if self.state != State::Established => self.state = State::Setup,
                    None => {}
                    Some(dialog) => self.confirm(dialog),
                }
                false
            }
            Start::Request(Method::Ack) => {
                // After a refusal it belongs to the refusal.
                if let (Some(dialog), State::Setup | State::Transaction | State::MediaOnly) =
                    (dialog, self.state)
                {
                    self.confirm(dialog);
                }
                self.state == State::Established
            }
            Start::Request(Method::Bye) => {
                self.end(dialog);
                true
            }
            Start::Request(Method::Cancel) => {
                if self.state == State::Setup {
                    self.state = State::Over;
                }
                false
            }
            Start::Request(Method::WithinCall) => {
                if let (Some(_), State::Transaction | State::MediaOnly) = (dialog, self.state) {
                    self.state = State::Established;
                }
                false
            }
            Start::Request(Method::Alone) => {
                if self.state == State::MediaOnly {
                    self.state = State::Transaction;
                }
                false
            }
            Start::Response(code, Method::Invite) => self.answer(code, dialog),
            Start::Response(code, Method::Bye) => {
                if code >= 200 && self.state == State::Transaction {
                    self.state = State::Over;
                }
                code >= 200
            }
            Start::Response(code, _) => code >= 200 && self.state == State::Transaction,
        }
    }

    fn answer(&mut self, code: u16, dialog: Option<DialogId>) -> bool {
        match (code, dialog) {
            (..200, _) => {
                if !matches!(self.state, State::Established | State::Over) {
                    self.state = State::Setup;
                }
                if let Some(dialog) = dialog {
                    self.note(dialog, Phase::Early);
                }
                false
            }
            (200..300, Some(dialog)) => {
                self.confirm(dialog);
                true
            }
            (200..300, None) => {
                self.state = State::Established;
                true
            }
            (408 | 481, Some(dialog)) if self.phase(dialog) == Some(Phase::Confirmed) => {
                self.end(Some(dialog));
                true
            }
            _ => {
                if self.known.iter().all(|(_, phase)| *phase == Phase::Early) {
                    self.state = State::Over;
                }
                true
            }
        }
    }

    fn confirm(&mut self, dialog: DialogId) {
        // A repeated 2xx or ACK does not bring back what a BYE has ended.
        if self.phase(dialog) != Some(Phase::Ended) {
            self.note(dialog, Phase::Confirmed);
            self.state = State::Established;
        }
    }

    fn end(&mut self, dialog: Option<DialogId>) {
        if let Some(dialog) = dialog {
            self.note(dialog, Phase::Ended);
        }
        let lives = |(_, phase): &(DialogId, Phase)| *phase == Phase::Confirmed;
        if dialog.is_none() || !self.known.iter().any(lives) {
            self.state = State::Over;
        }
    }

    fn phase(&self, dialog: DialogId) -> Option<Phase> {
        let known = self.known.iter().find(|(known, _)| *known == dialog);
        known.map(|(_, phase)| *phase)
    }

    fn note(&mut self, dialog: DialogId, phase: Phase) {
        match self.known.iter_mut().find(|(known, _)| *known == dialog) {
            Some((_, known)) if phase != Phase::Early => *known = phase,
            Some(_) => {}
            None => {
                if self.known.len() < MOST_DIALOGS {
                    self.known.push((dialog, phase));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::signal::Tags;
    use super::*;

    /// What a line of a conversation is: `INVITE`, `200 INVITE`, with the callee's tag behind it.
    fn states(lines: &[&str]) -> Vec<State> {
        let tags = Tags::default();
        let mut dialogs = Dialogs::default();
        let read = |line: &&str| {
            let mut words = line.split(' ').peekable();
            let code = words.next_if(|word| word.parse::<u16>().is_ok());
            let method = match words.next().unwrap() {
                "INVITE" => Method::Invite,
                "ACK" => Method::Ack,
                "BYE" => Method::Bye,
                "CANCEL" => Method::Cancel,
                "UPDATE" | "PRACK" => Method::WithinCall,
                _ => Method::Alone,
            };
            let start = match code {
                Some(code) => Start::Response(code.parse().unwrap(), method),
                None => Start::Request(method),
            };
            let dialog = tags.dialog(b"caller", words.next().unwrap_or_default().as_bytes());
            dialogs.observe(&Signal { start, dialog });
            dialogs.state()
        };
        lines.iter().map(read).collect()
    }

    #[test]
    fn calls_go_through_their_states() {
        use State::{Established, Over, Setup, Transaction};
        let conversations: &[(&str, &[&str], &[State])] = &[
            (
                "a call",
                &[
                    "INVITE",
                    "180 INVITE a",
                    "200 INVITE a",
                    "ACK a",
                    "BYE a",
                    "200 BYE a",
                ],
                &[Setup, Setup, Established, Established, Over, Over],
            ),
            (
                "credentials are asked for",
                &["INVITE", "407 INVITE x", "ACK x", "INVITE", "200 INVITE a"],
                &[Setup, Over, Over, Setup, Established],
            ),
            (
                "two places answer, and one is dropped",
                &["INVITE", "200 INVITE a", "200 INVITE b", "BYE b", "BYE a"],
                &[Setup, Established, Established, Established, Over],
            ),
            (
                "given up",
                &[
                    "INVITE",
                    "180 INVITE a",
                    "CANCEL",
                    "200 CANCEL",
                    "487 INVITE a",
                    "ACK a",
                ],
                &[Setup, Setup, Over, Over, Over, Over],
            ),
            (
                "given up too late",
                &["INVITE", "CANCEL", "200 INVITE a", "ACK a", "BYE a"],
                &[Setup, Over, Established, Established, Over],
            ),
            (
                "one branch of a fork is busy",
                &["INVITE", "183 INVITE a", "486 INVITE b", "200 INVITE a"],
                &[Setup, Setup, Over, Established],
            ),
            (
                "a re-INVITE that fails leaves the call",
                &[
                    "INVITE",
                    "200 INVITE a",
                    "INVITE a",
                    "488 INVITE a",
                    "BYE a",
                ],
                &[Setup, Established, Established, Established, Over],
            ),
            (
                "a re-INVITE that finds nobody ends it",
                &["INVITE", "200 INVITE a", "INVITE a", "481 INVITE a"],
                &[Setup, Established, Established, Over],
            ),
            (
                "seen from its middle",
                &["UPDATE a", "200 UPDATE a", "BYE a"],
                &[Established, Established, Over],
            ),
            (
                "a response that is repeated after the end",
                &["INVITE", "200 INVITE a", "BYE a", "200 INVITE a", "ACK a"],
                &[Setup, Established, Over, Over, Over],
            ),
            (
                "outside of calls",
                &["REGISTER", "401 REGISTER x", "REGISTER", "200 REGISTER x"],
                &[Transaction; 4],
            ),
        ];
        for (name, lines, expected) in conversations {
            assert_eq!(states(lines), *expected, "{name}");
        }
    }

    #[test]
    fn a_final_response_is_the_last_word() {
        let mut dialogs = Dialogs::default();
        let mut observe = |start| {
            dialogs.observe(&Signal {
                start,
                dialog: None,
            })
        };
        assert!(!observe(Start::Request(Method::Invite)));
        assert!(!observe(Start::Response(180, Method::Invite)));
        assert!(observe(Start::Response(200, Method::Invite)));
        let mut dialogs = Dialogs::default();
        let mut observe = |start| {
            dialogs.observe(&Signal {
                start,
                dialog: None,
            })
        };
        assert!(!observe(Start::Request(Method::Alone)));
        assert!(!observe(Start::Response(100, Method::Alone)));
        assert!(observe(Start::Response(202, Method::Alone)));
    }

    #[test]
    fn many_dialogs_take_bounded_memory() {
        let tags = Tags::default();
        let mut dialogs = Dialogs::default();
        for n in 0..10_000u32 {
            let dialog = tags.dialog(b"x", &n.to_be_bytes());
            let start = Start::Response(180, Method::Invite);
            dialogs.observe(&Signal { start, dialog });
        }
        assert_eq!(dialogs.known.len(), MOST_DIALOGS);
    }
}
