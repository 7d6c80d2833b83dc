//! What protects the process that writes a region, as it told: shown by `lc-hunt status`.

use std::fmt;

/// The walls around one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Protection {
    /// System calls are limited to a list.
    pub seccomp: bool,
    /// Files and TCP ports are limited to a list.
    pub landlock: bool,
    /// No program that it starts gains privileges.
    pub no_new_privileges: bool,
    /// Other processes of its user can't trace it.
    pub not_dumpable: bool,
    /// Capabilities that it holds, by the kernel's bit numbers.
    pub capabilities: u64,
}

const SECCOMP: u64 = 1;
const LANDLOCK: u64 = 2;
const NO_NEW_PRIVILEGES: u64 = 4;
const NOT_DUMPABLE: u64 = 8;

/// The capabilities that lc-hunt's processes keep, by bit number; others show as numbers.
const NAMES: [(u32, &str); 3] = [(2, "dac_read_search"), (12, "net_admin"), (13, "net_raw")];

impl Protection {
    /// No walls, and these capabilities.
    #[must_use]
    pub fn none(capabilities: u64) -> Self {
        Self {
            capabilities,
            ..Self::default()
        }
    }

    pub(crate) fn bits(self) -> u64 {
        let bit = |on, bit| if on { bit } else { 0 };
        bit(self.seccomp, SECCOMP)
            | bit(self.landlock, LANDLOCK)
            | bit(self.no_new_privileges, NO_NEW_PRIVILEGES)
            | bit(self.not_dumpable, NOT_DUMPABLE)
    }

    pub(crate) fn of(bits: u64, capabilities: u64) -> Self {
        Self {
            seccomp: bits & SECCOMP != 0,
            landlock: bits & LANDLOCK != 0,
            no_new_privileges: bits & NO_NEW_PRIVILEGES != 0,
            not_dumpable: bits & NOT_DUMPABLE != 0,
            capabilities,
        }
    }

    /// The walls by name.
    #[must_use]
    pub fn walls(&self) -> Vec<&'static str> {
        [
            (self.seccomp, "seccomp"),
            (self.landlock, "landlock"),
            (self.no_new_privileges, "no_new_privs"),
            (self.not_dumpable, "not_dumpable"),
        ]
        .into_iter()
        .filter_map(|(on, name)| on.then_some(name))
        .collect()
    }

    /// The capabilities by name, without `cap_`.
    #[must_use]
    pub fn capability_names(&self) -> Vec<String> {
        (0..u64::BITS)
            .filter(|bit| self.capabilities >> bit & 1 != 0)
            .map(|bit| {
                let known = NAMES.iter().find(|(known, _)| *known == bit);
                known.map_or_else(|| bit.to_string(), |(_, name)| (*name).to_owned())
            })
            .collect()
    }
}

/// `seccomp landlock no_new_privs not_dumpable caps:none`, or `OFF caps:...`.
impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let walls = self.walls();
        if walls.is_empty() {
            f.write_str("OFF")?;
        } else {
            f.write_str(&walls.join(" "))?;
        }
        let names = self.capability_names();
        match names.len() {
            0 => f.write_str(" caps:none"),
            1..=4 => write!(f, " caps:{}", names.join(",")),
            many => write!(f, " caps:{many}"),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn bits_come_back_and_read_well() {
        let protection = Protection {
            seccomp: true,
            landlock: true,
            no_new_privileges: true,
            not_dumpable: false,
            capabilities: 1 << 13,
        };
        let bits = protection.bits();
        assert_eq!(Protection::of(bits, protection.capabilities), protection);
        assert_eq!(
            protection.to_string(),
            "seccomp landlock no_new_privs caps:net_raw"
        );
        assert_eq!(Protection::none(0).to_string(), "OFF caps:none");
        assert_eq!(Protection::none(u64::MAX >> 23).to_string(), "OFF caps:41");
    }
}
