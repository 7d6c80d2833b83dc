//! Seccomp: which system calls a process can make.
//!
//! Three answers to a call:
//! - *allowed*, some only with certain arguments (address families of sockets, no executable memory in a worker, threads but no processes,
//!   signals to this process alone);
//! - *refused* with an error: what the C library or a panic's backtrace tries in good faith and can do without;
//! - everything else *kills* the process.

use std::collections::BTreeMap;

use libc::{EACCES, ENOSYS};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use super::SandboxError;
use super::profile::SystemCalls;

/// Calls by number, each with the alternatives that are allowed; none means whatever the arguments.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// `prctl` option that libc lacks (Linux 6.4): the auxiliary vector, by which rustix finds the vDSO.
const PR_GET_AUXV: i32 = 0x4155_5856;

/// What every process makes: memory, waiting, time, its open descriptors, its own signals and end.
const COMMON: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_setsockopt,
    libc::SYS_sigaltstack,
    libc::SYS_write,
    libc::SYS_writev,
];

#[cfg(target_arch = "x86_64")]
const COMMON_OLD: &[i64] = &[libc::SYS_poll, libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const COMMON_OLD: &[i64] = &[];

/// What capd and fwdd need besides: files, sockets, event queues, threads.
const DAEMON: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_dup,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fstatfs,
    libc::SYS_ftruncate,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getpeername,
    libc::SYS_getrusage,
    libc::SYS_getsockname,
    libc::SYS_listen,
    libc::SYS_memfd_create,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pipe2,
    libc::SYS_pread64,
    libc::SYS_prlimit64,
    libc::SYS_readlinkat,
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    libc::SYS_shutdown,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_unlinkat,
];

#[cfg(target_arch = "x86_64")]
const DAEMON_OLD: &[i64] = &[
    libc::SYS_access,
    libc::SYS_chmod,
    libc::SYS_dup2,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_lstat,
    libc::SYS_open,
    libc::SYS_readlink,
    libc::SYS_select,
    libc::SYS_stat,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const DAEMON_OLD: &[i64] = &[];

/// What capd needs besides, to show its socket only when it is finished.
const RENAME: &[i64] = &[libc::SYS_renameat, libc::SYS_renameat2];

/// What fwdd needs besides, for the disk buffer.
const DISK: &[i64] = &[libc::SYS_fdatasync, libc::SYS_fsync, libc::SYS_pwrite64];

/// Refused to a worker: it asks for a file only to explain itself (a backtrace), or to size its heap.
const WORKER_REFUSED: &[i64] = &[
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    libc::SYS_ioctl,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_prlimit64,
    libc::SYS_readlinkat,
    libc::SYS_statx,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

#[cfg(target_arch = "x86_64")]
const WORKER_REFUSED_OLD: &[i64] = &[
    libc::SYS_access,
    libc::SYS_lstat,
    libc::SYS_open,
    libc::SYS_readlink,
    libc::SYS_stat,
];
#[cfg(not(target_arch = "x86_64"))]
const WORKER_REFUSED_OLD: &[i64] = &[];

/// Holds all threads of this process, now and later, to the list.
pub(super) fn restrict(list: SystemCalls) -> Result<(), SandboxError> {
    let failed = |cause: String| SandboxError::Step {
        step: "seccomp",
        cause,
    };
    let filters = filters(list).map_err(|error| failed(error.to_string()))?;
    for filter in &filters {
        seccompiler::apply_filter_all_threads(filter).map_err(|error| failed(error.to_string()))?;
    }
    Ok(())
}

/// The kernel takes the strictest answer of all filters: one that kills, and before it those that only refuse, of which the first may
/// not forbid the call that installs the next.
fn filters(list: SystemCalls) -> Result<Vec<BpfProgram>, BackendError> {
    let architecture: TargetArch = std::env::consts::ARCH.try_into()?;
    let refusals: &[(Vec<i64>, i32)] = match list {
        SystemCalls::Worker => &[([WORKER_REFUSED, WORKER_REFUSED_OLD].concat(), EACCES)],
        // The C library then makes its threads with `clone`, whose arguments a filter can see.
        SystemCalls::Capture | SystemCalls::Forwarder => &[(vec![libc::SYS_clone3], ENOSYS)],
    };
    let mut allowed = allowed(list)?;
    let mut programs = Vec::new();
    for (calls, errno) in refusals {
        let refused: Rules = calls.iter().map(|call| (*call, Vec::new())).collect();
        allowed.extend(refused.clone());
        let refuse = SeccompAction::Errno(errno.unsigned_abs());
        let filter = SeccompFilter::new(refused, SeccompAction::Allow, refuse, architecture)?;
        programs.push(filter.try_into()?);
    }
    let filter = SeccompFilter::new(
        allowed,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        architecture,
    )?;
    programs.push(filter.try_into()?);
    Ok(programs)
}

fn allowed(list: SystemCalls) -> Result<Rules, BackendError> {
    let mut rules = Rules::new();
    let mut allow = |calls: &[i64]| rules.extend(calls.iter().map(|call| (*call, Vec::new())));
    allow(COMMON);
    allow(COMMON_OLD);
    if list != SystemCalls::Worker {
        allow(DAEMON);
        allow(DAEMON_OLD);
    }
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, one_of(0, &[own])?);
    // Names of threads and of memory (for /proc/PID/maps), and what the kernel told at the start of the program.
    let harmless = [libc::PR_SET_NAME, libc::PR_SET_VMA, PR_GET_AUXV];
    let harmless = harmless.map(|option| option.unsigned_abs().into());
    rules.insert(libc::SYS_prctl, one_of(0, &harmless)?);
    match list {
        SystemCalls::Worker => {
            let no_code = || without(2, libc::PROT_EXEC as u64);
            rules.insert(libc::SYS_mmap, vec![no_code()?]);
            rules.insert(libc::SYS_mprotect, vec![no_code()?]);
        }
        SystemCalls::Capture => {
            rules.extend(RENAME.iter().map(|call| (*call, Vec::new())));
            rules.insert(libc::SYS_socket, one_of(0, &families(&[libc::AF_PACKET]))?);
        }
        SystemCalls::Forwarder => {
            rules.extend(DISK.iter().map(|call| (*call, Vec::new())));
            rules.insert(libc::SYS_socket, one_of(0, &families(&[]))?);
        }
    }
    if list != SystemCalls::Worker {
        let thread = libc::CLONE_THREAD as u64;
        let is_thread = condition(0, SeccompCmpOp::MaskedEq(thread), thread)?;
        rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![is_thread])?]);
        rules.insert(libc::SYS_socketpair, one_of(0, &[libc::AF_UNIX as u64])?);
        rules.insert(libc::SYS_ioctl, ioctls()?);
    }
    Ok(rules)
}

