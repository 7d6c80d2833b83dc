//! A run: the daemons as children, from the resolved configuration to the exit code.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use lc_daemon::attach::Observer;
use lc_daemon::config::{Address, Config, ConfigError, Source, Transport, Trust, Users};
use lc_daemon::exit::Exit;
use lc_daemon::settings::Values;
use lc_daemon::signals::Signals;
use lc_hunt::ledger::Ledger;
use lc_hunt::supervisor::{
    ChildSpec, ChildStatus, Next, Supervisor, SupervisorConfig, SupervisorError,
};

use crate::embedded_sink::{EmbeddedSink, EmbeddedSinkError};
use crate::progress::Progress;
use crate::run_dir::{RunDir, RunDirError};

/// Why a run was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(
        "{0} was found neither beside lc-hunt nor in PATH; install all programs of lc-hunt together"
    )]
    NoProgram(&'static str),
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    #[error(transparent)]
    Sink(#[from] EmbeddedSinkError),
    #[error(transparent)]
    SinkEnd(EmbeddedSinkError),
    #[error("signals: {0}")]
    Signals(io::Error),
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
}

impl RunError {
    /// Whether the same run would be refused again.
    fn exit(&self) -> Exit {
        match self {
            RunError::Signals(_)
            | RunError::SinkEnd(_)
            | RunError::Supervisor(SupervisorError::Watch(_)) => Exit::Failure,
            _ => Exit::Refused,
        }
    }
}

/// Runs until a signal, the end of the input or a failure; the outcome as exit code.
pub fn run(config: Config, values: Values) -> Exit {
    match try_run(config, values) {
        Ok(exit) => exit,
        Err(error) => {
            tracing::error!("{error}");
            error.exit()
        }
    }
}

fn try_run(mut config: Config, mut values: Values) -> Result<Exit, RunError> {
    let signals = Signals::install().map_err(RunError::Signals)?;
    let programs = Programs::find()?;
    let run_dir = RunDir::create(&config.runtime_dir)?;
    config.runtime_dir = run_dir.path().to_owned();
    // Children have the user of their parent.
    config.users = Users::default();
    let sink = match config.embedded_sink.take() {
        Some(settings) => Some(EmbeddedSink::start(&settings)?),
        None => None,
    };
    if let Some(sink) = &sink {
        let address = sink.address();
        config.processors = vec![Address {
            host: address.ip().to_string(),
            port: address.port(),
        }];
    }
    config.pin(&mut values);
    // What the daemons will read must be what was checked here.
    Config::for_daemon(&values)?;
    let file = run_dir.write_config(&values.to_toml())?;
    announce(&config, sink.is_some());

    let mut supervisor = Supervisor::new(SupervisorConfig {
        children: children(&config, &programs, &file),
        notify_socket: run_dir.path().join("notify.sock"),
        shutdown_timeout: config.shutdown_timeout,
    })?;
    let mut watch = Watch::new(&config);
    let outcome = supervisor.run(&signals, |children| watch.look(children));
    // Ends what may still run after an error, so that the sink gets no more packets and the counters stand still.
    drop(supervisor);
    let balanced = watch.finish();
    if let Some(sink) = sink {
        sink.end().map_err(RunError::SinkEnd)?;
    }
    let exit = outcome?;
    Ok(if exit == Exit::Ok && !balanced {
        Exit::Failure
    } else {
        exit
    })
}

/// The executables of the daemons.
pub struct Programs {
    capd: PathBuf,
    workerd: PathBuf,
    fwdd: PathBuf,
}

impl Programs {
    /// Looks for all of them.
    pub fn find() -> Result<Self, RunError> {
        Ok(Programs {
            capd: program("lc-capd")?,
            workerd: program("lc-workerd")?,
            fwdd: program("lc-fwdd")?,
        })
    }
}

/// Finds an executable beside this one, else in `PATH`.
fn program(name: &'static str) -> Result<PathBuf, RunError> {
    let own_dir = env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_owned));
    let path = env::var_os("PATH").unwrap_or_default();
    own_dir
        .into_iter()
        .chain(env::split_paths(&path))
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or(RunError::NoProgram(name))
}

