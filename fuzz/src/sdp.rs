//! One session description, and the endpoints that it announces.

use lc_workerd::sip::sdp::{MOST_CANDIDATES, MOST_MEDIA, MOST_PORTS, Session};

/// `bytes`: the description.
pub fn check(bytes: &[u8]) {
    look(&Session::parse(bytes));
}

/// Everything that is asked of a session.
pub fn look(session: &Session<'_>) {
    let mut count = 0;
    for media in session.media() {
        count += 1;
        assert!(media.codecs().all(|codec| codec.payload_type < 128));
        let _ = (media.ssrcs().count(), media.is_held());
    }
    assert!(count <= MOST_MEDIA);
    let most = count * (usize::from(MOST_PORTS) + MOST_CANDIDATES);
    let mut endpoints = 0;
    for endpoint in session.endpoints() {
        endpoints += 1;
        assert!(endpoint.address.1 != 0 && endpoint.rtcp.is_none_or(|(_, port)| port != 0));
        assert!(usize::from(endpoint.media) < count);
    }
    assert!(endpoints <= most);
    let _ = session.hosts().count();
}
