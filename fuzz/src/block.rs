//! Any bytes as a block of the kernel's ring.

use packet_socket::block::Frame;

/// Reads `bytes` to an end or to an error, within bounds.
pub fn check(bytes: &[u8]) {
    let mut at = 0;
    // Each packet lies behind the one before, so that a block comes to an end.
    while let Ok(frame) = Frame::read(bytes, at) {
        let _ = bytes[frame.data.clone()].first();
        if let Ok(room) = frame.room_before(20) {
            assert!(room.start > at && room.end == frame.data.start);
        }
        let _ = frame.sender.cooked_header(frame.vlan);
        match frame.next() {
            Ok(next) => at = next,
            Err(_) => break,
        }
    }
}
