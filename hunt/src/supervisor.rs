//! Runs the daemons as children: starts them, starts them again when they fail, and ends them in order.
//!
//! **Start.** Children of the first stage first; when all of them say that they are ready, the rest at once.
//!
//! **Failure.** A child that ends without being asked is started again after a pause that doubles from
//! [`FIRST_PAUSE`] to [`LONGEST_PAUSE`]; a minute of work makes the next pause short again. Descriptors that it has
//! stored are passed to its successor, so that what others hold on to outlives it. A child that was *refused*
//! ([`Exit::Refused`], [`Exit::Usage`]) would be refused again: all are ended, and the run ends with that code.
//!
//! **End.** Asked by a signal or by the caller's hook, children pass on what they hold, step by step:
//!
//! 1. Those that had died, and waited for their new start, are started at once: what they left is theirs to pass on.
//! 2. The first stage takes in nothing more ([`CLOSE`]), but goes on carrying the others.
//! 3. The later stages are ended with SIGTERM, one after the other.
//! 4. The first stage is ended.
//!
//! A child that dies meanwhile is started again, and asked again, as long as its step has time; only one of the first
//! stage that had closed is not. A child that takes longer than its time is killed. A second request to end changes
//! nothing.
//!
//! Children get a process group of their own, so that Ctrl-C reaches the supervisor alone, and the environment
//! variable [`SUPERVISED_BY`], by which a daemon ends with its supervisor. That is tied to the *thread* that calls
//! [`Supervisor::run`]: it must live as long as the run.
//!
//! There is no thread, no busy waiting and no signal handler in here: children are watched through pidfds.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use lc_daemon::exit::Exit;
use lc_daemon::ready::SUPERVISED_BY;
use lc_daemon::signals::{Signals, Stop};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::fd_store::FdStore;
use crate::notify::{Notice, NotifySocket, Saying, Store};

/// Pause before the first new start.
pub const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Longest pause before a new start.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A child that has worked for this long starts over with [`FIRST_PAUSE`].
pub const STABLE_AFTER: Duration = Duration::from_secs(60);

/// How often the hook is called.
pub const HOOK_PERIOD: Duration = Duration::from_millis(100);

/// Asks a child of the first stage to take in nothing more; it says when that is so, and goes on carrying the
/// others until SIGTERM.
pub const CLOSE: Signal = Signal::USR2;

/// A child that is not ready after this time is mentioned in the log.
const SLOW_START: Duration = Duration::from_secs(10);

/// What to run.
#[derive(Debug, Clone)]
pub struct SupervisorConfig {
    /// The children. Stages follow from [`ChildSpec::stage`], not from the order here.
    pub children: Vec<ChildSpec>,
    /// Path of the socket on which children report; must not exist.
    pub notify_socket: PathBuf,
    /// Longest time each stage may take to end in good order.
    pub shutdown_timeout: Duration,
}

/// How to run one child.
#[derive(Debug, Clone)]
pub struct ChildSpec {
    /// For messages: `lc-workerd 1`.
    pub name: String,
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Place in the order of ending; stage 0 is started first, carries the others, and ends last.
    pub stage: u8,
    /// Whether it is started again when it fails. Otherwise its failure ends the run.
    pub restart: bool,
}

/// What is known about a child, for the hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildStatus<'s> {
    /// As in its [`ChildSpec`].
    pub name: &'s str,
    /// Its process id while it runs.
    pub pid: Option<u32>,
    /// Whether it has said that it is ready.
    pub ready: bool,
    /// What it last said about itself.
    pub says: &'s str,
    /// How often it was started again.
    pub restarts: u32,
}

/// What the hook wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Go on.
    Continue,
    /// All work is done: end in good order.
    End,
}

/// Why the run could not go on.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// No socket for the children's reports.
    #[error("socket {path} for the daemons' reports: {source}")]
    Socket {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A child could not be started.
    #[error("{name} ({program}) cannot be started: {source}")]
    Start {
        /// The child.
        name: String,
        /// Its executable.
        program: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The kernel refused something that never fails in good health.
    #[error("watching the daemons: {0}")]
    Watch(#[from] io::Error),
}

/// Runs children until they are to end. Dropping it kills those that still run.
#[derive(Debug)]
pub struct Supervisor {
    children: Vec<Supervised>,
    socket: NotifySocket,
    shutdown_timeout: Duration,
    phase: Phase,
    /// The worst that has happened so far.
    exit: Exit,
}

/// A child and how it fares.
#[derive(Debug)]
struct Supervised {
    spec: ChildSpec,
    process: Option<Process>,
    /// When it is to be started, if it does not run.
    start_at: Option<Instant>,
    pause: Duration,
    restarts: u32,
    store: FdStore,
}

/// A running child.
#[derive(Debug)]
struct Process {
    child: Child,
    /// Becomes readable when the child has ended.
    pidfd: OwnedFd,
    since: Instant,
    ready: bool,
    slow_start_said: bool,
    says: String,
    /// What it was asked to do at the end.
    asked: Option<Signal>,
    /// It has said that it takes in nothing more.
    closed: bool,
}

/// What the supervisor is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Children work.
    Running,
    /// All are being ended for good.
    Ending(Ending),
}

/// How far an orderly end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ending {
    step: Step,
    /// When the step is over, whoever has not done his part.
    deadline: Instant,
}

