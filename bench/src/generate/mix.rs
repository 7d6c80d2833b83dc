//! Which kinds of conversations a capture holds, and in what shares.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A kind of conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SIP with RTP and RTCP.
    Calls,
    /// DNS lookups.
    Dns,
    /// TLS handshakes and some encrypted records.
    Tls,
    /// HTTP exchanges.
    Http,
    /// SMTP sessions.
    Mail,
    /// Bulk transfers over TCP.
    Bulk,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Calls,
        Self::Dns,
        Self::Tls,
        Self::Http,
        Self::Mail,
        Self::Bulk,
    ];

    /// The name as it stands in a mix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Mail => "mail",
            Self::Bulk => "bulk",
        }
    }
}

/// Relative shares of the kinds, by packets: `calls=20,dns=10,bulk=70`.
///
/// The numbers need not sum up to 100; kinds that are not named have no share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix(Vec<(Kind, u32)>);

/// A text that is no mix.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MixError {
    /// A part without `=`.
    #[error("`{0}` is not KIND=SHARE, such as `calls=20`")]
    NotAShare(String),
    /// A kind that does not exist.
    #[error("`{0}` is no kind of traffic; use calls, dns, tls, http, mail or bulk")]
    UnknownKind(String),
    /// The same kind twice.
    #[error("`{0}` is named twice")]
    Twice(String),
    /// A share that is no number from 0 to 1,000,000.
    #[error("the share `{0}` is not a number from 0 to 1000000")]
    BadShare(String),
    /// Nothing with a share above zero.
    #[error("the mix is empty; give at least one kind a share above 0")]
    Empty,
}

impl Mix {
    /// The kinds with a share above zero.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> + '_ {
        self.0.iter().map(|(kind, _)| *kind)
    }

    /// The kinds of `slots` conversations that run side by side. Each slot goes to the kind that
    /// is furthest behind its share, so the first ones already hold every kind.
    pub(super) fn split(&self, slots: usize) -> Vec<Kind> {
        let mut given = vec![0u64; self.0.len()];
        (0..slots)
            .map(|_| {
                // None may stay empty; then whoever has least for its share.
                let next = (0..given.len())
                    .min_by_key(|kind| {
                        let share = u64::from(self.0[*kind].1);
                        (given[*kind] > 0, given[*kind] * 1_000_000_000 / share)
                    })
                    .unwrap_or_default();
                given[next] += 1;
                self.0[next].0
            })
            .collect()
    }
}

impl Default for Mix {
    fn default() -> Self {
        Self(vec![
            (Kind::Calls, 20),
            (Kind::Dns, 10),
            (Kind::Tls, 10),
            (Kind::Http, 20),
            (Kind::Mail, 5),
            (Kind::Bulk, 35),
        ])
    }
}

impl FromStr for Mix {
    type Err = MixError;

    fn from_str(text: &str) -> Result<Self, MixError> {
        let mut shares: Vec<(Kind, u32)> = Vec::new();
        for part in text.split(',') {
            let (name, share) = part
                .split_once('=')
                .ok_or_else(|| MixError::NotAShare(part.into()))?;
            let kind = Kind::ALL
                .into_iter()
                .find(|kind| kind.name() == name.trim())
                .ok_or_else(|| MixError::UnknownKind(name.into()))?;
            let share = share
                .trim()
                .parse()
                .ok()
                .filter(|share| *share <= 1_000_000)
                .ok_or_else(|| MixError::BadShare(share.into()))?;
            if shares.iter().any(|(known, _)| *known == kind) {
                return Err(MixError::Twice(name.into()));
            }
            shares.push((kind, share));
        }
        shares.retain(|(_, share)| *share > 0);
        shares.sort();
        if shares.is_empty() {
            return Err(MixError::Empty);
        }
        Ok(Self(shares))
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (kind, share)) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(formatter, "{comma}{}={share}", kind.name())?;
        }
        Ok(())
    }
}