/// The families of sockets that capd and fwdd use themselves or through the resolver, and `more`.
fn families(more: &[i32]) -> Vec<u64> {
    [
        libc::AF_UNIX,
        libc::AF_NETLINK,
        libc::AF_INET,
        libc::AF_INET6,
    ]
    .iter()
    .chain(more)
    .map(|family| family.unsigned_abs().into())
    .collect()
}

/// Requests about network interfaces and non-blocking sockets, and the question whether a descriptor is a terminal.
fn ioctls() -> Result<Vec<SeccompRule>, BackendError> {
    const GROUP: u64 = 0xffff_ff00;
    const SOCKETS: u64 = 0x8900;
    const WIRELESS: u64 = 0x8b00;
    let mut rules = one_of(
        1,
        &[libc::FIONBIO, libc::FIONREAD, libc::FIOCLEX, libc::TCGETS],
    )?;
    for group in [SOCKETS, WIRELESS] {
        let in_group = condition(1, SeccompCmpOp::MaskedEq(GROUP), group)?;
        rules.push(SeccompRule::new(vec![in_group])?);
    }
    Ok(rules)
}

/// Argument `index` is one of `values`.
fn one_of(index: u8, values: &[u64]) -> Result<Vec<SeccompRule>, BackendError> {
    let rule = |value| SeccompRule::new(vec![condition(index, SeccompCmpOp::Eq, value)?]);
    values.iter().map(|value| rule(*value)).collect()
}

/// Argument `index` has none of the bits in `mask`.
fn without(index: u8, mask: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![condition(index, SeccompCmpOp::MaskedEq(mask), 0)?])
}

/// Compares the lower half of an argument: the kernel ignores the upper one of an `int`.
fn condition(index: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, op, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_compile() {
        for list in [
            SystemCalls::Capture,
            SystemCalls::Worker,
            SystemCalls::Forwarder,
        ] {
            assert_eq!(filters(list).unwrap().len(), 2);
        }
    }

    #[test]
    fn a_worker_reaches_neither_network_nor_programs_nor_processes() {
        let allowed = allowed(SystemCalls::Worker).unwrap();
        for call in [
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_openat,
            libc::SYS_execve,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_ptrace,
            libc::SYS_process_vm_writev,
            libc::SYS_mount,
            libc::SYS_kill,
            libc::SYS_memfd_create,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
        ] {
            assert!(!allowed.contains_key(&call), "{call}");
        }
    }
}
