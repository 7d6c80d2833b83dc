//! What a call's messages said that filters can be compared with, kept so that filters which come later find calls that run.

use crate::decode::{Addr, Decoded};
use crate::matcher::{Fields, Kind};

/// Most bytes kept for a call; what comes later is compared when it comes, but not kept.
const MOST_BYTES: usize = 2048;
/// Most pairs of addresses kept for a call.
const MOST_PAIRS: usize = 8;

/// Fields and addresses of a call, each once.
#[derive(Debug, Default)]
pub struct Identities {
    /// Kind, length in two bytes, text; over and over.
    fields: Vec<u8>,
    pairs: Vec<(Addr, Addr)>,
}

impl Identities {
    /// Adds what a packet said.
    pub fn add(&mut self, addresses: Option<(Addr, Addr)>, fields: &Fields) {
        if let Some((source, destination)) = addresses {
            let known = |pair: &(Addr, Addr)| {
                *pair == (source, destination) || *pair == (destination, source)
            };
            if self.pairs.len() < MOST_PAIRS && !self.pairs.iter().any(known) {
                self.pairs.push((source, destination));
            }
        }
        for (_, kind, text) in fields.iter() {
            self.add_field(kind, text);
        }
    }

    /// Adds a field.
    pub fn add_field(&mut self, kind: Kind, text: &[u8]) {
        let room = MOST_BYTES.saturating_sub(self.fields.len());
        if text.len() + 3 > room || self.fields().any(|known| known == (kind, text)) {
            return;
        }
        self.fields.push(kind as u8);
        self.fields
            .extend_from_slice(&(text.len() as u16).to_be_bytes());
        self.fields.extend_from_slice(text);
    }

    /// A number that grows with what is added.
    #[must_use]
    pub fn size(&self) -> usize {
        self.fields.len() + self.pairs.len()
    }

    /// The fields.
    pub fn fields(&self) -> impl Iterator<Item = (Kind, &[u8])> {
        let mut rest = &self.fields[..];
        std::iter::from_fn(move || {
            let (head, behind) = rest.split_first_chunk::<3>()?;
            let len = usize::from(u16::from_be_bytes([head[1], head[2]]));
            let (text, behind) = behind.split_at_checked(len)?;
            rest = behind;
            Some((*Kind::ALL.get(usize::from(head[0]))?, text))
        })
    }

    /// The pairs of addresses.
    pub fn pairs(&self) -> impl Iterator<Item = (Addr, Addr)> {
        self.pairs.iter().copied()
    }

    /// The addresses, as packets to be judged.
    pub fn packets(&self) -> impl Iterator<Item = Decoded> {
        self.pairs.iter().map(|pair| Decoded {
            addresses: Some(*pair),
            ..Decoded::default()
        })
    }

    /// Bytes of memory beside the value itself.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.fields.capacity() + self.pairs.capacity() * size_of::<(Addr, Addr)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_kept_once_and_within_bounds() {
        let mut identities = Identities::default();
        let pair = (Addr::V4(1), Addr::V4(2));
        for _ in 0..3 {
            let mut fields = Fields::default();
            fields.push(Kind::SipUser, b"alice");
            fields.push(Kind::CallId, b"alice");
            identities.add(Some(pair), &fields);
            identities.add(Some((pair.1, pair.0)), &fields);
        }
        let known: Vec<_> = identities.fields().collect();
        assert_eq!(
            known,
            [(Kind::SipUser, &b"alice"[..]), (Kind::CallId, b"alice")]
        );
        assert_eq!(identities.packets().count(), 1);
        for n in 0..10_000u32 {
            let mut fields = Fields::default();
            fields.push(Kind::SipUser, n.to_string().as_bytes());
            identities.add(Some((Addr::V4(n), Addr::V4(0))), &fields);
        }
        assert!(identities.fields.len() <= MOST_BYTES);
        assert_eq!(identities.packets().count(), MOST_PAIRS);
    }
}
