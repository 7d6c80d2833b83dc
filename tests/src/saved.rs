//! Shared memory that was saved from nodes of older releases (`tests/fixtures/layout/`).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::Value;

/// Where it lies.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/layout")
}

/// One node, as it was.
#[derive(Debug)]
pub struct Saved {
    /// Its regions, each in a memfd like the one that it lay in.
    pub regions: Vec<Region>,
    /// What `lc-hunt status --json` of that release said of it, without the run directory.
    pub status: Value,
}

/// One region.
#[derive(Debug)]
pub struct Region {
    /// Such as `rx.0.0`.
    pub name: String,
    /// Kind, worker and capture thread, as its header says.
    pub id: (u16, u16, u16),
    /// The memory.
    pub memory: OwnedFd,
}

impl Saved {
    /// The node of layout `version`, such as `1.0`.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn open(version: &str) -> io::Result<Self> {
        let folder = folder().join(version);
        let mut regions = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "gz") {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                regions.push(Region::load(&name, &decompress(&path)?)?);
            }
        }
        let status = serde_json::from_slice(&fs::read(folder.join("status.json"))?)?;
        Ok(Self { regions, status })
    }

    /// Writes the capture that the node replayed to `path`.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn write_capture(path: &Path) -> io::Result<()> {
        fs::write(path, decompress(&folder().join("sent.pcap.gz"))?)
    }
}

impl Region {
    fn load(name: &str, bytes: &[u8]) -> io::Result<Self> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let mut memory = File::from(memfd_create(name, flags)?);
        memory.write_all(bytes)?;
        let mut seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
        if name == "filters" {
            seals |= SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
        }
        fcntl(&memory, FcntlArg::F_ADD_SEALS(seals))?;
        let number = |at: usize| {
            let bytes = bytes.get(at..at + 2).and_then(|two| two.try_into().ok());
            bytes.map_or(0, u16::from_le_bytes)
        };
        Ok(Self {
            name: name.to_owned(),
            id: (number(12), number(40), number(42)),
            memory: memory.into(),
        })
    }
}

fn decompress(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    GzDecoder::new(File::open(path)?).read_to_end(&mut bytes)?;
    Ok(bytes)
}
