//! What a daemon tells the process that started it: the protocol of `sd_notify(3)`, understood by systemd and by
//! `lc-hunt`. Without a listener all of it does nothing.

use std::env;
use std::io;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use sd_notify::NotifyState;

/// Set by `lc-hunt` for its children to its own process id.
pub const SUPERVISED_BY: &str = "LC_HUNT_SUPERVISED";

/// The daemon is up: it has attached to everything it needs and works. `status` says in a few words what it does.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// Says in a few words what the daemon does or waits for.
pub fn status(status: &str) {
    notify(&[NotifyState::Status(&one_line(status))]);
}

/// The daemon has begun to end in good order.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// The daemon makes progress; to be called only while that is true.
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// Makes this process end with the supervisor that started it, if one did. Call it first thing in `main`.
///
/// # Errors
///
/// The supervisor is gone already, or the kernel refuses.
pub fn end_with_supervisor() -> io::Result<()> {
    let Some(supervisor) = env::var(SUPERVISED_BY)
        .ok()
        .and_then(|pid| pid.parse().ok())
        .and_then(Pid::from_raw)
    else {
        return Ok(());
    };
    set_parent_process_death_signal(Some(Signal::TERM))?;
    // The supervisor may have ended before the line above took effect.
    if getppid() == Some(supervisor) {
        Ok(())
    } else {
        Err(io::Error::other("lc-hunt has ended"))
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not reached");
    }
}

/// The protocol has one line per field.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}
