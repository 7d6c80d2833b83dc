//! Shared regions: memfds of a fixed, sealed size, mapped writable by one process only.
//!
//! What holds here:
//! - a mapped region can't shrink (`F_SEAL_SHRINK`), so no peer can cause a SIGBUS by truncation,
//!   and its pages were allocated before the first touch, so no lack of memory can either;
//! - a receiver checks seals, size and header before it maps;
//! - [`OwnedRegion`] maps writable, [`Region`] read-only: a store through a reader's type does
//!   not compile, and the MMU holds those who bypass the types.
//!
//! Large regions take 2 MiB pages where enough are reserved, else ordinary pages that the kernel
//! is asked to collapse into huge ones ([`Backing`] says which it became).

use crate::layout::{
    FEATURES, Geometry, HEADER_BYTES, HUGE_PAGE, Header, Kind, LAYOUT_MAJOR, LAYOUT_MINOR, MAGIC,
    MAX_QUEUES, MAX_WORKERS, RING_BYTES, RegionId,
};
use crate::peer::Identity;
use crate::protection::Protection;
use crate::sync::Ordering;
use rustix::fs::{
    FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags, fallocate, fchmod, fcntl_add_seals,
    fcntl_get_seals, fstat, ftruncate, memfd_create, open,
};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

/// Why a region can't be made or attached to.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// The kernel refused a call.
    #[error("region {id}: {call} failed: {errno}")]
    System {
        /// Which region.
        id: RegionId,
        /// Which call.
        call: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
    /// Huge pages were demanded and there are too few.
    #[error(
        "region {id}: {needed} huge pages of 2 MiB are needed and not free: \
         raise vm.nr_hugepages, or run without --require-hugepages"
    )]
    NoHugePages {
        /// Which region.
        id: RegionId,
        /// Huge pages that this region takes.
        needed: usize,
    },
    /// The descriptor is not a region of ours, or not the one asked for.
    #[error("region {id}: {what} is {found:#x}, expected {expected:#x}")]
    Mismatch {
        /// Which region.
        id: RegionId,
        /// Which field differs.
        what: &'static str,
        /// What the region says.
        found: u64,
        /// What this process needs.
        expected: u64,
    },
    /// The peer was built with another layout.
    #[error(
        "region {id}: its layout is {found_major}.{found_minor}, this binary speaks \
         {LAYOUT_MAJOR}.{LAYOUT_MINOR}: upgrade the older side"
    )]
    Layout {
        /// Which region.
        id: RegionId,
        /// Layout major of the region.
        found_major: u16,
        /// Layout minor of the region.
        found_minor: u16,
    },
    /// The numbers asked for are outside the layout's limits.
    #[error(
        "{0:?} is outside the limits: {MAX_WORKERS} workers, {MAX_QUEUES} queues, rings a power of two in {RING_BYTES:?} bytes"
    )]
    Geometry(Geometry),
}

/// Whether large regions go on huge pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// Where enough are reserved, else ordinary pages.
    PreferHuge,
    /// Huge pages or [`RegionError::NoHugePages`].
    RequireHuge,
}

/// What a region's memory became.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Backing {
    /// Reserved 2 MiB pages.
    Huge = 1,
    /// Ordinary pages that the kernel collapsed into huge ones.
    Collapsed = 2,
    /// Ordinary pages.
    Ordinary = 3,
}

impl Backing {
    pub(crate) fn from_number(number: u64) -> Self {
        match number {
            1 => Self::Huge,
            2 => Self::Collapsed,
            _ => Self::Ordinary,
        }
    }
}

/// What lies behind the header of a region of one kind.
///
/// # Safety
/// Implementors are `repr(C)`, consist of atomics only (every bit pattern valid, no drop), and
/// need no alignment above 4096.
pub(crate) unsafe trait Body {
    const KIND: Kind;
}

/// A read-only view of another process's region.
pub struct Region<B> {
    map: Arc<Mapping>,
    id: RegionId,
    body_len: u64,
    body: PhantomData<B>,
}

