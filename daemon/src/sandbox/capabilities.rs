//! Capabilities: what of root's power a process keeps.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
};

use super::SandboxError;

/// Drops every capability but those in `wanted`, in all sets; the ones that the process does not have stay away. None of them can come
/// back: `no_new_privs` is set, and the bounding set is cut down where the process may do that.
pub(super) fn keep_only(wanted: CapabilitySet) -> Result<(), SandboxError> {
    let failed = |step| {
        move |errno: Errno| SandboxError::Step {
            step,
            cause: errno.to_string(),
        }
    };
    let had = capabilities(None).map_err(failed("read capabilities"))?;
    let kept = had.permitted & wanted;
    if had.effective.contains(CapabilitySet::SETPCAP) {
        // The kernel knows those below the first that it takes for an error.
        let known = (0..u64::BITS)
            .map(|bit| CapabilitySet::from_bits_retain(1 << bit))
            .take_while(|capability| capability_is_in_bounding_set(*capability).is_ok());
        for capability in known.filter(|capability| !kept.contains(*capability)) {
            remove_capability_from_bounding_set(capability)
                .map_err(failed("cut the bounding set"))?;
        }
    }
    clear_ambient_capability_set().map_err(failed("drop ambient capabilities"))?;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    // A service manager that has dropped them all may have forbidden the call as well.
    if had == sets {
        return Ok(());
    }
    set_capabilities(None, sets).map_err(failed("drop capabilities"))
}

/// The capabilities that this thread could use, one bit each as the kernel numbers them.
pub(super) fn permitted() -> u64 {
    capabilities(None).map_or(0, |sets| sets.permitted.bits())
}
