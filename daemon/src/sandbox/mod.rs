//! The walls that each daemon puts around itself before it touches input, whoever started it.
//!
//! [`enter`] takes away, for the rest of the process's life and for every thread that it starts later:
//!
//! | wall | capture | worker | forwarder |
//! |---|---|---|---|
//! | capabilities | `CAP_NET_RAW` (live) or `CAP_DAC_READ_SEARCH` (files) | none | none |
//! | files (landlock) | capture files, run directory, `/proc`, `/sys`, name services | none | TLS files, `/proc`, control groups, name services; the disk buffer's directory for writing |
//! | TCP (landlock) | none | none | connects to the processors' ports and to name servers |
//! | system calls (seccomp) | allow-list | allow-list without `socket`, `open`, `clone`, executable memory | allow-list |
//! | privileges | `no_new_privs`: no program that it could start would gain any | same | same |
//! | memory | not dumpable: no other process of the user can trace it or read its memory | same | same |
//!
//! A system call outside the list kills the process by SIGSYS, which the supervisor reports: it is the mark of a process that was taken
//! over. A few calls that libraries try in good faith are refused with an error instead.
//!
//! What it does not do: it does not limit memory or CPU time (units do), and it does not hide what the allowed calls show.
//!
//! A kernel without landlock or seccomp is refused, with `--no-sandbox` as the way out. Landlock came with Linux 5.13; rules for TCP (6.7)
//! and for signals (6.12) are added where the kernel has them.

mod capabilities;
mod files;
mod profile;
mod system_calls;

use std::fs;
use std::os::fd::RawFd;
use std::sync::OnceLock;

use nix::errno::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::set_no_new_privs;
use shm_layout::protection::Protection;

pub use profile::{Profile, inherited_sources};

/// Why the walls do not stand.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The kernel lacks landlock, or it is switched off.
    #[error(
        "sandbox: this kernel does not enforce landlock (Linux 5.13 or newer with lsm=landlock is needed); \
         to run without protection give --no-sandbox"
    )]
    NoLandlock,
    /// The kernel refused a step.
    #[error("sandbox: {step}: {cause}; to run without protection give --no-sandbox")]
    Step {
        /// What was tried.
        step: &'static str,
        /// What the kernel or the library said.
        cause: String,
    },
}

static IN_FORCE: OnceLock<Protection> = OnceLock::new();

/// What protects this process: to be shown in the region that it writes.
#[must_use]
pub fn in_force() -> Protection {
    IN_FORCE
        .get()
        .copied()
        .unwrap_or_else(|| Protection::none(capabilities::permitted()))
}

/// Raises the walls. Call it before any thread is started: landlock and capabilities belong to threads.
///
/// # Errors
/// [`SandboxError`]; some walls may stand then, so the process should end.
pub fn enter(profile: &Profile) -> Result<(), SandboxError> {
    enter_with(profile, || Ok(()))
}

/// As [`enter`], for a process that can't start threads afterwards: `threads` starts them, behind all walls but the last, which then
/// rises around all of them.
///
/// # Errors
/// As [`enter`], and what `threads` says.
pub fn enter_with<T>(
    profile: &Profile,
    threads: impl FnOnce() -> std::io::Result<T>,
) -> Result<T, SandboxError> {
    // Needs a socket, which a worker can't make any more.
    crate::ready::connect();
    let failed = |step| {
        move |errno: rustix::io::Errno| SandboxError::Step {
            step,
            cause: errno.to_string(),
        }
    };
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed("not dumpable"))?;
    set_no_new_privs(true).map_err(failed("no_new_privs"))?;
    files::restrict(profile)?;
    capabilities::keep_only(profile.capabilities)?;
    let protection = Protection {
        seccomp: true,
        landlock: true,
        no_new_privileges: true,
        not_dumpable: true,
        capabilities: capabilities::permitted(),
    };
    let threads = threads().map_err(|error| SandboxError::Step {
        step: "start threads",
        cause: error.to_string(),
    })?;
    // Last: it forbids the calls that the others make.
    system_calls::restrict(profile.system_calls)?;
    // A second call would have been refused by the walls of the first.
    let _ = IN_FORCE.set(protection);
    tracing::debug!(%protection, "sandbox");
    Ok(threads)
}

/// Says in the log that nothing protects this process.
pub fn left_off() {
    tracing::warn!("--no-sandbox: whoever takes this process over can do all that its user can");
}

/// Closes what this process got from the one that started it, besides standard input, output and error and the descriptors in `keep`.
/// Call it first thing in `main`: it takes every descriptor for inherited.
pub fn close_inherited(keep: &[RawFd]) {
    let Ok(list) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    let open: Vec<RawFd> = list
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2 && !keep.contains(fd))
        .collect();
    for fd in open {
        // The directory's own is closed already.
        let _: Result<(), Errno> = nix::unistd::close(fd);
    }
}
