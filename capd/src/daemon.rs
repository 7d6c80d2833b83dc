//! The daemon's life: sources, regions, broker, capture threads, and the main loop beside them.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lc_daemon::config::{self, Config, Mode};
use lc_daemon::exit::Exit;
use lc_daemon::ready;
use lc_daemon::sandbox;
use lc_daemon::signals::Signals;
use shm_layout::commit::Torn;
use shm_layout::layout::Geometry;
use shm_layout::region::{OwnedRegion, Pages, RegionError};
use shm_layout::session::{KeyLogState, Session};

use crate::absence::Watch;
use crate::bpf::{Expression, FilterError};
use crate::broker::{self, Broker, ListenError, Snapshots};
use crate::calls::Listener;
use crate::control::Control;
use crate::engine::{CaptureThread, Ending};
use crate::key_log::{KeyLog, KeyLogError};
use crate::pushed::{Following, PushedFilters};
use crate::regions::{Inherited, Regions};
use crate::run_dir::RunDir;
use crate::source::file::Files;
use crate::source::live::{Left, Live, LiveOptions};
use crate::source::{Interfaces, Source, SourceError};

/// How often the main thread beats, and looks for signals and filter changes.
const TICK: Duration = Duration::from_millis(50);

/// Why capd does not start. All of them are refusals: the same start would fail again.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A source cannot be opened.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The base filter does not compile.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// Shared memory cannot be had.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// The broker cannot listen.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Another process writes the session that was passed on.
    #[error("the shared memory of a predecessor is still being written: {0}")]
    InUse(#[from] Torn),
    /// There is no key log where one has to be.
    #[error(transparent)]
    KeyLog(#[from] KeyLogError),
    /// A capture thread cannot be started.
    #[error("cannot start a capture thread: {0}")]
    Thread(std::io::Error),
}

/// Descriptors from the service manager, by name ([`lc_daemon::fd_store::inherited`]).
pub type Passed = Vec<(String, OwnedFd)>;

/// Opens the sources that the configuration names: one per interface, or one for all files. What a predecessor of them left is taken out of
/// `passed`.
///
/// # Errors
/// The first source at fault.
pub fn open_sources(
    config: &Config,
    interfaces: &Interfaces,
    passed: &mut Passed,
) -> Result<Vec<Box<dyn Source>>, SourceError> {
    match &config.source {
        config::Source::Files(files) => Ok(vec![Box::new(Files::open(
            &files.paths,
            interfaces.clone(),
            files.rate,
        )?)]),
        config::Source::Live(live) => {
            let options = LiveOptions {
                snap_length: live.snaplen,
                promiscuous: live.promiscuous,
                kernel_buffer: live.kernel_buffer_bytes,
                timeout: live.read_timeout,
                backend: live.backend,
            };
            let expression = Expression::of(config);
            let open = |(queue, device): (u16, &String)| -> Result<Box<dyn Source>, SourceError> {
                Ok(Box::new(Live::open_after(
                    device,
                    options,
                    &expression,
                    interfaces.of_queue(queue),
                    Left::take_from(passed, queue),
                )?))
            };
            (0..).zip(&live.interfaces).map(open).collect()
        }
    }
}

/// Runs capd in `run_dir` until it is told to stop, with the sources that `open` makes, in the shared memory of a predecessor if that was `passed` on and
/// fits ([`lc_daemon::fd_store::inherited`]); it says READY once they are open, the regions are handed out
/// and the capture threads run. Sources are held back until filters are in force where the configuration says so. Told to take in nothing
/// more, it ends its sources, says so, and stays as broker. Told to end without that, it leaves what a successor can go on with as it is.
///
/// # Errors
/// Whatever keeps it from starting; nothing was captured then.
pub fn run(
    config: &Config,
    run_dir: RunDir,
    mut passed: Passed,
    open: impl FnOnce(&Interfaces, &mut Passed) -> Result<Vec<Box<dyn Source>>, SourceError>,
    signals: &Signals,
) -> Result<Exit, StartError> {
    let inherited = Inherited::take_from(&mut passed);
    let interfaces = Interfaces::of_predecessor(inherited.interfaces());
    let mut sources = open(&interfaces, &mut passed)?;
    Left::drop_rest(&mut passed);
    let expression = Expression::of(config);
    for source in &mut sources {
        source.set_filter(&expression)?;
    }
    let geometry = Geometry {
        workers: u16::try_from(config.workers).unwrap_or(u16::MAX),
        queues: u16::try_from(sources.len()).unwrap_or(u16::MAX),
        rx_bytes: config.rx_ring_bytes() as u64,
        tx_bytes: config.tx_ring_bytes() as u64,
        calls_bytes: config.calls_log_bytes as u64,
        held_bytes: config.held_log_bytes as u64,
        keys_bytes: config.keys_log_bytes() as u64,
    };
    let pages = if config.require_hugepages {
        Pages::RequireHuge
    } else {
        Pages::PreferHuge
    };
    let (regions, adopted) = Regions::adopt_or_create(inherited, geometry, pages)?;
    let regions = Arc::new(regions);
    let last_beat_ns = regions.session_heartbeat()?;
    let session = Arc::new(regions.session()?);
    let gap = match adopted {
        true => {
            let since = shm_layout::monotonic_ns().saturating_sub(last_beat_ns);
            Some(Duration::from_nanos(since))
        }
        false => None,
    };
    session.set_stopping(false);
    session.set_protection(sandbox::in_force());
    publish_interfaces(&interfaces, &session);
    let key_log = match &config.http.key_log {
        Some(log) => Some(KeyLog::start(log, regions.keys()?, Arc::clone(&session))?),
        None => {
            session.set_key_log_state(KeyLogState::Off, "");
            None
        }
    };
    let snapshots = Arc::new(match adopted {
        true => Snapshots::take_from(&mut passed),
        false => Snapshots::default(),
    });
    let peers = match adopted {
        true => broker::peers_from(&mut passed),
        false => {
            broker::forget_stored();
            Vec::new()
        }
    };
    let control = Arc::new(Control::new(
        sources.len(),
        expression,
        !config.waits_for_filters(),
    ));
    let mut filters = PushedFilters {
        base: Expression::of(config),
        exclude_endpoints: matches!(config.source, config::Source::Live(_)),
        interfaces,
        forwarder: regions.forwarder()?,
        session: Arc::clone(&session),
        snapshots: Arc::clone(&snapshots),
        control: Arc::clone(&control),
        following: Following::default(),
    };
    let mut workers = Watch::new(
        regions.workers()?,
        Arc::clone(&session),
        config.worker_grace,
    );
    let _broker = Broker::start(
        run_dir,
        Arc::clone(&regions),
        regions.workers()?,
        regions.forwarder()?,
        snapshots,
        peers,
    )?;
    // A predecessor's filters hold from the first packet on.
    filters.follow();
    let threads = start(
        sources,
        &regions,
        &session,
        &control,
        gap,
        config.modes.has(Mode::Voip) && config.workers > 1,
    )?;
    let mut held_back = config.waits_for_filters();
    ready::ready(if held_back {
        "waiting for filters"
    } else {
        "capturing"
    });
    tracing::info!(
        workers = geometry.workers,
        capture_threads = geometry.queues,
        rx_ring_bytes = geometry.rx_bytes,
        "ready"
    );
    if let Some(gap) = gap {
        let gap_ms = gap.as_millis() as u64;
        tracing::warn!(gap_ms, "went on in the shared memory of a predecessor");
    }

    let stop = signals.stop();
    while !stop.requested() && !signals.close_requested() {
        session.beat();
        filters.follow();
        workers.look();
        if held_back {
            let generation = filters.generation_in_force();
            let has_keys = key_log.as_ref().is_none_or(KeyLog::has_caught_up);
            if generation > 0 && workers.all_apply(generation) && has_keys {
                control.open();
                held_back = false;
                ready::status("capturing");
                tracing::info!(generation, "filters are in force; reading begins");
            }
        }
        ready::alive();
        signals.wait(TICK);
    }
    // A service manager keeps shared memory and sockets for a successor, if it starts one.
    match ready::is_heard() && !signals.close_requested() {
        true => control.hand_over(),
        false => control.stop(),
    }
    let ending = join(threads, &session);
    if ending.left {
        ready::stopping();
        return Ok(exit(ending));
    }
    session.set_stopping(true);
    ready::closed();
    // Workers and the forwarder that are started again find their regions, until they have passed on what these hold.
    while !stop.requested() {
        session.beat();
        ready::alive();
        signals.wait(TICK);
    }
    ready::stopping();
    Ok(exit(ending))
}

fn exit(ending: Ending) -> Exit {
    match ending {
        Ending { failed: true, .. } => Exit::Failure,
        Ending { bad_data: true, .. } => Exit::BadData,
        _ => Exit::Ok,
    }
}

/// Shows all interfaces, those there are and those to come, in the session. A predecessor's stand there already.
fn publish_interfaces(interfaces: &Interfaces, session: &Arc<OwnedRegion<Session>>) {
    let session = Arc::clone(session);
    let mut index = 0;
    interfaces.publish_to(move |row| {
        if index >= session.interface_count() {
            session.add_interface(row);
        }
        index += 1;
    });
}

fn start(
    sources: Vec<Box<dyn Source>>,
    regions: &Regions,
    session: &Arc<OwnedRegion<Session>>,
    control: &Arc<Control>,
    gap: Option<Duration>,
    follows_calls: bool,
) -> Result<Vec<JoinHandle<Ending>>, StartError> {
    let mut threads = Vec::new();
    for (queue, source) in sources.into_iter().enumerate() {
        let name = format!("capture {}", source.name());
        let thread = CaptureThread {
            queue,
            source,
            rings: regions.rx_rings(queue as u16)?,
            listener: match follows_calls {
                true => Some(Listener::new(regions.calls()?)),
                false => None,
            },
            session: Arc::clone(session),
            control: Arc::clone(control),
            resume_at: session.queue_commit(queue, regions.geometry().workers)?,
            gap,
        };
        threads.push(
            thread::Builder::new()
                .name(name)
                .spawn(|| thread.run())
                .map_err(StartError::Thread)?,
        );
    }
    Ok(threads)
}

/// Waits for the capture threads, beating meanwhile: each takes what its source had accepted.
fn join(threads: Vec<JoinHandle<Ending>>, session: &OwnedRegion<Session>) -> Ending {
    let mut ending = Ending::default();
    for thread in threads {
        while !thread.is_finished() {
            session.beat();
            thread::sleep(Duration::from_millis(1));
        }
        match thread.join() {
            Ok(one) => {
                ending.bad_data |= one.bad_data;
                ending.failed |= one.failed;
                ending.left |= one.left;
            }
            Err(_) => {
                tracing::error!("a capture thread ended by a panic");
                ending.failed = true;
            }
        }
    }
    ending
}