/// The daemons in the order of ending: each stage passes what it holds to the next.
fn children(config: &Config, programs: &Programs, file: &Path) -> Vec<ChildSpec> {
    let args = |more: &[&str]| -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["--config".into(), file.into()];
        args.extend(more.iter().map(OsString::from));
        args
    };
    let capd = ChildSpec {
        name: "lc-capd".to_owned(),
        program: programs.capd.clone(),
        args: args(&[]),
        stage: 0,
        restart: true,
    };
    let workers = (0..config.workers).map(|index| ChildSpec {
        name: format!("lc-workerd {index}"),
        program: programs.workerd.clone(),
        args: args(&["--index", &index.to_string()]),
        stage: 1,
        restart: true,
    });
    let fwdd = ChildSpec {
        name: "lc-fwdd".to_owned(),
        program: programs.fwdd.clone(),
        args: args(&[]),
        stage: 2,
        restart: true,
    };
    std::iter::once(capd).chain(workers).chain([fwdd]).collect()
}

/// Says at the start where packets go and how well they are protected on the way.
fn announce(config: &Config, embedded: bool) {
    let (processor, id) = (config.processor_list(), &config.hunter_id);
    match &config.transport {
        _ if embedded => tracing::info!(
            processor,
            id,
            workers = config.workers,
            "packets go to the embedded sink"
        ),
        Transport::Insecure => tracing::warn!(
            processor,
            id,
            workers = config.workers,
            "packets travel in clear text, readable and changeable on the way; use TLS outside of trusted networks"
        ),
        Transport::Tls(tls) if tls.trust == Trust::Anyone => tracing::warn!(
            processor,
            id,
            workers = config.workers,
            "the processor's certificate is not checked: anyone in between can read and change the packets"
        ),
        Transport::Tls(_) => tracing::info!(
            processor,
            id,
            workers = config.workers,
            "packets travel by TLS"
        ),
    }
}

/// Watches a run through shared memory: shows the progress of a replay, ends it when all is delivered, and prints the
/// ledger at the end.
struct Watch {
    run_dir: PathBuf,
    /// A live capture has no end of its own.
    replay: bool,
    /// The capd that the regions belong to, with the view of them, which outlives the daemons.
    seen: Option<(u32, Observer)>,
    progress: Progress,
    /// An error is reported once, not ten times a second.
    complained: bool,
}

impl Watch {
    fn new(config: &Config) -> Self {
        let replay = matches!(config.source, Source::Files(_));
        Watch {
            run_dir: config.runtime_dir.clone(),
            replay,
            seen: None,
            progress: Progress::start(replay),
            complained: false,
        }
    }

    fn look(&mut self, children: &[ChildStatus<'_>]) -> Next {
        let Some(capd) = children
            .first()
            .filter(|capd| capd.ready)
            .and_then(|capd| capd.pid)
        else {
            return Next::Continue;
        };
        if self.seen.as_ref().is_none_or(|(pid, _)| *pid != capd) {
            match Observer::attach(&self.run_dir) {
                Ok(observer) => self.seen = Some((capd, observer)),
                Err(error) => {
                    if !std::mem::replace(&mut self.complained, true) {
                        tracing::error!("the state of the run cannot be seen: {error}");
                    }
                    return Next::Continue;
                }
            }
        }
        // Where there is just too much movement to read it in one piece, the next look will do.
        let ledger = self
            .seen
            .as_ref()
            .and_then(|(_, observer)| Ledger::read(observer).ok());
        let (true, Some(ledger)) = (self.replay, ledger) else {
            return Next::Continue;
        };
        self.progress.show(&ledger);
        if ledger.complete {
            Next::End
        } else {
            Next::Continue
        }
    }

    /// Prints the ledger; whether it balances.
    fn finish(self) -> bool {
        self.progress.finish();
        let Some(ledger) = self
            .seen
            .and_then(|(_, observer)| Ledger::read(&observer).ok())
        else {
            return true;
        };
        // A closed output is nothing to report.
        let _ = write!(io::stdout(), "{ledger}");
        ledger.balanced
    }
}
