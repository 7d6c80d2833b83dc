//! lc-fwdd: the session with the processor.
//!
//! It takes the workers' wire-ready packets out of the tx rings, sends them in batches, and releases them when the
//! processor has acknowledged them. It brings the processor's filters to the other processes. It parses no packet.
//!
//! ```text
//!   tx rings --> collector --batches--> session --copies of the bytes--> processor
//!      ^                                   |   <-----acknowledgements---
//!      +------ release <-- commit <--------+
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `collector` | reads the rings and forms batches; a thread that sleeps on the rings |
//! | `batch` | positions of packets in the rings, and how they are written to the wire |
//! | `session` | connections, one after the other, and everything that goes over them |
//! | `calls` | the gRPC calls of one connection |
//! | `window`, `flow`, `backoff`, `clock` | the session's rules: acknowledgements, flow control, waiting times, a clock that was set |
//! | `transport` | TCP, TLS 1.3, HTTP/2 |
//! | `filters` | the processor's filters, published as snapshots |
//! | `node` | status and statistics of the whole node |
//! | `ledger` | counters and redo log in shared memory |
//! | [`overflow`] | packets that wait on disk |
//!
//! What it guarantees: a packet that a worker has put into its tx ring reaches the processor at least once, in the
//! order of its ring, as long as the shared memory lives; this process may end at any instruction. Twice only when an
//! acknowledgement was lost. What can't be sent is counted.

#![forbid(unsafe_code)]

mod backoff;
mod batch;
mod bell;
mod calls;
mod clock;
mod collector;
mod filters;
mod flow;
mod ledger;
mod node;
pub mod overflow;
mod session;
mod shutdown;
mod transport;
mod window;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lc_daemon::attach::{AttachError, ForwarderRegions};
use lc_daemon::config::Config;
use lc_daemon::sandbox;
use shm_layout::commit::Torn;
use shm_layout::region::RegionError;
use shm_layout::ring::RingReader;
use tokio::sync::{mpsc, watch};

pub use transport::TransportError;

use batch::Origin;
use bell::Bell;
use collector::{Collector, Limits, Orders};
use filters::{Filters, Publisher};
use ledger::Ledger;
use node::Node;
use session::{Session, Strikes};
use shutdown::Shutdown;
use transport::Transport;
use window::{Most, Window};

/// Most bytes in flight to the processor.
const IN_FLIGHT_BYTES: u64 = 64 << 20;
/// Longest wait between two attempts to attach.
const ATTACH_LONGEST: Duration = Duration::from_secs(1);

/// Why the forwarder does not work, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum ForwarderError {
    /// The settings of the connection can't be used. A new start would not help.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// capd handed out nothing that can be used.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// A region of this process' own can't be made.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// The forwarder's region is being written by another process.
    #[error("the forwarder's region is in use by another lc-fwdd: {0}")]
    InUse(#[from] Torn),
    /// The system gives no threads, or no event queue.
    #[error("cannot start working: {0}")]
    System(#[from] io::Error),
    /// capd has started anew with other shared memory; everything in the old one was delivered, as far as it could be.
    #[error("lc-capd has started anew; attaching to its shared memory takes a new start")]
    AnotherCapd,
}

/// What is left at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Batches that the processor has not acknowledged. Their packets are still in the tx rings.
    pub unacked_batches: usize,
    /// Packets in those.
    pub unacked_packets: usize,
}

