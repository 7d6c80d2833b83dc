//! Names of interfaces, for packets that are forwarded.

use shm_layout::region::Region;
use shm_layout::session::Session;

/// Names of the session's interface table, each read once.
#[derive(Debug, Default)]
pub struct InterfaceNames(Vec<String>);

impl InterfaceNames {
    /// The name of interface `index`; empty for one that is not known.
    pub fn get(&mut self, session: &Region<Session>, index: u16) -> &str {
        let index = usize::from(index);
        while self.0.len() <= index {
            match session.interface(self.0.len()) {
                Some(info) => self.0.push(info.name),
                None => return "",
            }
        }
        &self.0[index]
    }
}
