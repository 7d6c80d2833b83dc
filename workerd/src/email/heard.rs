//! The commands and replies of one packet, as they are told.

use super::letter::Notes;
use crate::session::{Exchange, Tell};

/// Bytes of a list.
const MOST_LIST: usize = 256;

/// Commands and replies that were heard, and not told yet.
#[derive(Debug, Default)]
pub struct Heard {
    commands: String,
    replies: String,
    answered: String,
}

impl Heard {
    /// A command.
    pub fn put_command(&mut self, name: &str) {
        put(&mut self.commands, name);
    }

    /// A reply.
    pub fn put_reply(&mut self, status: &str) {
        put(&mut self.replies, status);
    }

    /// What the reply answers.
    pub fn put_answered(&mut self, name: &str) {
        put(&mut self.answered, name);
    }

    /// Tells them of the packet that carries the byte before `end`, if there are any.
    pub fn tell(
        &self,
        protocol: &'static str,
        exchange: Exchange,
        end: u64,
        notes: &mut Notes,
        tell: &mut impl Tell,
    ) {
        notes.clear();
        for (key, list) in [
            ("email.command", &self.commands),
            ("email.reply", &self.replies),
            ("email.reply_to", &self.answered),
        ] {
            if !list.is_empty() {
                notes.details.put(key, list);
            }
        }
        if !notes.details.is_empty() {
            tell.note(exchange, end.saturating_sub(1), notes.note(protocol));
        }
    }
}

fn put(list: &mut String, item: &str) {
    if list.len() + item.len() < MOST_LIST {
        *list += if list.is_empty() { "" } else { "," };
        *list += item;
    }
}
