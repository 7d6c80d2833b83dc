//! The secrets of sessions, by the random of their ClientHello.

use super::keylog::{Entry, Label, Secret};
use std::collections::{BTreeMap, HashMap};

/// Most sessions whose secrets are kept. Beyond it, those go that were not used for longest.
pub const MOST_SESSIONS: usize = 10_000;
/// How long secrets are kept that nobody uses, in nanoseconds.
const LIFE_NS: u64 = 3_600_000_000_000;

/// The secrets of a session, as far as they are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    by_label: [Option<Secret>; Label::ALL.len()],
}

impl Secrets {
    /// That of `label`.
    #[must_use]
    pub fn get(&self, label: Label) -> Option<&Secret> {
        self.by_label[label as usize].as_ref()
    }

    /// Whether data can be decrypted with them: the master secret of TLS 1.2, or both traffic secrets of TLS 1.3.
    #[must_use]
    pub fn are_usable(&self) -> bool {
        let has = |label| self.get(label).is_some();
        has(Label::ClientRandom) || has(Label::ClientTraffic) && has(Label::ServerTraffic)
    }

    /// Whether there is any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_label.iter().all(Option::is_none)
    }
}

/// Secrets of many sessions.
#[derive(Debug, Default)]
pub struct Store {
    sessions: HashMap<[u8; 32], Session>,
    /// Client randoms by when they were used last, the oldest first: a number that no other use has.
    uses: BTreeMap<u64, [u8; 32]>,
    next_use: u64,
}

#[derive(Debug, Default)]
struct Session {
    secrets: Secrets,
    used: u64,
    used_ns: u64,
    is_sent: bool,
}

impl Store {
    /// Adds a secret at the time `now_ns`. False if it was known.
    pub fn add(&mut self, entry: &Entry, now_ns: u64) -> bool {
        self.use_at(&entry.client_random, now_ns);
        let session = self.sessions.entry(entry.client_random).or_default();
        let secret = &mut session.secrets.by_label[entry.label as usize];
        let is_new = secret.replace(entry.secret) != Some(entry.secret);
        self.forget(now_ns);
        is_new
    }

    /// The secrets of a session.
    pub fn get(&mut self, client_random: &[u8; 32], now_ns: u64) -> Option<&Secrets> {
        if self.sessions.contains_key(client_random) {
            self.use_at(client_random, now_ns);
        }
        let session = self.sessions.get(client_random)?;
        Some(&session.secrets)
    }

    /// The secrets of a session, if they are usable and nobody has asked so before.
    pub fn take_unsent(&mut self, client_random: &[u8; 32]) -> Option<&Secrets> {
        let session = self.sessions.get_mut(client_random)?;
        let is_due = session.secrets.are_usable() && !session.is_sent;
        session.is_sent |= is_due;
        is_due.then_some(&session.secrets)
    }

    /// All secrets are to be sent once more: to another processor, or to one that has lost them.
    pub fn reset(&mut self) {
        for session in self.sessions.values_mut() {
            session.is_sent = false;
        }
    }

    /// Sessions that secrets are known of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    fn use_at(&mut self, client_random: &[u8; 32], now_ns: u64) {
        let session = self.sessions.entry(*client_random).or_default();
        self.uses.remove(&session.used);
        self.next_use += 1;
        (session.used, session.used_ns) = (self.next_use, now_ns);
        self.uses.insert(session.used, *client_random);
    }

    /// Forgets what is too old or too much.
    fn forget(&mut self, now_ns: u64) {
        while let Some(oldest) = self.uses.first_entry() {
            let random = *oldest.get();
            let used_ns = self
                .sessions
                .get(&random)
                .map_or(0, |session| session.used_ns);
            if self.sessions.len() <= MOST_SESSIONS && now_ns.saturating_sub(used_ns) <= LIFE_NS {
                return;
            }
            oldest.remove();
            self.sessions.remove(&random);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u16, label: Label) -> Entry {
        let mut client_random = [0; 32];
        client_random[..2].copy_from_slice(&n.to_be_bytes());
        Entry {
            label,
            client_random,
            secret: Secret::new(&[7; 48]).unwrap(),
        }
    }

    /// Rows 41 and 42 of the reference, and row 51.
    #[test]
    fn a_session_is_usable_with_both_traffic_secrets_or_the_master_secret() {
        let mut store = Store::default();
        let one = entry(1, Label::ClientTraffic);
        assert!(store.add(&one, 0) && !store.add(&one, 0));
        assert_eq!(store.len(), 1);
        assert!(!store.get(&one.client_random, 0).unwrap().are_usable());
        assert!(store.take_unsent(&one.client_random).is_none());
        assert!(store.add(&entry(1, Label::ServerTraffic), 0));
        assert!(store.take_unsent(&one.client_random).is_some());
        assert!(store.take_unsent(&one.client_random).is_none());
        store.reset();
        assert!(store.take_unsent(&one.client_random).is_some());
        store.add(&entry(2, Label::ClientRandom), 0);
        assert!(
            store
                .get(&entry(2, Label::ClientRandom).client_random, 0)
                .unwrap()
                .are_usable()
        );
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut store = Store::default();
        let most = MOST_SESSIONS as u16;
        (0..most).for_each(|n| assert!(store.add(&entry(n, Label::ClientRandom), 0)));
        assert!(
            store
                .get(&entry(0, Label::ClientRandom).client_random, 1)
                .is_some()
        );
        store.add(&entry(most, Label::ClientRandom), 2);
        assert_eq!(store.len(), MOST_SESSIONS);
        assert!(
            store
                .get(&entry(0, Label::ClientRandom).client_random, 3)
                .is_some()
        );
        assert!(
            store
                .get(&entry(1, Label::ClientRandom).client_random, 3)
                .is_none()
        );
        store.add(&entry(most, Label::ClientRandom), LIFE_NS + 3);
        assert_eq!(store.len(), 2);
    }
}
