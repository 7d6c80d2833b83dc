//! Files in one directory, as far as the store needs them.
//!
//! [`Directory`] is the real thing. It belongs to one process at a time, and is refused when anybody else could write
//! into it. Files are always opened relative to the open directory and never through a symbolic link, and are read and written
//! through a mapping ([`MappedFile`]).

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use mapped_file::MappedFile;
use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// Tries to lock a directory.
const LOCK_TRIES: u32 = 5;
/// Between two of them.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

/// A directory of files. All methods may fail at any time; none may panic.
pub trait Disk {
    /// An open file.
    type File: DiskFile;

    /// Names of all files.
    ///
    /// # Errors
    ///
    /// Whatever the system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes a new file, and opens it for reading and writing.
    ///
    /// # Errors
    ///
    /// When it exists already, and whatever the system says.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Opens a file that exists.
    ///
    /// # Errors
    ///
    /// Whatever the system says.
    fn open(&self, name: &str, access: Access) -> io::Result<Self::File>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// Whatever the system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes durable which files there are.
    ///
    /// # Errors
    ///
    /// Whatever the system says.
    fn sync(&self) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile {
    /// Its length in bytes.
    ///
    /// # Errors
    ///
    /// Whatever the system says.
    fn size(&self) -> io::Result<u64>;

    /// Reads bytes at `offset`. Says how many; fewer than asked for only at the end of the file.
    ///
    /// # Errors
    ///
    /// Whatever the system says.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all `bytes` at `offset`.
    ///
    /// # Errors
    ///
    /// Whatever the system says; then any part of the bytes may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file.
    ///
    /// # Errors
    ///
    /// Whatever the system says.
    fn truncate(&self, size: u64) -> io::Result<()>;

    /// Makes its bytes durable.
    ///
    /// # Errors
    ///
    /// Whatever the system says; then any part of what was written since the last success may be lost for good.
    fn sync(&self) -> io::Result<()>;
}

/// A real directory.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
}

/// Why a directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It can't be made or opened.
    #[error("the disk buffer's directory {path} cannot be used: {error}")]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It belongs to another user, who could change what is in it.
    #[error(
        "the disk buffer's directory {path} belongs to user {owner}, not to user {user} who runs this; choose another directory"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who runs this.
        user: u32,
    },
    /// Another process works in it.
    #[error(
        "the disk buffer's directory {path} is in use by another process; give each node a directory of its own"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
}

impl Directory {
    /// Opens `path`, made with mode 0700 if it is missing, and locks it against other processes until dropped.
    ///
    /// # Errors
    ///
    /// See [`DirectoryError`].
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        let directory = made
            .and_then(|()| Self::open_unlocked(path))
            .map_err(|error| Self::unusable(path, error))?;
        directory.check_owner(path)?;
        directory.lock(path)?;
        Ok(directory)
    }

    fn lock(&self, path: &Path) -> Result<(), DirectoryError> {
        for tries_left in (0..LOCK_TRIES).rev() {
            match rustix::fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                // Somebody who only looks holds it for a moment.
                Err(Errno::WOULDBLOCK) if tries_left > 0 => thread::sleep(LOCK_PAUSE),
                Err(Errno::WOULDBLOCK) => break,
                Err(error) => return Err(Self::unusable(path, error.into())),
            }
        }
        Err(DirectoryError::InUse {
            path: path.to_owned(),
        })
    }

    /// Opens `path` to look only. It may be in use.
    ///
    /// # Errors
    ///
    /// See [`DirectoryError`].
    pub fn look(path: &Path) -> Result<Self, DirectoryError> {
        Self::open_unlocked(path).map_err(|error| Self::unusable(path, error))
    }

    /// Whether another process has locked it.
    pub(super) fn is_locked(&self) -> bool {
        match rustix::fs::flock(&self.fd, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                // Not even for a moment longer than needed: a node may be starting.
                let _ = rustix::fs::flock(&self.fd, FlockOperation::Unlock);
                false
            }
            Err(_) => true,
        }
    }

    fn unusable(path: &Path, error: io::Error) -> DirectoryError {
        DirectoryError::Unusable {
            path: path.to_owned(),
            error,
        }
    }

    fn open_unlocked(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { fd })
    }

    /// Nobody else may change what is in the directory.
    fn check_owner(&self, path: &Path) -> Result<(), DirectoryError> {
        let system = |error: Errno| Self::unusable(path, error.into());
        let stat = rustix::fs::fstat(&self.fd).map_err(system)?;
        let user = rustix::process::geteuid().as_raw();
        if stat.st_uid != user {
            return Err(DirectoryError::Foreign {
                path: path.to_owned(),
                owner: stat.st_uid,
                user,
            });
        }
        if Mode::from_raw_mode(stat.st_mode).intersects(Mode::RWXG | Mode::RWXO) {
            rustix::fs::fchmod(&self.fd, Mode::RWXU).map_err(system)?;
        }
        Ok(())
    }
}

impl Disk for Directory {
    type File = MappedFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            // A name that is no text is none of ours.
            names.extend(name.to_str().map(str::to_owned));
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<MappedFile> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)?;
        MappedFile::new(File::from(fd))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<MappedFile> {
        let access = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::RDWR,
        };
        // NONBLOCK: a named pipe of this name must not stop us.
        let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        MappedFile::new(File::from(fd))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())?)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }
}

impl DiskFile for MappedFile {
    fn size(&self) -> io::Result<u64> {
        Self::size(self)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        Self::read_at(self, bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        Self::write_at(self, bytes, offset)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        Self::truncate(self, size)
    }

    fn sync(&self) -> io::Result<()> {
        Self::sync(self)
    }
}
