//! Landlock: which files a process can open and which TCP ports it can connect to.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use std::path::Path;

use super::SandboxError;
use super::profile::{Opens, Profile};

/// The newest rules that were tried with lc-hunt; older kernels enforce what they know of them.
const RULES: ABI = ABI::V6;

/// Forbids this thread and its later children everything that the profile does not name.
pub(super) fn restrict(profile: &Profile) -> Result<(), SandboxError> {
    let status = apply(profile).map_err(|error| SandboxError::Step {
        step: "landlock",
        cause: error.to_string(),
    })?;
    if status == RulesetStatus::NotEnforced {
        return Err(SandboxError::NoLandlock);
    }
    Ok(())
}

fn apply(profile: &Profile) -> Result<RulesetStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(RULES))?
        .handle_access(AccessNet::from_all(RULES))?
        .scope(Scope::from_all(RULES))?
        .create()?;
    for (path, opens) in &profile.files {
        // What does not exist can't be opened either; whoever needs it says so.
        let Ok(file) = PathFd::new(path) else {
            continue;
        };
        let rule = PathBeneath::new(file, rights(path, *opens));
        if let Err(error) = (&mut rules).add_rule(rule) {
            // Pipes without a place in the file system: they have no rules and need none.
            tracing::debug!(path = %path.display(), %error, "no landlock rule");
        }
    }
    for port in &profile.tcp_ports {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

fn rights(path: &Path, opens: Opens) -> BitFlags<AccessFs> {
    match opens {
        Opens::Read if path.is_dir() => AccessFs::ReadFile | AccessFs::ReadDir,
        Opens::Read => AccessFs::ReadFile.into(),
        Opens::Files => {
            AccessFs::ReadFile
                | AccessFs::ReadDir
                | AccessFs::WriteFile
                | AccessFs::Truncate
                | AccessFs::MakeReg
                | AccessFs::RemoveFile
        }
        Opens::Sockets => AccessFs::MakeSock | AccessFs::RemoveFile,
    }
}
