//! lc-fwdd: the session with the processor.
//!
//! It takes the workers' wire-ready packets out of the tx rings, sends them in batches, and releases them when the
//! processor has acknowledged them. It brings the processor's filters to the other processes. It parses no packet.
//!
//! ```text
//!   tx rings --> collector --batches--> outbox --> session --copies of the bytes--> processor
//!      ^                                | ^  |          <-----acknowledgements---
//!      +------ release <-- commit <-----+ |  |
//!                                     disk buffer
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `collector` | reads the rings and forms batches; a thread that sleeps on the rings |
//! | `batch` | positions of packets in the rings, and how they are written to the wire |
//! | `outbox` | what is to be sent, in order, and whether it waits in the rings or on disk |
//! | `disk_buffer`, [`overflow`] | packets that wait on disk: tied to the ledger, and the store itself |
//! | `session` | connections, one after the other, and everything that goes over them |
//! | `calls` | the gRPC calls of one connection |
//! | `window`, `flow`, `clock` | the session's rules: acknowledgements, flow control, a clock that was set |
//! | `processors`, `breaker`, `outage` | which processor to use, when to try it, and when to say that it fails |
//! | `approach`, `transport` | the way to a processor: addresses, TCP, TLS 1.3, HTTP/2, registration |
//! | `credentials`, `reload` | certificates and keys, read at the start and when they change |
//! | `causes` | errors as text |
//! | `filters` | the processor's filters, published as snapshots |
//! | `node` | status and statistics of the whole node |
//! | `ledger` | counters and redo log in shared memory |
//!
//! What it guarantees: a packet that a worker has put into its tx ring reaches the processor at least once, in the
//! order of its ring, as long as the shared memory lives, or the disk for what is there; this process may end at any instruction. Twice only when an
//! acknowledgement was lost. What can't be sent is counted.

#![forbid(unsafe_code)]

mod approach;
mod arguments;
mod batch;
mod bell;
mod breaker;
mod calls;
mod causes;
mod clock;
mod collector;
mod credentials;
mod disk_buffer;
mod filters;
mod flow;
mod ledger;
mod node;
mod outage;
mod outbox;
pub mod overflow;
mod processors;
mod reload;
mod session;
mod shutdown;
mod transport;
mod window;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lc_daemon::attach::{AttachError, ForwarderRegions};
use lc_daemon::config::{Config, Source};
use lc_daemon::sandbox;
use shm_layout::commit::Torn;
use shm_layout::extent::Tail;
use shm_layout::forwarder::{DiskState, DiskStatus, MAX_UNSETTLED};
use shm_layout::region::RegionError;
use shm_layout::ring::RingReader;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};

pub use arguments::Arguments;
pub use disk_buffer::{DiskBufferError, open_directory};
pub use transport::TransportError;

use approach::Approach;
use batch::Origin;
use bell::Bell;
use collector::{Collector, Handle, Limits, Orders};
use disk_buffer::DiskBuffer;
use filters::{Filters, Publisher};
use ledger::Ledger;
use node::Node;
use outbox::{Held, Outbox};
use overflow::Directory;
use processors::Processors;
use reload::Reload;
use session::{Session, Strikes};
use shutdown::Shutdown;
use transport::{Target, Transport};
use window::{Most, Ticket, Window};

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
    /// The disk buffer can't be used. A new start would not help.
    #[error(transparent)]
    DiskBuffer(#[from] DiskBufferError),
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Batches that the processor has not acknowledged and the disk does not hold. Their packets are still in the tx
    /// rings.
    pub unacked_batches: usize,
    /// Packets in those.
    pub unacked_packets: usize,
    /// Packets that wait on disk for the next start.
    pub packets_on_disk: u64,
}

/// What the forwarder is asked for from outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wish {
    /// To end in good order.
    pub stop: bool,
    /// How often it was asked to read certificates and keys again.
    pub reloads: u64,
}

/// Forwards until `wish` says stop, then delivers what is there, within the configured time, and leaves the rest on
/// disk. `disk` is the disk buffer's directory, if the configuration names one. `ready` is called once, when everything
/// is attached.
///
/// # Errors
///
/// See [`ForwarderError`].
pub fn run(
    config: Config,
    disk: Option<Directory>,
    wish: watch::Receiver<Wish>,
    ready: impl FnOnce(),
) -> Result<Summary, ForwarderError> {
    let config = Arc::new(config);
    let targets = Target::all(&config)?;
    let transport = Transport::new(&config)?;
    let Some(regions) = attach(&config, &wish)? else {
        return Ok(Summary::default());
    };
    let runtime = runtime(&config)?;
    let shutdown = Shutdown::new(config.shutdown_timeout);
    let (transport, newest) = watch::channel(Arc::new(transport));
    let (session, collector) = assemble(
        Arc::clone(&config),
        targets,
        newest,
        regions,
        disk,
        &shutdown,
    )?;
    let reload = Reload {
        config,
        transport,
        wish: wish.clone(),
        ledger: Arc::clone(&session.ledger),
    };
    let collector = thread::Builder::new()
        .name("collector".to_owned())
        .spawn(|| collector.run())?;
    ready();
    let left = runtime.block_on(async {
        tokio::spawn(pass_on(wish, shutdown.clone()));
        tokio::spawn(reload.run());
        session.run().await
    });
    let _ = collector.join();
    if shutdown.is_another_capd() {
        return Err(ForwarderError::AnotherCapd);
    }
    Ok(Summary {
        unacked_batches: left.batches,
        unacked_packets: left.packets,
        packets_on_disk: left.packets_on_disk,
    })
}