/// One step of an orderly end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// All that work has been begun for are there.
    Gather,
    /// The first stage takes in nothing more.
    Close,
    /// A later stage ends.
    End(u8),
    /// The first stage ends.
    EndFirst,
}

impl Supervisor {
    /// Prepares a run; nothing is started.
    pub fn new(config: SupervisorConfig) -> Result<Self, SupervisorError> {
        let socket = NotifySocket::bind(&config.notify_socket).map_err(|source| {
            SupervisorError::Socket {
                path: config.notify_socket.clone(),
                source,
            }
        })?;
        let children = config.children.into_iter().map(Supervised::new).collect();
        Ok(Supervisor {
            children,
            socket,
            shutdown_timeout: config.shutdown_timeout,
            phase: Phase::Running,
            exit: Exit::Ok,
        })
    }

    /// Runs the children until a signal, the hook or a refusal ends them; says how it went.
    ///
    /// The hook is called about every [`HOOK_PERIOD`] while the children work.
    ///
    /// # Errors
    ///
    /// A program cannot be started at all, or the kernel refuses. Whatever runs then is killed when the supervisor is
    /// dropped.
    pub fn run(
        &mut self,
        signals: &Signals,
        mut hook: impl FnMut(&[ChildStatus<'_>]) -> Next,
    ) -> Result<Exit, SupervisorError> {
        let stop = signals.stop();
        let mut next_hook = Instant::now() + HOOK_PERIOD;
        for child in self
            .children
            .iter_mut()
            .filter(|child| child.spec.stage == 0)
        {
            child.start_at = Some(Instant::now());
        }
        loop {
            self.start_due()?;
            if let Phase::Running = self.phase
                && Instant::now() >= next_hook
            {
                next_hook = Instant::now() + HOOK_PERIOD;
                let status: Vec<ChildStatus<'_>> =
                    self.children.iter().map(Supervised::status).collect();
                if hook(&status) == Next::End {
                    self.begin_end("all work is done");
                }
            }
            self.wait(signals, next_hook)?;
            self.heed_signals(signals, &stop);
            self.hear_children()?;
            self.reap()?;
            if self.advance_end()? {
                return Ok(self.exit);
            }
        }
    }

    /// Starts the children whose time has come.
    fn start_due(&mut self) -> Result<(), SupervisorError> {
        let now = Instant::now();
        let carried = self
            .children
            .iter()
            .filter(|child| child.spec.stage == 0)
            .all(Supervised::is_ready);
        for child in &mut self.children {
            let due = match child.start_at {
                Some(at) => at <= now,
                None => {
                    self.phase == Phase::Running && child.process.is_none() && child.restarts == 0
                }
            };
            if due && (child.spec.stage == 0 || carried) {
                match child.start(&self.socket) {
                    Ok(()) => {}
                    Err(error) if child.restarts == 0 => return Err(error),
                    // It could be started before, so the machine is short of something at the moment.
                    Err(error) => {
                        let pause = child.plan_restart(Duration::ZERO);
                        tracing::error!(%error, pause_ms = pause.as_millis() as u64, "trying again");
                    }
                }
            }
        }
        Ok(())
    }

    /// Sleeps until something happens: a signal, a report, the end of a child, or the next thing that is due.
    fn wait(&self, signals: &Signals, next_hook: Instant) -> Result<(), SupervisorError> {
        let now = Instant::now();
        let next = match self.phase {
            Phase::Running => next_hook,
            Phase::Ending(ending) => ending.deadline,
        };
        // A start that is overdue waits for the first stage, whose report wakes us.
        let starts = self.children.iter().filter_map(|child| child.start_at);
        let due = starts.filter(|at| *at > now).fold(next, Instant::min);
        let mut fds = vec![
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN),
        ];
        for process in self
            .children
            .iter()
            .filter_map(|child| child.process.as_ref())
        {
            fds.push(PollFd::from_borrowed_fd(
                process.pidfd.as_fd(),
                PollFlags::IN,
            ));
        }
        // Rounded up, so that what is due is due after the sleep.
        let time = due.saturating_duration_since(now).min(HOOK_PERIOD) + Duration::from_millis(1);
        match poll(&mut fds, Timespec::try_from(time).ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(SupervisorError::Watch(error.into())),
        }
    }

    /// Acts on what this process was told.
    fn heed_signals(&mut self, signals: &Signals, stop: &Stop) {
        signals.clear();
        if signals.take_reload() {
            // One that is not ready might not have taken over the signal yet, and reads its configuration just now.
            for child in self.children.iter().filter(|child| child.is_ready()) {
                child.signal(Signal::HUP);
            }
        }
        if stop.requested() {
            self.begin_end("asked to end");
        }
    }

    /// Takes the children's reports.
    fn hear_children(&mut self) -> Result<(), SupervisorError> {
        while let Some(Notice { pid, says, store }) = self.socket.receive()? {
            let sender = self
                .children
                .iter_mut()
                .find(|child| child.pid() == Some(pid));
            let Some(Supervised {
                spec,
                process: Some(process),
                store: stored,
                ..
            }) = sender
            else {
                continue;
            };
            match store {
                Some(Store::Keep {
                    name,
                    descriptors,
                    watched,
                }) => stored.add(&name, descriptors, watched),
                Some(Store::Remove(name)) => stored.remove(&name),
                None => {}
            }
            for saying in says {
                match saying {
                    Saying::Ready if !process.ready => {
                        process.ready = true;
                        tracing::debug!(child = %spec.name, pid, "ready");
                    }
                    Saying::Ready => {}
                    Saying::Status(text) => process.says = text,
                    Saying::Closed => process.closed = true,
                }
            }
        }
        for Supervised { spec, process, .. } in &mut self.children {
            if let Some(process) = process
                && !process.ready
                && !process.slow_start_said
                && process.since.elapsed() > SLOW_START
            {
                process.slow_start_said = true;
                tracing::warn!(child = %spec.name, says = %process.says, "not ready yet");
            }
        }
        Ok(())
    }

    /// Takes note of children that have ended.
    fn reap(&mut self) -> Result<(), SupervisorError> {
        for i in 0..self.children.len() {
            let child = &mut self.children[i];
            let Some(process) = &mut child.process else {
                continue;
            };
            let Some(status) = process.child.try_wait()? else {
                continue;
            };
            let worked_for = process.since.elapsed();
            // Its last words may have come meanwhile; they must find it in the list.
            self.hear_children()?;
            let asked = self.children[i]
                .process
                .take()
                .and_then(|process| process.asked);
            match self.phase {
                Phase::Running => self.lost(i, status, worked_for),
                Phase::Ending(ending) => self.ended(i, status, asked, ending.step),
            }
        }
        Ok(())
    }

    /// A child ended although nobody asked it to.
    fn lost(&mut self, index: usize, status: ExitStatus, worked_for: Duration) {
        let child = &mut self.children[index];
        let name = child.spec.name.clone();
        match meaning(status) {
            // The child has said why.
            exit @ (Exit::Refused | Exit::Usage) => {
                tracing::debug!(child = %name, %status, "refused to start");
                self.worsen(exit);
                self.begin_end("a daemon was refused");
            }
            Exit::BadData => {
                self.worsen(Exit::BadData);
                self.begin_end("the input is bad");
            }
            _ if !child.spec.restart => {
                tracing::error!(child = %name, %status, "ended unexpectedly; it cannot go on where it was, so the run ends");
                self.worsen(Exit::Failure);
                self.begin_end("a daemon failed");
            }
            exit => {
                let pause = child.plan_restart(worked_for);
                let pause_ms = pause.as_millis() as u64;
                if exit == Exit::Ok {
                    tracing::info!(child = %name, pause_ms, "was asked to end; it is started again");
                } else {
                    tracing::error!(child = %name, %status, pause_ms, "ended unexpectedly; it is started again");
                }
            }
        }
    }

    /// A child ended in the course of the orderly end.
    fn ended(&mut self, index: usize, status: ExitStatus, asked: Option<Signal>, step: Step) {
        let child = &mut self.children[index];
        let name = &child.spec.name;
        let exit = meaning(status);
        let was_killed = status.signal().is_some() && exit == Exit::Failure;
        let unasked = asked.is_none() && matches!(exit, Exit::Ok | Exit::Failure);
        // When the first stage has closed, a new one would take in something new.
        let of_use = child.spec.stage > 0 || matches!(step, Step::Gather | Step::Close);
        if child.spec.restart && of_use && (was_killed || unasked) {
            tracing::error!(child = %name, %status, "ended unexpectedly; it is started again to pass on what is left");
            child.start_at = Some(Instant::now() + FIRST_PAUSE);
            child.restarts += 1;
            return;
        }
        // It gets no successor; others may go by whether its connections are gone.
        child.store = FdStore::default();
        match exit {
            Exit::Ok => tracing::debug!(child = %name, "ended"),
            // The child has said what is wrong with the data.
            Exit::BadData => self.worsen(Exit::BadData),
            exit => {
                tracing::warn!(child = %name, %status, "did not end well");
                self.worsen(exit);
            }
        }
    }

    /// Starts the orderly end, unless it is under way.
    fn begin_end(&mut self, why: &'static str) {
        if self.phase == Phase::Running {
            tracing::debug!(why, "ending the daemons");
            self.phase = Phase::Ending(self.ending(Step::Gather));
            let waiting = self.children.iter_mut().filter(|child| child.restarts > 0);
            for start_at in waiting.filter_map(|child| child.start_at.as_mut()) {
                *start_at = Instant::now();
            }
        }
    }

    /// Drives an orderly end; true when it is complete.
    fn advance_end(&mut self) -> Result<bool, SupervisorError> {
        let Phase::Ending(mut ending) = self.phase else {
            return Ok(false);
        };
        if Instant::now() >= ending.deadline {
            self.cut_short(ending.step)?;
        }
        while self.is_done(ending.step) {
            ending = match self.after(ending.step) {
                Some(step) => self.ending(step),
                None => return Ok(true),
            };
        }
        self.phase = Phase::Ending(ending);
        Ok(false)
    }

    /// Asks whom the step is about, as soon as they can be asked; whether all of them have done their part.
    fn is_done(&mut self, step: Step) -> bool {
        if !self.children.iter().any(Supervised::carries) {
            self.give_up_starts(|_| true);
        }
        match step {
            Step::Gather => self.children.iter().all(Supervised::is_there),
            Step::Close => self.close_first(),
            Step::End(stage) => self.end_stage(stage),
            Step::EndFirst => self.end_stage(0),
        }
    }

    /// Asks the first stage to take in nothing more; whether that is so.
    fn close_first(&mut self) -> bool {
        let mut closed = true;
        for child in self
            .children
            .iter_mut()
            .filter(|child| child.spec.stage == 0)
        {
            if child.is_ready() {
                child.ask(CLOSE);
            } else if child.is_there() {
                // It has taken in nothing, and might not have taken over the other signal yet.
                child.ask(Signal::TERM);
            }
            closed &= match &child.process {
                Some(process) => process.closed,
                None => child.start_at.is_none(),
            };
        }
        closed
    }

    /// Asks those of a stage to end; whether they have.
    fn end_stage(&mut self, stage: u8) -> bool {
        let mut ended = true;
        for child in self
            .children
            .iter_mut()
            .filter(|child| child.spec.stage == stage)
        {
            if child.is_there() {
                child.ask(Signal::TERM);
            }
            ended &= child.process.is_none() && child.start_at.is_none();
        }
        ended
    }

    /// The step that follows.
    fn after(&self, step: Step) -> Option<Step> {
        let stage = match step {
            Step::Gather => return Some(Step::Close),
            Step::Close => 0,
            Step::End(stage) => stage,
            Step::EndFirst => return None,
        };
        let stages = self.children.iter().map(|child| child.spec.stage);
        let next = stages.filter(|next| *next > stage).min();
        Some(next.map_or(Step::EndFirst, Step::End))
    }

    /// The time of a step is over: those that have not done their part are killed, or not waited for any longer.
    fn cut_short(&mut self, step: Step) -> Result<(), SupervisorError> {
        match step {
            Step::Gather => self.kill(|child| !child.is_there()),
            Step::Close | Step::EndFirst => self.kill(|child| child.spec.stage == 0),
            Step::End(stage) => self.kill(|child| child.spec.stage == stage),
        }
    }

    /// Kills these, and starts none of them again.
    fn kill(&mut self, these: impl Fn(&Supervised) -> bool) -> Result<(), SupervisorError> {
        let mut killed = false;
        for child in self.children.iter_mut().filter(|child| these(child)) {
            if let Some(mut process) = child.process.take() {
                killed = true;
                let time = self.shutdown_timeout.as_secs_f32();
                tracing::error!(child = %child.spec.name, "was not done within {time} s and is killed; what it held is lost");
                process.child.kill()?;
                process.child.wait()?;
            }
        }
        self.give_up_starts(these);
        if killed {
            self.worsen(Exit::Failure);
        }
        Ok(())
    }

    /// Does not start these again, of those that wait for it.
    fn give_up_starts(&mut self, these: impl Fn(&Supervised) -> bool) {
        let mut given_up = false;
        for child in &mut self.children {
            if child.start_at.is_some() && these(child) {
                child.start_at = None;
                given_up = true;
                tracing::error!(child = %child.spec.name, "cannot be started again in time; what it had left is lost");
            }
        }
        if given_up {
            self.worsen(Exit::Failure);
        }
    }

    fn ending(&self, step: Step) -> Ending {
        Ending {
            step,
            deadline: Instant::now() + self.shutdown_timeout,
        }
    }

    /// Keeps the worst of all outcomes: a refusal explains a failure, and a failure matters more than bad data.
    fn worsen(&mut self, exit: Exit) {
        let weight = |exit| match exit {
            Exit::Ok => 0,
            Exit::BadData => 1,
            Exit::Failure => 2,
            Exit::Usage | Exit::Refused => 3,
        };
        if weight(exit) > weight(self.exit) {
            self.exit = exit;
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        for process in self
            .children
            .iter_mut()
            .filter_map(|child| child.process.as_mut())
        {
            // Errors mean that it has ended already.
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}

impl Supervised {
    fn new(spec: ChildSpec) -> Self {
        Supervised {
            spec,
            process: None,
            start_at: None,
            pause: FIRST_PAUSE,
            restarts: 0,
            store: FdStore::default(),
        }
    }

    fn start(&mut self, socket: &NotifySocket) -> Result<(), SupervisorError> {
        let failed = |source| SupervisorError::Start {
            name: self.spec.name.clone(),
            program: self.spec.program.clone(),
            source,
        };
        let mut command = Command::new(&self.spec.program);
        command
            .args(&self.spec.args)
            .env("NOTIFY_SOCKET", socket.path())
            .env(SUPERVISED_BY, std::process::id().to_string())
            .stdin(Stdio::null())
            .process_group(0);
        self.store.pass_to(&mut command).map_err(failed)?;
        let mut child = command.spawn().map_err(failed)?;
        let pid = Pid::from_child(&child);
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(error) => {
                // Unwatched it must not stay.
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(error.into()));
            }
        };
        tracing::debug!(child = %self.spec.name, pid = child.id(), "started");
        self.start_at = None;
        self.process = Some(Process {
            child,
            pidfd,
            since: Instant::now(),
            ready: false,
            slow_start_said: false,
            says: String::new(),
            asked: None,
            closed: false,
        });
        Ok(())
    }

    /// Sets the time of the next start; returns the pause until then.
    fn plan_restart(&mut self, worked_for: Duration) -> Duration {
        if worked_for >= STABLE_AFTER {
            self.pause = FIRST_PAUSE;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        self.start_at = Some(Instant::now() + pause);
        self.restarts += 1;
        pause
    }

    fn status(&self) -> ChildStatus<'_> {
        ChildStatus {
            name: &self.spec.name,
            pid: self.pid(),
            ready: self.is_ready(),
            says: self.process.as_ref().map_or("", |process| &process.says),
            restarts: self.restarts,
        }
    }

    fn is_ready(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.ready)
    }

    /// Whether it needs not be waited for: it works, or nothing has been begun with it. One that was started again is
    /// there when it is ready, as only then it passes on what its predecessor left.
    fn is_there(&self) -> bool {
        self.start_at.is_none() && (self.process.is_none() || self.restarts == 0 || self.is_ready())
    }

    /// Whether it carries the others, or will.
    fn carries(&self) -> bool {
        self.spec.stage == 0 && (self.process.is_some() || self.start_at.is_some())
    }

    fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }

    /// Asks it for something at the end, once.
    fn ask(&mut self, signal: Signal) {
        if let Some(process) = &mut self.process
            && process.asked.replace(signal) != Some(signal)
        {
            self.signal(signal);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            // The child has not been waited for, so the id is still its own; an error means that it has just ended.
            let _ = kill_process(Pid::from_child(&process.child), signal);
        }
    }
}

/// What the end of a child means.
fn meaning(status: ExitStatus) -> Exit {
    match status.code() {
        Some(0) => Exit::Ok,
        Some(2) => Exit::Usage,
        Some(65) => Exit::BadData,
        Some(78) => Exit::Refused,
        // SIGTERM before the child could take it over: it did what it was asked to.
        None if status.signal() == Some(Signal::TERM.as_raw()) => Exit::Ok,
        _ => Exit::Failure,
    }
}
