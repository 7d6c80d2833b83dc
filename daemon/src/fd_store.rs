//! Descriptors that outlive a process: it gives them to its service manager (the descriptor store of systemd, see
//! `sd_pid_notify_with_fds(3)`; `lc-hunt` keeps one too), and its successor gets them back when it is started.
//!
//! Each has a name; several may share one. Without a service manager nothing is stored, and a successor begins anew.

use std::env;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sd_notify::NotifyState;

use crate::ready::{MOST_DESCRIPTORS, SUPERVISED_BY, notify_with};

/// Names and count of passed descriptors, and whom they are for.
const NAMES: &str = "LISTEN_FDNAMES";
const COUNT: &str = "LISTEN_FDS";
const FOR: &str = "LISTEN_PID";

/// In a message that stores descriptors: they are not to be asked whether their other end is gone (systemd 246).
pub const UNWATCHED: &str = "FDPOLL=0";

/// Stores descriptors under `name`, beside those that are there. One whose other end goes away leaves the store by itself.
pub fn store(name: &str, descriptors: &[BorrowedFd<'_>]) {
    for part in descriptors.chunks(MOST_DESCRIPTORS) {
        store_as(&[NotifyState::FdStore, NotifyState::FdName(name)], part);
    }
}

/// Stores a descriptor under `name` until it is removed, whatever state it gets into.
pub fn store_unwatched(name: &str, descriptor: BorrowedFd<'_>) {
    let unwatched = NotifyState::Custom(UNWATCHED);
    let states = [NotifyState::FdStore, NotifyState::FdName(name), unwatched];
    store_as(&states, &[descriptor]);
}

fn store_as(states: &[NotifyState<'_>], descriptors: &[BorrowedFd<'_>]) {
    if let Err(error) = notify_with(states, descriptors) {
        tracing::warn!(%error, "the service manager does not keep descriptors; a successor begins anew");
    }
}

/// Removes all descriptors of `name` from the store.
pub fn remove(name: &str) {
    let states = [NotifyState::FdStoreRemove, NotifyState::FdName(name)];
    if let Err(error) = notify_with(&states, &[]) {
        tracing::debug!(%error, "the service manager was not reached");
    }
}

/// What a predecessor stored: names and descriptors. To be called once, before this process opens anything: first
/// thing in `main`.
#[must_use]
pub fn inherited() -> Vec<(String, OwnedFd)> {
    let text = |name| env::var(name).unwrap_or_default();
    let own = std::process::id().to_string();
    // lc-hunt cannot know the process id before it starts a child; its own id, in another variable, serves.
    let for_us = match text(FOR) {
        pid if pid.is_empty() => env::var_os(SUPERVISED_BY).is_some(),
        pid => pid == own,
    };
    let count = text(COUNT).parse().unwrap_or(0);
    if !for_us || count == 0 {
        return Vec::new();
    }
    let names = text(NAMES);
    let descriptors = shm_layout::inherited::descriptors(count);
    let named = names.split(':').zip(descriptors);
    named
        .filter_map(|(name, descriptor)| Some((name.to_owned(), descriptor?)))
        .collect()
}

/// Whether a descriptor is a connection whose other end is gone.
#[must_use]
pub fn has_hung_up(descriptor: impl AsFd) -> bool {
    let mut polled = [PollFd::new(&descriptor, PollFlags::empty())];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // A memfd has no other end.
    poll(&mut polled, Some(&at_once)).is_ok()
        && polled[0]
            .revents()
            .intersects(PollFlags::HUP | PollFlags::ERR)
}
