//! The socket: made, bound, filtered, counted.
//!
//! A socket receives nothing before [`PacketSocket::start`], so that filter, ring and descriptor store are in place before its first packet.

use std::ffi::c_int;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};
use socket2::{SockFilter, SockRef};

use crate::block::{AREA, PACKET_HEADER_BYTES, PRIVATE_BYTES};

/// What to capture on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One interface by its index; its packets begin with their link-layer header.
    Interface(u32),
    /// All interfaces at once; packets get a cooked header.
    Any,
}

/// Size of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of each block, a power of two and at least a page.
    pub block_bytes: u32,
    /// Number of blocks, at least 2.
    pub blocks: u32,
}

impl Geometry {
    /// Blocks that hold packets of `snap_length` bytes, as many as `buffer_bytes` has room for: small ones, since a block goes to the
    /// reader when it is old, too, and a ring of many blocks then lasts long under a thin load.
    #[must_use]
    pub fn for_buffer(buffer_bytes: u32, snap_length: u32) -> Self {
        const SMALLEST: u32 = 128 << 10;
        const LARGEST: u32 = 1 << 20;
        const FEWEST: u32 = 4;
        /// Header, alignment, and room for headers in front of the packet.
        const OVERHEAD: u32 = (AREA + 2 * PACKET_HEADER_BYTES) as u32;
        let packet = snap_length.min(LARGEST / 2) + OVERHEAD;
        let block_bytes = packet.next_power_of_two().max(SMALLEST);
        Self {
            block_bytes,
            blocks: (buffer_bytes / block_bytes).max(FEWEST),
        }
    }

    /// Bytes of the whole ring.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.block_bytes as usize * self.blocks as usize
    }

    /// Whether a kernel can make such a ring, and this crate read it.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let smallest = AREA.next_power_of_two().max(4096);
        self.block_bytes.is_power_of_two()
            && self.block_bytes as usize >= smallest
            && self.blocks >= 2
            && self.bytes() <= i32::MAX as usize
    }
}

/// Where a socket is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// What it captures on; `None` if the interface is gone.
    pub target: Option<Target>,
    /// `ARPHRD_` number of the interface; 0 for all of them.
    pub hardware_type: u16,
}

