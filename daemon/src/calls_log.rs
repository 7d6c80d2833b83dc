//! What stands in the logs of calls, as far as more processes than the workers read it: kinds of records, and where media are expected.
//!
//! A worker writes what it knows of its calls into `calls.W`; the other workers read all of it, capd the endpoints of media, to steer
//! them to the worker that has their call. A record of a call is a protobuf message that only workers know whole. Its bytes are
//! another process's: [`media_endpoints`] takes any, allocates nothing, and ends.

use std::net::IpAddr;

/// Kind of a record: a call.
pub const CALL: u16 = 1;
/// Kind of a record: held packets that are done.
pub const DONE: u16 = 2;
/// Kind of a record: how far the worker has come.
pub const PROGRESS: u16 = 3;

/// Kind of a record: a session. Read by a successor alone.
pub const SESSION: u16 = 4;

/// Field of a call's record: an endpoint; there may be several.
pub const ENDPOINT: u32 = 5;
/// Field of an endpoint: its address, 4 or 16 bytes.
pub const ADDRESS: u32 = 1;
/// Field of an endpoint: its port.
pub const PORT: u32 = 2;

/// Where media of a call are expected, by the bytes of its record; what can't be read ends it.
pub fn media_endpoints(record: &[u8]) -> impl Iterator<Item = (IpAddr, u16)> {
    Fields(record).filter_map(|field| match field {
        (ENDPOINT, Value::Bytes(endpoint)) => read_endpoint(endpoint),
        _ => None,
    })
}

fn read_endpoint(endpoint: &[u8]) -> Option<(IpAddr, u16)> {
    let (mut address, mut port) = (None, None);
    for field in Fields(endpoint) {
        match field {
            (ADDRESS, Value::Bytes(octets)) => address = read_address(octets),
            (PORT, Value::Number(number)) => port = u16::try_from(number).ok(),
            _ => {}
        }
    }
    Some((address?, port.filter(|port| *port != 0)?))
}

fn read_address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Some(octets.into());
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}

/// The fields of a protobuf message, by number.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = u32::try_from(self.number()?).ok()?;
        let value = match tag & 7 {
            0 => Value::Number(self.number()?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let len = usize::try_from(self.number()?).ok()?;
                Value::Bytes(self.take(len)?)
            }
            5 => Value::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

impl<'a> Fields<'a> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn endpoints_are_found_among_other_fields() {
        let record = [
            &[0x0a, 2, b'i', b'd', 0x10, 3, 0x18, 0x80, 1][..],
            &[0x2a, 9, 0x0a, 4, 10, 0, 0, 1, 0x10, 0xa0, 0x1f],
            // Another role, an address of no length that there is, a port that there is not.
            &[0x2a, 11, 0x0a, 4, 10, 0, 0, 2, 0x10, 0x07, 0x18, 1],
            &[0x2a, 7, 0x0a, 3, 10, 0, 0, 0x10, 9],
            &[0x2a, 6, 0x0a, 4, 10, 0, 0, 3],
        ]
        .concat();
        let found: Vec<_> = media_endpoints(&record).collect();
        let address = |last| IpAddr::from([10, 0, 0, last]);
        assert_eq!(found, [(address(1), 4000), (address(2), 7)]);
        // A record that is cut keeps what stands before.
        let found: Vec<_> = media_endpoints(&record[..22]).collect();
        assert_eq!(found, [(address(1), 4000)]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(media_endpoints(&bytes).count() <= bytes.len());
        }
    }
}