/// Forwards until `stop` becomes true, then delivers what is there, within the configured time. `ready` is called once,
/// when everything is attached.
///
/// # Errors
///
/// See [`ForwarderError`].
pub fn run(
    config: Config,
    stop: watch::Receiver<bool>,
    ready: impl FnOnce(),
) -> Result<Summary, ForwarderError> {
    let config = Arc::new(config);
    let transport = Transport::new(&config)?;
    let Some(regions) = attach(&config, &stop)? else {
        return Ok(Summary {
            unacked_batches: 0,
            unacked_packets: 0,
        });
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let shutdown = Shutdown::new(config.shutdown_timeout);
    let (session, collector) = assemble(config, transport, regions, &shutdown)?;
    let collector = thread::Builder::new()
        .name("collector".to_owned())
        .spawn(|| collector.run())?;
    ready();
    let (unacked_batches, unacked_packets) = runtime.block_on(async {
        tokio::spawn(pass_on(stop, shutdown.clone()));
        session.run().await
    });
    let _ = collector.join();
    if shutdown.is_another_capd() {
        return Err(ForwarderError::AnotherCapd);
    }
    Ok(Summary {
        unacked_batches,
        unacked_packets,
    })
}

/// Waits for capd; `None` when told to stop before it was there.
fn attach(
    config: &Config,
    stop: &watch::Receiver<bool>,
) -> Result<Option<ForwarderRegions>, ForwarderError> {
    let mut delay = Duration::from_millis(10);
    let mut said = false;
    while !*stop.borrow() {
        match ForwarderRegions::attach(&config.runtime_dir) {
            Ok(regions) => return Ok(Some(regions)),
            Err(error @ (AttachError::Socket { .. } | AttachError::Silent { .. })) => {
                if !std::mem::replace(&mut said, true) {
                    lc_daemon::ready::status("waiting for lc-capd");
                    tracing::info!(%error, "waiting for lc-capd");
                }
            }
            Err(error) => return Err(error.into()),
        }
        thread::sleep(delay);
        delay = (2 * delay).min(ATTACH_LONGEST);
    }
    Ok(None)
}

/// Ties the parts together, and starts the thread that publishes filters.
fn assemble(
    config: Arc<Config>,
    transport: Transport,
    regions: ForwarderRegions,
    shutdown: &Shutdown,
) -> Result<(Session, Collector), ForwarderError> {
    let ForwarderRegions {
        session,
        geometry,
        forwarder,
        workers,
        tx,
        broker,
    } = regions;
    forwarder.set_protection(sandbox::in_force());
    let (session, region) = (Arc::new(session), Arc::new(forwarder));
    let ledger = Arc::new(Ledger::resume(Arc::clone(&region))?);
    let filters = Arc::new(Filters::default());
    let publisher = Publisher {
        filters: Arc::clone(&filters),
        run_dir: config.runtime_dir.clone(),
        broker,
        session: Arc::clone(&session),
        region: Arc::clone(&region),
        shutdown: shutdown.clone(),
    };
    thread::Builder::new()
        .name("filters".to_owned())
        .spawn(|| publisher.run())?;
    let node = Arc::new(Node::new(
        Arc::clone(&config),
        session,
        geometry,
        workers,
        Arc::clone(&region),
        Arc::clone(&ledger),
    ));
    let (bell, heard) = Bell::new()?;
    let (queue, batches) = mpsc::channel(collector::QUEUE);
    let orders = Arc::new(Orders::new(tx.len()));
    let origin = Arc::new(Origin {
        hunter_id: config.hunter_id.clone(),
        rings: tx.iter().map(RingReader::view).collect(),
        ledger: Arc::clone(&ledger),
    });
    let limits = Limits {
        packets: config.batch_size.max(1),
        age: config.batch_timeout,
    };
    let collector = Collector::new(
        tx,
        heard,
        Arc::clone(&orders),
        limits,
        queue,
        Arc::clone(&region),
        Arc::clone(&ledger),
    );
    // What is in flight stays in the rings: it needs no room of its own.
    let rings = u64::from(geometry.workers) * geometry.tx_bytes;
    let most = Most {
        batches: config.queue_batches.max(1),
        bytes: rings.min(IN_FLIGHT_BYTES) as usize,
    };
    let session = Session {
        config,
        transport,
        node,
        region,
        ledger,
        filters,
        origin,
        window: Window::new(most),
        batches,
        drained: false,
        flushing: false,
        orders,
        bell,
        shutdown: shutdown.clone(),
        strikes: Strikes::default(),
    };
    Ok((session, collector))
}

/// Begins the shutdown when `stop` says so, or when nobody can say so any more.
async fn pass_on(mut stop: watch::Receiver<bool>, shutdown: Shutdown) {
    let _ = stop.wait_for(|stop| *stop).await;
    shutdown.begin();
}
