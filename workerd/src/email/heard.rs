//! The commands, replies and mails of one packet, as they are told.

use super::letter::{Letter, Notes};
use crate::session::{Exchange, Tell};

/// Bytes of a list.
const MOST_LIST: usize = 256;
/// Bytes of the lines about mails.
const MOST_PASSED: usize = 4 * 1024;

/// What was heard, and not told yet.
#[derive(Debug, Default)]
pub struct Heard {
    /// Whether some of what is known of the mail at hand was heard now.
    pub has_mail: bool,
    passed: String,
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

    /// Another mail takes the place of the one at hand, which would not be told if it was heard now.
    pub fn put_passed(&mut self, letter: &Letter) {
        if !std::mem::take(&mut self.has_mail) {
            return;
        }
        let mut line = String::new();
        letter.put_info(&mut line);
        if !line.is_empty() && self.passed.len() + line.len() < MOST_PASSED {
            self.passed += if self.passed.is_empty() { "" } else { "\n" };
            self.passed += &line;
        }
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
            ("email.passed", &self.passed),
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
