//! How a process comes by its shared regions.
//!
//! capd makes all regions and listens on `capd.sock` (`SOCK_SEQPACKET`) in the run directory. A peer
//! names its role; capd answers with one descriptor per region: writable for the regions that the
//! role writes, read-only for the others. The connection stays open for filter snapshots:
//!
//! | request | descriptor with it | reply | descriptor with it |
//! |---|---|---|---|
//! | `attach` role, worker | - | `regions`, in the order of the descriptors | one per region |
//! | `fetch_filters` | - | `filters` generation (0: none) | the snapshot, if any |
//! | `publish_filters` generation | the sealed snapshot | `published` generation | - |
//!
//! Messages are small JSON objects; a refusal is `{"refused": reason}`. Whoever reads a descriptor checks
//! what it holds ([`shm_layout::region`]); this module only carries them.

use crate::fd_store::has_hung_up;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg,
    sendmsg, socket_with,
};
use serde::{Deserialize, Serialize};
use shm_layout::forwarder::Forwarder;
use shm_layout::layout::{Geometry, Kind, RegionId};
use shm_layout::log::{LogReader, LogWriter};
use shm_layout::region::{OwnedRegion, Region, RegionError};
use shm_layout::ring::{RingReader, RingWriter};
use shm_layout::session::Session;
use shm_layout::worker::Worker;
use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Name of the socket in the run directory.
pub const SOCKET: &str = "capd.sock";
/// Version of this protocol; both sides must speak the same.
pub const PROTOCOL: u32 = 1;
/// Most descriptors of one message (the kernel's limit is 253).
pub const MOST_DESCRIPTORS: usize = 250;
/// Longest message, in bytes.
const LONGEST: usize = 64 << 10;

/// What a process is for, and so which regions it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A worker: writes its rx cursors, its own region, its tx ring and its logs; reads the calls of the other workers, and the secrets of TLS sessions.
    Worker,
    /// The forwarder: writes its own region and the tx cursors.
    Forwarder,
    /// Whoever only looks: writes nothing.
    Observer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Worker => "worker",
            Role::Forwarder => "forwarder",
            Role::Observer => "observer",
        })
    }
}

/// What a peer asks of capd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Hand out the regions of a role.
    Attach {
        /// Must be [`PROTOCOL`].
        protocol: u32,
        /// The role asked for.
        role: Role,
        /// Index of a worker, 0 for other roles.
        worker: u16,
    },
    /// Hand out the current filter snapshot.
    FetchFilters {},
    /// Take over a filter snapshot (forwarder only; the descriptor comes with the message).
    PublishFilters {
        /// Its generation, higher than any before.
        generation: u64,
    },
}

/// What capd answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// The regions, in the order of the descriptors: kind, worker, queue.
    Regions(Vec<(u16, u16, u16)>),
    /// Generation of the snapshot that comes along, 0 when there is none.
    Filters(u64),
    /// The snapshot of this generation is what workers get from now on.
    Published(u64),
    /// Why the request was not granted.
    Refused(String),
}

/// Why attaching failed.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Nobody listens, or the connection broke.
    #[error("{call} on {path}: {errno}; does lc-capd run?")]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Which call failed.
        call: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
    /// capd is there, but does not answer.
    #[error("lc-capd does not answer on {path}: it stands still, or has too much to do")]
    Silent {
        /// The socket.
        path: PathBuf,
    },
    /// capd said no.
    #[error("lc-capd refused: {0}")]
    Refused(String),
    /// The peer's message is not of this protocol.
    #[error("the message on {SOCKET} is malformed: {0}")]
    Malformed(String),
    /// A region that the role needs did not come along.
    #[error("lc-capd did not hand out region {0}")]
    Missing(RegionId),
    /// A region does not check out.
    #[error(transparent)]
    Region(#[from] RegionError),
}

