//! The run directory: where the broker's socket lies, and who has which role there.
//!
//! Unless the configuration names other users, everything belongs to one user, whose processes may have every role; nobody else comes in
//! but root, to look. With users of their own (`hunter.users`), each user has its role and no other, so that a process that was taken over
//! cannot come by what another one writes. Directory and socket then let the group in, whose members may look; who is in it, and which
//! group the directory belongs to, is the system's to say.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use lc_daemon::attach::Role;
use lc_daemon::config::Config;
use nix::unistd::{Uid, User};

/// A run directory that exists.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    rights: Rights,
}

/// The run directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// It cannot be made.
    #[error("cannot make the run directory {path}: {source}; is the directory above it writable for this user?", path = path.display())]
    Make {
        /// Where.
        path: PathBuf,
        /// What the file system says.
        source: std::io::Error,
    },
    /// A user of the configuration is unknown to the system.
    #[error(
        "{key}: the system knows no user {name}; make it (systemd-sysusers), or leave the setting out"
    )]
    User {
        /// The setting.
        key: &'static str,
        /// The user.
        name: String,
    },
}

/// Which users may have which role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rights {
    own: Uid,
    worker: Uid,
    forwarder: Uid,
}

impl RunDir {
    /// Makes the directory if it does not exist, and looks the users up. Before the sandbox: from within, neither can be done.
    ///
    /// # Errors
    /// [`RunDirError`]
    pub fn make(config: &Config) -> Result<Self, RunDirError> {
        let own = Uid::effective();
        let user = |key, name: &Option<String>| match name {
            Some(name) => find(name).ok_or_else(|| RunDirError::User {
                key,
                name: name.clone(),
            }),
            None => Ok(own),
        };
        let run_dir = Self {
            path: config.runtime_dir.clone(),
            rights: Rights {
                own,
                worker: user("hunter.users.worker", &config.users.worker)?,
                forwarder: user("hunter.users.forwarder", &config.users.forwarder)?,
            },
        };
        if !run_dir.path.is_dir() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(run_dir.mode() | 0o100)
                .create(&run_dir.path)
                .map_err(|source| RunDirError::Make {
                    path: run_dir.path.clone(),
                    source,
                })?;
        }
        Ok(run_dir)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Mode of the socket in it.
    pub(crate) fn socket_mode(&self) -> u32 {
        match self.rights.is_shared() {
            true => 0o660,
            false => 0o600,
        }
    }

    /// Whether processes of this user may connect. With several users the kernel has checked that already, by mode and group.
    pub(crate) fn lets_in(&self, uid: u32) -> bool {
        self.rights.is_shared() || self.allows(uid, Role::Observer)
    }

    /// Whether a process of this user that has connected may have the role.
    pub(crate) fn allows(&self, uid: u32, role: Role) -> bool {
        self.rights.allow(Uid::from_raw(uid), role)
    }

    fn mode(&self) -> u32 {
        match self.rights.is_shared() {
            true => 0o750,
            false => 0o700,
        }
    }
}

impl Rights {
    fn is_shared(&self) -> bool {
        self.worker != self.own || self.forwarder != self.own
    }

    fn allow(&self, uid: Uid, role: Role) -> bool {
        match role {
            Role::Worker => uid == self.worker,
            Role::Forwarder => uid == self.forwarder,
            Role::Observer => self.is_shared() || uid == self.own || uid.is_root(),
        }
    }
}

/// A user by name or number.
fn find(name: &str) -> Option<Uid> {
    match name.parse() {
        Ok(number) => Some(Uid::from_raw(number)),
        Err(_) => Some(User::from_name(name).ok()??.uid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Role; 3] = [Role::Worker, Role::Forwarder, Role::Observer];

    fn allowed(own: u32, worker: u32, forwarder: u32, uid: u32) -> [bool; 3] {
        let [own, worker, forwarder, uid] = [own, worker, forwarder, uid].map(Uid::from_raw);
        let rights = Rights {
            own,
            worker,
            forwarder,
        };
        ROLES.map(|role| rights.allow(uid, role))
    }

    #[test]
    fn one_user_has_all_roles_and_root_looks() {
        assert_eq!(allowed(1000, 1000, 1000, 1000), [true, true, true]);
        assert_eq!(allowed(1000, 1000, 1000, 0), [false, false, true]);
        assert_eq!(allowed(1000, 1000, 1000, 1001), [false, false, false]);
        assert_eq!(allowed(0, 0, 0, 0), [true, true, true]);
    }

    #[test]
    fn each_user_has_its_own_role() {
        for (uid, roles) in [
            (1, [false, false, true]),
            (2, [true, false, true]),
            (3, [false, true, true]),
            (0, [false, false, true]),
            (4, [false, false, true]),
        ] {
            assert_eq!(allowed(1, 2, 3, uid), roles, "{uid}");
        }
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        assert_eq!(find("root"), Some(Uid::from_raw(0)));
        assert_eq!(find("4711"), Some(Uid::from_raw(4711)));
        assert_eq!(find("no such user"), None);
    }
}