/// A writable view of a region that this process alone writes.
pub struct OwnedRegion<B> {
    view: Region<B>,
}

#[expect(
    private_bounds,
    reason = "the set of bodies is closed: it is the layout"
)]
impl<B: Body> Region<B> {
    /// Checks seals, size and header, and maps the region read-only.
    ///
    /// # Errors
    /// See [`RegionError`]; nothing is mapped then.
    pub fn attach(fd: BorrowedFd<'_>, id: RegionId) -> Result<Self, RegionError> {
        Self::map(fd, id, ProtFlags::READ)
    }

    fn map(fd: BorrowedFd<'_>, id: RegionId, access: ProtFlags) -> Result<Self, RegionError> {
        debug_assert_eq!(id.kind, B::KIND);
        let (map, body_len) = Mapping::checked(fd, id, access, size_of::<B>())?;
        Ok(Self {
            map: Arc::new(map),
            id,
            body_len,
            body: PhantomData,
        })
    }

    pub(crate) fn body(&self) -> &B {
        // SAFETY: `Mapping::checked` made sure that the mapping holds `size_of::<B>()` bytes behind
        // the header, page-aligned; `Body` promises that any bytes make a valid `B` of atomics,
        // so stores of the writer are no data race. The mapping lives as long as `self`.
        unsafe { self.map.base.add(HEADER_BYTES).cast::<B>().as_ref() }
    }
}

impl<B> Region<B> {
    /// Which region this is.
    #[must_use]
    pub fn id(&self) -> RegionId {
        self.id
    }

    /// The process that writes the region, as it told when it attached.
    #[must_use]
    pub fn owner(&self) -> Identity {
        let header = self.map.header();
        Identity {
            pid: header.owner_pid.load(Ordering::Acquire), // pairs with `claim`
            start: header.owner_start.load(Ordering::Relaxed),
        }
    }

    /// How often a process has claimed the region: 1 for the first, +1 for each successor.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.map.header().epoch.load(Ordering::Relaxed)
    }

    /// Version text of the writing process, empty before one claimed the region.
    #[must_use]
    pub fn owner_version(&self) -> String {
        let words = &self.map.header().owner_version;
        let bytes: Vec<u8> = words
            .iter()
            .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
            .collect();
        String::from_utf8_lossy(&bytes)
            .trim_end_matches('\0')
            .to_owned()
    }

    /// When the writer last said that it makes progress, in ns of [`crate::monotonic_ns`].
    #[must_use]
    pub fn heartbeat_ns(&self) -> u64 {
        self.map.header().heartbeat_ns.load(Ordering::Relaxed)
    }

    /// What protects the writing process, as it told; nothing before it told.
    #[must_use]
    pub fn protection(&self) -> Protection {
        let header = self.map.header();
        Protection::of(
            header.protection.load(Ordering::Relaxed),
            header.capabilities.load(Ordering::Relaxed),
        )
    }

    /// What the memory is made of.
    #[must_use]
    pub fn backing(&self) -> Backing {
        Backing::from_number(self.map.header().version.load(Ordering::Relaxed) >> 48)
    }

    /// Bytes behind the header; of a ring, its capacity.
    #[must_use]
    pub fn body_len(&self) -> u64 {
        self.body_len
    }

    pub(crate) fn mapping(&self) -> &Arc<Mapping> {
        &self.map
    }
}

#[expect(
    private_bounds,
    reason = "the set of bodies is closed: it is the layout"
)]
impl<B: Body> OwnedRegion<B> {
    /// Checks the region like [`Region::attach`], maps it writable and enters this process as
    /// its writer.
    ///
    /// # Errors
    /// See [`RegionError`].
    pub fn attach(fd: BorrowedFd<'_>, id: RegionId) -> Result<Self, RegionError> {
        let view = Region::map(fd, id, ProtFlags::READ | ProtFlags::WRITE)?;
        let region = Self { view };
        let identity = Identity::current();
        if region.owner() != identity {
            region.set_protection(Protection::default());
        }
        region.claim(identity);
        Ok(region)
    }

