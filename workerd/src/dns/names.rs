//! What filters are compared with: names, and telephone numbers in them.

use super::codes::kind;
use super::message::{Message, Section};
use super::name::Name;
use crate::matcher::{Kind, Kinds};

/// Names; telephone numbers in them, as users.
pub const KINDS: Kinds = Kinds::of(&[Kind::DnsName, Kind::SipUser]);

/// Tells the names of questions, the owners of answers and the targets of aliases; with `targets` also those of other records. The root is no name, and what was written once is told
/// once, if nothing else came between: most answers have the name of the question, or of the answer before.
pub fn each_name<'a>(message: &Message<'a>, targets: bool, mut tell: impl FnMut(Name<'a>)) {
    let mut last: Option<Name<'a>> = None;
    let mut tell = |name: Name<'a>| {
        if !last.is_some_and(|last| last.is_written_as(name)) && !name.is_root() {
            last = Some(name);
            tell(name);
        }
    };
    let mut walk = message.walk();
    while let Some(question) = walk.question() {
        tell(question.name);
    }
    for record in walk.take_while(|record| record.section == Section::Answer) {
        tell(record.name);
        if (targets || record.kind == kind::CNAME)
            && let Some(target) = record.target()
        {
            tell(target);
        }
    }
}

/// Tells what filters of the `wanted` kinds are compared with, of each of these names. `text` is used again.
pub fn each_field(
    message: &Message<'_>,
    targets: bool,
    wanted: Kinds,
    text: &mut Vec<u8>,
    mut tell: impl FnMut(Kind, &[u8]),
) {
    each_name(message, targets, |name| {
        if wanted.has(Kind::DnsName) {
            text.clear();
            name.push(text);
            tell(Kind::DnsName, text);
        }
        if wanted.has(Kind::SipUser)
            && let Some(number) = name.e164()
        {
            tell(Kind::SipUser, number.as_bytes());
        }
    });
}
