//! What a protocol's rule looks like.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::memory::{Memory, Scratch};
use super::protocol::Protocol;

/// What a signature says of a packet that it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The protocol.
    pub protocol: Protocol,
    /// How sure that is.
    pub confidence: Confidence,
}

/// What is remembered between packets.
pub struct Notes<'a> {
    /// What the flow was until now.
    pub protocol: Protocol,
    /// What the flow remembers.
    pub scratch: &'a mut Scratch,
    /// What all flows of a worker share.
    pub memory: &'a mut Memory,
}

/// The rule of one protocol, or of a few that share a header.
///
/// Payloads come from strangers: a signature reads within bounds, in time bounded by what it looks
/// for, and doesn't allocate.
pub trait Signature: Sync {
    /// What it can detect.
    fn protocols(&self) -> &'static [Protocol];

    /// Whether a payload on `layer` whose first byte is `first` can be this protocol. Asked once per
    /// byte, when the table of first bytes is made.
    fn starts(&self, layer: Layer, first: u8) -> bool;

    /// The verdict on a packet that starts as [`Signature::starts`] says.
    fn judge(&self, context: &Context<'_>, notes: &mut Notes<'_>) -> Option<Verdict>;

    /// Describes a packet of a flow that this signature decided. A packet that carries no head of a
    /// message adds nothing.
    fn describe(
        &self,
        context: &Context<'_>,
        protocol: Protocol,
        notes: &mut Notes<'_>,
        details: &mut Details,
    );

    /// Whether [`Signature::watch`] wants those packets of flows that it decided which start as [`Signature::starts`] says.
    fn watches(&self) -> bool {
        false
    }

    /// Takes note of a packet of a flow that it decided: for what a later packet says only together
    /// with this one.
    fn watch(&self, context: &Context<'_>, notes: &mut Notes<'_>) {
        let _ = (context, notes);
    }

    /// The protocols that a flow of this one can turn into.
    fn upgrades(&self) -> &'static [Protocol] {
        &[]
    }
}

/// A verdict, for the last line of a rule.
#[must_use]
pub fn verdict(protocol: Protocol, confidence: Confidence) -> Option<Verdict> {
    Some(Verdict {
        protocol,
        confidence,
    })
}
