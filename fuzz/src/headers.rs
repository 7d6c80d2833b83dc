//! Any bytes as a packet of any link type: steered and decoded, and nothing more, so that many are tried.

use lc_workerd::decode::{Fault, decode};

use crate::Input;

/// `bytes`: link type, packet.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let link_type = input.u16();
    let packet = input.rest();
    lc_capd::steer::fuzz(link_type, packet);
    let decoded = decode(link_type, packet);
    assert!(decoded.payload <= packet.len());
    // A worker decodes the first bytes alone, unless they say that they are too few.
    let first = decode(link_type, &packet[..packet.len() / 2]);
    if !first.fault.is_some_and(Fault::is_truncation) {
        assert_eq!(first, decoded);
    }
}
