//! The broker: a unix socket in the run directory where the other processes get their regions and filter snapshots
//! (protocol: [`lc_daemon::attach`]).
//!
//! Who may have what: the users that [`RunDir`] allows a role, as the kernel tells them (`SO_PEERCRED`). A worker's or the forwarder's
//! regions go to one living process at a time; a second one is refused, so that no region ever has two writers. Descriptors of regions that
//! a role does not write can't be opened anew for writing by another user: the files are capd's, mode 0600. Only the connection that
//! attached as forwarder may publish filters, and observers get none.
//!
//! One thread serves all connections and never blocks on one: a peer that does not read its answers is cut off.
//!
//! Connections of workers and the forwarder outlive capd, as the regions do ([`lc_daemon::fd_store`]): to them a successor is the same
//! broker. A connection that breaks means that the regions are of no use any more.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use lc_daemon::attach::{
    PROTOCOL, Received, Reply, Request, Role, SOCKET, receive, regions_of, send,
};
use lc_daemon::fd_store;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{CWD, renameat};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};
use shm_layout::filters::Snapshot;
use shm_layout::forwarder::Forwarder;
use shm_layout::layout::Geometry;
use shm_layout::peer::Identity;
use shm_layout::region::Region;
use shm_layout::worker::Worker;

use crate::regions::Regions;
use crate::run_dir::RunDir;

/// Most connections at a time; more are turned away. Workers, forwarder and supervisor are fewer than 80.
const MAX_CONNECTIONS: usize = 128;
/// The socket's name until it has its mode and listens; no longer than [`SOCKET`], for the sake of long paths.
const UNFINISHED: &str = ".capd.new";
/// Names in the descriptor store.
const SNAPSHOT_STORED_AS: &str = "filters";
const PEER_STORED_AS: &str = "peer";

/// The broker cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {path}: {call}: {errno}; is the run directory writable for this user?", path = path.display())]
pub struct ListenError {
    path: PathBuf,
    call: &'static str,
    errno: Errno,
}

/// The filter snapshot that workers get.
#[derive(Default)]
pub(crate) struct Snapshots {
    current: Mutex<Option<(u64, Arc<OwnedFd>)>>,
}

impl Snapshots {
    pub(crate) fn current(&self) -> Option<(u64, Arc<OwnedFd>)> {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The snapshots that a predecessor stored, the newest in force.
    pub(crate) fn take_from(passed: &mut Vec<(String, OwnedFd)>) -> Self {
        let snapshots = Self::default();
        for (_, fd) in passed.extract_if(.., |(name, _)| name == SNAPSHOT_STORED_AS) {
            if let Ok(snapshot) = Snapshot::read(fd.as_fd()) {
                // An older one is refused, and that is as it should be.
                let _ = snapshots.replace(snapshot.generation, fd);
            }
        }
        snapshots
    }

    /// Takes over a snapshot if it is whole, sealed and newer.
    fn publish(&self, generation: u64, fd: OwnedFd) -> Result<(), String> {
        let snapshot = Snapshot::read(fd.as_fd()).map_err(|error| error.to_string())?;
        if snapshot.generation != generation {
            return Err(format!(
                "the snapshot is of generation {}, not {generation}",
                snapshot.generation
            ));
        }
        let fd = self.replace(generation, fd)?;
        fd_store::remove(SNAPSHOT_STORED_AS);
        fd_store::store(SNAPSHOT_STORED_AS, &[fd.as_fd()]);
        Ok(())
    }

    fn replace(&self, generation: u64, fd: OwnedFd) -> Result<Arc<OwnedFd>, String> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some((newest, _)) if *newest >= generation => {
                Err(format!("generation {newest} is already published"))
            }
            _ => {
                let fd = Arc::new(fd);
                *current = Some((generation, Arc::clone(&fd)));
                Ok(fd)
            }
        }
    }
}

/// The connections to a predecessor's broker.
pub(crate) fn peers_from(passed: &mut Vec<(String, OwnedFd)>) -> Vec<OwnedFd> {
    let peers = passed.extract_if(.., |(name, _)| name == PEER_STORED_AS);
    peers.map(|(_, fd)| fd).collect()
}

/// Drops what a predecessor stored: its peers then see that it is gone for good.
pub(crate) fn forget_stored() {
    fd_store::remove(PEER_STORED_AS);
    fd_store::remove(SNAPSHOT_STORED_AS);
}

