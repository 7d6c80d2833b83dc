//! Capabilities: what of root's power a process keeps.

use caps::{CapSet, Capability, CapsHashSet};

use super::SandboxError;

/// Drops every capability but those in `wanted`, in all sets; the ones that the process does not have stay away. None of them can come
/// back: `no_new_privs` is set, and the bounding set is cut down where the process may do that.
pub(super) fn keep_only(wanted: &[Capability]) -> Result<(), SandboxError> {
    let failed = |step| {
        move |error: caps::errors::CapsError| SandboxError::Step {
            step,
            cause: error.to_string(),
        }
    };
    let kept: CapsHashSet = caps::read(None, CapSet::Permitted)
        .map_err(failed("read capabilities"))?
        .into_iter()
        .filter(|capability| wanted.contains(capability))
        .collect();
    let may_cut = caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP);
    if may_cut.map_err(failed("read capabilities"))? {
        let bounding = caps::read(None, CapSet::Bounding).map_err(failed("read capabilities"))?;
        for capability in bounding.into_iter().filter(|one| !kept.contains(one)) {
            caps::drop(None, CapSet::Bounding, capability)
                .map_err(failed("cut the bounding set"))?;
        }
    }
    // Ambient ones go with the inheritable ones.
    caps::clear(None, CapSet::Inheritable).map_err(failed("drop capabilities"))?;
    caps::set(None, CapSet::Effective, &kept).map_err(failed("drop capabilities"))?;
    caps::set(None, CapSet::Permitted, &kept).map_err(failed("drop capabilities"))
}

/// The capabilities that this thread could use, one bit each as the kernel numbers them.
pub(super) fn permitted() -> u64 {
    caps::read(None, CapSet::Permitted)
        .unwrap_or_default()
        .iter()
        .fold(0, |bits, capability| bits | capability.bitmask())
}