    fn claim(&self, identity: Identity) {
        let header = self.map.header();
        let version = env!("CARGO_PKG_VERSION").as_bytes();
        for (n, word) in header.owner_version.iter().enumerate() {
            let mut bytes = [0; 8];
            for (byte, from) in bytes.iter_mut().zip(version.iter().skip(8 * n)) {
                *byte = *from;
            }
            word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
        header
            .heartbeat_ns
            .store(crate::monotonic_ns(), Ordering::Relaxed);
        header
            .epoch
            .store(self.epoch().wrapping_add(1), Ordering::Relaxed);
        header.owner_start.store(identity.start, Ordering::Relaxed);
        // Pairs with the Acquire load in `owner`.
        header.owner_pid.store(identity.pid, Ordering::Release);
    }

    /// Shows what protects this process.
    pub fn set_protection(&self, protection: Protection) {
        let header = self.map.header();
        header
            .capabilities
            .store(protection.capabilities, Ordering::Relaxed);
        header
            .protection
            .store(protection.bits(), Ordering::Relaxed);
    }

    /// Says that this process makes progress. Call about ten times a second.
    pub fn beat(&self) {
        self.map
            .header()
            .heartbeat_ns
            .store(crate::monotonic_ns(), Ordering::Relaxed);
    }
}

impl<B> Deref for OwnedRegion<B> {
    type Target = Region<B>;

    fn deref(&self) -> &Region<B> {
        &self.view
    }
}

/// Makes the memfd of a region with `body_len` bytes behind the header, all pages allocated,
/// mode 0600, sealed against shrinking and growing.
///
/// # Errors
/// [`RegionError::System`], or [`RegionError::NoHugePages`] when they were required.
pub fn create(
    id: RegionId,
    body_len: u64,
    pages: Pages,
) -> Result<(OwnedFd, Backing), RegionError> {
    let len = HEADER_BYTES as u64 + body_len;
    if body_len < HUGE_PAGE as u64 {
        let fd = allocate(id, len, MemfdFlags::empty())?;
        return finish(id, fd, len, body_len, Backing::Ordinary);
    }
    let huge_len = len.next_multiple_of(HUGE_PAGE as u64);
    match allocate(id, huge_len, MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB) {
        Ok(fd) => finish(id, fd, huge_len, body_len, Backing::Huge),
        Err(_) if pages == Pages::RequireHuge => Err(RegionError::NoHugePages {
            id,
            needed: huge_len as usize / HUGE_PAGE,
        }),
        Err(_) => {
            let fd = allocate(id, len, MemfdFlags::empty())?;
            finish(id, fd, len, body_len, Backing::Ordinary)
        }
    }
}

/// Which region a descriptor is, and the bytes behind its header: for descriptors that a predecessor left.
///
/// # Errors
/// [`RegionError`] for anything that [`Region::attach`] would refuse as well, a region of another layout
/// among them.
pub fn identify(fd: BorrowedFd<'_>) -> Result<(RegionId, u64), RegionError> {
    let unknown = RegionId::single(Kind::Session);
    let len = fstat(fd).map_err(system(unknown, "fstat"))?.st_size as u64;
    if len < HEADER_BYTES as u64 {
        return Err(RegionError::Mismatch {
            id: unknown,
            what: "size",
            found: len,
            expected: HEADER_BYTES as u64,
        });
    }
    let seals = fcntl_get_seals(fd).map_err(system(unknown, "get seals"))?;
    if !seals.contains(SealFlags::SHRINK) {
        return Err(RegionError::Mismatch {
            id: unknown,
            what: "seals",
            found: seals.bits().into(),
            expected: SealFlags::SHRINK.bits().into(),
        });
    }
    // The header alone, for what it claims to be; then all checks, on that claim.
    let id = {
        let map = Mapping::new(fd, unknown, ProtFlags::READ, len as usize)?;
        let header = map.header();
        let version = header.version.load(Ordering::Relaxed);
        let word = header.id.load(Ordering::Relaxed);
        let kind = (version >> 32 & 0xffff) as u16;
        RegionId {
            kind: Kind::from_number(kind).ok_or(RegionError::Mismatch {
                id: unknown,
                what: "kind",
                found: kind.into(),
                expected: Kind::Session as u64,
            })?,
            worker: word as u16,
            queue: (word >> 16) as u16,
        }
    };
    let (_, body_len) = Mapping::checked(fd, id, ProtFlags::READ, 0)?;
    Ok((id, body_len))
}

/// A descriptor of the same region that can't be mapped writable.
///
/// # Errors
/// [`RegionError::System`] where `/proc` is not mounted.
pub fn read_only(fd: BorrowedFd<'_>, id: RegionId) -> Result<OwnedFd, RegionError> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(system(id, "open read-only"))
}

/// Copies `bytes` into the body of a region that was not handed out.
pub(crate) fn fill(fd: BorrowedFd<'_>, id: RegionId, bytes: &[u8]) -> Result<(), RegionError> {
    let len = HEADER_BYTES + bytes.len();
    let map = Mapping::new(fd, id, ProtFlags::READ | ProtFlags::WRITE, len)?;
    // SAFETY: the mapping has `len` bytes; `bytes` is private memory, so they can't overlap. Nobody
    // else has the descriptor.
    unsafe {
        map.base
            .add(HEADER_BYTES)
            .copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len())
    };
    Ok(())
}

