//! What is told of packets, in one piece of memory that is used again.

use super::tracker::{Exchange, Note};

/// Most notes.
const MOST: usize = 32;
/// Most bytes of all of them together.
const MOST_BYTES: usize = 32 << 10;

/// See the [module](self). What comes when there are too many is left out.
#[derive(Debug, Default)]
pub struct Notes {
    text: Vec<u8>,
    notes: Vec<Noted>,
}

#[derive(Debug, Clone, Copy)]
struct Noted {
    exchange: Exchange,
    offset: u64,
    protocol: &'static str,
    /// Where each part ends in the text.
    ends: [usize; 3],
}

impl Notes {
    /// Adds a note of the packet that carries the byte at `offset`.
    pub fn push(&mut self, exchange: Exchange, offset: u64, note: Note<'_>) {
        let bytes = note.info.len() + note.details.len() + note.blocks.len();
        if self.notes.len() == MOST || self.text.len() + bytes > MOST_BYTES {
            return;
        }
        let mut ends = [0; 3];
        let parts = [note.info.as_bytes(), note.details, note.blocks];
        for (end, part) in ends.iter_mut().zip(parts) {
            self.text.extend_from_slice(part);
            *end = self.text.len();
        }
        self.notes.push(Noted {
            exchange,
            offset,
            protocol: note.protocol,
            ends,
        });
    }

    /// All notes, in the order in which they came: whose, of which byte, what.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Exchange, u64, Note<'_>)> {
        (0..self.notes.len()).filter_map(|number| self.get(number))
    }

    fn get(&self, number: usize) -> Option<(Exchange, u64, Note<'_>)> {
        let noted = self.notes.get(number)?;
        let start = match number {
            0 => 0,
            _ => self.notes[number - 1].ends[2],
        };
        let [info, details, blocks] = noted.ends;
        let note = Note {
            protocol: noted.protocol,
            info: std::str::from_utf8(&self.text[start..info]).unwrap_or_default(),
            details: &self.text[info..details],
            blocks: &self.text[details..blocks],
        };
        Some((noted.exchange, noted.offset, note))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.notes.is_empty()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.text.clear();
        self.notes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_out_as_they_went_in() {
        let mut notes = Notes::default();
        let first = Note {
            protocol: "A",
            info: "one",
            details: b"12",
            blocks: b"",
        };
        let second = Note {
            blocks: b"345",
            ..Note::default()
        };
        notes.push(Exchange(7), 1, first);
        notes.push(Exchange(8), 2, second);
        let told: Vec<_> = notes
            .iter()
            .map(|(exchange, offset, note)| {
                (
                    exchange.0,
                    offset,
                    note.protocol,
                    note.info,
                    note.details,
                    note.blocks,
                )
            })
            .collect();
        let none = &b""[..];
        assert_eq!(
            told,
            [
                (7, 1, "A", "one", &b"12"[..], none),
                (8, 2, "", "", none, b"345")
            ]
        );
        for _ in 0..2 * MOST {
            notes.push(Exchange(9), 3, first);
        }
        assert_eq!(notes.iter().count(), MOST);
        notes.clear();
        assert!(notes.is_empty());
    }
}
