//! The capture filter: one BPF expression built from the operator's base filter, the exclusion of our own connection, and the BPF filters
//! that the processor pushed.
//!
//! | pushed | base and exclusion | expression |
//! |---|---|---|
//! | none | both | `(B) and (X)` |
//! | none | one | that one, bare |
//! | none | none | empty: everything |
//! | some | both | `((D1) or (D2)) and ((B) and (X))` |
//! | some | one | `((D1) or (D2)) and (B)`, or `... and (X)` |
//! | some | none | `(D1) or (D2)` |
//!
//! Where calls or sessions are followed, B is what [`for_following`] makes of the operator's, and each D that names ports lets fragments through as well: a large INVITE comes in fragments.
//!
//! X excludes a processor's address and port only, `not (host A and tcp port P)`: other traffic of that port stays visible.
//!
//! Guarantees: an expression that does not compile is refused with libpcap's own words and never takes another one's place; each pushed
//! filter is compiled by itself first, so that none can break out of its parentheses or take the others with it.
//! Not guaranteed: speed. libpcap compiles, and resolves host names in an expression while it does.

use std::borrow::Cow;
use std::net::SocketAddr;

use lc_daemon::config::{Config, Mode};
use pcap::{BpfProgram, Capture, Dead, Linktype};

/// Longest base or pushed expression, in bytes.
pub const MAX_EXPRESSION: usize = 64 * 1024;

/// An expression that cannot be put in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("BPF filter {expression:?} does not compile for link type {link_type}: {cause}")]
pub struct FilterError {
    /// The expression, shortened if it is long.
    pub expression: String,
    /// LINKTYPE_ or DLT_ number.
    pub link_type: u16,
    /// libpcap's message, or the limit that was exceeded.
    pub cause: String,
}

impl FilterError {
    pub(crate) fn new(expression: &str, link_type: u16, cause: impl ToString) -> Self {
        const SHOWN: usize = 200;
        let mut shown: String = expression.chars().take(SHOWN).collect();
        if shown.len() < expression.len() {
            shown.push_str("...");
        }
        Self {
            expression: shown,
            link_type,
            cause: cause.to_string(),
        }
    }
}

/// A BPF filter pushed by the processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Filter id, as the processor names it.
    pub id: String,
    /// The BPF expression.
    pub pattern: String,
}

/// A pushed filter that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Filter id.
    pub id: String,
    /// Why, for the last link type that was tried.
    pub error: FilterError,
}

/// The parts of a capture filter. Its text depends on the link type: a pushed filter that has no meaning for a link type (`ether host` on
/// raw IP) matches nothing there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expression {
    base: String,
    /// Whether calls or sessions are followed, and if so, what limits them; empty: nothing.
    following: Option<String>,
    exclude: Vec<SocketAddr>,
    pushed: Vec<Pushed>,
}

impl Expression {
    /// An expression of the base filter (empty: none) and the connections to leave out.
    pub fn new(base: &str, exclude: &[SocketAddr]) -> Self {
        Self {
            base: base.trim().to_owned(),
            following: None,
            exclude: exclude.to_vec(),
            pushed: Vec::new(),
        }
    }

    /// What the operator asks to capture, in the node's modes.
    pub fn of(config: &Config) -> Self {
        let expression = Self::new(&config.bpf_filter, &[]);
        if config.modes.has(Mode::Hunt) {
            return expression;
        }
        let limits: Vec<String> = config
            .modes
            .iter()
            .map(|mode| limit(config, mode))
            .collect();
        expression.following(&match &limits[..] {
            limits if limits.iter().any(String::is_empty) => String::new(),
            [only] => only.clone(),
            limits => format!("({})", limits.join(") or (")),
        })
    }

    /// The same for a node that follows calls or sessions, as far as `limit` lets it, an expression or nothing: see [`for_following`].
    pub fn following(mut self, limit: &str) -> Self {
        self.following = Some(limit.to_owned());
        self
    }

