//! Real peers: a client and a server, each in a network namespace of its own, with `lc-hunt` at the switch between them.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use crate::node::Node;
use crate::process::are_installed;
use crate::switch::{self, Switch};
use crate::words;

const SERVER: usize = 1;
const CLIENT: usize = 2;

/// The namespaces of both peers and of the switch; gone when dropped.
#[derive(Debug)]
pub struct Peers {
    switch: Switch,
}

impl Peers {
    /// Peers that need `programs`, each given with its Debian package. Where one of these is missing or namespaces are not allowed, `None`, and
    /// it says that the test is skipped.
    pub fn new(label: &str, programs: &[(&str, &str)]) -> Option<Self> {
        if !are_installed(programs) {
            return None;
        }
        let switch = Switch::new(label, 2);
        if switch.is_none() {
            crate::skipped!("network namespaces can't be made here (root is needed)");
        }
        Some(Self { switch: switch? })
    }

    /// The namespace of the server.
    pub fn server(&self) -> &str {
        self.switch.host(SERVER)
    }

    /// The address of the server.
    pub fn server_address(&self) -> String {
        switch::address(SERVER)
    }

    /// The namespace of the client.
    pub fn client(&self) -> &str {
        self.switch.host(CLIENT)
    }

    /// A node that captures at the switch; see [`Node::capture`].
    ///
    /// # Errors
    ///
    /// Those of [`Node::capture`].
    pub fn capture(&self, mode: &str, sink: &Path, more: &[&OsStr]) -> Result<Node, String> {
        Node::capture(self.switch.name(), mode, switch::INTERFACE, sink, more)
    }
}

/// Writes a key and a certificate for `name`, which it has signed itself, into `folder`: `key.pem` and `cert.pem`.
///
/// # Errors
///
/// What failed.
pub fn certify(folder: &Path, name: &str) -> Result<(), String> {
    let certified = rcgen::generate_simple_self_signed([name.to_owned()]).map_err(words)?;
    let key = certified.signing_key.serialize_pem();
    fs::write(folder.join("key.pem"), key).map_err(words)?;
    fs::write(folder.join("cert.pem"), certified.cert.pem()).map_err(words)
}
