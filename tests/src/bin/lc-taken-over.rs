//! A worker that was taken over: it starts as `lc-workerd` does, and from there does what an attacker would.
//!
//! It tries one attack and says how that went by its exit code: 0 when it got through, 10 when it was refused with an error. An attack that
//! the sandbox answers by killing ends it by SIGSYS. `run-without-landlock` is another thing: it runs a program as on a kernel that has none.

#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;

use clap::{Parser, Subcommand, ValueEnum};
use lc_daemon::attach::{PROTOCOL, Reply, Request, Role, SOCKET, receive, send};
use lc_daemon::config::Config;
use lc_daemon::pinning::Allowed;
use lc_daemon::signals::Signals;
use lc_daemon::{logging, sandbox};
use lc_workerd::start::attach_and_confine;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::ptrace;
use nix::sys::signal::kill;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::unistd::Pid;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// The attack was refused with an error.
const REFUSED: u8 = 10;
/// The attack could not be tried.
const NOT_TRIED: u8 = 11;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Start as a worker, then attack.
    Attack(Attack),
    /// Run a program as on a kernel without landlock.
    RunWithoutLandlock {
        program: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(clap::Args)]
struct Attack {
    how: How,
    #[arg(long)]
    config: PathBuf,
    #[arg(long)]
    index: u16,
    /// Another process of the node.
    #[arg(long)]
    victim: i32,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum How {
    /// Do nothing: the control.
    Nothing,
    /// Open a network socket.
    Network,
    /// Read a file that everybody may read.
    ReadFile,
    /// Write a file.
    WriteFile,
    /// Open another process's ring for writing.
    WriteRing,
    /// Open a region that the broker hands out for reading, anew for writing.
    WriteView,
    /// Open the own memory, where rings of others are mapped read-only, for writing.
    WriteMemory,
    /// Trace another process.
    Trace,
    /// Ask whether another process would take a signal.
    Signal,
    /// Mount a file system.
    Mount,
    /// Become another program.
    Execute,
    /// Start a process.
    Fork,
    /// Start a thread.
    Thread,
}

fn main() -> ExitCode {
    match Arguments::parse().what {
        What::Attack(attack) => attack.run().into(),
        What::RunWithoutLandlock { program, arguments } => {
            eprintln!("{}", without_landlock(&program, &arguments));
            ExitCode::FAILURE
        }
    }
}

impl Attack {
    fn run(self) -> u8 {
        let confined = self.prepare();
        let Ok((_regions, run_dir)) = confined.inspect_err(|error| eprintln!("not tried: {error}"))
        else {
            return NOT_TRIED;
        };
        match self.how.strike(self.victim, &run_dir) {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("refused: {error}");
                REFUSED
            }
        }
    }

    /// What `lc-workerd` does before it touches a packet.
    fn prepare(&self) -> Result<(impl Sized, PathBuf), Box<dyn std::error::Error>> {
        sandbox::close_inherited(&[]);
        if self.how == How::Mount {
            // Where the attack works, nobody else sees it.
            unshare(CloneFlags::CLONE_NEWNS)?;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
        }
        let config = Config::load(&self.config)?;
        logging::init("lc-taken-over", config.log_level);
        let signals = Signals::install()?;
        let regions = attach_and_confine(&config, self.index, &signals, Allowed::now()?)?;
        Ok((regions, config.runtime_dir))
    }
}

impl How {
    fn strike(self, victim: i32, run_dir: &Path) -> io::Result<()> {
        match self {
            How::Nothing => Ok(()),
            How::Network => UdpSocket::bind("127.0.0.1:0").map(drop),
            How::ReadFile => fs::read("/etc/passwd").map(drop),
            How::WriteFile => File::create(format!("/tmp/lc-taken-over.{victim}"))
                .and_then(|_| fs::remove_file(format!("/tmp/lc-taken-over.{victim}"))),
            How::WriteRing => write_ring(victim),
            How::WriteView => write_view(run_dir),
            How::WriteMemory => OpenOptions::new()
                .write(true)
                .open("/proc/self/mem")
                .map(drop),
            How::Trace => {
                ptrace::seize(Pid::from_raw(victim), ptrace::Options::empty())?;
                Ok(())
            }
            How::Signal => Ok(kill(Pid::from_raw(victim), None)?),
            How::Mount => Ok(mount(
                Some("tmpfs"),
                "/tmp",
                Some("tmpfs"),
                MsFlags::empty(),
                None::<&str>,
            )?),
            How::Execute => Err(Command::new("/bin/true").exec()),
            How::Fork => Command::new("/bin/true").status().map(drop),
            How::Thread => thread::Builder::new()
                .spawn(|| {})
                .map(|thread| drop(thread.join())),
        }
    }
}

/// Looks for a ring among the victim's descriptors and opens it for writing.
fn write_ring(victim: i32) -> io::Result<()> {
    for entry in fs::read_dir(format!("/proc/{victim}/fd"))? {
        let path = entry?.path();
        let target = fs::read_link(&path)?;
        if target.to_string_lossy().contains("lc-hunt.rx.0") {
            return OpenOptions::new().write(true).open(path).map(drop);
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Asks the broker for everything that an observer may have, and opens it for writing.
fn write_view(run_dir: &Path) -> io::Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let connection = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    connect(
        connection.as_raw_fd(),
        &UnixAddr::new(&run_dir.join(SOCKET))?,
    )?;
    let request = Request::Attach {
        protocol: PROTOCOL,
        role: Role::Observer,
        worker: 0,
    };
    send(connection.as_fd(), &request, &[])?;
    let received = receive::<Reply>(connection.as_fd()).map_err(io::Error::other)?;
    let descriptors = received.map(|reply| reply.descriptors).unwrap_or_default();
    let first = descriptors.first().ok_or(io::ErrorKind::NotFound)?;
    let path = format!("/proc/self/fd/{}", first.as_raw_fd());
    OpenOptions::new().write(true).open(path).map(drop)
}

/// Becomes `program`, for which the kernel knows no landlock. Returns only on failure.
fn without_landlock(program: &Path, arguments: &[String]) -> String {
    let calls = [
        libc::SYS_landlock_create_ruleset,
        libc::SYS_landlock_add_rule,
        libc::SYS_landlock_restrict_self,
    ];
    let Ok(architecture) = std::env::consts::ARCH.try_into() else {
        return "an unknown architecture".to_owned();
    };
    let filter = SeccompFilter::new(
        calls.map(|call| (call, Vec::new())).into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
        architecture,
    )
    .and_then(BpfProgram::try_from);
    let installed = filter.map(|filter| seccompiler::apply_filter(&filter));
    match installed {
        Ok(Ok(())) => Command::new(program).args(arguments).exec().to_string(),
        failed => format!("{failed:?}"),
    }
}