/// The session runs on this thread. It may wait for a disk, and connections and heartbeats must go on meanwhile, so they
/// have another thread then; without a disk that would only cost changes between threads.
fn runtime(config: &Config) -> io::Result<Runtime> {
    let mut builder = match config.disk_buffer {
        Some(_) => Builder::new_multi_thread(),
        None => Builder::new_current_thread(),
    };
    builder.worker_threads(1).enable_all().build()
}

/// Waits for capd; `None` when told to stop before it was there.
fn attach(
    config: &Config,
    wish: &watch::Receiver<Wish>,
) -> Result<Option<ForwarderRegions>, ForwarderError> {
    let mut delay = Duration::from_millis(10);
    let mut said = false;
    while !wish.borrow().stop {
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
    targets: Vec<Target>,
    transport: watch::Receiver<Arc<Transport>>,
    regions: ForwarderRegions,
    disk: Option<Directory>,
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
    let filters = Arc::new(Filters::new(filters::types(&config.modes)));
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
    let approach = Arc::new(Approach::new(
        targets,
        transport,
        Arc::clone(&node),
        Arc::clone(&region),
        Arc::clone(&ledger),
        matches!(config.source, Source::Live(_)),
    ));
    let processors = Processors::new(
        approach.targets(),
        config.circuit_breaker,
        Arc::clone(&region),
        Arc::clone(&ledger),
    );
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
    let mut most = Most {
        batches: config.queue_batches.clamp(1, MAX_UNSETTLED as usize),
        // What is in flight stays in the rings: it needs no room of its own.
        bytes: (u64::from(geometry.workers) * geometry.tx_bytes).min(IN_FLIGHT_BYTES) as usize,
    };
    let disk = match (disk, &config.disk_buffer) {
        (Some(directory), Some(settings)) => {
            // A full window is no reason to use the disk.
            most.bytes = most.bytes.min(geometry.tx_bytes as usize / 4);
            let (ledger, region) = (Arc::clone(&ledger), Arc::clone(&region));
            disk_buffer::or_without(DiskBuffer::open(
                directory, &config, settings, ledger, region,
            ))?
        }
        _ => None,
    };
    if disk.is_none() {
        let (state, limit) = match &config.disk_buffer {
            Some(settings) => (DiskState::Failed, settings.limit),
            None => (DiskState::Off, 0),
        };
        region.set_disk(DiskStatus {
            state,
            bytes: 0,
            limit,
        });
    }
    // Behind the disk: what a predecessor was just writing there may have left the rings.
    let mut collector = Collector::new(
        tx,
        heard,
        Arc::clone(&orders),
        limits,
        queue,
        Arc::clone(&region),
        Arc::clone(&ledger),
    );
    let held = held_by_predecessor(&ledger, &mut collector);
    let outbox = Outbox::new(
        Window::new(most),
        disk,
        held,
        Handle::new(batches, orders, bell),
        Arc::clone(&origin),
        geometry.tx_bytes,
    );
    let session = Session {
        config,
        approach,
        processors,
        next: None,
        node,
        region,
        ledger,
        filters,
        origin,
        outbox,
        shutdown: shutdown.clone(),
        strikes: Strikes::default(),
    };
    Ok((session, collector))
}

/// The batches that a predecessor has sent from the rings, with the numbers that it gave them.
fn held_by_predecessor(ledger: &Ledger, collector: &mut Collector) -> VecDeque<Held> {
    let done = ledger.commit();
    let mut held = VecDeque::new();
    for extent in ledger.unsettled() {
        let in_rings = |tail: &Tail| tail.position > done.tx_tail(tail.worker);
        let Some(slot) = extent.slot.filter(|_| extent.tails.iter().any(in_rings)) else {
            continue;
        };
        let batch = collector.form_again(&extent);
        batch.set_sent();
        held.push_back(Held {
            ticket: Some(Ticket {
                sequence: extent.sequence,
                slot,
            }),
            batch: Arc::new(batch),
        });
    }
    held
}

/// Begins the shutdown when it is wished, or when nobody can wish it any more.
async fn pass_on(mut wish: watch::Receiver<Wish>, shutdown: Shutdown) {
    let _ = wish.wait_for(|wish| wish.stop).await;
    shutdown.begin();
}
