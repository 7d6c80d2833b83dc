//! A disk in memory that can tear writes, lose what was not made durable, fill up and fail.
#![allow(dead_code, clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;

use lc_fwdd::overflow::{Access, Disk, DiskFile};
use rustix::io::Errno;

/// What befalls one operation that changes the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    NoSpace,
    Io,
    ReadOnly,
    /// Half of the bytes are written, then the disk fails.
    Torn,
    /// Half of the bytes are written, then the disk is full.
    TornFull,
}

#[derive(Clone, Default)]
pub struct FakeDisk(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    files: BTreeMap<String, Rc<RefCell<Inode>>>,
    durable: BTreeMap<String, Rc<RefCell<Inode>>>,
    pending: Vec<(String, Option<Rc<RefCell<Inode>>>)>,
    faults: VecDeque<Option<Fault>>,
    /// Befalls every operation that changes the disk, while set.
    standing: Option<Fault>,
    read_fault: bool,
    capacity: Option<u64>,
}

#[derive(Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Cut(u64),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, data) => {
                let end = *offset as usize + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset as usize..end].copy_from_slice(data);
            }
            Self::Cut(size) => bytes.resize(*size as usize, 0),
        }
    }
}

pub struct FakeFile {
    disk: FakeDisk,
    inode: Rc<RefCell<Inode>>,
}

impl FakeDisk {
    pub fn plan(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.0.borrow_mut().faults = faults.into_iter().collect();
    }

    pub fn stand(&self, fault: Option<Fault>) {
        self.0.borrow_mut().standing = fault;
    }

    pub fn fail_reads(&self, fail: bool) {
        self.0.borrow_mut().read_fault = fail;
    }

    pub fn limit(&self, capacity: Option<u64>) {
        self.0.borrow_mut().capacity = capacity;
    }

    pub fn names(&self) -> Vec<String> {
        self.0.borrow().files.keys().cloned().collect()
    }

    pub fn segments(&self) -> Vec<String> {
        let mut names = self.names();
        names.retain(|name| name.starts_with("segment-"));
        names
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        self.0.borrow().files[name].borrow().live.clone()
    }

    /// Changes bytes behind the store's back.
    pub fn edit(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let state = self.0.borrow();
        let mut inode = state.files[name].borrow_mut();
        change(&mut inode.live);
        inode.durable = inode.live.clone();
        inode.pending.clear();
    }

    pub fn used(&self) -> u64 {
        let state = self.0.borrow();
        state
            .files
            .values()
            .map(|inode| inode.borrow().live.len() as u64)
            .sum()
    }

    /// The power goes. Of what was not made durable, `chance` says for each change: 0 lost, 1 torn, else there; and
    /// whether the changes of a file reached the disk in the other order.
    pub fn cut_power(&self, mut chance: impl FnMut() -> u8) {
        let mut state = self.0.borrow_mut();
        let pending = std::mem::take(&mut state.pending);
        for (name, inode) in pending {
            if chance().is_multiple_of(3) {
                continue;
            }
            match inode {
                Some(inode) => state.durable.insert(name, inode),
                None => state.durable.remove(&name),
            };
        }
        state.files = state.durable.clone();
        for inode in state.files.values() {
            let mut inode = inode.borrow_mut();
            let mut pending = std::mem::take(&mut inode.pending);
            if chance().is_multiple_of(2) {
                pending.reverse();
            }
            let mut bytes = inode.durable.clone();
            for change in pending {
                match (chance() % 4, change) {
                    (0, _) => {}
                    (1, Change::Write(offset, data)) => {
                        let half = data[..data.len() / 2].to_vec();
                        Change::Write(offset, half).apply(&mut bytes);
                    }
                    (_, change) => change.apply(&mut bytes),
                }
            }
            inode.live = bytes.clone();
            inode.durable = bytes;
        }
    }

    fn fault(&self) -> Option<Fault> {
        let mut state = self.0.borrow_mut();
        let planned = state.faults.pop_front().flatten();
        state.standing.or(planned)
    }

    fn check(&self) -> io::Result<()> {
        self.fault().map_or(Ok(()), |fault| Err(error(fault)))
    }
}

fn error(fault: Fault) -> io::Error {
    match fault {
        Fault::NoSpace | Fault::TornFull => Errno::NOSPC.into(),
        Fault::Io | Fault::Torn => Errno::IO.into(),
        Fault::ReadOnly => Errno::ROFS.into(),
    }
}

impl Disk for FakeDisk {
    type File = FakeFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn create(&self, name: &str) -> io::Result<FakeFile> {
        self.check()?;
        let mut state = self.0.borrow_mut();
        if state.files.contains_key(name) {
            return Err(Errno::EXIST.into());
        }
        let inode = Rc::new(RefCell::new(Inode::default()));
        state.files.insert(name.to_owned(), Rc::clone(&inode));
        state
            .pending
            .push((name.to_owned(), Some(Rc::clone(&inode))));
        Ok(FakeFile {
            disk: self.clone(),
            inode,
        })
    }

    fn open(&self, name: &str, _: Access) -> io::Result<FakeFile> {
        let inode = self.0.borrow().files.get(name).cloned();
        Ok(FakeFile {
            disk: self.clone(),
            inode: inode.ok_or(Errno::NOENT)?,
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check()?;
        let mut state = self.0.borrow_mut();
        state.files.remove(name).ok_or(Errno::NOENT)?;
        state.pending.push((name.to_owned(), None));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.check()?;
        let mut state = self.0.borrow_mut();
        state.durable = state.files.clone();
        state.pending.clear();
        Ok(())
    }
}

impl FakeFile {
    fn change(&self, change: Change) {
        let mut inode = self.inode.borrow_mut();
        change.apply(&mut inode.live);
        inode.pending.push(change);
    }
}

impl DiskFile for FakeFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.inode.borrow().live.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.disk.0.borrow().read_fault {
            return Err(Errno::IO.into());
        }
        let inode = self.inode.borrow();
        let rest = inode.live.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(bytes.len());
        bytes[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let growth =
            (offset + bytes.len() as u64).saturating_sub(self.inode.borrow().live.len() as u64);
        let capacity = self.disk.0.borrow().capacity;
        let full = capacity.is_some_and(|capacity| self.disk.used() + growth > capacity);
        match self.disk.fault() {
            None if full => Err(error(Fault::NoSpace)),
            None => {
                self.change(Change::Write(offset, bytes.to_vec()));
                Ok(())
            }
            Some(fault) => {
                if matches!(fault, Fault::Torn | Fault::TornFull) {
                    let half = bytes[..bytes.len() / 2].to_vec();
                    self.change(Change::Write(offset, half));
                }
                Err(error(fault))
            }
        }
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.disk.check()?;
        self.change(Change::Cut(size));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let failed = self.disk.check();
        let mut inode = self.inode.borrow_mut();
        if failed.is_err() {
            // The kernel drops what it could not write, and will not say so again.
            inode.pending.clear();
        } else {
            inode.durable = inode.live.clone();
            inode.pending.clear();
        }
        failed
    }
}
