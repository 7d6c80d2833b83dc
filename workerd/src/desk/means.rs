//! What a worker lends its desk.

use lc_daemon::attach::Peer;
use shm_layout::counters::WorkerCounter as Counter;
use shm_layout::log::LogWriter;
use shm_layout::packet::PacketHeader;
use shm_layout::region::{OwnedRegion, Region};
use shm_layout::ring::RingWriter;
use shm_layout::session::Session;
use shm_layout::worker::{InProgress, Worker, WorkerCommit};

use super::load::Load;
use crate::interfaces::InterfaceNames;
use crate::matcher::Judge;

/// See the [module](self).
pub struct Means<'a> {
    /// The filters in force.
    pub judge: Judge<'a>,
    /// Names of interfaces.
    pub interfaces: &'a mut InterfaceNames,
    /// Where they stand.
    pub session: &'a Region<Session>,
    /// Where the packet in hand is noted.
    pub worker: &'a OwnedRegion<Worker>,
    /// Where packets go.
    pub tx: &'a mut RingWriter,
    /// Where packets wait.
    pub held: &'a mut LogWriter,
    /// Where calls and sessions are told of.
    pub calls: &'a mut LogWriter,
    /// What other workers tell.
    pub peers: &'a mut [Peer],
    /// Counters.
    pub commit: &'a mut WorkerCommit,
    /// Bytes of the tx ring that signalling which nothing asked for leaves free; such media leave twice as much. 0: nothing is shed.
    pub kept_bytes: u64,
    /// How much there is to do, as the rx rings say.
    pub load: Load,
    /// Packets that the capture has lost so far, of any call.
    pub lost_by_capture: u64,
    /// The packet that killed predecessors.
    pub condemned: Option<InProgress>,
}

impl Means<'_> {
    /// How much there is to do, as the rings say.
    #[inline]
    pub fn load(&mut self) -> Load {
        Load::of_tx(self.tx, self.kept_bytes).max(self.load)
    }

    /// Counts what became of a packet, which `was_held` or not.
    pub fn count(&mut self, outcome: Counter, was_held: bool, header: &PacketHeader) {
        let commit = &mut *self.commit;
        commit.add(outcome, 1);
        if outcome == Counter::Forwarded {
            commit.add(Counter::ForwardedBytes, header.captured_len.into());
        }
        if was_held {
            let end = match outcome {
                Counter::Forwarded => Counter::HeldForwarded,
                _ => Counter::HeldReleased,
            };
            commit.add(end, 1);
        }
    }
}
