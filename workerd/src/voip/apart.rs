//! A message that is told of without its packet, as it waits in the log of held packets.
//!
//! ```text
//!   segment u64 | addresses 2 x (kind u8, 16 bytes) | ports 2 x u16 | transport u8 | length of the Call-ID u16 | Call-ID | what is told
//! ```
//!
//! All numbers are little-endian; kind 0 stands for no address.

use super::findings::Origin;
use crate::decode::{Addr, Decoded, Transport};
use crate::desk::held::Position;

const ADDRESS: usize = 17;
/// Bytes in front of the Call-ID.
const HEAD: usize = 8 + 2 * ADDRESS + 4 + 1 + 2;
const TRANSPORTS: [Transport; 3] = [Transport::Tcp, Transport::Udp, Transport::Sctp];

/// See the [module](self).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Apart<'a> {
    /// Where the packet lies that it begins in; [`HAND`](super::findings::HAND) if that was never held.
    pub carrier: Position,
    /// The headers of that packet: addresses, ports, transport.
    pub decoded: Decoded,
    /// Its call.
    pub call_id: &'a [u8],
    /// What is told, encoded.
    pub block: &'a [u8],
}

/// What stands in front of the Call-ID and what is told.
pub type Head = [u8; HEAD];

impl<'a> Apart<'a> {
    /// The head of a message that comes from `origin`. None for a Call-ID of absurd length.
    #[must_use]
    pub fn head(carrier: Position, origin: &Origin, call_id: &[u8]) -> Option<Head> {
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&carrier.to_le_bytes());
        if let Some((source, destination)) = origin.addresses {
            put(source, &mut head[8..8 + ADDRESS]);
            put(destination, &mut head[8 + ADDRESS..8 + 2 * ADDRESS]);
        }
        let (source, destination) = origin.ports.unwrap_or_default();
        let at = 8 + 2 * ADDRESS;
        head[at..at + 2].copy_from_slice(&source.to_le_bytes());
        head[at + 2..at + 4].copy_from_slice(&destination.to_le_bytes());
        let known = |transport| TRANSPORTS.iter().position(|known| *known == transport);
        head[at + 4] = origin
            .transport
            .and_then(known)
            .map_or(0, |at| at as u8 + 1);
        let len = u16::try_from(call_id.len()).ok()?;
        head[at + 5..].copy_from_slice(&len.to_le_bytes());
        Some(head)
    }

    /// Reads a record. None for one that is malformed.
    #[must_use]
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
        let (carrier, head) = head.split_first_chunk::<8>()?;
        let (source, head) = head.split_first_chunk::<ADDRESS>()?;
        let (destination, head) = head.split_first_chunk::<ADDRESS>()?;
        let [s0, s1, d0, d1, transport, l0, l1] = *head.first_chunk()?;
        let (call_id, block) = rest.split_at_checked(u16::from_le_bytes([l0, l1]).into())?;
        let transport = usize::from(transport).checked_sub(1);
        Some(Self {
            carrier: u64::from_le_bytes(*carrier),
            decoded: Decoded {
                addresses: get(source).zip(get(destination)),
                ports: Some((u16::from_le_bytes([s0, s1]), u16::from_le_bytes([d0, d1]))),
                transport: transport.and_then(|at| TRANSPORTS.get(at).copied()),
                ..Decoded::default()
            },
            call_id,
            block,
        })
    }
}

fn put(address: Addr, bytes: &mut [u8]) {
    match address {
        Addr::V4(number) => {
            bytes[0] = 4;
            bytes[1..5].copy_from_slice(&number.to_le_bytes());
        }
        Addr::V6(number) => {
            bytes[0] = 6;
            bytes[1..].copy_from_slice(&number.to_le_bytes());
        }
    }
}

fn get(bytes: &[u8; ADDRESS]) -> Option<Addr> {
    let (kind, number) = bytes.split_first()?;
    match kind {
        4 => Some(Addr::V4(u32::from_le_bytes(*number.first_chunk()?))),
        6 => Some(Addr::V6(u128::from_le_bytes(*number.first_chunk()?))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address() -> impl Strategy<Value = Addr> {
        prop_oneof![
            any::<u32>().prop_map(Addr::V4),
            any::<u128>().prop_map(Addr::V6)
        ]
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            carrier: u64,
            source in address(),
            destination in address(),
            ports: (u16, u16),
            call_id in prop::collection::vec(any::<u8>(), 0..300),
            block in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let origin = Origin {
                addresses: Some((source, destination)),
                outer: None,
                ports: Some(ports),
                transport: Some(Transport::Sctp),
                interface: 0,
                link_type: 1,
            };
            let head = Apart::head(carrier, &origin, &call_id).unwrap();
            let bytes = [&head[..], &call_id, &block].concat();
            let read = Apart::read(&bytes).unwrap();
            prop_assert_eq!((read.carrier, read.call_id, read.block), (carrier, &call_id[..], &block[..]));
            prop_assert_eq!(read.decoded, origin.decoded());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Apart::read(&bytes);
        }
    }
}