/// A message with the descriptors that came along.
#[derive(Debug)]
pub struct Received<T> {
    /// The message.
    pub message: T,
    /// Descriptors, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// Sends one message.
///
/// # Errors
/// What the kernel says, `EMSGSIZE` for more than [`MOST_DESCRIPTORS`].
pub fn send(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let text = serde_json::to_vec(message).map_err(|_| Errno::INVAL)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let rights = SendAncillaryMessage::ScmRights(descriptors);
    if !descriptors.is_empty() && !ancillary.push(rights) {
        return Err(Errno::MSGSIZE);
    }
    sendmsg(
        socket,
        &[IoSlice::new(&text)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Receives one message; `None` when the peer has closed the connection.
///
/// # Errors
/// [`AttachError::Malformed`], or [`AttachError::Socket`] with what the kernel says.
pub fn receive<T: for<'de> Deserialize<'de>>(
    socket: BorrowedFd<'_>,
) -> Result<Option<Received<T>>, AttachError> {
    let mut text = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut text)];
    let received =
        recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC).map_err(|errno| {
            AttachError::Socket {
                path: SOCKET.into(),
                call: "recvmsg",
                errno,
            }
        })?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    serde_json::from_slice(&text[..received.bytes])
        .map(|message| {
            Some(Received {
                message,
                descriptors,
            })
        })
        .map_err(|error| AttachError::Malformed(error.to_string()))
}

/// Longest wait for an answer. capd answers at once, unless it is just being replaced.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for those who only look.
const OBSERVER_PATIENCE: Duration = Duration::from_secs(1);

/// A connection to capd's broker.
pub struct Broker {
    socket: OwnedFd,
    path: PathBuf,
}

impl Broker {
    /// Connects to capd in `run_dir`.
    ///
    /// # Errors
    /// [`AttachError::Socket`] when nobody listens.
    pub fn connect(run_dir: &Path) -> Result<Self, AttachError> {
        Self::connect_for(run_dir, PATIENCE)
    }

    fn connect_for(run_dir: &Path, patience: Duration) -> Result<Self, AttachError> {
        let path = run_dir.join(SOCKET);
        let failed = |call| {
            let path = path.clone();
            move |errno| AttachError::Socket { path, call, errno }
        };
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(failed("socket"))?;
        let address = SocketAddrUnix::new(&path).map_err(failed("address"))?;
        connect(&socket, &address).map_err(failed("connect"))?;
        rustix::net::sockopt::set_socket_timeout(
            &socket,
            rustix::net::sockopt::Timeout::Recv,
            Some(patience),
        )
        .map_err(failed("set time-out"))?;
        Ok(Self { socket, path })
    }

    /// Whether nobody will ever answer on this connection again: capd is gone and left no successor that goes on with its
    /// regions.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        has_hung_up(&self.socket)
    }

    fn ask(
        &self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Received<Reply>, AttachError> {
        let failed = |call, errno| AttachError::Socket {
            path: self.path.clone(),
            call,
            errno,
        };
        send(self.socket.as_fd(), request, descriptors).map_err(|errno| failed("send", errno))?;
        let reply = match receive::<Reply>(self.socket.as_fd()) {
            Ok(reply) => reply.ok_or_else(|| failed("receive", Errno::CONNRESET))?,
            Err(AttachError::Socket {
                errno: Errno::AGAIN,
                ..
            }) => {
                return Err(AttachError::Silent {
                    path: self.path.clone(),
                });
            }
            Err(error) => return Err(error),
        };
        match reply.message {
            Reply::Refused(reason) => Err(AttachError::Refused(reason)),
            _ => Ok(reply),
        }
    }

    fn attach(&self, role: Role, worker: u16) -> Result<Regions, AttachError> {
        let reply = self.ask(
            &Request::Attach {
                protocol: PROTOCOL,
                role,
                worker,
            },
            &[],
        )?;
        let Reply::Regions(list) = reply.message else {
            return Err(AttachError::Malformed(format!(
                "{:?} is no list of regions",
                reply.message
            )));
        };
        if list.len() != reply.descriptors.len() {
            let (regions, fds) = (list.len(), reply.descriptors.len());
            return Err(AttachError::Malformed(format!(
                "{regions} regions, {fds} descriptors"
            )));
        }
        let ids = list.into_iter().filter_map(|(kind, worker, queue)| {
            Some(RegionId {
                kind: Kind::from_number(kind)?,
                worker,
                queue,
            })
        });
        Ok(Regions {
            list: ids.zip(reply.descriptors).collect(),
        })
    }

    /// The current filter snapshot, to be read by [`shm_layout::filters::Snapshot::read`]; `None` before
    /// the forwarder has published one.
    ///
    /// # Errors
    /// [`AttachError::Socket`] when capd is gone.
    pub fn fetch_filters(&self) -> Result<Option<OwnedFd>, AttachError> {
        Ok(self
            .ask(&Request::FetchFilters {}, &[])?
            .descriptors
            .into_iter()
            .next())
    }

    /// Hands a sealed snapshot to capd; when this returns, workers can fetch it.
    ///
    /// # Errors
    /// [`AttachError::Refused`] for a snapshot that capd does not accept.
    pub fn publish_filters(&self, generation: u64, fd: BorrowedFd<'_>) -> Result<(), AttachError> {
        self.ask(&Request::PublishFilters { generation }, &[fd])
            .map(|_| ())
    }
}

/// Descriptors by region.
struct Regions {
    list: Vec<(RegionId, OwnedFd)>,
}

impl Regions {
    fn get(&self, id: RegionId) -> Result<BorrowedFd<'_>, AttachError> {
        let found = self.list.iter().find(|(listed, _)| *listed == id);
        found
            .map(|(_, fd)| fd.as_fd())
            .ok_or(AttachError::Missing(id))
    }

