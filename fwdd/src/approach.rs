//! The way to a processor: its addresses, their exclusion from capture, connection, registration.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lc_proto::management::RegistrationResponse;
use shm_layout::counters::ForwardCounter;
use shm_layout::forwarder::{Endpoints, Forwarder, MAX_ENDPOINTS};
use shm_layout::region::OwnedRegion;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::calls::register;
use crate::causes::{causes, describe};
use crate::ledger::Ledger;
use crate::node::Node;
use crate::transport::{Link, Target, Transport};

/// For capture to exclude the processor's addresses, before the first byte goes there.
const EXCLUSION_PATIENCE: Duration = Duration::from_millis(500);

/// What an approach needs; shared by the session and by the tasks that look whether a better processor is back.
pub(crate) struct Approach {
    targets: Vec<Target>,
    /// The newest credentials.
    transport: watch::Receiver<Arc<Transport>>,
    node: Arc<Node>,
    region: Arc<OwnedRegion<Forwarder>>,
    ledger: Arc<Ledger>,
    /// Whether there is a capture that could see the node's own traffic.
    live: bool,
    /// Addresses that are excluded, the latest first.
    excluded: Mutex<Vec<SocketAddr>>,
}

/// A processor that takes this node.
pub(crate) struct Approached {
    /// Its place in the fail-over list.
    pub(crate) index: usize,
    pub(crate) link: Link,
    pub(crate) response: RegistrationResponse,
    /// [`Transport::revision`] of the credentials.
    pub(crate) credentials: u64,
}

impl Approach {
    pub(crate) fn new(
        targets: Vec<Target>,
        transport: watch::Receiver<Arc<Transport>>,
        node: Arc<Node>,
        region: Arc<OwnedRegion<Forwarder>>,
        ledger: Arc<Ledger>,
        live: bool,
    ) -> Self {
        let approach = Self {
            targets,
            transport,
            node,
            region,
            ledger,
            live,
            excluded: Mutex::default(),
        };
        // Names are resolved, and their addresses excluded, before anything goes there.
        let literals = approach.targets.iter().filter_map(Target::literal);
        approach.publish(&literals.collect::<Vec<_>>());
        approach
    }

    /// The fail-over list.
    pub(crate) fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Which credentials a new connection would have.
    pub(crate) fn credentials(&self) -> u64 {
        self.transport.borrow().revision()
    }

    /// Connects and registers. The error is for people.
    pub(crate) async fn reach(&self, index: usize) -> Result<Approached, String> {
        let target = &self.targets[index];
        self.ledger.count(ForwardCounter::ConnectionAttempts, 1);
        let transport = Arc::clone(&self.transport.borrow());
        let addresses = target.resolve().await.map_err(|e| causes(&e))?;
        self.exclude(&addresses).await;
        let mut link = transport
            .connect(target, &addresses)
            .await
            .map_err(|e| causes(&e))?;
        match self.register(&mut link, &transport).await {
            Ok(response) => Ok(Approached {
                index,
                link,
                response,
                credentials: transport.revision(),
            }),
            Err(reason) => {
                link.close().await;
                Err(reason)
            }
        }
    }

    /// Registers again on a connection that has waited for its turn: the filters may have changed meanwhile.
    pub(crate) async fn confirm(&self, mut waiting: Approached) -> Result<Approached, String> {
        let transport = Arc::clone(&self.transport.borrow());
        match self.register(&mut waiting.link, &transport).await {
            Ok(response) => Ok(Approached {
                response,
                ..waiting
            }),
            Err(reason) => {
                waiting.link.close().await;
                Err(reason)
            }
        }
    }

    async fn register(
        &self,
        link: &mut Link,
        transport: &Transport,
    ) -> Result<RegistrationResponse, String> {
        match register(link.calls(), &self.node).await {
            Ok(response) if response.accepted => Ok(response),
            Ok(response) => Err(format!(
                "the processor refused this node: {}",
                response.error
            )),
            Err(status) => {
                let reason = format!("registration: {}", describe(&status));
                // The connection knows better why it broke, such as a TLS alert.
                match timeout(Duration::from_millis(100), link.ended()).await {
                    Ok(cause) => Err(format!("{reason} ({cause}){}", transport.hint())),
                    Err(_) => Err(reason),
                }
            }
        }
    }

    /// Lets capture exclude the processor's addresses before anything goes there.
    async fn exclude(&self, addresses: &[SocketAddr]) {
        let revision = self.publish(addresses);
        if !self.live {
            return;
        }
        let excluded = async {
            while self.node.excluded_endpoints() < revision {
                sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout(EXCLUSION_PATIENCE, excluded).await.is_err() {
            tracing::debug!("capture has not excluded the processor's addresses in time");
        }
    }

    /// Adds addresses to those that are excluded; of too many, those are forgotten that were used longest ago. Gives
    /// the revision that holds them. The lock makes its callers one writer of the region's list.
    fn publish(&self, addresses: &[SocketAddr]) -> u64 {
        let mut excluded = self.excluded.lock().unwrap_or_else(PoisonError::into_inner);
        excluded.retain(|address| !addresses.contains(address));
        excluded.splice(..0, addresses.iter().copied());
        excluded.truncate(MAX_ENDPOINTS);
        let mut addresses = excluded.clone();
        addresses.sort_unstable();
        addresses.dedup();
        let known = self.region.endpoints().unwrap_or_default();
        if known.addresses == addresses {
            return known.revision;
        }
        let revision = known.revision + 1;
        self.region.set_endpoints(&Endpoints {
            revision,
            addresses,
        });
        revision
    }
}