    /// The same with these pushed filters. Those that compile for none of `link_types` are left out and returned.
    pub fn with_pushed(
        mut self,
        pushed: impl IntoIterator<Item = Pushed>,
        link_types: &[u16],
    ) -> (Self, Vec<Refused>) {
        let mut refused = Vec::new();
        self.pushed.clear();
        for filter in pushed {
            let mut errors = Vec::new();
            for &link_type in link_types {
                errors.extend(compile_offline(&filter.pattern, link_type).err());
            }
            match errors.pop() {
                Some(error) if errors.len() + 1 == link_types.len() => refused.push(Refused {
                    id: filter.id,
                    error,
                }),
                _ if filter.pattern.trim().is_empty() => {}
                _ => self.pushed.push(filter),
            }
        }
        (self, refused)
    }

    /// The same with these connections left out instead.
    pub fn with_exclusions(mut self, exclude: &[SocketAddr]) -> Self {
        self.exclude = exclude.to_vec();
        self
    }

    /// The number of pushed filters in force.
    pub fn pushed(&self) -> usize {
        self.pushed.len()
    }

    /// The text for a link type: empty for everything, `None` if nothing of that link type can match.
    pub fn text(&self, link_type: u16) -> Option<String> {
        let compiles = |filter: &&Pushed| compile_offline(&filter.pattern, link_type).is_ok();
        let alternative = |filter: &Pushed| match self.following {
            Some(_) => format!("({})", with_hidden(&filter.pattern, &HIDDEN[..FRAGMENTS])),
            None => format!("({})", filter.pattern),
        };
        let pushed: Vec<_> = self
            .pushed
            .iter()
            .filter(compiles)
            .map(alternative)
            .collect();
        if pushed.is_empty() && !self.pushed.is_empty() {
            return None;
        }
        let exclude: Vec<_> = self
            .exclude
            .iter()
            .map(|peer| format!("not (host {} and tcp port {})", peer.ip(), peer.port()))
            .collect();
        let base = match &self.following {
            Some(limit) => Cow::Owned(for_following(&self.base, limit)),
            None => Cow::Borrowed(self.base.as_str()),
        };
        let own = match (base.as_ref(), exclude.join(" and ")) {
            ("", exclude) => exclude,
            (base, exclude) if exclude.is_empty() => base.to_owned(),
            (base, exclude) => format!("({base}) and ({exclude})"),
        };
        Some(match (pushed.join(" or "), own) {
            (pushed, own) if pushed.is_empty() => own,
            (pushed, own) if own.is_empty() => pushed,
            (pushed, own) => format!("({pushed}) and ({own})"),
        })
    }

    /// Compiles the expression for packets read from a file or a buffer; `None` lets everything through.
    ///
    /// # Errors
    /// The base filter does not compile for this link type, or the whole is too long.
    pub fn compile(&self, link_type: u16) -> Result<Verdict, FilterError> {
        // The base alone first: inside the parentheses of the whole, `a) or (b` would compile.
        compile_offline(&self.base, link_type)?;
        match self.text(link_type) {
            None => Ok(Verdict::Nothing),
            Some(text) if text.is_empty() => Ok(Verdict::Everything),
            Some(text) => compile_offline(&text, link_type).map(Verdict::Program),
        }
    }
}

/// What the operator has limited a mode to; empty: nothing.
fn limit(config: &Config, mode: Mode) -> String {
    let on = |transport: &str, ports: &[u16]| {
        let ports: Vec<_> = ports.iter().map(|port| format!("port {port}")).collect();
        match ports.is_empty() {
            true => String::new(),
            false => format!("{transport} and ({})", ports.join(" or ")),
        }
    };
    match mode {
        Mode::Voip if config.voip.udp_only => "not tcp".to_owned(),
        Mode::Dns if config.dns.udp_only => match on("udp", &config.dns.ports) {
            limit if limit.is_empty() => "not tcp".to_owned(),
            limit => limit,
        },
        Mode::Dns => on("(udp or tcp)", &config.dns.ports),
        Mode::Http => on("tcp", &config.http.ports),
        Mode::Tls => on("(tcp or udp)", &config.tls.ports),
        Mode::Email => on("tcp", &config.email.ports),
        Mode::Hunt | Mode::Voip => String::new(),
    }
}

