//! How far a flow is in its life, and how long it may be silent.

use std::time::Duration;

use super::clock::ticks;

/// What a packet says of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Signal {
    /// Nothing.
    #[default]
    None,
    /// The first packet of a connection: TCP SYN without ACK.
    Open,
    /// The answer to it: TCP SYN with ACK.
    Accept,
    /// The last packet of its sender: TCP FIN.
    Finish,
    /// The end of both directions: TCP RST, or SCTP ABORT.
    Abort,
}

impl Signal {
    /// Of the flags of a TCP header: the byte at offset 13 (RFC 9293, section 3.1).
    #[must_use]
    #[inline]
    pub fn of_tcp_flags(flags: u8) -> Self {
        const FIN: u8 = 1;
        const SYN: u8 = 2;
        const RST: u8 = 4;
        const ACK: u8 = 16;
        match flags {
            _ if flags & (FIN | SYN | RST) == 0 => Self::None,
            _ if flags & RST != 0 => Self::Abort,
            _ if flags & SYN == 0 => Self::Finish,
            _ if flags & ACK != 0 => Self::Accept,
            _ => Self::Open,
        }
    }
}

/// Which way a packet goes. The initiator is the sender of the first packet that was seen; if that is an [`Signal::Accept`], its
/// receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the initiator.
    Request,
    /// To the initiator.
    Response,
}

impl Direction {
    /// The other way.
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::Request => Self::Response,
            Self::Response => Self::Request,
        }
    }
}

/// What is known of a flow's life, in a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Life(u8);

impl Life {
    /// The initiator is the second endpoint of the key.
    const SECOND_BEGAN: u8 = 1;
    const ANSWERED: u8 = 2;
    const REQUEST_FINISHED: u8 = 4;
    const RESPONSE_FINISHED: u8 = 8;
    const FINISHED: u8 = Self::REQUEST_FINISHED | Self::RESPONSE_FINISHED;

    /// The life of a flow whose first packet goes from the first endpoint (`forward`) or the second. [`Life::see`] is yet to take it in.
    #[inline]
    pub(super) fn begin(forward: bool, signal: Signal) -> Self {
        let first_began = forward != (signal == Signal::Accept);
        Self(u8::from(!first_began))
    }

    /// Takes in a packet, the first one too.
    #[inline]
    pub(super) fn see(&mut self, forward: bool, signal: Signal) -> Direction {
        let direction = match forward == (self.0 & Self::SECOND_BEGAN == 0) {
            true => Direction::Request,
            false => Direction::Response,
        };
        if direction == Direction::Response {
            self.0 |= Self::ANSWERED;
        }
        match signal {
            Signal::None | Signal::Open | Signal::Accept => {}
            Signal::Finish if direction == Direction::Request => self.0 |= Self::REQUEST_FINISHED,
            Signal::Finish => self.0 |= Self::RESPONSE_FINISHED,
            Signal::Abort => self.0 |= Self::FINISHED,
        }
        direction
    }

    /// Whether both sides have ended it.
    #[inline]
    pub(super) fn is_over(self) -> bool {
        self.0 & Self::FINISHED == Self::FINISHED
    }

    /// The column of [`Patience`].
    #[inline]
    fn phase(self) -> usize {
        match self.is_over() {
            true => OVER,
            false => usize::from(self.0 & Self::ANSWERED != 0),
        }
    }
}

/// How long a flow may be silent before it is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Of any transport, while only one side has been heard: scans, floods, and flows whose other direction goes elsewhere.
    pub unanswered: Duration,
    /// TCP and SCTP. Shorter than a NAT's 124 minutes (RFC 5382, REQ-5): to forget costs less here.
    pub connection: Duration,
    /// UDP. Five minutes, as RFC 4787 recommends in REQ-5.
    pub datagrams: Duration,
    /// ICMP. A minute, as RFC 5508 demands in REQ-2.
    pub icmp: Duration,
    /// Of any transport, when both sides have ended it: late packets still find it.
    pub over: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            unanswered: Duration::from_secs(60),
            connection: Duration::from_secs(1_800),
            datagrams: Duration::from_secs(300),
            icmp: Duration::from_secs(60),
            over: Duration::from_secs(10),
        }
    }
}