fn allocate(id: RegionId, len: u64, extra: MemfdFlags) -> Result<OwnedFd, RegionError> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | extra;
    let fd = memfd_create(format!("lc-hunt.{id}"), flags).map_err(system(id, "memfd_create"))?;
    // Born with mode 0777, which would let anyone reopen a read-only descriptor for writing.
    fchmod(&fd, Mode::RUSR | Mode::WUSR).map_err(system(id, "fchmod"))?;
    ftruncate(&fd, len).map_err(system(id, "ftruncate"))?;
    fallocate(&fd, FallocateFlags::empty(), 0, len).map_err(system(id, "fallocate"))?;
    Ok(fd)
}

fn finish(
    id: RegionId,
    fd: OwnedFd,
    len: u64,
    body_len: u64,
    mut backing: Backing,
) -> Result<(OwnedFd, Backing), RegionError> {
    fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW).map_err(system(id, "seal"))?;
    let map = Mapping::new(
        fd.as_fd(),
        id,
        ProtFlags::READ | ProtFlags::WRITE,
        len as usize,
    )?;
    if backing == Backing::Ordinary && len >= HUGE_PAGE as u64 && map.collapse() {
        backing = Backing::Collapsed;
    }
    let header = map.header();
    header
        .version
        .store(version_word(id.kind, backing), Ordering::Relaxed);
    header.features.store(FEATURES, Ordering::Relaxed);
    header.total_len.store(len, Ordering::Relaxed);
    header.body_len.store(body_len, Ordering::Relaxed);
    header.id.store(id_word(id), Ordering::Relaxed);
    header.magic.store(MAGIC, Ordering::Release);
    Ok((fd, backing))
}

fn version_word(kind: Kind, backing: Backing) -> u64 {
    u64::from(LAYOUT_MAJOR)
        | u64::from(LAYOUT_MINOR) << 16
        | (kind as u64) << 32
        | (backing as u64) << 48
}

fn id_word(id: RegionId) -> u64 {
    u64::from(id.worker) | u64::from(id.queue) << 16
}

fn system(id: RegionId, call: &'static str) -> impl FnOnce(Errno) -> RegionError {
    move |errno| RegionError::System { id, call, errno }
}

