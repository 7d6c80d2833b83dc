//! The file that holds how far everything is acknowledged.
//!
//! Two slots are written in turn, so that a torn write leaves the other one. When both are lost, everything on disk is
//! delivered again.

use std::io;

use super::disk::{Access, Disk, DiskFile};
use super::format::{Place, SLOT, Slot};

/// Its name.
pub(super) const NAME: &str = "position";
/// Where the slots lie: in different sectors.
const OFFSETS: [u64; 2] = [0, 4096];

/// The file, made when it is first written.
pub(super) struct PositionFile<F> {
    file: Option<F>,
    generation: u64,
    /// Whether the last write failed.
    pub(super) stale: bool,
}

/// Reads the newer slot.
pub(super) fn load<D: Disk>(disk: &D) -> io::Result<Option<Slot>> {
    match disk.open(NAME, Access::Read) {
        Ok(file) => newest(&file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn newest<F: DiskFile>(file: &F) -> io::Result<Option<Slot>> {
    let mut best: Option<Slot> = None;
    for offset in OFFSETS {
        let mut bytes = [0; SLOT];
        file.read_at(&mut bytes, offset)?;
        let slot = Slot::decode(&bytes);
        best = match (best, slot) {
            (Some(best), Some(slot)) if slot.generation > best.generation => Some(slot),
            (best, slot) => best.or(slot),
        };
    }
    Ok(best)
}

impl<F: DiskFile> PositionFile<F> {
    /// Goes on behind `slot`.
    pub(super) fn new(slot: Option<&Slot>) -> Self {
        Self {
            file: None,
            generation: slot.map_or(0, |slot| slot.generation),
            stale: false,
        }
    }

    /// Writes the older slot. Says whether the file is new.
    pub(super) fn save<D: Disk<File = F>>(
        &mut self,
        disk: &D,
        salt: u64,
        place: Place,
    ) -> io::Result<bool> {
        self.stale = true;
        let (file, new) = match self.file.take() {
            Some(file) => (file, false),
            None => match disk.open(NAME, Access::Write) {
                Ok(file) => (file, false),
                Err(error) if error.kind() == io::ErrorKind::NotFound => (disk.create(NAME)?, true),
                Err(error) => return Err(error),
            },
        };
        let generation = self.generation + 1;
        let slot = Slot {
            generation,
            salt,
            place,
        };
        let offset = OFFSETS[(generation % 2) as usize];
        let written = file.write_at(&slot.encode(), offset);
        self.file = Some(file);
        written?;
        self.generation = generation;
        self.stale = false;
        Ok(new)
    }

    /// Makes it durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), DiskFile::sync)
    }
}
