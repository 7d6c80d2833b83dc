//! What workers tell of calls, for steering: where they expect media.
//!
//! Each capture thread reads the workers' logs of calls by itself, between two batches, a bounded number of records and bytes at a time,
//! so that no worker can hold up capture by what it writes. A log that is damaged, or written faster than it is read, costs
//! detours of media, never packets.

use lc_daemon::calls_log::{CALL, media_endpoints};
use shm_layout::log::{LogError, LogReader};

use crate::steer::Steering;

/// Most records of one log that are read between two batches.
const MOST_RECORDS: usize = 64;
/// Most bytes of a record that are read. A call with its endpoints takes some hundreds.
const MOST_BYTES: usize = 4096;
/// Most endpoints of one record.
const MOST_ENDPOINTS: usize = 64;

/// Listens to the workers.
pub(crate) struct Listener {
    /// One per worker.
    logs: Vec<LogReader>,
    scratch: Vec<u8>,
}

impl Listener {
    /// Of the logs of all workers, in their order.
    pub(crate) fn new(logs: Vec<LogReader>) -> Self {
        let scratch = Vec::with_capacity(2 * MOST_BYTES);
        Self { logs, scratch }
    }

    /// Takes in what is new. Costs a load per worker if nothing is.
    pub(crate) fn listen(&mut self, steering: &mut Steering) {
        for (worker, log) in self.logs.iter_mut().enumerate() {
            if log.behind() {
                hear(log, &mut self.scratch, worker, steering);
            }
        }
    }
}

fn hear(log: &mut LogReader, scratch: &mut Vec<u8>, worker: usize, steering: &mut Steering) {
    for _ in 0..MOST_RECORDS {
        match log.next_within(MOST_BYTES, scratch) {
            Ok(Some(record)) if record.kind == CALL => {
                for (address, port) in media_endpoints(record.body).take(MOST_ENDPOINTS) {
                    steering.expect_media(address, port, worker);
                }
            }
            Ok(Some(_)) | Err(LogError::Overrun { .. }) => {}
            Ok(None) | Err(_) => return,
        }
    }
}
