//! Runs the product's programs, each in a process group of its own and never past its deadline.
//!
//! A program that is still there when its [`Running`] is dropped is killed together with its
//! children, so a failed test leaves nothing behind.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tempfile::NamedTempFile;
use thiserror::Error;

/// Between two looks at a condition that is waited for.
const POLL: Duration = Duration::from_millis(10);

/// A program that could not be run to its end.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// It can't be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused to say how it is.
    #[error("cannot watch {program}: {source}")]
    Watch {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It did not end in time, and was killed.
    #[error("{program} did not end within {seconds} s and was killed; it said:\n{stderr}")]
    TooSlow {
        /// The program.
        program: PathBuf,
        /// The limit.
        seconds: u64,
        /// Its standard error so far.
        stderr: String,
    },
}

/// How a program ended.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Outcome {
    /// The exit code; 128 and the signal's number where a signal ended it, as a shell says it.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or_default())
    }
}

/// A program under way.
#[derive(Debug)]
pub struct Running {
    program: PathBuf,
    child: Child,
    stdout: NamedTempFile,
    stderr: NamedTempFile,
}

/// The path of the product's program `name`: it lies beside the running one, or one folder above
/// where tests lie.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| PathBuf::from(name))
}

/// Starts `program` with `arguments` in the network namespace `namespace`.
///
/// # Errors
///
/// [`ProcessError::Start`]
pub fn start_in<A: AsRef<OsStr>>(
    namespace: &str,
    program: &Path,
    arguments: impl IntoIterator<Item = A>,
) -> Result<Running, ProcessError> {
    let mut all: Vec<OsString> = ["netns", "exec", namespace].map(Into::into).into();
    all.push(program.into());
    all.extend(arguments.into_iter().map(|one| one.as_ref().into()));
    // `ip` becomes the program, under the same process id.
    start(Path::new("ip"), all)
}

/// Starts `program` with `arguments`.
///
/// # Errors
///
/// [`ProcessError::Start`] where it does not exist or can't be executed.
pub fn start<A: AsRef<OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = A>,
) -> Result<Running, ProcessError> {
    let failed = |source| ProcessError::Start {
        program: program.to_owned(),
        source,
    };
    let stdout = NamedTempFile::new().map_err(failed)?;
    let stderr = NamedTempFile::new().map_err(failed)?;
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(stdout.reopen().map_err(failed)?)
        .stderr(stderr.reopen().map_err(failed)?)
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    Ok(Running {
        program: program.to_owned(),
        child,
        stdout,
        stderr,
    })
}

/// Runs `program` with `arguments` to its end.
///
/// # Errors
///
/// [`ProcessError`] where it can't be started or does not end within `limit`.
pub fn run<A: AsRef<OsStr>>(
    program: &Path,
    arguments: impl IntoIterator<Item = A>,
    limit: Duration,
) -> Result<Outcome, ProcessError> {
    start(program, arguments)?.finish(limit)
}

/// Whether there is a program of this name.
pub fn is_installed(program: &str) -> bool {
    let found = ["-c".to_owned(), format!("command -v {program}")];
    run(Path::new("sh"), found, Duration::from_secs(10)).is_ok_and(|outcome| outcome.code() == 0)
}

/// Whether all of `programs` are there, each given with its Debian package; if not, says that the test is skipped.
pub fn are_installed(programs: &[(&str, &str)]) -> bool {
    let missing = programs.iter().find(|(name, _)| !is_installed(name));
    if let Some((name, package)) = missing {
        crate::skipped!("{name} is not installed (Debian: {package})");
    }
    missing.is_none()
}

/// Waits until `condition` gives something, at most for `limit`.
pub fn wait_for<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = condition() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(POLL);
    }
}

impl Running {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Watch`] where the system refuses to say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, ProcessError> {
        self.child.try_wait().map_err(|source| ProcessError::Watch {
            program: self.program.clone(),
            source,
        })
    }

    /// Sends `signal` to the program, not to its children. A program that has ended ignores it.
    pub fn signal(&self, signal: Signal) {
        // It fails only where the process is gone, which the caller sees when it waits.
        let _ = kill(Pid::from_raw(self.child.id() as i32), signal);
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        contents(&self.stdout)
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        contents(&self.stderr)
    }

    /// Waits for its end, at most for `limit`; then it is killed.
    ///
    /// # Errors
    ///
    /// [`ProcessError::TooSlow`] where it had to be killed.
    pub fn finish(mut self, limit: Duration) -> Result<Outcome, ProcessError> {
        let status = wait_for(limit, || self.ended().transpose()).transpose()?;
        let stderr = self.stderr();
        match status {
            Some(status) => Ok(Outcome {
                status,
                stdout: self.stdout(),
                stderr,
            }),
            None => Err(ProcessError::TooSlow {
                program: self.program.clone(),
                seconds: limit.as_secs(),
                stderr,
            }),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // The group is ours: it was made for this program.
            let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// What the program wrote into `file`.
fn contents(file: &NamedTempFile) -> String {
    match fs::read(file.path()) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("(unreadable: {error})"),
    }
}
