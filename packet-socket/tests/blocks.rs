//! Any bytes as a block: read to an end or to an error, within bounds.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::mem::offset_of;

use libc::tpacket3_hdr as Header;
use packet_socket::block::{Frame, Malformed, PACKET_HEADER_BYTES};
use packet_socket::link::Vlan;
use proptest::prelude::*;

/// A packet area with these packets, as the kernel lays them out.
fn area(packets: &[Vec<u8>]) -> Vec<u8> {
    const MAC: usize = 82;
    let mut area = Vec::new();
    for (number, data) in packets.iter().enumerate() {
        let at = area.len();
        area.resize((at + MAC + data.len()).next_multiple_of(8), 0);
        let distance = match number + 1 == packets.len() {
            true => 0,
            false => area.len() - at,
        };
        let mut put = |offset: usize, bytes: &[u8]| {
            area[at + offset..][..bytes.len()].copy_from_slice(bytes);
        };
        put(
            offset_of!(Header, tp_next_offset),
            &(distance as u32).to_ne_bytes(),
        );
        put(offset_of!(Header, tp_sec), &1u32.to_ne_bytes());
        put(offset_of!(Header, tp_nsec), &(number as u32).to_ne_bytes());
        put(
            offset_of!(Header, tp_snaplen),
            &(data.len() as u32).to_ne_bytes(),
        );
        put(
            offset_of!(Header, tp_len),
            &(data.len() as u32 + 7).to_ne_bytes(),
        );
        put(offset_of!(Header, tp_mac), &(MAC as u16).to_ne_bytes());
        put(MAC, data);
    }
    area
}

/// All packets of an area as long as it makes sense, at most `most`.
fn walk(area: &[u8], first: usize, most: usize) -> Result<Vec<Frame>, Malformed> {
    let mut frames = Vec::new();
    let mut at = first;
    while frames.len() < most {
        let frame = Frame::read(area, at)?;
        assert!(frame.data.start >= at + PACKET_HEADER_BYTES && frame.data.end <= area.len());
        if let Ok(room) = frame.room_before(20) {
            assert!(room.start >= at + PACKET_HEADER_BYTES && room.end == frame.data.start);
        }
        let next = frame.next();
        frames.push(frame);
        match next {
            Ok(next) => at = next,
            Err(_) => break,
        }
    }
    Ok(frames)
}

#[test]
fn the_end_of_a_block_is_respected() {
    let whole = area(&[vec![1; 60]]);
    assert_eq!(Frame::read(&whole, 0).unwrap().data, 82..142);
    for length in 0..142 {
        let malformed = Frame::read(&whole[..length], 0).unwrap_err();
        assert_eq!(
            matches!(malformed, Malformed::Header { at: 0 }),
            length < PACKET_HEADER_BYTES
        );
    }
    for at in [
        whole.len(),
        usize::MAX,
        usize::MAX - PACKET_HEADER_BYTES + 1,
    ] {
        assert_eq!(Frame::read(&whole, at), Err(Malformed::Header { at }));
    }
}

#[test]
fn a_packet_that_leads_back_is_malformed() {
    let mut two = area(&[vec![1; 60], vec![2; 60]]);
    assert_eq!(Frame::read(&two, 0).unwrap().next().unwrap(), 144);
    for distance in [0u32, 8, 141] {
        two[..4].copy_from_slice(&distance.to_ne_bytes());
        assert_eq!(
            Frame::read(&two, 0).unwrap().next(),
            Err(Malformed::Next { at: 0, distance })
        );
    }
}

#[test]
fn tags_are_known_by_status_or_number() {
    let mut one = area(&[vec![1; 60]]);
    let status = offset_of!(Header, tp_status);
    let tag = offset_of!(Header, hv1) + 4;
    assert_eq!(Frame::read(&one, 0).unwrap().vlan, None);
    one[tag..tag + 4].copy_from_slice(&5u32.to_ne_bytes());
    let vlan = |protocol, tag| Some(Vlan { protocol, tag });
    assert_eq!(Frame::read(&one, 0).unwrap().vlan, vlan(0x8100, 5));
    one[tag..tag + 4].copy_from_slice(&0u32.to_ne_bytes());
    one[status..status + 4].copy_from_slice(&libc::TP_STATUS_VLAN_VALID.to_ne_bytes());
    assert_eq!(Frame::read(&one, 0).unwrap().vlan, vlan(0x8100, 0));
    one[tag + 4..tag + 6].copy_from_slice(&0x88a8u16.to_ne_bytes());
    assert_eq!(Frame::read(&one, 0).unwrap().vlan, vlan(0x88a8, 0));
}

proptest! {
    #[test]
    fn what_the_kernel_writes_is_read(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20)) {
        let area = area(&packets);
        let frames = walk(&area, 0, packets.len()).unwrap();
        prop_assert_eq!(frames.len(), packets.len());
        for (number, (frame, data)) in frames.iter().zip(&packets).enumerate() {
            prop_assert_eq!(&area[frame.data.clone()], &data[..]);
            prop_assert_eq!(frame.timestamp_ns, 1_000_000_000 + number as u64);
            prop_assert_eq!(frame.length as usize, data.len() + 7);
        }
    }

    #[test]
    fn any_bytes_stay_in_bounds(bytes in prop::collection::vec(any::<u8>(), 0..2000), first in any::<u16>()) {
        let _ = walk(&bytes, first.into(), 1000);
    }

    #[test]
    fn a_damaged_block_stays_in_bounds(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..10),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..10),
    ) {
        let mut area = area(&packets);
        for (index, byte) in damage {
            let index = index.index(area.len());
            area[index] = byte;
        }
        let _ = walk(&area, 0, 1000);
    }
}
