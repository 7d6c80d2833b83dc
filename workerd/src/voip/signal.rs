//! What a SIP message means to its call: method or status, dialog, and what it answers.

use std::hash::{BuildHasher, RandomState};

/// Methods that change a call. The others only belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Begins a call, or changes one (RFC 3261 sections 13, 14).
    Invite,
    /// Confirms a final response to INVITE (RFC 3261 section 13.2.2.4).
    Ack,
    /// Ends a dialog (RFC 3261 section 15).
    Bye,
    /// Gives up an INVITE (RFC 3261 section 9).
    Cancel,
    /// Any other that only a dialog of a call has: PRACK (RFC 3262), UPDATE (RFC 3311), INFO (RFC 6086).
    WithinCall,
    /// Any other: REGISTER, OPTIONS, MESSAGE, SUBSCRIBE, NOTIFY, PUBLISH, REFER.
    Alone,
}

/// What stands in the start line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// A request.
    Request(Method),
    /// A response: its status code, and the method that it answers, as CSeq says.
    Response(u16, Method),
}

/// A dialog of a call: the two tags, in no order, so that both directions name the same (RFC 3261 section 12). `None` without a tag of the
/// callee: the request that begins one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DialogId(u64);

/// Makes [`DialogId`]s, with a secret that keeps strangers from making equal ones.
#[derive(Debug, Clone, Default)]
pub struct Tags(RandomState);

impl Tags {
    /// The dialog between two tags, of From and To.
    #[must_use]
    pub fn dialog(&self, from: &[u8], to: &[u8]) -> Option<DialogId> {
        let hash = |tag: &[u8]| self.0.hash_one(tag);
        (!to.is_empty()).then(|| {
            DialogId(hash(from) ^ hash(to).rotate_left(1) ^ hash(to) ^ hash(from).rotate_left(1))
        })
    }
}

/// A message, as its call sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    /// Request or response.
    pub start: Start,
    /// Its dialog.
    pub dialog: Option<DialogId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialog_has_no_direction() {
        let tags = Tags::default();
        assert_eq!(tags.dialog(b"a", b"b"), tags.dialog(b"b", b"a"));
        assert_ne!(tags.dialog(b"a", b"b"), tags.dialog(b"a", b"c"));
        assert_eq!(tags.dialog(b"a", b""), None);
    }
}