    fn session(&self) -> Result<(Region<Session>, Geometry), AttachError> {
        let id = RegionId::single(Kind::Session);
        let session = Region::<Session>::attach(self.get(id)?, id)?;
        let geometry = session.geometry()?;
        Ok((session, geometry))
    }

    fn forwarder(&self) -> Result<Region<Forwarder>, AttachError> {
        let id = RegionId::single(Kind::Forwarder);
        Ok(Region::attach(self.get(id)?, id)?)
    }

    fn calls(&self, worker: u16) -> Result<LogReader, AttachError> {
        let id = RegionId::of_worker(Kind::Calls, worker);
        Ok(LogReader::attach(id, self.get(id)?)?)
    }

    fn workers(&self, geometry: &Geometry) -> Result<Vec<Region<Worker>>, AttachError> {
        (0..geometry.workers)
            .map(|worker| {
                let id = RegionId::of_worker(Kind::Worker, worker);
                Ok(Region::attach(self.get(id)?, id)?)
            })
            .collect()
    }
}

/// The regions that a role gets, and which of them writable. capd hands out exactly these.
#[must_use]
pub fn regions_of(role: Role, worker: u16, geometry: &Geometry) -> Vec<(RegionId, bool)> {
    let Geometry {
        workers, queues, ..
    } = *geometry;
    let session = (RegionId::single(Kind::Session), false);
    let forwarder = |writable| (RegionId::single(Kind::Forwarder), writable);
    match role {
        Role::Worker => {
            let mut list = vec![
                session,
                forwarder(false),
                (RegionId::of_worker(Kind::Worker, worker), true),
                (RegionId::of_worker(Kind::Tx, worker), true),
                (RegionId::of_worker(Kind::TxCursor, worker), false),
                (RegionId::of_worker(Kind::Held, worker), true),
                (RegionId::single(Kind::Keys), false),
            ];
            // Its own to write, those of the others to read.
            list.extend((0..workers).map(|n| (RegionId::of_worker(Kind::Calls, n), n == worker)));
            for queue in 0..queues {
                list.push((RegionId::of_queue(Kind::Rx, worker, queue), false));
                list.push((RegionId::of_queue(Kind::RxCursor, worker, queue), true));
            }
            list
        }
        Role::Forwarder => {
            let mut list = vec![session, forwarder(true)];
            for worker in 0..workers {
                list.push((RegionId::of_worker(Kind::Worker, worker), false));
                list.push((RegionId::of_worker(Kind::Tx, worker), false));
                list.push((RegionId::of_worker(Kind::TxCursor, worker), true));
            }
            list
        }
        Role::Observer => {
            let mut list = vec![session, forwarder(false)];
            list.extend((0..workers).map(|n| (RegionId::of_worker(Kind::Worker, n), false)));
            list.extend((0..workers).map(|n| (RegionId::of_worker(Kind::Calls, n), false)));
            list
        }
    }
}

/// Everything that a worker works on.
pub struct WorkerRegions {
    /// The worker's index.
    pub index: u16,
    /// Geometry, interfaces, capture state.
    pub session: Region<Session>,
    /// Number and sizes of the rings and logs.
    pub geometry: Geometry,
    /// Current filter generation.
    pub forwarder: Region<Forwarder>,
    /// The worker's own state.
    pub worker: OwnedRegion<Worker>,
    /// One rx ring per capture thread.
    pub rx: Vec<RingReader>,
    /// The tx ring.
    pub tx: RingWriter,
    /// What the worker knows of calls.
    pub calls: LogWriter,
    /// Packets that wait for a verdict.
    pub held: LogWriter,
    /// Secrets of TLS sessions.
    pub keys: LogReader,
    /// What the other workers know of calls.
    pub peers: Vec<Peer>,
    /// For filter snapshots; shared with the thread that fetches them.
    pub broker: Arc<Broker>,
}

/// Another worker, as a worker sees it.
pub struct Peer {
    /// Its index.
    pub worker: u16,
    /// What it knows of calls.
    pub calls: LogReader,
}