/// The base filter of a node that follows calls or sessions, from the operator's `base` and what `limit` the modes have.
///
/// Lists of SIP ports and RTP ranges have no part in it: they are hints, never walls. SIP is recognised by content on any port, and media
/// have the ports that it names, so whatever a list left out here would be lost. Other protocols are limited to ports where the operator gives some.
///
/// | `base` | `limit` | expression |
/// |---|---|---|
/// | none | none | empty: everything |
/// | B, without ports | none | B: what it says holds for fragments and tagged frames as well as BPF can tell |
/// | B, which names ports | none | `(B) or HIDDEN` |
/// | none | L, such as `not tcp` | as B |
/// | either | either | `(...) and (...)` |
///
/// HIDDEN is where BPF does not see the ports that are asked for, and so would lose parts of a datagram or whole calls: later fragments of
/// IPv4, fragments of IPv6, VLAN tags, PPPoE, MPLS, and the tunnels that workers open, ESP among them. Of those that an expression speaks of
/// itself, it decides alone. `not tcp` hides nothing within them: BPF takes only for TCP what stands right behind the outermost IP header.
pub fn for_following(base: &str, limit: &str) -> String {
    let base = with_hidden(base.trim(), &HIDDEN);
    let limit = with_hidden(limit, &HIDDEN);
    match (base.as_str(), limit.as_str()) {
        (_, "") => base,
        ("", _) => limit,
        (base, limit) => format!("({base}) and ({limit})"),
    }
}

/// The expression, and those of `hidden` that it does not speak of, if it names ports.
fn with_hidden(expression: &str, hidden: &[Hidden]) -> String {
    let words: Vec<_> = expression
        .split(|c: char| !c.is_ascii_alphanumeric())
        .collect();
    let speaks_of = |names: &[&str]| names.iter().any(|name| words.contains(name));
    let reads_transport = ["tcp[", "udp[", "sctp["]
        .iter()
        .any(|access| expression.replace(char::is_whitespace, "").contains(access));
    if !speaks_of(&["port", "portrange"]) && !reads_transport {
        return expression.to_owned();
    }
    let alternatives: Vec<_> = hidden
        .iter()
        .filter(|(names, _)| !speaks_of(names))
        .map(|(_, expression)| *expression)
        .collect();
    format!("({expression}) or {}", alternatives.join(" or "))
}

/// The words of an expression that speaks of what hides ports, and the expression for it.
type Hidden = (&'static [&'static str], &'static str);

/// How many of [`HIDDEN`] are fragments.
const FRAGMENTS: usize = 2;

/// Where ports are hidden from BPF.
const HIDDEN: [Hidden; 9] = [
    (&[], "(ip[6:2] & 0x1fff != 0)"),
    (
        &[],
        "(ip6[6] = 44 or ((ip6[6] = 0 or ip6[6] = 43 or ip6[6] = 60) and ip6[40] = 44))",
    ),
    (
        &["vlan"],
        "(ether proto 0x8100 or ether proto 0x88a8 or ether proto 0x9100)",
    ),
    (&["mpls"], "(ether proto 0x8847 or ether proto 0x8848)"),
    (&["pppoes", "pppoed"], "(ether proto 0x8864)"),
    (
        &["proto", "protochain", "esp", "ah"],
        "(proto 4 or proto 41 or proto 47 or proto 50 or proto 51)",
    ),
    (
        &["4789", "4790", "geneve", "vxlan"],
        "(udp dst port 4789 or udp dst port 4790 or udp dst port 6081)",
    ),
    (&["2152"], "(udp dst port 2152)"),
    (&["4500", "4754"], "(udp port 4500 or udp dst port 4754)"),
];