const OVER: usize = 2;

/// [`Timeouts`] in ticks, by transport and phase: unanswered, answered, over, and one that pads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience([[u32; 4]; 5]);

impl Patience {
    pub(super) fn new(timeouts: &Timeouts) -> Self {
        let [unanswered, connection, datagrams, icmp, over] = [
            timeouts.unanswered,
            timeouts.connection,
            timeouts.datagrams,
            timeouts.icmp,
            timeouts.over,
        ]
        .map(ticks);
        let row = |answered: u32| [unanswered.min(answered), answered, over, over];
        // In the order of `Transport`.
        Self([connection, datagrams, connection, icmp, icmp].map(row))
    }

    #[inline]
    pub(super) fn of(&self, transport: u8, life: Life) -> u32 {
        // A probe holds one of five transports; the bound keeps the panic out.
        let row = usize::from(transport).min(self.0.len() - 1);
        self.0[row][life.phase()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Transport;

    const UNANSWERED: u32 = 894;

    fn silence(transport: Transport, packets: &[(bool, Signal)]) -> u32 {
        let mut life = Life::begin(packets[0].0, packets[0].1);
        for (forward, signal) in packets {
            life.see(*forward, *signal);
        }
        Patience::new(&Timeouts::default()).of(transport as u8, life)
    }

    #[test]
    fn flags_become_signals() {
        let cases = [
            (0x10, Signal::None),
            (0x18, Signal::None),
            (0x02, Signal::Open),
            (0xc2, Signal::Open),
            (0x12, Signal::Accept),
            (0x11, Signal::Finish),
            (0x01, Signal::Finish),
            (0x04, Signal::Abort),
            (0x14, Signal::Abort),
            // What no honest sender sends.
            (0xff, Signal::Abort),
            (0x03, Signal::Open),
        ];
        for (flags, signal) in cases {
            assert_eq!(Signal::of_tcp_flags(flags), signal, "{flags:#x}");
        }
    }

    #[test]
    fn who_accepts_did_not_begin() {
        for forward in [true, false] {
            let mut life = Life::begin(forward, Signal::Accept);
            assert_eq!(life.see(forward, Signal::None), Direction::Response);
            assert_eq!(life.see(!forward, Signal::None), Direction::Request);
            let mut life = Life::begin(forward, Signal::Open);
            assert_eq!(life.see(forward, Signal::None), Direction::Request);
            assert_eq!(life.see(!forward, Signal::Accept), Direction::Response);
        }
    }

    #[test]
    fn each_transport_has_its_patience() {
        let one_way = [(true, Signal::None); 3];
        let both_ways = [(true, Signal::None), (false, Signal::None)];
        let transports = [
            (Transport::Tcp, UNANSWERED, 26_822),
            (Transport::Udp, UNANSWERED, 4_470),
            (Transport::Sctp, UNANSWERED, 26_822),
            (Transport::Icmp, UNANSWERED, UNANSWERED),
            (Transport::IcmpV6, UNANSWERED, UNANSWERED),
        ];
        for (transport, unanswered, answered) in transports {
            assert_eq!(silence(transport, &one_way), unanswered);
            assert_eq!(silence(transport, &both_ways), answered);
        }
    }

    #[test]
    fn a_connection_is_over_after_a_reset_or_two_finishes() {
        const OVER_TICKS: u32 = 149;
        use Signal::{Abort, Accept, Finish, None, Open};
        let tcp = |packets: &[(bool, Signal)]| silence(Transport::Tcp, packets);
        let open = [(true, Open), (false, Accept)];
        let half = [open.as_slice(), &[(true, Finish), (true, Finish)]].concat();
        assert_eq!(tcp(&open), 26_822);
        assert_eq!(tcp(&half), 26_822);
        let whole = [half.as_slice(), &[(false, Finish), (true, None)]].concat();
        assert_eq!(tcp(&whole), OVER_TICKS);
        assert_eq!(tcp(&[(true, Open), (false, Abort)]), OVER_TICKS);
    }
}
