//! From the start of a worker process to the point where it may touch packets: attached, and behind its walls.

use std::time::Duration;

use lc_daemon::attach::{AttachError, WorkerRegions};
use lc_daemon::config::{Config, Mode, Source};
use lc_daemon::exit::Exit;
use lc_daemon::pinning::Allowed;
use lc_daemon::ready;
use lc_daemon::sandbox::{self, Profile, SandboxError};
use lc_daemon::signals::Signals;
use shm_layout::worker::InProgress;

use crate::batch::Batch;
use crate::describe::Describer;
use crate::desk::Desk;
use crate::desk::hand::SharedEsp;
use crate::esp::EspNull;
use crate::flows::NoMemory;
use crate::matcher::Compiler;
use crate::quarantine;
use crate::reassembly;
use crate::session::desk::SessionDesk;
use crate::session::protocols::Protocols;
use crate::session::sessions::{self, Sessions};
use crate::voip::analyser::Analyser;
use crate::voip::desk::CallDesk;
use crate::voip::settings::Settings;
use crate::voip::streams::SipStreams;
use crate::voip::switchboard::{Elsewhere, Switchboard};
use crate::worker::Work;

/// Why a worker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// capd handed out nothing that can be used.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The walls do not stand.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// There is no memory for the flow table.
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
    /// There is no memory to follow TCP connections.
    #[error(transparent)]
    NoMemoryForStreams(#[from] reassembly::NoMemory),
    /// There is no memory to follow sessions.
    #[error(transparent)]
    NoMemoryForSessions(#[from] sessions::NoMemory),
    /// The thread for filters does not start.
    #[error("the thread that compiles filters can't be started: {0}")]
    Thread(#[from] std::io::Error),
}

impl StartError {
    /// How the process ends: a new start would fail in the same way.
    #[must_use]
    pub fn exit(&self) -> Exit {
        Exit::Refused
    }
}

/// What a worker begins with.
pub struct Started {
    /// Its regions.
    pub regions: WorkerRegions,
    /// The packet that killed its predecessors.
    pub condemned: Option<InProgress>,
    /// The thread that compiles its filters.
    pub compiler: Compiler,
    /// What it does with packets.
    pub work: Work,
}

/// Waits for capd, and says so; puts aside a packet that killed predecessors; then gives up everything but the regions and the connection for
/// filters. The thread for filters runs on `cpus`. `None` when asked to stop meanwhile.
///
/// # Errors
/// [`StartError`]
pub fn attach_and_confine(
    config: &Config,
    index: u16,
    signals: &Signals,
    cpus: Allowed,
) -> Result<Option<Started>, StartError> {
    let Some(mut regions) = attach(config, index, signals)? else {
        return Ok(None);
    };
    let work = work(config, regions.peers.len())?;
    let condemned = quarantine::put_aside(&mut regions, index, &config.quarantine_dir);
    let compiler = || Compiler::start(config.no_filter_policy, move || elsewhere(cpus));
    let compiler = if config.sandbox {
        sandbox::enter_with(&Profile::worker(), compiler)?
    } else {
        sandbox::left_off();
        compiler()?
    };
    regions.worker.set_protection(sandbox::in_force());
    Ok(Some(Started {
        regions,
        condemned,
        compiler,
        work,
    }))
}

/// What is done with packets in the node's modes, beside as many other workers as there are `peers`.
fn work(config: &Config, peers: usize) -> Result<Work, StartError> {
    if config.modes.has(Mode::Hunt) {
        let describer = Describer::new(config.flow_table_bytes)?;
        return Ok(Work::Packets(Box::new(
            Batch::new(describer).with_esp(config.esp),
        )));
    }
    let esp = SharedEsp::new(EspNull::new(config.esp).into());
    let calls = match config.modes.has(Mode::Voip) {
        true => Some(calls(config, peers, &esp)?),
        false => None,
    };
    let sessions = match config.modes.follow_sessions() {
        true => Some(sessions(config, &esp)?),
        false => None,
    };
    Ok(Work::Desk(Box::new(Desk::new(calls, sessions, esp))))
}

fn calls(config: &Config, peers: usize, esp: &SharedEsp) -> Result<CallDesk, StartError> {
    let elsewhere = match config.source {
        _ if peers == 0 => Elsewhere::Nothing,
        Source::Live(_) => Elsewhere::Soon,
        Source::Files(_) => Elsewhere::Exactly,
    };
    // What is told of a call takes less than it does.
    let board =
        Switchboard::new(config.calls_log_bytes, elsewhere).with_silence(&config.voip.silence);
    let streams = SipStreams::new(Settings::of(&config.voip))?;
    let analyser = Analyser::new(config.flow_table_bytes, streams, board)?;
    let is_exact = elsewhere == Elsewhere::Exactly;
    Ok(CallDesk::new(
        analyser,
        peers,
        is_exact,
        SharedEsp::clone(esp),
    ))
}

fn sessions(config: &Config, esp: &SharedEsp) -> Result<SessionDesk<Protocols>, StartError> {
    let limits = reassembly::Limits::new(&config.voip.streams);
    let protocols = Protocols::of(config);
    let sessions = Sessions::new(protocols, config.flow_table_bytes, &limits)?;
    Ok(SessionDesk::new(sessions, SharedEsp::clone(esp)))
}

/// Compiling shall not take the CPU that the worker is pinned to.
fn elsewhere(cpus: Allowed) {
    if let Err(error) = cpus.take() {
        tracing::warn!(%error, "filters are compiled on the worker's own CPU");
    }
}

fn attach(
    config: &Config,
    index: u16,
    signals: &Signals,
) -> Result<Option<WorkerRegions>, AttachError> {
    let stop = signals.stop();
    let mut pause = Duration::from_millis(20);
    let mut said = false;
    while !stop.requested() {
        match WorkerRegions::attach(&config.runtime_dir, index) {
            Ok(regions) => return Ok(Some(regions)),
            Err(AttachError::Socket { .. } | AttachError::Silent { .. }) => {}
            Err(error) => return Err(error),
        }
        if !said && pause > Duration::from_millis(500) {
            tracing::info!(run_dir = %config.runtime_dir.display(), "waiting for lc-capd");
            ready::status("waiting for lc-capd");
            said = true;
        }
        signals.wait(pause);
        pause = (pause * 2).min(Duration::from_secs(2));
    }
    Ok(None)
}
