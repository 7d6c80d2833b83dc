//! A file that only ever grows by whole pieces.
//!
//! Each [`append`](AppendFile::append) is one hand-over to the operating system, without a sync. If it fails in the middle,
//! what was written of the piece is cut off again, so that a reader never finds half of one.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::Error;

/// See the module.
#[derive(Debug)]
pub(crate) struct AppendFile {
    path: PathBuf,
    file: File,
    len: u64,
}

impl AppendFile {
    /// Opens or makes the file. If `committed` is given, everything behind that length is cut off.
    pub(crate) fn open(path: &Path, committed: Option<u64>) -> Result<Self, Error> {
        let open = || {
            let mut file = OpenOptions::new()
                .create(true)
                .read(true)
                .write(true)
                .truncate(false)
                .open(path)?;
            if let Some(committed) = committed
                && file.metadata()?.len() > committed
            {
                tracing::warn!(path = %path.display(), "an unfinished batch at the end was cut off");
                file.set_len(committed)?;
            }
            let len = file.seek(SeekFrom::End(0))?;
            Ok(Self {
                path: path.to_owned(),
                file,
                len,
            })
        };
        open().map_err(|source| Error::Open {
            path: path.to_owned(),
            source,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in the file.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file is empty or starts with `magic`.
    pub(crate) fn starts_with(&self, magic: &[u8]) -> Result<bool, Error> {
        let mut start = vec![
            0;
            magic
                .len()
                .min(usize::try_from(self.len).unwrap_or(usize::MAX))
        ];
        self.file
            .read_exact_at(&mut start, 0)
            .map_err(|source| Error::Open {
                path: self.path.clone(),
                source,
            })?;
        Ok(start.is_empty() || start == magic)
    }

    /// Adds `piece`, or nothing.
    pub(crate) fn append(&mut self, piece: &[u8]) -> Result<(), Error> {
        match self.file.write_all(piece) {
            Ok(()) => {
                self.len += piece.len() as u64;
                Ok(())
            }
            Err(source) => {
                let undone = self.cut_to(self.len);
                if let Err(error) = undone {
                    tracing::error!(path = %self.path.display(), %error, "half a batch remains in the file");
                }
                Err(Error::Write {
                    path: self.path.clone(),
                    source,
                })
            }
        }
    }

    /// Cuts the file to an earlier length.
    pub(crate) fn cut_to(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.len = self.file.seek(SeekFrom::Start(len))?;
        Ok(())
    }
}
