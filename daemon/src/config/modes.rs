//! Which modes a node has, and what becomes of packets in each while no filter is in force.

use super::{ConfigError, NoFilterPolicy, choice, list};
use crate::settings::{Mode, Origin, Values};

/// The modes of a node: [`Mode::Hunt`] alone, or others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modes {
    /// Each once.
    all: Vec<Mode>,
    /// What the operator said of all of them.
    policy: Option<NoFilterPolicy>,
}

impl Modes {
    /// As the settings say.
    ///
    /// # Errors
    /// [`ConfigError::Modes`]
    pub(super) fn of(values: &Values) -> Result<Self, ConfigError> {
        let named = |name: &str| Mode::ALL.iter().copied().find(|mode| mode.name() == name);
        let names = list(values, "hunter.modes");
        let mut all = Vec::new();
        for name in names {
            let name = name.to_lowercase();
            match named(&name) {
                Some(Mode::Hunt) => {
                    return Err(ConfigError::Modes(
                        "hunt matches packets one by one, and can't be combined; leave it out, or leave the others out".to_owned(),
                    ));
                }
                Some(mode) if !all.contains(&mode) => all.push(mode),
                Some(_) => {}
                None => {
                    return Err(ConfigError::Modes(format!(
                        "{name:?} is no mode: voip, dns, http, tls and email can be combined"
                    )));
                }
            }
        }
        let single = choice(values, "hunter.mode").and_then(named);
        let single = single.unwrap_or(Mode::Hunt);
        if all.is_empty() {
            all.push(single);
        } else if single != Mode::Hunt && !all.contains(&single) {
            return Err(ConfigError::Modes(format!(
                "the mode is {}, which is not among them",
                single.name()
            )));
        }
        let policy = match values.get("hunter.no_filter_policy") {
            None | Some((_, Origin::Default)) => None,
            Some(_) => choice(values, "hunter.no_filter_policy").and_then(NoFilterPolicy::named),
        };
        Ok(Self { all, policy })
    }

    /// Whether `mode` is one of them.
    #[must_use]
    pub fn has(&self, mode: Mode) -> bool {
        self.all.contains(&mode)
    }

    /// The modes.
    pub fn iter(&self) -> impl Iterator<Item = Mode> {
        self.all.iter().copied()
    }

    /// Whether any of them follows sessions: of DNS, HTTP, TLS or mail.
    #[must_use]
    pub fn follow_sessions(&self) -> bool {
        let of_sessions = [Mode::Dns, Mode::Http, Mode::Tls, Mode::Email];
        of_sessions.iter().any(|mode| self.has(*mode))
    }

    /// What becomes of what a mode finds while no filter is in force: what the operator said; else hunt and voip forward nothing, and the others everything.
    #[must_use]
    pub fn policy(&self, mode: Mode) -> NoFilterPolicy {
        let default = match mode {
            Mode::Hunt | Mode::Voip => NoFilterPolicy::Deny,
            Mode::Dns | Mode::Http | Mode::Tls | Mode::Email => NoFilterPolicy::Allow,
        };
        self.policy.unwrap_or(default)
    }
}
