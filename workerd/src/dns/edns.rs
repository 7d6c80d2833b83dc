//! Extensions of DNS (RFC 6891): the OPT record.

use super::codes::kind;
use super::message::{Record, Section};
use crate::decode::Addr;
use crate::extract::reader::Reader;

/// What an OPT record says.
#[derive(Debug, Clone, Copy)]
pub struct Edns<'a> {
    /// Largest UDP payload that its sender takes, in bytes.
    pub udp_size: u16,
    /// The upper 8 bits of the response code.
    pub extended_code: u8,
    /// Version; 0.
    pub version: u8,
    /// Whether signatures are wanted (RFC 3225).
    pub dnssec_ok: bool,
    options: &'a [u8],
}

/// An option.
#[derive(Debug, Clone, Copy)]
pub struct EdnsOption<'a> {
    /// Its number.
    pub code: u16,
    /// What it holds.
    pub data: &'a [u8],
}

/// Whom the query is from, for answers that depend on the place (RFC 7871).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientSubnet {
    /// The network.
    pub address: Addr,
    /// Bits of it that are told.
    pub source: u8,
    /// Bits that the answer is meant for; 0 in queries.
    pub scope: u8,
}

impl<'a> Edns<'a> {
    /// The number of NSID (RFC 5001).
    pub const NSID: u16 = 3;
    /// The number of the client subnet.
    pub const CLIENT_SUBNET: u16 = 8;
    /// The number of cookies (RFC 7873).
    pub const COOKIE: u16 = 10;
    /// The number of extended errors (RFC 8914).
    pub const EXTENDED_ERROR: u16 = 15;

    /// What `record` says, if it is an OPT record in its place.
    #[must_use]
    pub fn of(record: &Record<'a>) -> Option<Self> {
        let is_opt = record.kind == kind::OPT && record.section == Section::Additional;
        is_opt.then_some(Self {
            udp_size: record.class,
            extended_code: (record.ttl >> 24) as u8,
            version: (record.ttl >> 16) as u8,
            dnssec_ok: record.ttl & 0x8000 != 0,
            options: record.data,
        })
    }

    /// Its options, as far as they are whole.
    pub fn options(&self) -> impl Iterator<Item = EdnsOption<'a>> + use<'a> {
        let mut options = Reader(self.options);
        std::iter::from_fn(move || {
            Some(EdnsOption {
                code: options.u16()?,
                data: options.piece16()?,
            })
        })
    }
}

impl EdnsOption<'_> {
    /// What it says of the client's network, if it does.
    #[must_use]
    pub fn client_subnet(&self) -> Option<ClientSubnet> {
        if self.code != Edns::CLIENT_SUBNET {
            return None;
        }
        let mut data = Reader(self.data);
        let (family, source, scope) = (data.u16()?, data.u8()?, data.u8()?);
        let mut bytes = [0; 16];
        let len = if family == 1 { 4 } else { 16 };
        let told = bytes[..len].get_mut(..data.0.len())?;
        told.copy_from_slice(data.0);
        let number = u128::from_be_bytes(bytes);
        let address = match family {
            1 => Addr::V4((number >> 96) as u32),
            2 => Addr::V6(number),
            _ => return None,
        };
        Some(ClientSubnet {
            address,
            source,
            scope,
        })
    }
}

/// The name of an option, in lower case.
#[must_use]
pub fn option_name(code: u16) -> Option<&'static str> {
    Some(match code {
        1 => "llq",
        2 => "update-lease",
        Edns::NSID => "nsid",
        5 => "dau",
        6 => "dhu",
        7 => "n3u",
        Edns::CLIENT_SUBNET => "client-subnet",
        9 => "expire",
        Edns::COOKIE => "cookie",
        11 => "tcp-keepalive",
        12 => "padding",
        13 => "chain",
        14 => "key-tag",
        Edns::EXTENDED_ERROR => "extended-error",
        18 => "report-channel",
        _ => return None,
    })
}
