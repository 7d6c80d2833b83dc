//! How sure a signature is.

use std::fmt;

/// Between 0 (unknown) and 1, in thousandths.
///
/// The reference weighs indicators and multiplies by 1.2 on a standard port or by 0.8 elsewhere, but
/// never beyond certainty. Each signature has only a few possible outcomes, so they stand where they
/// arise, as [`Confidence::by_port`] or as one of the levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Confidence(u16);

impl Confidence {
    /// Nothing is known.
    pub const NONE: Self = Self(0);
    /// Better than a guess.
    pub const LOW: Self = Self(500);
    /// Probable.
    pub const MEDIUM: Self = Self(700);
    /// As good as sure.
    pub const HIGH: Self = Self(850);
    /// Sure but for malice.
    pub const VERY_HIGH: Self = Self(950);
    /// Sure.
    pub const DEFINITE: Self = Self(1000);

    /// A number of thousandths; more than 1000 is 1000.
    #[must_use]
    pub const fn thousandths(value: u16) -> Self {
        Self(if value > 1000 { 1000 } else { value })
    }

    /// `on` thousandths on a standard port, `off` thousandths elsewhere.
    #[must_use]
    pub const fn by_port(standard: bool, on: u16, off: u16) -> Self {
        Self::thousandths(if standard { on } else { off })
    }

    /// In thousandths.
    #[must_use]
    pub const fn in_thousandths(self) -> u16 {
        self.0
    }

    /// The name of the level that it reaches.
    #[must_use]
    pub fn level(self) -> &'static str {
        match self.0 {
            1000.. => "Definite",
            950.. => "Very High",
            850.. => "High",
            700.. => "Medium",
            500.. => "Low",
            300.. => "Guess",
            _ => "Unknown",
        }
    }
}

impl fmt::Display for Confidence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}
