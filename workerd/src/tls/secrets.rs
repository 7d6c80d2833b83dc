//! The secrets of sessions, by the random of their ClientHello.

use lc_daemon::key_log::{Entry, Label, Secret};
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

/// What it takes to decrypt a session.
#[derive(Debug, Clone)]
pub struct SessionKeys {
    /// Random of the ClientHello.
    pub client_random: [u8; 32],
    /// Random of the ServerHello.
    pub server_random: [u8; 32],
    /// The version.
    pub version: u16,
    /// The cipher suite.
    pub cipher: u16,
    /// All that is known.
    pub secrets: Secrets,
}

/// Secrets of many sessions.
#[derive(Debug, Default)]
pub struct Store {
    sessions: HashMap<[u8; 32], Session>,
    /// Client randoms by when they were used last, the oldest first: a number that no other use has.
    uses: BTreeMap<u64, [u8; 32]>,
    next_use: u64,
    now_ns: u64,
}

#[derive(Debug, Default)]
struct Session {
    secrets: Secrets,
    used: u64,
    used_ns: u64,
}

impl Store {
    /// Adds a secret at the time `now_ns`, of a clock that does not go back. False if it was known.
    pub fn add(&mut self, entry: &Entry, now_ns: u64) -> bool {
        self.now_ns = self.now_ns.max(now_ns);
        self.touch(&entry.client_random);
        let session = self.sessions.entry(entry.client_random).or_default();
        let secret = &mut session.secrets.by_label[entry.label as usize];
        let is_new = secret.as_ref() != Some(&entry.secret);
        *secret = Some(entry.secret.clone());
        self.forget();
        is_new
    }

    /// The secrets of a session.
    pub fn get(&mut self, client_random: &[u8; 32]) -> Option<&Secrets> {
        if self.sessions.contains_key(client_random) {
            self.touch(client_random);
        }
        let session = self.sessions.get(client_random)?;
        Some(&session.secrets)
    }

    /// Whether data of a session can be decrypted.
    #[must_use]
    pub fn has(&self, client_random: &[u8; 32]) -> bool {
        let session = self.sessions.get(client_random);
        session.is_some_and(|session| session.secrets.are_usable())
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

    /// A session is used.
    fn touch(&mut self, client_random: &[u8; 32]) {
        let session = self.sessions.entry(*client_random).or_default();
        self.uses.remove(&session.used);
        self.next_use += 1;
        (session.used, session.used_ns) = (self.next_use, self.now_ns);
        self.uses.insert(session.used, *client_random);
    }

    /// Forgets what is too old or too much.
    fn forget(&mut self) {
        while let Some(oldest) = self.uses.first_entry() {
            let random = *oldest.get();
            let used_ns = self
                .sessions
                .get(&random)
                .map_or(0, |session| session.used_ns);
            let is_old = self.now_ns.saturating_sub(used_ns) > LIFE_NS;
            if self.sessions.len() <= MOST_SESSIONS && !is_old {
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

    /// Rows 41 and 42 of the reference.
    #[test]
    fn a_session_is_usable_with_both_traffic_secrets_or_the_master_secret() {
        let mut store = Store::default();
        let one = entry(1, Label::ClientTraffic);
        assert!(store.add(&one, 0) && !store.add(&one, 0));
        assert_eq!(store.len(), 1);
        assert!(!store.has(&one.client_random));
        assert!(store.add(&entry(1, Label::ServerTraffic), 0));
        assert!(store.has(&one.client_random));
        assert!(store.get(&one.client_random).unwrap().are_usable());
        let master = entry(2, Label::ClientRandom);
        store.add(&master, 0);
        assert!(store.has(&master.client_random));
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut store = Store::default();
        let of = |n| entry(n, Label::ClientRandom);
        let most = MOST_SESSIONS as u16;
        (0..most).for_each(|n| assert!(store.add(&of(n), 0)));
        assert!(store.get(&of(0).client_random).is_some());
        store.add(&of(most), 2);
        assert_eq!(store.len(), MOST_SESSIONS);
        assert!(store.get(&of(0).client_random).is_some());
        assert!(store.get(&of(1).client_random).is_none());
        store.add(&of(most), LIFE_NS + 1);
        assert_eq!(store.len(), 2);
        store.add(&of(most), LIFE_NS + 3);
        assert_eq!(store.len(), 1);
    }
}
