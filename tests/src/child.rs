//! Tests that need a process of their own: an ignored test of the same file, run in a child.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tells a child where it works.
const PLACE: &str = "LC_TEST_PLACE";

/// Where this process works, if it is a child.
#[must_use]
pub fn place() -> Option<PathBuf> {
    env::var_os(PLACE).map(PathBuf::from)
}

/// A child that runs one ignored test of this program in `place`, by way of `wrapper`.
///
/// # Errors
///
/// This program can't be found.
pub fn of(wrapper: &[&str], test: &str, place: &Path) -> io::Result<Command> {
    let program = env::current_exe()?.into_os_string();
    let mut words: Vec<OsString> = wrapper.iter().map(OsString::from).collect();
    words.push(program);
    let mut command = Command::new(words.remove(0));
    command
        .args(words)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(PLACE, place);
    Ok(command)
}

/// Runs an ignored test in a file system of `bytes` bytes, mounted at `place` for it alone; or says that this is skipped.
///
/// # Errors
///
/// What the child said, if it failed.
pub fn in_file_system_of(bytes: usize, test: &str, place: &Path) -> Result<(), String> {
    let mount = format!(
        "mount -t tmpfs -o size={bytes} tmpfs '{}' || exit 77; exec \"$0\" \"$@\"",
        place.display()
    );
    let unshare = ["unshare", "--user", "--map-root-user", "--mount"];
    let wrapper = [&unshare[..], &["sh", "-c", &mount]].concat();
    let output = match of(&wrapper, test, place).and_then(|mut child| child.output()) {
        Ok(output) => output,
        Err(error) => {
            crate::skipped!("no unshare: {error}");
            return Ok(());
        }
    };
    let said = String::from_utf8_lossy(&output.stdout);
    match output.status.code() {
        Some(0) if said.contains("1 passed") => Ok(()),
        // Nothing of it ran.
        Some(code) if code != 0 && !said.contains("running 1 test") => {
            crate::skipped!("no file system of its own can be mounted");
            Ok(())
        }
        _ => Err(format!("{:?}: {said}", output.status)),
    }
}
