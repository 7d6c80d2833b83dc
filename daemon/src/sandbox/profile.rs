//! What each daemon needs, and therefore keeps.

use std::net::IpAddr;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;

use crate::config::{Address, Config, Source, Tls, Transport, Trust};

/// What a process may still do behind its walls.
#[derive(Debug)]
pub struct Profile {
    pub(super) capabilities: CapabilitySet,
    pub(super) files: Vec<(PathBuf, Opens)>,
    /// TCP ports that it may connect to; it may listen on none.
    pub(super) tcp_ports: Vec<u16>,
    pub(super) system_calls: SystemCalls,
}

/// What may be done below a path.
#[derive(Debug, Clone, Copy)]
pub(super) enum Opens {
    /// Open files for reading and list folders.
    Read,
    /// Make and remove sockets, and remove files.
    Sockets,
    /// Make, read, write, cut and remove files in the folder.
    Files,
}

/// Which list of system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SystemCalls {
    Capture,
    Worker,
    Forwarder,
}

/// Where the resolver of the C library looks. Whole folders: these files are replaced by renaming, and a rule holds on to the file, not to
/// the name. Libraries: name services are loaded when first used.
const NAME_SERVICES: &[&str] = &[
    "/etc",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
];

/// What the resolver of libpcap needs for names in filter expressions.
const FILTER_NAMES: &[&str] = &[
    "/etc/ethers",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/networks",
    "/etc/nsswitch.conf",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/run/systemd/resolve",
];

/// Name servers are asked by TCP when an answer is long.
const DNS: u16 = 53;

impl Profile {
    /// For capd: its source, the folder of the key log if there is one, the run directory where it listens, and what libpcap looks at. The run directory must exist.
    #[must_use]
    pub fn capture(config: &Config) -> Self {
        let mut files = vec![(config.runtime_dir.clone(), Opens::Sockets)];
        files.extend(FILTER_NAMES.iter().map(readable));
        // Liveness of the peers.
        files.push(readable("/proc"));
        let mut capabilities = match &config.source {
            Source::Live(_) => {
                files.push(readable("/sys"));
                CapabilitySet::NET_RAW
            }
            Source::Files(source) => {
                files.extend(source.paths.iter().map(readable));
                // A file of another user, read by root; landlock leaves nothing else to read with it.
                CapabilitySet::DAC_READ_SEARCH
            }
        };
        if let Some(log) = &config.http.key_log {
            files.extend(folders(log.path()).into_iter().map(readable));
            // It is written by other users' programs.
            capabilities |= CapabilitySet::DAC_READ_SEARCH;
        }
        Self {
            capabilities,
            files,
            tcp_ports: Vec::new(),
            system_calls: SystemCalls::Capture,
        }
    }

    /// For a worker, once it holds its regions: nothing.
    #[must_use]
    pub fn worker() -> Self {
        Self {
            capabilities: CapabilitySet::empty(),
            files: Vec::new(),
            tcp_ports: Vec::new(),
            system_calls: SystemCalls::Worker,
        }
    }

    /// For fwdd: the way to the processors, certificates that replace those of today, and the disk buffer, whose directory
    /// must exist.
    #[must_use]
    pub fn forwarder(config: &Config) -> Self {
        // Liveness and load of the node's processes; memory limits.
        let mut files = vec![readable("/proc"), readable("/sys/fs/cgroup")];
        let mut tcp_ports: Vec<u16> = config.processors.iter().map(|one| one.port).collect();
        let is_name = |one: &Address| one.host.parse::<IpAddr>().is_err();
        if config.processors.iter().any(is_name) {
            files.extend(NAME_SERVICES.iter().map(readable));
            tcp_ports.push(DNS);
        }
        if let Transport::Tls(tls) = &config.transport {
            files.extend(certificates(tls).flat_map(folders).map(readable));
        }
        if let Some(disk) = &config.disk_buffer {
            files.push((disk.dir.clone(), Opens::Files));
        }
        Self {
            capabilities: CapabilitySet::empty(),
            files,
            tcp_ports,
            system_calls: SystemCalls::Forwarder,
        }
    }
}

/// Descriptors that the configuration names as capture files (`/dev/fd/63`): capd needs to inherit them.
#[must_use]
pub fn inherited_sources(config: &Config) -> Vec<RawFd> {
    let Source::Files(files) = &config.source else {
        return Vec::new();
    };
    let number = |path: &PathBuf| {
        let path = path.to_str()?;
        let number = ["/dev/fd/", "/proc/self/fd/"]
            .iter()
            .find_map(|folder| path.strip_prefix(folder))?;
        number.parse().ok()
    };
    files.paths.iter().filter_map(number).collect()
}

fn certificates(tls: &Tls) -> impl Iterator<Item = &Path> {
    let authority = match &tls.trust {
        Trust::Ca(path) => Some(path.as_path()),
        Trust::Anyone => None,
    };
    let own = tls
        .identity
        .iter()
        .flat_map(|identity| [identity.cert.as_path(), identity.key.as_path()]);
    authority.into_iter().chain(own)
}

/// The folder of a file, and the one where it really lies if it is a symbolic link: a certificate that is renewed, or a key log that is replaced, is
/// a new file there.
fn folders(path: &Path) -> Vec<PathBuf> {
    let folder = |path: &Path| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let real = path.canonicalize().ok();
    [Some(folder(path)), real.as_deref().map(folder)]
        .into_iter()
        .flatten()
        .collect()
}

fn readable(path: impl AsRef<Path>) -> (PathBuf, Opens) {
    (path.as_ref().to_owned(), Opens::Read)
}
