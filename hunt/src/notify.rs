//! The receiving side of `sd_notify(3)`: what children say about themselves.
//!
//! Messages come over a datagram socket in the file system. The kernel adds the sender's process id, so a child cannot
//! speak for another. Messages are bounded in size; unknown fields are dropped, and so are descriptors that are not to be
//! stored.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use lc_daemon::fd_store::UNWATCHED;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// The socket that children send to; its file goes away with it.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    path: PathBuf,
}

/// One message from a child.
#[derive(Debug)]
pub struct Notice {
    /// The sender, as the kernel knows it.
    pub pid: u32,
    /// What it says.
    pub says: Vec<Saying>,
    /// What it wants to have done with descriptors.
    pub store: Option<Store>,
}

/// What is to be done with the sender's descriptors.
#[derive(Debug)]
pub enum Store {
    /// Keep these beside those that are there.
    Keep {
        /// Under this name.
        name: String,
        /// What is kept.
        descriptors: Vec<OwnedFd>,
        /// Whether one is dropped when its other end is gone.
        watched: bool,
    },
    /// Close all of this name.
    Remove(String),
}

/// One line of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saying {
    /// It is up.
    Ready,
    /// It takes in nothing more.
    Closed,
    /// What it does or waits for.
    Status(String),
}

/// What the kernel lets through in one message (`SCM_MAX_FD`).
const MOST_DESCRIPTORS: usize = 253;

/// Longer messages are cut.
const MAX_MESSAGE_BYTES: usize = 4096;

impl NotifySocket {
    /// Opens the socket at `path`, which must not exist. A child finds it through `NOTIFY_SOCKET`.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::bind(path)?;
        socket.set_nonblocking(true)?;
        rustix::net::sockopt::set_socket_passcred(&socket, true)?;
        Ok(NotifySocket {
            socket,
            path: path.to_owned(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next message, or `None` if there is none at the moment.
    pub fn receive(&self) -> io::Result<Option<Notice>> {
        let mut bytes = [0; MAX_MESSAGE_BYTES];
        let mut space = [MaybeUninit::uninit();
            rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS), ScmCredentials(1))];
        loop {
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut iov = [IoSliceMut::new(&mut bytes)];
            let received = match recvmsg(
                &self.socket,
                &mut iov,
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            ) {
                Ok(received) => received.bytes,
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut sender = None;
            let mut descriptors = Vec::new();
            for message in control.drain() {
                match message {
                    RecvAncillaryMessage::ScmCredentials(credentials) => {
                        sender = u32::try_from(credentials.pid.as_raw_nonzero().get()).ok();
                    }
                    RecvAncillaryMessage::ScmRights(rights) => descriptors.extend(rights),
                    _ => {}
                }
            }
            let Some(pid) = sender else { continue };
            let text = String::from_utf8_lossy(&bytes[..received]);
            return Ok(Some(Notice {
                pid,
                says: text.lines().filter_map(saying).collect(),
                store: store(&text, descriptors),
            }));
        }
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        // If the file is gone already, so much the better.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Reads one line; unknown ones mean nothing.
fn saying(line: &str) -> Option<Saying> {
    match line.split_once('=')? {
        ("READY", "1") => Some(Saying::Ready),
        ("X_LC_CLOSED", "1") => Some(Saying::Closed),
        ("STATUS", text) => Some(Saying::Status(text.to_owned())),
        _ => None,
    }
}

/// What a message says about descriptors. Those that nobody wants stored are closed.
fn store(text: &str, descriptors: Vec<OwnedFd>) -> Option<Store> {
    let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
    let name = name.unwrap_or("stored").to_owned();
    if text.lines().any(|line| line == "FDSTORE=1") {
        let watched = !text.lines().any(|line| line == UNWATCHED);
        Some(Store::Keep {
            name,
            descriptors,
            watched,
        })
    } else if text.lines().any(|line| line == "FDSTOREREMOVE=1") {
        Some(Store::Remove(name))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_their_sender() {
        let dir = tempfile::tempdir().unwrap();
        let socket = NotifySocket::bind(&dir.path().join("notify")).unwrap();
        assert!(socket.receive().unwrap().is_none());
        let sender = UnixDatagram::unbound().unwrap();
        sender
            .send_to(
                b"READY=1\nSTATUS=works\nFUTURE=1\nnonsense\n\xff=\n",
                socket.path(),
            )
            .unwrap();
        let notice = socket.receive().unwrap().unwrap();
        assert_eq!(notice.pid, std::process::id());
        assert_eq!(
            notice.says,
            [Saying::Ready, Saying::Status("works".to_owned())]
        );
        sender
            .send_to(&[b'x'; 10 * MAX_MESSAGE_BYTES], socket.path())
            .unwrap();
        assert_eq!(socket.receive().unwrap().unwrap().says, []);
        assert!(socket.receive().unwrap().is_none());
        let path = socket.path().to_owned();
        drop(socket);
        assert!(!path.exists());
    }
}