impl WorkerRegions {
    /// Attaches as worker `index` to the capd of `run_dir`.
    ///
    /// # Errors
    /// See [`AttachError`]; [`AttachError::Socket`] means that it is worth trying again.
    pub fn attach(run_dir: &Path, index: u16) -> Result<Self, AttachError> {
        let broker = Broker::connect(run_dir)?;
        let regions = broker.attach(Role::Worker, index)?;
        let (session, geometry) = regions.session()?;
        let own = RegionId::of_worker(Kind::Worker, index);
        let tx = RegionId::of_worker(Kind::Tx, index);
        let tx_cursor = RegionId::of_worker(Kind::TxCursor, index);
        let rx = (0..geometry.queues)
            .map(|queue| {
                let id = RegionId::of_queue(Kind::Rx, index, queue);
                let cursor = RegionId {
                    kind: Kind::RxCursor,
                    ..id
                };
                Ok(RingReader::attach(
                    id,
                    regions.get(id)?,
                    regions.get(cursor)?,
                )?)
            })
            .collect::<Result<_, AttachError>>()?;
        let calls = RegionId::of_worker(Kind::Calls, index);
        let held = RegionId::of_worker(Kind::Held, index);
        let keys = RegionId::single(Kind::Keys);
        let others = (0..geometry.workers).filter(|worker| *worker != index);
        let peers = others
            .map(|worker| {
                let calls = regions.calls(worker)?;
                Ok(Peer { worker, calls })
            })
            .collect::<Result<_, AttachError>>()?;
        Ok(Self {
            index,
            forwarder: regions.forwarder()?,
            worker: OwnedRegion::attach(regions.get(own)?, own)?,
            rx,
            tx: RingWriter::attach(tx, regions.get(tx)?, regions.get(tx_cursor)?)?,
            calls: LogWriter::attach(calls, regions.get(calls)?)?,
            held: LogWriter::attach(held, regions.get(held)?)?,
            keys: LogReader::attach(keys, regions.get(keys)?)?,
            peers,
            session,
            geometry,
            broker: Arc::new(broker),
        })
    }
}

/// Everything that the forwarder works on.
pub struct ForwarderRegions {
    /// Geometry, capture state and counters.
    pub session: Region<Session>,
    /// Number and sizes of the rings and logs.
    pub geometry: Geometry,
    /// The forwarder's own state.
    pub forwarder: OwnedRegion<Forwarder>,
    /// State of the workers.
    pub workers: Vec<Region<Worker>>,
    /// One tx ring per worker.
    pub tx: Vec<RingReader>,
    /// For filter snapshots.
    pub broker: Broker,
}

impl ForwarderRegions {
    /// Attaches as the forwarder to the capd of `run_dir`.
    ///
    /// # Errors
    /// See [`AttachError`]; [`AttachError::Socket`] means that it is worth trying again.
    pub fn attach(run_dir: &Path) -> Result<Self, AttachError> {
        let broker = Broker::connect(run_dir)?;
        let regions = broker.attach(Role::Forwarder, 0)?;
        let (session, geometry) = regions.session()?;
        let own = RegionId::single(Kind::Forwarder);
        let tx = (0..geometry.workers)
            .map(|worker| {
                let id = RegionId::of_worker(Kind::Tx, worker);
                let cursor = RegionId {
                    kind: Kind::TxCursor,
                    ..id
                };
                Ok(RingReader::attach(
                    id,
                    regions.get(id)?,
                    regions.get(cursor)?,
                )?)
            })
            .collect::<Result<_, AttachError>>()?;
        Ok(Self {
            forwarder: OwnedRegion::attach(regions.get(own)?, own)?,
            workers: regions.workers(&geometry)?,
            tx,
            session,
            geometry,
            broker,
        })
    }
}

/// Everything that can be seen of a running node, read-only.
pub struct Observer {
    /// Geometry, interfaces, capture state and counters.
    pub session: Region<Session>,
    /// Number and sizes of the rings and logs.
    pub geometry: Geometry,
    /// State and counters of the forwarder.
    pub forwarder: Region<Forwarder>,
    /// State and counters of the workers.
    pub workers: Vec<Region<Worker>>,
    /// What each worker knows of calls.
    pub calls: Vec<LogReader>,
}

impl Observer {
    /// Attaches as an observer to the capd of `run_dir`. What is seen stays readable after the
    /// processes have ended.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub fn attach(run_dir: &Path) -> Result<Self, AttachError> {
        let regions = Broker::connect_for(run_dir, OBSERVER_PATIENCE)?.attach(Role::Observer, 0)?;
        let (session, geometry) = regions.session()?;
        Ok(Self {
            forwarder: regions.forwarder()?,
            workers: regions.workers(&geometry)?,
            calls: (0..geometry.workers)
                .map(|worker| regions.calls(worker))
                .collect::<Result<_, _>>()?,
            session,
            geometry,
        })
    }
}
