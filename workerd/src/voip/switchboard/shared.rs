//! Packets that carry messages of several calls: one of them owns the packet while it waits, and the others inherit it.
//!
//! The owner is a call that is wanted, if any is; then one that is undecided. A packet whose owner is undecided goes to the first of its calls that becomes wanted; if its owner
//! becomes unwanted, or is forgotten, to the next one that is not.

use super::{Call, CallRef, Chain, Fate, Position, Standing, Switchboard};

/// Packets of several calls that are known to be so. What comes beyond that is its owner's alone.
const MOST_SHARED: usize = 4096;

impl Switchboard {
    /// Which of `calls` a packet of all of them is to be ruled over by. None if nobody wants any of them.
    #[must_use]
    pub fn owner(&self, calls: &[CallRef]) -> Option<CallRef> {
        let standing = |call: &CallRef| self.calls.get(*call).map(|call| call.standing());
        let is_wanted = |call: &&CallRef| standing(call) >= Some(Standing::Passed);
        let is_undecided = |call: &&CallRef| standing(call) == Some(Standing::Undecided);
        let owner = calls.iter().find(is_wanted);
        owner.or_else(|| calls.iter().find(is_undecided)).copied()
    }

    /// The parked packet at `position` carries parts of messages of all of `calls`.
    pub fn share(&mut self, position: Position, calls: &[CallRef]) {
        let Some(owner) = self.owner(calls) else {
            return self.unpark(position);
        };
        let bytes = self.held.bytes_at(position).unwrap_or_default();
        let ruling = self.rule(owner, bytes, false);
        if calls.len() > 1
            && matches!(ruling.fate, Fate::Wait | Fate::Forward)
            && self.shared.len() < MOST_SHARED
        {
            for call in calls {
                self.calls.update(*call, |call| call.shares = true);
            }
            self.shared.insert(position, calls.to_vec());
        }
        self.adopt(&[position], ruling);
    }

    /// The calls of the packet at `position`, if it is one of several.
    #[must_use]
    pub fn sharers(&self, position: Position) -> Option<&[CallRef]> {
        self.shared.get(&position).map(|calls| &calls[..])
    }

    /// `call` is wanted: packets that it shares with calls that are undecided go with it.
    pub(super) fn claim(&mut self, call: CallRef) {
        let shares = |call: &mut Call| std::mem::take(&mut call.shares);
        if self.calls.update(call, shares) != Some(true) {
            return;
        }
        let is_its = |(_, calls): &(&Position, &Vec<CallRef>)| calls.contains(&call);
        let positions = self.shared.iter().filter(is_its);
        let positions: Vec<Position> = positions.map(|(position, _)| *position).collect();
        for position in positions {
            let Some(owner) = self.held.owner_at(position) else {
                continue;
            };
            let standing = self.calls.get(owner).map(|owner| owner.standing());
            if owner == call || standing != Some(Standing::Undecided) {
                continue;
            }
            let held = &mut self.held;
            let split = |owner: &mut Call| held.split(&mut owner.chain, position);
            if let Some(mut packet) = self.calls.update(owner, split).flatten() {
                let held = &mut self.held;
                self.calls.update(call, |heir| {
                    held.merge(&mut heir.chain, &mut packet, call);
                });
            }
        }
    }

    /// Gives up the packets of a chain, but those that another call inherits. Returns how many packets were given up.
    pub(super) fn discard(&mut self, mut chain: Chain) -> u64 {
        let mut count = 0;
        while let Some(waiting) = self.held.peek(&chain) {
            let heir = self.shared.get(&waiting.position);
            let heir = heir.and_then(|calls| self.owner(calls));
            match heir.filter(|heir| *heir != waiting.owner) {
                Some(heir) => {
                    let Some(mut packet) = self.held.split(&mut chain, waiting.position) else {
                        break;
                    };
                    let held = &mut self.held;
                    self.calls.update(heir, |call| {
                        held.merge(&mut call.chain, &mut packet, heir);
                    });
                    self.settle(heir);
                }
                None => {
                    self.held.pop(&mut chain);
                    self.shared.remove(&waiting.position);
                    count += u64::from(waiting.is_packet());
                }
            }
        }
        count
    }
}
