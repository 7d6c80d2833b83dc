//! The directory of a run: the daemons' sockets and their configuration, for the user of the run alone.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The directory; it goes away with this value.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
}

/// Why there is no directory.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// It cannot be made.
    #[error("run directory {path}: {source}; --runtime-dir DIR names another place")]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another user could tamper with it.
    #[error(
        "run directory {path} belongs to another user or is writable by others; --runtime-dir DIR names another place"
    )]
    NotPrivate {
        /// The directory.
        path: PathBuf,
    },
}

impl RunDir {
    /// Makes `<base>/run-<pid>` with mode 0700, and clears away what dead runs left there.
    pub fn create(base: &Path) -> Result<Self, RunDirError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| RunDirError::Io { path, source }
        };
        // Daemons may run in another directory.
        let base = std::path::absolute(base).map_err(failed(base))?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&base)
            .map_err(failed(&base))?;
        let metadata = fs::metadata(&base).map_err(failed(&base))?;
        if metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
            return Err(RunDirError::NotPrivate { path: base });
        }
        remove_dead_runs(&base).map_err(failed(&base))?;
        let path = base.join(format!("run-{}", std::process::id()));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(failed(&path))?;
        Ok(RunDir { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the daemons' configuration, readable by this user alone; returns its path.
    pub fn write_config(&self, text: &str) -> Result<PathBuf, RunDirError> {
        let path = self.path.join("effective.toml");
        let write = || {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?
                .write_all(text.as_bytes())
        };
        write().map_err(|source| RunDirError::Io {
            path: path.clone(),
            source,
        })?;
        Ok(path)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the run directory stays behind");
        }
    }
}

/// Removes the directories of runs whose process is gone; and of one that had our own id.
fn remove_dead_runs(base: &Path) -> io::Result<()> {
    for entry in fs::read_dir(base)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(pid) = name
            .to_str()
            .and_then(|name| name.strip_prefix("run-"))
            .and_then(|pid| pid.parse::<u32>().ok())
        else {
            continue;
        };
        if pid == std::process::id() || !Path::new(&format!("/proc/{pid}")).exists() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