/// The broker's thread; dropping it ends the thread and removes the socket.
pub(crate) struct Broker {
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl Broker {
    /// Listens in `run_dir`.
    pub(crate) fn start(
        run_dir: RunDir,
        regions: Arc<Regions>,
        workers: Vec<Region<Worker>>,
        forwarder: Region<Forwarder>,
        snapshots: Arc<Snapshots>,
        peers: Vec<OwnedFd>,
    ) -> Result<Self, ListenError> {
        let path = run_dir.path().join(SOCKET);
        let failed = |call| {
            let path = path.clone();
            move |errno| ListenError { path, call, errno }
        };
        let io_failed = |call| {
            let failed = failed(call);
            move |error: std::io::Error| failed(Errno::from_io_error(&error).unwrap_or(Errno::IO))
        };
        let unfinished = run_dir.path().join(UNFINISHED);
        // Left behind by a predecessor that was killed; a living one would have another run directory.
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io_failed("remove an unfinished socket")(error));
            }
            _ => {}
        }
        let listener = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .map_err(failed("socket"))?;
        bind(
            &listener,
            &SocketAddrUnix::new(&unfinished).map_err(failed("address"))?,
        )
        .map_err(failed("bind"))?;
        let mode = fs::Permissions::from_mode(run_dir.socket_mode());
        fs::set_permissions(&unfinished, mode).map_err(io_failed("set permissions"))?;
        listen(&listener, MAX_CONNECTIONS as i32).map_err(failed("listen"))?;
        // In place of a killed predecessor's.
        renameat(CWD, &unfinished, CWD, &path).map_err(failed("rename"))?;
        let wake = Arc::new(
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(failed("eventfd"))?,
        );
        let mut server = Server {
            run_dir,
            listener,
            wake: Arc::clone(&wake),
            regions,
            workers,
            forwarder,
            snapshots,
            connections: Vec::new(),
        };
        for peer in peers {
            server.take_over(peer);
        }
        let thread = std::thread::Builder::new()
            .name("broker".into())
            .spawn(|| server.serve())
            .map_err(io_failed("start a thread"))?;
        Ok(Self {
            wake,
            thread: Some(thread),
            path,
        })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // An eventfd takes eight bytes; it can only be full, and then it wakes all the same.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the broker's thread ended by a panic");
        }
        // Nobody needs the socket any more; that it is gone already is no error.
        let _ = fs::remove_file(&self.path);
    }
}

struct Server {
    run_dir: RunDir,
    listener: OwnedFd,
    wake: Arc<OwnedFd>,
    regions: Arc<Regions>,
    workers: Vec<Region<Worker>>,
    forwarder: Region<Forwarder>,
    snapshots: Arc<Snapshots>,
    connections: Vec<Connection>,
}

struct Connection {
    socket: OwnedFd,
    pid: u32,
    uid: u32,
    /// As which the peer attached.
    role: Option<Role>,
}

impl Server {
    fn serve(mut self) {
        loop {
            let mut fds = vec![
                PollFd::new(&self.wake, PollFlags::IN),
                PollFd::new(&self.listener, PollFlags::IN),
            ];
            fds.extend(
                self.connections
                    .iter()
                    .map(|peer| PollFd::new(&peer.socket, PollFlags::IN)),
            );
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => {
                    tracing::error!(%errno, "the broker ends: it cannot wait for its peers");
                    return;
                }
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            let (own, peers) = ready.split_at(2);
            if own[0] {
                return;
            }
            let mut peers = peers.iter();
            let mut connections = std::mem::take(&mut self.connections);
            connections.retain_mut(|peer| {
                !peers.next().is_some_and(|ready| *ready) || self.serve_one(peer)
            });
            self.connections = connections;
            if own[1] {
                self.accept();
            }
        }
    }

    fn accept(&mut self) {
        let Ok(socket) = accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
        else {
            return;
        };
        let Ok(peer) = socket_peercred(&socket) else {
            return;
        };
        let uid = peer.uid.as_raw();
        if !self.run_dir.lets_in(uid) {
            tracing::warn!(
                uid,
                pid = peer.pid.as_raw_nonzero().get(),
                "a process of another user was turned away"
            );
            return;
        }
        if self.connections.len() >= MAX_CONNECTIONS {
            tracing::warn!(
                MAX_CONNECTIONS,
                "too many connections to the broker; one was turned away"
            );
            return;
        }
        let pid = peer.pid.as_raw_nonzero().get().unsigned_abs();
        self.connections.push(Connection {
            socket,
            pid,
            uid,
            role: None,
        });
    }

    /// Goes on with a connection of a predecessor's, for whoever owns a region.
    fn take_over(&mut self, socket: OwnedFd) {
        let Ok(peer) = socket_peercred(&socket) else {
            return;
        };
        let pid = peer.pid.as_raw_nonzero().get().unsigned_abs();
        let uid = peer.uid.as_raw();
        let role = if self.forwarder.owner().pid == pid {
            Role::Forwarder
        } else if self.workers.iter().any(|worker| worker.owner().pid == pid) {
            Role::Worker
        } else {
            return;
        };
        if self.run_dir.allows(uid, role) {
            self.connections.push(Connection {
                socket,
                pid,
                uid,
                role: Some(role),
            });
        }
    }