/// One mapping of a memfd, unmapped on drop.
pub(crate) struct Mapping {
    pub(crate) base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory that no thread owns; all access to it goes through atomics
// or through the ring types, which state their own rules.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(
        fd: BorrowedFd<'_>,
        id: RegionId,
        access: ProtFlags,
        len: usize,
    ) -> Result<Self, RegionError> {
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing of ours.
        let base = unsafe { mmap(std::ptr::null_mut(), len, access, MapFlags::SHARED, fd, 0) }
            .map_err(system(id, "mmap"))?;
        let base = NonNull::new(base.cast()).ok_or(RegionError::System {
            id,
            call: "mmap",
            errno: Errno::NOMEM,
        })?;
        Ok(Self { base, len })
    }

    /// Maps a region of a peer's after checking everything that later accesses rely on.
    fn checked(
        fd: BorrowedFd<'_>,
        id: RegionId,
        access: ProtFlags,
        body_size: usize,
    ) -> Result<(Self, u64), RegionError> {
        let mismatch = |what, found, expected| {
            if found == expected {
                Ok(())
            } else {
                Err(RegionError::Mismatch {
                    id,
                    what,
                    found,
                    expected,
                })
            }
        };
        let seals = fcntl_get_seals(fd).map_err(system(id, "get seals"))?;
        let fixed = SealFlags::SHRINK | SealFlags::GROW;
        mismatch(
            "seals",
            u64::from((seals & fixed).bits()),
            u64::from(fixed.bits()),
        )?;
        let len = fstat(fd).map_err(system(id, "fstat"))?.st_size as u64;
        let at_least = |expected: usize| {
            if len >= expected as u64 {
                return Ok(());
            }
            Err(RegionError::Mismatch {
                id,
                what: "size",
                found: len,
                expected: expected as u64,
            })
        };
        at_least(HEADER_BYTES)?;
        let map = Self::new(fd, id, access, len as usize)?;
        let header = map.header();
        mismatch("magic", header.magic.load(Ordering::Acquire), MAGIC)?;
        let version = header.version.load(Ordering::Relaxed);
        let (found_major, found_minor) = (version as u16, (version >> 16) as u16);
        if found_major != LAYOUT_MAJOR {
            return Err(RegionError::Layout {
                id,
                found_major,
                found_minor,
            });
        }
        // Only now: a body of another layout has another size, and the layout is what to say then.
        at_least(HEADER_BYTES + body_size)?;
        mismatch("kind", version >> 32 & 0xffff, id.kind as u64)?;
        mismatch(
            "unknown feature bits",
            header.features.load(Ordering::Relaxed) & !FEATURES,
            0,
        )?;
        mismatch(
            "recorded size",
            header.total_len.load(Ordering::Relaxed),
            len,
        )?;
        mismatch("index", header.id.load(Ordering::Relaxed), id_word(id))?;
        let body_len = header.body_len.load(Ordering::Relaxed);
        let room = len - HEADER_BYTES as u64;
        if body_len > room || body_len < body_size as u64 {
            return Err(RegionError::Mismatch {
                id,
                what: "body size",
                found: body_len,
                expected: room,
            });
        }
        if id.kind.is_ring() && !(body_len.is_power_of_two() && RING_BYTES.contains(&body_len)) {
            return Err(RegionError::Mismatch {
                id,
                what: "ring capacity",
                found: body_len,
                expected: body_len.next_power_of_two(),
            });
        }
        Ok((map, body_len))
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: every mapping is at least a header long and page-aligned; `Header` is atomics
        // only, valid for any bytes.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    /// Asks for huge pages where the memfd could not be born on them.
    fn collapse(&self) -> bool {
        // SAFETY: the range is our own live mapping; the call changes its page size only.
        let answer =
            unsafe { libc::madvise(self.base.as_ptr().cast(), self.len, libc::MADV_COLLAPSE) };
        answer == 0
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are what mmap returned, and nothing outlives the mapping:
        // views borrow it or hold an `Arc` of it.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}
