//! Hosts joined by a switch: each a network namespace of its own, with every frame between them on one interface of the switch.

use crate::namespace::{self, ip};

/// The interface of the switch that sees all frames, each once.
pub const INTERFACE: &str = "switch";

/// A switch and its hosts; gone when dropped.
#[derive(Debug)]
pub struct Switch {
    names: Vec<String>,
}

impl Switch {
    /// A switch with so many hosts, which have the addresses 192.0.2.1 and so on, and don't speak IPv6. `None` where this machine does not allow namespaces.
    pub fn new(label: &str, hosts: usize) -> Option<Self> {
        let name = |number| format!("lc-test-{}-{label}-{number}", std::process::id());
        let mut switch = Self { names: Vec::new() };
        for number in 0..=hosts {
            switch.names.push(name(number));
        }
        let made = switch.names.iter().all(|name| namespace::add(name)) && switch.join();
        made.then_some(switch)
    }

    /// The namespace of the switch.
    pub fn name(&self) -> &str {
        &self.names[0]
    }

    /// The namespace of the host with the address [`address`] gives for `number`, from 1 on.
    pub fn host(&self, number: usize) -> &str {
        &self.names[number]
    }

    fn join(&self) -> bool {
        let own = self.name();
        let up = |namespace: &str, interface: &str| {
            ip(&["-n", namespace, "link", "set", interface, "up"])
        };
        let made = ip(&["-n", own, "link", "add", INTERFACE, "type", "bridge"])
            // It takes frames for others, so that it sees them.
            && ip(&["-n", own, "link", "set", INTERFACE, "promisc", "on"])
            && up(own, INTERFACE)
            && up(own, "lo");
        made && (1..self.names.len()).all(|number| {
            let (host, port) = (self.host(number), format!("port{number}"));
            let pair = ["type", "veth", "peer", "name", "eth0", "netns", host];
            let address = format!("{}/24", address(number));
            ip(&[&["-n", own, "link", "add", &port], &pair[..]].concat())
                && ip(&["-n", own, "link", "set", &port, "master", INTERFACE])
                && ip(&["-n", host, "addr", "add", &address, "dev", "eth0"])
                && up(own, &port)
                && up(host, "eth0")
                && up(host, "lo")
        })
    }
}

/// The address of a host by its number, from 1 on.
pub fn address(number: usize) -> String {
    format!("192.0.2.{number}")
}

impl Drop for Switch {
    fn drop(&mut self) {
        for name in &self.names {
            ip(&["netns", "del", name]);
        }
    }
}