/// What an expression comes to for one link type.
pub enum Verdict {
    /// Every packet passes.
    Everything,
    /// No packet passes.
    Nothing,
    /// The program decides.
    Program(BpfProgram),
}

impl Verdict {
    /// Whether a packet passes. Packet lengths in the expression (`greater`, `len`) are captured lengths.
    #[inline]
    pub fn passes(&self, data: &[u8]) -> bool {
        match self {
            Self::Everything => true,
            Self::Nothing => false,
            Self::Program(program) => program.filter(data),
        }
    }
}

impl std::fmt::Debug for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Everything => "Everything",
            Self::Nothing => "Nothing",
            Self::Program(_) => "Program",
        })
    }
}

/// An expression applied in user space, compiled once for each link type that occurs.
#[derive(Debug, Default)]
pub struct OfflineFilter {
    expression: Expression,
    programs: Vec<(u16, Verdict)>,
}

impl OfflineFilter {
    /// Compiles for the given link types, or for Ethernet if there are none, so that a bad expression is refused before the first packet.
    ///
    /// # Errors
    /// As [`Expression::compile`].
    pub fn new(
        expression: &Expression,
        link_types: impl IntoIterator<Item = u16>,
    ) -> Result<Self, FilterError> {
        let mut programs = Vec::new();
        for link_type in link_types {
            if programs.iter().all(|(known, _)| *known != link_type) {
                programs.push((link_type, expression.compile(link_type)?));
            }
        }
        if programs.is_empty() {
            programs.push((ETHERNET, expression.compile(ETHERNET)?));
        }
        Ok(Self {
            expression: expression.clone(),
            programs,
        })
    }

    /// Whether a packet passes. For a link type to which the base filter does not apply, none does; that is logged once.
    #[inline]
    pub fn matches(&mut self, link_type: u16, data: &[u8]) -> bool {
        match self.programs.iter().find(|(known, _)| *known == link_type) {
            Some((_, verdict)) => verdict.passes(data),
            None => self.compile_for(link_type).passes(data),
        }
    }

    #[cold]
    fn compile_for(&mut self, link_type: u16) -> &Verdict {
        let verdict = self.expression.compile(link_type).unwrap_or_else(|error| {
            tracing::warn!(link_type, %error, "the capture filter lets no packet of this link type through");
            Verdict::Nothing
        });
        let index = self.programs.len();
        self.programs.push((link_type, verdict));
        &self.programs[index].1
    }
}

const ETHERNET: u16 = 1;

/// Compiles one expression without a device.
///
/// # Errors
/// It is too long, or libpcap refuses it.
pub fn compile_offline(expression: &str, link_type: u16) -> Result<BpfProgram, FilterError> {
    check_size(expression, link_type)?;
    let handle = dead_handle(link_type)
        .map_err(|error| FilterError::new(expression, link_type, message(&error)))?;
    handle
        .compile(expression, true)
        .map_err(|error| FilterError::new(expression, link_type, message(&error)))
}

pub(crate) fn check_size(expression: &str, link_type: u16) -> Result<(), FilterError> {
    if expression.len() > MAX_EXPRESSION {
        let cause = format!(
            "it is {} bytes long, the maximum is {MAX_EXPRESSION}",
            expression.len()
        );
        return Err(FilterError::new(expression, link_type, cause));
    }
    Ok(())
}

fn dead_handle(link_type: u16) -> Result<Capture<Dead>, pcap::Error> {
    const LINKTYPE_RAW: u16 = 101;
    const DLT_RAW: i32 = 12;
    // Files and libpcap number raw IP differently; the other types that occur have one number.
    let dlt = if link_type == LINKTYPE_RAW {
        DLT_RAW
    } else {
        link_type.into()
    };
    Capture::dead(Linktype(dlt))
}

