//! Descriptors that a child wants back when it is started again: `lc-hunt`'s part of the store that systemd has for
//! its services (see [`lc_daemon::fd_store`]).

use std::io;
use std::os::fd::OwnedFd;
use std::process::Command;

use command_fds::{CommandFdExt, FdMapping};
use lc_daemon::fd_store::has_hung_up;

/// Number of the first passed descriptor (`SD_LISTEN_FDS_START`).
const FIRST: i32 = 3;

/// Most descriptors that are kept of one child; more are dropped, and it begins anew.
const MOST: usize = 16_384;

/// What one child has stored.
#[derive(Debug, Default)]
pub(crate) struct FdStore(Vec<Stored>);

#[derive(Debug)]
struct Stored {
    name: String,
    descriptor: OwnedFd,
    /// Whether it is dropped when its other end is gone.
    watched: bool,
}

impl FdStore {
    pub(crate) fn add(&mut self, name: &str, descriptors: Vec<OwnedFd>, watched: bool) {
        for descriptor in descriptors {
            if self.0.len() < MOST {
                self.0.push(Stored {
                    name: name.to_owned(),
                    descriptor,
                    watched,
                });
            }
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|stored| stored.name != name);
    }

    /// Makes `command` hand the descriptors to the process that it starts. Connections whose other end is gone are
    /// dropped first, as systemd does.
    pub(crate) fn pass_to(&mut self, command: &mut Command) -> io::Result<()> {
        self.0
            .retain(|stored| !(stored.watched && has_hung_up(&stored.descriptor)));
        if self.0.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = self.0.iter().map(|stored| stored.name.as_str()).collect();
        command
            .env("LISTEN_FDNAMES", names.join(":"))
            .env("LISTEN_FDS", self.0.len().to_string());
        let mappings = (FIRST..).zip(&self.0).map(|(child_fd, stored)| {
            Ok(FdMapping {
                parent_fd: stored.descriptor.try_clone()?,
                child_fd,
            })
        });
        let mappings = mappings.collect::<io::Result<_>>()?;
        command.fd_mappings(mappings).map_err(io::Error::other)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_successor_gets_what_is_of_use() {
        let dir = tempfile::tempdir().unwrap();
        let file = |text: &str| -> OwnedFd {
            let path = dir.path().join(text);
            File::create(&path)
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
            File::open(&path).unwrap().into()
        };
        let (kept, open_end) = UnixStream::pair().unwrap();
        let (broken, _) = UnixStream::pair().unwrap();
        let mut store = FdStore::default();
        let (unwatched, _) = UnixStream::pair().unwrap();
        store.add("region", vec![file("one"), file("two")], true);
        store.add("old", vec![file("three")], true);
        store.add("peer", vec![kept.into(), broken.into()], true);
        store.add("socket", vec![unwatched.into()], false);
        store.remove("old");
        let mut command = Command::new("/bin/sh");
        command.args([
            "-c",
            "cat <&3; cat <&4; echo \" $LISTEN_FDS $LISTEN_FDNAMES\"",
        ]);
        store.pass_to(&mut command).unwrap();
        let output = command.output().unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            "onetwo 4 region:region:peer:socket\n"
        );
        drop(open_end);
    }
}