/// An `AF_PACKET` socket.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Makes a socket for `target` that does not receive as yet.
    ///
    /// # Errors
    /// EPERM without `CAP_NET_RAW`, ENODEV if there is no such interface.
    pub fn new(target: Target) -> io::Result<Self> {
        let kind = match target {
            Target::Interface(_) => SocketType::RAW,
            Target::Any => SocketType::DGRAM,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = Self(socket_with(AddressFamily::PACKET, kind, flags, None)?);
        socket.set(
            libc::PACKET_VERSION,
            &(libc::tpacket_versions::TPACKET_V3 as c_int),
        )?;
        // Without a protocol: the address only tells the hardware type.
        socket.bind(target, 0)?;
        // That of an interface that is down is no reason not to wait for it.
        let _ = sockopt::socket_error(&socket.0)?;
        Ok(socket)
    }

    /// Whether it is a packet socket with rings of version 3.
    ///
    /// # Errors
    /// It is another one, or no socket at all.
    pub fn check(&self) -> io::Result<()> {
        let mut version: c_int = 0;
        self.get(libc::PACKET_VERSION, &mut version)?;
        match version == libc::tpacket_versions::TPACKET_V3 as c_int {
            true => Ok(()),
            false => Err(io::Error::other(format!(
                "it is a packet socket of version {version}"
            ))),
        }
    }

    /// Makes the ring. A block that is not full goes to the reader after `retire`.
    ///
    /// # Errors
    /// The kernel refuses the geometry or has no memory; there is a ring already.
    pub fn make_ring(&self, geometry: &Geometry, retire: Duration) -> io::Result<()> {
        /// Of no meaning in version 3 except that the numbers must agree.
        const FRAME: u32 = 2048;
        if !geometry.is_valid() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let request = libc::tpacket_req3 {
            tp_block_size: geometry.block_bytes,
            tp_block_nr: geometry.blocks,
            tp_frame_size: FRAME,
            tp_frame_nr: geometry.block_bytes / FRAME * geometry.blocks,
            tp_retire_blk_tov: retire.as_millis().clamp(1, u32::MAX.into()) as u32,
            tp_sizeof_priv: PRIVATE_BYTES as u32,
            tp_feature_req_word: 0,
        };
        self.set(libc::PACKET_RX_RING, &request)
    }

    /// Receives frames for other stations, too, as long as the socket lives.
    ///
    /// # Errors
    /// The interface is gone.
    pub fn set_promiscuous(&self, interface: u32) -> io::Result<()> {
        let membership = libc::packet_mreq {
            mr_ifindex: interface as c_int,
            mr_type: libc::PACKET_MR_PROMISC as libc::c_ushort,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        self.set(libc::PACKET_ADD_MEMBERSHIP, &membership)
    }

    /// Puts a program of classic BPF in force, in the place of another in one step.
    ///
    /// # Errors
    /// The kernel does not take the program.
    pub fn attach(&self, program: &[SockFilter]) -> io::Result<()> {
        SockRef::from(&self.0).attach_filter(program)
    }

    /// Begins to receive.
    ///
    /// # Errors
    /// The interface is gone. One that is down is no error: packets come when it is up.
    pub fn start(&self, target: Target) -> io::Result<()> {
        self.bind(target, libc::ETH_P_ALL as u16)
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn address(&self) -> io::Result<Address> {
        // SAFETY: all zero is a valid value of this plain structure.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the pointers are valid for writes of the sizes that go with them.
        let done = unsafe {
            libc::getsockname(
                self.0.as_raw_fd(),
                (&raw mut address).cast(),
                &raw mut length,
            )
        };
        self::done(done)?;
        Ok(Address {
            target: match u32::try_from(address.sll_ifindex) {
                Ok(0) => Some(Target::Any),
                Ok(index) => Some(Target::Interface(index)),
                Err(_) => None,
            },
            hardware_type: address.sll_hatype,
        })
    }

    /// Waits for a block, `longest` at most. True if the kernel reports an error instead: the interface went down or away.
    pub fn wait(&self, longest: Duration) -> bool {
        let longest = Timespec {
            tv_sec: longest.as_secs() as i64,
            tv_nsec: longest.subsec_nanos().into(),
        };
        let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut polled, Some(&longest)) {
            Ok(ready) if ready > 0 && !polled[0].revents().contains(PollFlags::IN) => {
                // Read once it is reported no more, and waiting waits again.
                let _ = sockopt::socket_error(&self.0);
                true
            }
            Ok(_) => false,
            Err(error) => error != rustix::io::Errno::INTR,
        }
    }

    /// Reads the kernel's counters, packets received (dropped ones included) and dropped, and sets them to zero.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn take_counters(&self) -> io::Result<(u32, u32)> {
        let mut counters = libc::tpacket_stats_v3 {
            tp_packets: 0,
            tp_drops: 0,
            tp_freeze_q_cnt: 0,
        };
        self.get(libc::PACKET_STATISTICS, &mut counters)?;
        Ok((counters.tp_packets, counters.tp_drops))
    }

    /// The same into memory that outlives this process; zero where the kernel does not write.
    ///
    /// # Safety
    /// `counters` must be valid for writes of twelve bytes that nothing else accesses meanwhile.
    pub(crate) unsafe fn take_counters_into(&self, counters: *mut [u32; 3]) -> io::Result<()> {
        let mut length = size_of::<[u32; 3]>() as libc::socklen_t;
        // SAFETY: the caller vouches for the memory; the kernel writes no more than `length` says.
        let done = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                counters.cast(),
                &raw mut length,
            )
        };
        self::done(done)
    }

    fn bind(&self, target: Target, protocol: u16) -> io::Result<()> {
        // SAFETY: all zero is a valid value of this plain structure.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as libc::c_ushort;
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = match target {
            Target::Interface(index) => index as c_int,
            Target::Any => 0,
        };
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the address is valid for reads of its size.
        done(unsafe { libc::bind(self.0.as_raw_fd(), (&raw const address).cast(), length) })
    }

    fn set<T: Plain>(&self, option: c_int, value: &T) -> io::Result<()> {
        // SAFETY: the value is valid for reads of its size.
        done(unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                option,
                (&raw const *value).cast(),
                size_of::<T>() as libc::socklen_t,
            )
        })
    }

    fn get<T: Plain>(&self, option: c_int, value: &mut T) -> io::Result<()> {
        let mut length = size_of::<T>() as libc::socklen_t;
        // SAFETY: the value is valid for writes of its size, and any bytes make one (`Plain`).
        done(unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                option,
                (&raw mut *value).cast(),
                &raw mut length,
            )
        })
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A descriptor that another process has kept, whatever it is: calls fail on one that is no packet socket, see [`PacketSocket::check`].
impl From<OwnedFd> for PacketSocket {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

/// Option values: integers and structures of integers, of which any bytes are a value.
trait Plain: Copy {}
impl Plain for c_int {}
impl Plain for libc::tpacket_req3 {}
impl Plain for libc::tpacket_stats_v3 {}
impl Plain for libc::packet_mreq {}

fn done(done: c_int) -> io::Result<()> {
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
