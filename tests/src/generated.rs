//! Captures made by `lc-bench generate`.

use std::path::{Path, PathBuf};

use crate::capture::{self, Packet};
use crate::node::PATIENCE;
use crate::process;

/// A generated capture.
#[derive(Debug)]
pub struct Generated {
    /// The file.
    pub path: PathBuf,
    /// Its packets.
    pub packets: Vec<Packet>,
}

/// Makes the capture `name` in `folder` with flags of `lc-bench generate`.
///
/// # Errors
///
/// A text that says what went wrong.
pub fn generate(folder: &Path, name: &str, flags: &[&str]) -> Result<Generated, String> {
    let path = folder.join(name);
    let arguments = ["generate".as_ref(), "--out".as_ref(), path.as_os_str()]
        .into_iter()
        .chain(flags.iter().map(AsRef::as_ref));
    let outcome = process::run(&process::program("lc-bench"), arguments, PATIENCE)
        .map_err(|error| error.to_string())?;
    if outcome.code() != 0 {
        return Err(outcome.stderr);
    }
    let packets = capture::read(&path)
        .map_err(|error| error.to_string())?
        .packets;
    Ok(Generated { path, packets })
}