    /// Answers one request; false ends the connection.
    fn serve_one(&self, peer: &mut Connection) -> bool {
        let received = match receive::<Request>(peer.socket.as_fd()) {
            Ok(Some(received)) => received,
            Ok(None) => return false,
            Err(error) => {
                tracing::warn!(pid = peer.pid, %error, "a peer of the broker was cut off");
                return false;
            }
        };
        let answer = self.answer(peer, received);
        let (reply, descriptors) = answer.unwrap_or_else(|reason| {
            tracing::warn!(pid = peer.pid, reason, "the broker refused a request");
            (Reply::Refused(reason), Vec::new())
        });
        let descriptors: Vec<_> = descriptors.iter().map(Descriptor::as_fd).collect();
        send(peer.socket.as_fd(), &reply, &descriptors).is_ok()
    }

    fn answer(
        &self,
        peer: &mut Connection,
        received: Received<Request>,
    ) -> Result<(Reply, Vec<Descriptor<'_>>), String> {
        match received.message {
            Request::Attach { protocol, .. } if protocol != PROTOCOL => Err(format!(
                "this lc-capd speaks protocol {PROTOCOL}, not {protocol}: use programs of one release"
            )),
            // A worker that was taken over can make no other connection: it must not become another one.
            Request::Attach { .. } if peer.role.is_some() => {
                Err("this connection has attached already".into())
            }
            Request::Attach { role, worker, .. } => {
                let granted = self.attach(peer, role, worker)?;
                if role != Role::Observer && peer.role != Some(role) {
                    fd_store::store(PEER_STORED_AS, &[peer.socket.as_fd()]);
                }
                peer.role = Some(role);
                tracing::debug!(pid = peer.pid, ?role, worker, "peer attached");
                Ok(granted)
            }
            Request::FetchFilters {} if peer.role.is_none() => Err("attach first".into()),
            Request::FetchFilters {} if peer.role == Some(Role::Observer) => {
                Err("observers get no filters".into())
            }
            Request::FetchFilters {} => Ok(match self.snapshots.current() {
                Some((generation, fd)) => {
                    (Reply::Filters(generation), vec![Descriptor::Shared(fd)])
                }
                None => (Reply::Filters(0), Vec::new()),
            }),
            Request::PublishFilters { .. } if peer.role != Some(Role::Forwarder) => {
                Err("only the forwarder publishes filters".into())
            }
            Request::PublishFilters { generation } => {
                let fd = received
                    .descriptors
                    .into_iter()
                    .next()
                    .ok_or("no snapshot came along")?;
                self.snapshots.publish(generation, fd)?;
                Ok((Reply::Published(generation), Vec::new()))
            }
        }
    }

    fn attach(
        &self,
        peer: &Connection,
        role: Role,
        worker: u16,
    ) -> Result<(Reply, Vec<Descriptor<'_>>), String> {
        if !self.run_dir.allows(peer.uid, role) {
            return Err(format!(
                "the user with the id {} may not be a {role}; hunter.users names who may",
                peer.uid
            ));
        }
        let geometry: &Geometry = self.regions.geometry();
        let owner = match role {
            Role::Worker => match self.workers.get(usize::from(worker)) {
                Some(region) => region.owner(),
                None => {
                    return Err(format!(
                        "there is no worker {worker}: this node has {}",
                        geometry.workers
                    ));
                }
            },
            Role::Forwarder => self.forwarder.owner(),
            Role::Observer => NOBODY,
        };
        if owner.pid != peer.pid && owner.is_alive() {
            return Err(format!(
                "process {} already has this role and lives",
                owner.pid
            ));
        }
        let mut list = Vec::new();
        let mut descriptors = Vec::new();
        for (id, writable) in regions_of(role, worker, geometry) {
            let descriptor = if writable {
                self.regions.writable(id).map(Descriptor::Borrowed)
            } else {
                self.regions.read_only(id).map(Descriptor::Owned)
            };
            descriptors.push(descriptor.map_err(|error| error.to_string())?);
            list.push((id.kind as u16, id.worker, id.queue));
        }
        Ok((Reply::Regions(list), descriptors))
    }
}

const NOBODY: Identity = Identity { pid: 0, start: 0 };

/// A descriptor on its way out.
enum Descriptor<'a> {
    Borrowed(BorrowedFd<'a>),
    Owned(OwnedFd),
    Shared(Arc<OwnedFd>),
}

impl Descriptor<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Borrowed(fd) => *fd,
            Self::Owned(fd) => fd.as_fd(),
            Self::Shared(fd) => fd.as_fd(),
        }
    }
}
