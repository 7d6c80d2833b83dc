//! The hunters on record: who registered, with what, and when each was last heard of.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lc_proto::management::{
    AvailableHunter, ConnectedHunter, HunterHeartbeat, HunterRegistration, HunterStats,
    HunterStatus,
};
use tonic::Status;

/// Hunters beyond which a new one is refused.
const MAX_HUNTERS: usize = 100;

/// Silence, by the hunter's own clock, after which it counts as being in error.
const STALE: Duration = Duration::from_secs(30);

/// Silence after which its record makes room for a new hunter.
const FORGOTTEN: Duration = Duration::from_secs(5 * 60);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<BTreeMap<String, Hunter>>);

#[derive(Debug)]
struct Hunter {
    registration: HunterRegistration,
    since: Instant,
    heard_ns: i64,
    status: HunterStatus,
    stats: Option<HunterStats>,
}

impl Registry {
    /// Puts a hunter on record; a known id is replaced.
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED if there are too many.
    pub(crate) fn register(&self, registration: HunterRegistration) -> Result<(), Status> {
        let mut hunters = self.hunters();
        if !hunters.contains_key(&registration.hunter_id) {
            hunters.retain(|_, hunter| hunter.silence() < FORGOTTEN);
            if hunters.len() >= MAX_HUNTERS {
                return Err(Status::resource_exhausted(format!(
                    "maximum number of hunters reached: limit {MAX_HUNTERS}"
                )));
            }
        }
        let id = registration.hunter_id.clone();
        let hunter = Hunter {
            registration,
            since: Instant::now(),
            heard_ns: now_ns(),
            status: HunterStatus::StatusHealthy,
            stats: None,
        };
        hunters.insert(id, hunter);
        Ok(())
    }

    /// What the hunter can be sent. Empty if it is unknown or did not say.
    pub(crate) fn filter_types(&self, hunter_id: &str) -> Vec<String> {
        let hunters = self.hunters();
        let capabilities = hunters
            .get(hunter_id)
            .and_then(|hunter| hunter.registration.capabilities.as_ref());
        capabilities
            .map(|capabilities| capabilities.filter_types.clone())
            .unwrap_or_default()
    }

    /// Notes a heartbeat. One of an unknown hunter changes nothing.
    pub(crate) fn heartbeat(&self, heartbeat: &HunterHeartbeat) {
        if let Some(hunter) = self.hunters().get_mut(&heartbeat.hunter_id) {
            hunter.heard_ns = heartbeat.timestamp_ns;
            hunter.status = heartbeat.status();
            if heartbeat.stats.is_some() {
                hunter.stats = heartbeat.stats;
            }
        }
    }

    /// Notes a batch: a sign of life like a heartbeat.
    pub(crate) fn batch(&self, hunter_id: &str, timestamp_ns: i64) {
        if let Some(hunter) = self.hunters().get_mut(hunter_id) {
            hunter.heard_ns = timestamp_ns;
        }
    }

    /// Number of hunters on record.
    pub(crate) fn len(&self) -> u32 {
        self.hunters().len() as u32
    }

    /// The state of one hunter, or of all if `hunter_id` is empty.
    pub(crate) fn connected(&self, hunter_id: &str) -> Vec<ConnectedHunter> {
        let hunters = self.hunters();
        let wanted = hunters
            .values()
            .filter(|hunter| hunter_id.is_empty() || hunter.registration.hunter_id == hunter_id);
        wanted
            .map(|hunter| ConnectedHunter {
                hunter_id: hunter.registration.hunter_id.clone(),
                hostname: hunter.registration.hostname.clone(),
                status: hunter.status().into(),
                connected_duration_sec: hunter.since.elapsed().as_secs(),
                last_heartbeat_ns: hunter.heard_ns,
                stats: hunter.stats,
                interfaces: hunter.registration.interfaces.clone(),
                capabilities: hunter.registration.capabilities.clone(),
                ..ConnectedHunter::default()
            })
            .collect()
    }

    /// All hunters, as a viewer sees them.
    pub(crate) fn available(&self) -> Vec<AvailableHunter> {
        let hunters = self.connected("").into_iter();
        hunters
            .map(|hunter| AvailableHunter {
                hunter_id: hunter.hunter_id,
                hostname: hunter.hostname,
                interfaces: hunter.interfaces,
                status: hunter.status,
                connected_duration_sec: hunter.connected_duration_sec,
                capabilities: hunter.capabilities,
                ..AvailableHunter::default()
            })
            .collect()
    }

    fn hunters(&self) -> MutexGuard<'_, BTreeMap<String, Hunter>> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Hunter {
    fn status(&self) -> HunterStatus {
        if self.silence() > STALE {
            HunterStatus::StatusError
        } else {
            self.status
        }
    }

    fn silence(&self) -> Duration {
        Duration::from_nanos(u64::try_from(now_ns().saturating_sub(self.heard_ns)).unwrap_or(0))
    }
}

fn now_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
