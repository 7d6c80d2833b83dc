//! Sockets in the descriptor store: they outlive capd, and the kernel goes on filling and counting.
//!
//! A name says what the socket is, for which capture thread, and when it was made, so that none is used twice; that of a ring tells its
//! blocks' number and size, too: `packet.0.81234567.128.131072`.

use std::os::fd::{AsFd, OwnedFd};

use lc_daemon::fd_store;
use packet_socket::{Geometry, PacketSocket, Ring};

use super::LiveOptions;
use super::program::{REJECT_ALL, for_kernel};

/// Captured through our own ring, which a successor can read.
const PACKET: &str = "packet";
/// Captured through libpcap, whose ring a successor cannot read; it can count.
const PCAP: &str = "pcap";

/// What predecessors of one capture thread left, oldest first.
#[derive(Default)]
pub struct Left {
    sockets: Vec<(String, OwnedFd)>,
}

impl Left {
    /// Takes the sockets of capture thread `queue` out of what the service manager has passed.
    pub fn take_from(passed: &mut Vec<(String, OwnedFd)>, queue: u16) -> Self {
        let of_queue = |name: &str| Name::parse(name).is_some_and(|name| name.queue == queue);
        let sockets = passed.extract_if(.., |(name, _)| of_queue(name));
        let mut sockets: Vec<_> = sockets.collect();
        sockets.sort_by_key(|(name, _)| Name::parse(name).map(|name| name.made));
        Self { sockets }
    }

    /// Drops the sockets that no capture thread has taken: the configuration names fewer interfaces now.
    pub fn drop_rest(passed: &mut Vec<(String, OwnedFd)>) {
        for (name, socket) in passed.extract_if(.., |(name, _)| Name::parse(name).is_some()) {
            let counted = PacketSocket::from(socket).take_counters();
            let (received, _) = counted.unwrap_or_default();
            tracing::warn!(
                name,
                packets = received,
                "a predecessor captured what is not captured any more; what its socket held is given up, at most so many packets"
            );
            fd_store::remove(&name);
        }
    }

    /// A socket that can be read on, if the last one is of that kind, and those of which only the counters are of use.
    pub(super) fn split(mut self) -> (Option<KeptRing>, Vec<KeptSocket>) {
        let ring = self.sockets.last().and_then(|(name, socket)| {
            let geometry = Name::parse(name)?.geometry?;
            match open(socket, &geometry) {
                Ok(ring) => Some((name.clone(), ring)),
                Err(error) => {
                    tracing::warn!(name, %error, "the socket of a predecessor cannot be read on");
                    None
                }
            }
        });
        if ring.is_some() {
            self.sockets.pop();
        }
        let others = self.sockets.into_iter().map(|(name, socket)| KeptSocket {
            name,
            socket: socket.into(),
        });
        let ring = ring.map(|(name, ring)| KeptRing { name, ring });
        (ring, others.collect())
    }
}

/// A predecessor's ring, of any size.
pub(super) struct KeptRing {
    pub(super) name: String,
    pub(super) ring: Ring,
}

/// A predecessor's socket.
pub(super) struct KeptSocket {
    pub(super) name: String,
    pub(super) socket: PacketSocket,
}

impl KeptSocket {
    /// Lets it receive nothing more.
    pub(super) fn shut(&self) {
        if let Err(error) = self.socket.attach(&for_kernel(&[REJECT_ALL], None, 0)) {
            tracing::warn!(name = self.name, %error, "the socket of a predecessor cannot be shut");
        }
    }
}

/// The ring's size for these options.
pub(super) fn geometry(options: &LiveOptions) -> Geometry {
    Geometry::for_buffer(options.kernel_buffer, options.snap_length)
}

/// Stores the socket of an open capture; its name.
pub(super) fn store(ring: Option<Geometry>, queue: u16, socket: impl AsFd) -> String {
    let made = shm_layout::monotonic_ns();
    let name = match ring {
        Some(Geometry {
            block_bytes,
            blocks,
        }) => format!("{PACKET}.{queue}.{made}.{blocks}.{block_bytes}"),
        None => format!("{PCAP}.{queue}.{made}"),
    };
    // One of an interface that goes down reports an error, and is to be kept all the same.
    fd_store::store_unwatched(&name, socket.as_fd());
    name
}

fn open(socket: &OwnedFd, geometry: &Geometry) -> std::io::Result<Ring> {
    Ring::inherited(socket.try_clone()?.into(), geometry)
}

/// What a name says.
struct Name {
    queue: u16,
    made: u64,
    /// Of a ring.
    geometry: Option<Geometry>,
}

impl Name {
    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('.');
        let kind = parts.next()?;
        let mut number = || parts.next()?.parse::<u64>().ok();
        let (queue, made) = (number()?, number()?);
        let geometry = match kind {
            PACKET => Some(Geometry {
                blocks: number()?.try_into().ok()?,
                block_bytes: number()?.try_into().ok()?,
            }),
            PCAP => None,
            _ => return None,
        };
        Some(Self {
            queue: queue.try_into().ok()?,
            made,
            geometry,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_capture_thread_gets_its_own_in_the_order_of_their_making() {
        let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let names = [
            "packet.1.30.128.131072",
            "region",
            "pcap.1.7",
            "packet.0.8.4.4096",
            "packet.x.9.4.4096",
            "packet.1",
            "filters",
            "packet.7.1.4.4096",
        ];
        let mut passed: Vec<_> = names.map(|name| (name.to_owned(), file())).into();
        let of = |left: Left| -> Vec<String> {
            left.sockets.into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(
            of(Left::take_from(&mut passed, 1)),
            ["pcap.1.7", "packet.1.30.128.131072"]
        );
        assert_eq!(of(Left::take_from(&mut passed, 0)), ["packet.0.8.4.4096"]);
        assert_eq!(of(Left::take_from(&mut passed, 2)), [""; 0]);
        Left::drop_rest(&mut passed);
        let names: Vec<_> = passed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["region", "packet.x.9.4.4096", "packet.1", "filters"]
        );
    }
}
