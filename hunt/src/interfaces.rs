//! `lc-hunt list interfaces`.
//!
//! Everything that packets can be captured on is listed, on standard output; what is of little use (loopback, a link
//! that is down) is marked instead of hidden.

use std::io::{self, Write};
use std::net::IpAddr;

use lc_daemon::exit::Exit;
use pcap::{Device, IfFlags};
use serde::Serialize;

/// The JSON form.
#[derive(Serialize)]
struct Listing {
    interfaces: Vec<Interface>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'static str>,
}

#[derive(Serialize)]
struct Interface {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<Address>,
    /// `up`, `down`, `loopback`, `wireless`, `not running`, `all interfaces`.
    marks: Vec<&'static str>,
}

#[derive(Serialize)]
struct Address {
    ip: IpAddr,
    prefix_len: u32,
}

/// Prints the interfaces.
pub fn list(json: bool) -> Exit {
    let devices = match Device::list() {
        Ok(devices) => devices,
        Err(error) => {
            tracing::error!("the interfaces cannot be listed: {error}");
            return Exit::Failure;
        }
    };
    let listing = Listing {
        interfaces: devices
            .into_iter()
            .filter(captures_packets)
            .map(interface)
            .collect(),
        warning: warning(),
    };
    // Whoever reads may close the pipe early; that is no failure of ours.
    let _ = if json {
        print_json(&listing)
    } else {
        print_text(&listing)
    };
    Exit::Ok
}

/// libpcap also lists things that carry no network packets.
fn captures_packets(device: &Device) -> bool {
    !["nflog", "nfqueue", "bluetooth", "usbmon", "dbus-"]
        .iter()
        .any(|other| device.name.starts_with(other))
}

fn interface(device: Device) -> Interface {
    let flags = &device.flags;
    let mut marks = Vec::new();
    if device.name == "any" {
        marks.push("all interfaces");
    } else {
        marks.push(if flags.if_flags.contains(IfFlags::UP) {
            "up"
        } else {
            "down"
        });
        for (flag, mark) in [
            (IfFlags::LOOPBACK, "loopback"),
            (IfFlags::WIRELESS, "wireless"),
        ] {
            if flags.if_flags.contains(flag) {
                marks.push(mark);
            }
        }
        if flags.if_flags.contains(IfFlags::UP) && !flags.if_flags.contains(IfFlags::RUNNING) {
            marks.push("not running");
        }
    }
    let addresses = device.addresses.iter().map(|address| Address {
        ip: address.addr,
        prefix_len: address
            .netmask
            .map_or_else(|| full_length(address.addr), prefix_len),
    });
    Interface {
        addresses: addresses.collect(),
        description: device.desc,
        name: device.name,
        marks,
    }
}

fn full_length(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The number of leading ones of a network mask.
fn prefix_len(mask: IpAddr) -> u32 {
    match mask {
        IpAddr::V4(mask) => mask.to_bits().leading_ones(),
        IpAddr::V6(mask) => mask.to_bits().leading_ones(),
    }
}

fn warning() -> Option<&'static str> {
    (!crate::check::may_capture())
        .then_some("this user may not capture packets: run as root or grant CAP_NET_RAW")
}

fn print_json(listing: &Listing) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, listing)?;
    writeln!(out)
}

fn print_text(listing: &Listing) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if let Some(warning) = listing.warning {
        writeln!(out, "Warning: {warning}\n")?;
    }
    let width = listing
        .interfaces
        .iter()
        .map(|interface| interface.name.len())
        .max()
        .unwrap_or(0);
    for interface in &listing.interfaces {
        write!(
            out,
            "{:width$}  ({})",
            interface.name,
            interface.marks.join(", ")
        )?;
        for address in &interface.addresses {
            write!(out, " {}/{}", address.ip, address.prefix_len)?;
        }
        match &interface.description {
            Some(description) => writeln!(out, " - {description}")?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}