/// libpcap's words without the crate's prefix.
pub(crate) fn message(error: &pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(text) => text.clone(),
        pcap::Error::InvalidInputString => "it contains a NUL byte".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESSOR: &str = "192.0.2.1:55555";
    const X: &str = "not (host 192.0.2.1 and tcp port 55555)";

    fn text(base: &str, processor: Option<&str>, pushed: &[&str]) -> String {
        let exclude: Vec<SocketAddr> = processor.iter().map(|text| text.parse().unwrap()).collect();
        let pushed = pushed.iter().enumerate().map(|(n, pattern)| Pushed {
            id: n.to_string(),
            pattern: (*pattern).to_owned(),
        });
        let (expression, refused) = Expression::new(base, &exclude).with_pushed(pushed, &[1]);
        assert_eq!(refused, []);
        expression.compile(1).unwrap();
        expression.text(1).unwrap()
    }

    #[test]
    fn composition() {
        assert_eq!(text("", None, &[]), "");
        assert_eq!(text("", Some(PROCESSOR), &[]), X);
        assert_eq!(text("not port 22", None, &[]), "not port 22");
        assert_eq!(
            text("not port 22", Some(PROCESSOR), &[]),
            format!("(not port 22) and ({X})")
        );
        assert_eq!(text("", None, &["port 443"]), "(port 443)");
        assert_eq!(
            text("", Some(PROCESSOR), &["port 443"]),
            format!("((port 443)) and ({X})")
        );
        assert_eq!(
            text("not port 22", Some(PROCESSOR), &["port 443"]),
            format!("((port 443)) and ((not port 22) and ({X}))")
        );
        assert_eq!(
            text("", Some(PROCESSOR), &["port 443", "port 5060"]),
            format!("((port 443) or (port 5060)) and ({X})")
        );
        assert_eq!(text("udp", None, &["port 443"]), "((port 443)) and (udp)");
        assert_eq!(
            text("", Some("[::1]:9090"), &[]),
            "not (host ::1 and tcp port 9090)"
        );
    }

    fn ethernet(kind: u16, rest: &[u8]) -> Vec<u8> {
        [&[2; 12][..], &kind.to_be_bytes(), rest].concat()
    }

    /// IPv4, with ports.
    fn ip(protocol: u8, destination: u16, place: u16) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 60, 0, 1, 0, 0, 64, protocol, 0, 0];
        packet[6..8].copy_from_slice(&place.to_be_bytes());
        packet.extend([10, 0, 0, 1, 10, 0, 0, 2, 0x9c, 0x40]);
        packet.extend(destination.to_be_bytes());
        packet.extend([0; 36]);
        packet
    }

    fn ip6(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 40, next, 64];
        packet.extend([1; 32]);
        packet.extend(rest);
        packet.extend([0; 40]);
        packet
    }

    /// `packet`, of this EtherType, as Ethernet, Linux cooked and raw IP carry it.
    fn carried(kind: u16, packet: &[u8]) -> [(u16, Vec<u8>); 4] {
        let kind_bytes = kind.to_be_bytes();
        [
            (1, ethernet(kind, packet)),
            (113, [&[0; 14][..], &kind_bytes, packet].concat()),
            (276, [&kind_bytes[..], &[0; 18], packet].concat()),
            (101, packet.to_vec()),
        ]
    }

    const IPV4: u16 = 0x0800;
    const IPV6: u16 = 0x86dd;

    #[test]
    fn calls_are_never_behind_a_wall_of_ports() {
        assert_eq!(for_following("", ""), "");
        assert_eq!(for_following("host 192.0.2.1", ""), "host 192.0.2.1");
        assert_eq!(for_following("", "not tcp"), "not tcp");
        assert_eq!(
            for_following("net 10/8", "not tcp"),
            "(net 10/8) and (not tcp)"
        );
        let sip = Expression::new("port 5060", &[]).following("");
        let text = sip.text(1).unwrap();
        assert!(
            text.starts_with("(port 5060) or (ip[6:2] & 0x1fff != 0) or "),
            "{text}"
        );
        let mut filter = OfflineFilter::new(&sip, [1, 113, 276, 101]).unwrap();
        let wanted = [
            (IPV4, ip(17, 5060, 0)),
            (IPV4, ip(6, 5060, 0)),
            // Later fragments; a first one has ports.
            (IPV4, ip(17, 5060, 0x2000)),
            (IPV4, ip(17, 9, 0x2001)),
            (IPV4, ip(17, 9, 0x0004)),
            (IPV6, ip6(44, &[17, 0, 0, 1, 0, 0, 0, 1])),
            (IPV6, ip6(0, &[44, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 9])),
            (IPV4, ip(4, 9, 0)),
            (IPV4, ip(41, 9, 0)),
            (IPV4, ip(47, 9, 0)),
            (IPV4, ip(50, 9, 0)),
            (IPV6, ip6(50, &[])),
            (IPV6, ip6(41, &[])),
            (IPV4, ip(17, 4789, 0)),
            (IPV4, ip(17, 6081, 0)),
            (IPV4, ip(17, 2152, 0)),
            (IPV4, ip(17, 4500, 0)),
        ];
        for (kind, packet) in &wanted {
            for (link_type, frame) in carried(*kind, packet) {
                assert!(filter.matches(link_type, &frame), "{link_type} {packet:x?}");
            }
        }
        for (kind, packet) in [
            (IPV4, ip(17, 53, 0)),
            (IPV4, ip(6, 443, 0)),
            (IPV4, ip(17, 9, 0x2000)),
        ] {
            for (link_type, frame) in carried(kind, &packet) {
                assert!(
                    !filter.matches(link_type, &frame),
                    "{link_type} {packet:x?}"
                );
            }
        }
        for kind in [0x8100, 0x88a8, 0x9100, 0x8847, 0x8848, 0x8864] {
            assert!(filter.matches(1, &ethernet(kind, &[0; 60])), "{kind:x}");
        }
        assert!(!filter.matches(1, &ethernet(0x0806, &[0; 60])));
    }

    #[test]
    fn what_the_processor_asks_for_by_port_comes_in_fragments_too() {
        let pushed = ["udp port 5060", "host 192.0.2.9"].map(|pattern| Pushed {
            id: pattern.to_owned(),
            pattern: pattern.to_owned(),
        });
        let passes = |expression: Expression, packet: &[u8]| {
            let (expression, refused) = expression.with_pushed(pushed.clone(), &[1]);
            assert_eq!(refused, []);
            OfflineFilter::new(&expression, [])
                .unwrap()
                .matches(1, &ethernet(IPV4, packet))
        };
        let (generic, calls) = (
            Expression::new("", &[]),
            Expression::new("", &[]).following(""),
        );
        for (packet, in_generic, in_calls) in [
            (ip(17, 5060, 0), true, true),
            (ip(17, 5060, 0x2000), true, true),
            (ip(17, 9, 0x2001), false, true),
            (ip(17, 9, 0), false, false),
            (ip(17, 4789, 0), false, false),
        ] {
            assert_eq!(passes(generic.clone(), &packet), in_generic);
            assert_eq!(passes(calls.clone(), &packet), in_calls);
        }
    }

    #[test]
    fn what_the_operator_speaks_of_the_operator_decides() {
        let passes = |base: &str, udp_only: bool, frame: &[u8]| {
            let expression = Expression::new(base, &[]).following(match udp_only {
                true => "not tcp",
                false => "",
            });
            OfflineFilter::new(&expression, [])
                .unwrap()
                .matches(1, frame)
        };
        let vxlan = ethernet(IPV4, &ip(17, 4789, 0));
        assert!(!passes("not port 22 and not udp port 4789", false, &vxlan));
        assert!(passes("not port 22", false, &vxlan));
        let gre = ethernet(IPV4, &ip(47, 9, 0));
        assert!(!passes("port 5060 and not proto 47", false, &gre));
        let tagged = ethernet(0x8100, &[&[0, 7, 8, 0][..], &ip(17, 53, 0)].concat());
        assert!(!passes("port 5060 or (vlan and port 5060)", false, &tagged));
        assert!(passes("port 5060", true, &tagged));
        assert!(!passes("port 5060", true, &ethernet(IPV4, &ip(6, 5060, 0))));
        assert!(passes("port 5060", true, &ethernet(IPV4, &ip(17, 5060, 0))));
        assert!(passes("", true, &ethernet(IPV4, &ip(132, 5060, 0))));
        assert!(
            Expression::new("port 1) or (port 2", &[])
                .following("")
                .compile(1)
                .is_err()
        );
        for link_type in [0, 1, 9, 12, 101, 108, 113, 228, 229, 276] {
            for udp_only in [false, true] {
                let expression = Expression::new("port 5060", &[([192, 0, 2, 1], 55_555).into()]);
                expression
                    .following(match udp_only {
                        true => "not tcp",
                        false => "",
                    })
                    .compile(link_type)
                    .unwrap();
            }
        }
    }

    #[test]
    fn a_bad_filter_is_refused_and_the_rest_stays() {
        let nul = "port 1\0";
        let long = "port 1 or ".repeat(10_000);
        let pushed = [
            "port 443",
            "port http or or",
            "port 1) or (port 2",
            nul,
            &long,
            "",
            "udp",
        ];
        let pushed = pushed.iter().map(|pattern| Pushed {
            id: pattern.chars().take(9).collect(),
            pattern: (*pattern).to_owned(),
        });
        let (expression, refused) = Expression::new("", &[]).with_pushed(pushed, &[1]);
        assert_eq!(
            refused
                .iter()
                .map(|refused| refused.id.as_str())
                .collect::<Vec<_>>(),
            ["port http", "port 1) o", "port 1\0", "port 1 or"]
        );
        assert!(
            refused[0].error.to_string().contains("syntax error"),
            "{}",
            refused[0].error
        );
        assert!(
            refused[2].error.to_string().contains("NUL"),
            "{}",
            refused[2].error
        );
        assert!(
            refused[3].error.to_string().contains("65536"),
            "{}",
            refused[3].error
        );
        assert_eq!(expression.text(1).unwrap(), "(port 443) or (udp)");
        assert!(
            Expression::new("port 1) or (port 2", &[])
                .compile(1)
                .is_err()
        );
    }

    #[test]
    fn hostile_nesting_is_refused() {
        for pattern in [
            "(".repeat(MAX_EXPRESSION),
            "not ".repeat(MAX_EXPRESSION / 4),
            format!("{}port 1{}", "(".repeat(30_000), ")".repeat(30_000)),
        ] {
            let error = compile_offline(&pattern, 1).err().unwrap();
            assert!(error.to_string().len() < 1000);
        }
    }

    #[test]
    fn a_filter_without_meaning_for_a_link_type_matches_nothing_there() {
        let pushed = [Pushed {
            id: "mac".into(),
            pattern: "ether host 02:00:00:00:00:01".into(),
        }];
        let (expression, refused) = Expression::new("", &[]).with_pushed(pushed, &[1, 101]);
        assert_eq!((refused.len(), expression.pushed()), (0, 1));
        assert_eq!(expression.text(101), None);
        let mut filter = OfflineFilter::new(&expression, []).unwrap();
        assert!(!filter.matches(101, &[0x45; 40]));
        let mut frame = [0; 60];
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        assert!(filter.matches(1, &frame));
        frame[11] = 2;
        assert!(!filter.matches(1, &frame));
    }

    #[test]
    fn any_bytes_can_be_filtered() {
        let expression = Expression::new("tcp port 80", &[]);
        let mut filter = OfflineFilter::new(&expression, []).unwrap();
        for link_type in [0, 1, 9, 12, 101, 108, 113, 228, 229, 276, 9999] {
            assert!(!filter.matches(link_type, &[]));
            assert!(!filter.matches(link_type, &[0xff; 100]));
        }
    }
}
