//! One SIP message, and everything that is asked of it.

use lc_workerd::sip::header::Name;
use lc_workerd::sip::message::{MOST_HEADERS, Message};
use lc_workerd::sip::sdp::Session;

/// `bytes`: the message.
pub fn check(bytes: &[u8]) {
    let Some(message) = Message::parse_doubtful(bytes) else {
        assert!(Message::parse(bytes).is_none());
        return;
    };
    assert!(lies_in(message.body(), bytes) && lies_in(message.line(), bytes));
    assert!(message.headers().count() <= MOST_HEADERS);
    for name in Name::ALL {
        let headers = message.headers();
        let listed = headers.filter(|header| Name::of(header.name) == Some(*name));
        assert!(message.values(*name).eq(listed.map(|header| header.value)));
        for value in message.values(*name) {
            assert!(!value.to_string().contains(['\r', '\n']));
        }
        let mut scratch = Vec::new();
        for address in message.addresses(*name) {
            assert!(lies_in(address.uri.text, bytes) && lies_in(address.uri.host(), bytes));
            assert!(lies_in(address.tag(), bytes));
            assert!(address.uri.unescaped_user(&mut scratch).len() <= address.uri.user.len());
        }
    }
    if let Ok(id) = message.call_id() {
        assert!(!id.is_empty() && !id.contains(&0));
    }
    assert!(message.imsis().all(|imsi| imsi.len() == 15));
    let _ = (message.imeis().count(), message.correlations().count());
    let _ = (message.access_network(), message.visited_network());
    let _ = (message.cseq(), message.request_uri());
    if let Some(session) = Session::of(&message) {
        super::sdp::look(&session);
    }
}

fn lies_in(part: &[u8], whole: &[u8]) -> bool {
    let (part_range, whole) = (part.as_ptr_range(), whole.as_ptr_range());
    part.is_empty() || whole.start <= part_range.start && part_range.end <= whole.end
}
