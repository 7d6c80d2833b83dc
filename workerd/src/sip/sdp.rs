//! Session descriptions (RFC 8866), and the media endpoints that they announce.
//!
//! | read | from |
//! |---|---|
//! | kind, ports (`5004/2`), profile, payload types | `m=` |
//! | address: the media's, else the session's; IPv4, IPv6, or a host name | `c=` (RFC 8866 section 5.7) |
//! | where RTCP goes | `a=rtcp` (RFC 3605), `a=rtcp-mux` (RFC 5761), else the next port (RFC 3550 section 11) |
//! | more endpoints | `a=candidate` (RFC 8839), UDP only |
//! | codecs and clock rates | `a=rtpmap`, else RFC 3551 section 6 |
//! | encryption | profile, `a=crypto` (RFC 4568), `a=fingerprint` (RFC 8122) |
//! | direction and hold | `a=sendrecv` and others (RFC 3264), address 0.0.0.0 |
//! | synchronization sources | `a=ssrc` (RFC 5576) |
//!
//! Lines end at LF, CR or both. A line that breaks the grammar is left out; the others count. Nothing is copied or allocated, and all
//! work is linear in the text: at most [`MOST_MEDIA`] media are read, and at most [`MOST_PORTS`] ports and [`MOST_CANDIDATES`]
//! candidates of each.

use std::net::IpAddr;

use super::body::{Description, description};
use super::lines::split_line;
use super::message::Message;
use crate::decode::Addr;

/// Most media of a session.
pub const MOST_MEDIA: usize = 32;
/// Most port pairs of one media.
pub const MOST_PORTS: u16 = 16;
/// Most candidates of one media.
pub const MOST_CANDIDATES: usize = 32;

/// A session description.
#[derive(Debug, Clone, Copy)]
pub struct Session<'a> {
    whole: &'a [u8],
    /// From the first `m=` line.
    media: &'a [u8],
    connection: Option<Host<'a>>,
    direction: Direction,
    encrypted: bool,
}

/// Where media is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host<'a> {
    /// The address or name as it stands, without what follows a slash.
    pub text: &'a [u8],
    /// `None` for a name, of which only a resolver could say more. IPv4 addresses mapped into IPv6 come out as IPv4.
    pub address: Option<Addr>,
}

/// What media carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind {
    /// `audio`.
    Audio,
    /// `video`.
    Video,
    /// `text` (RFC 4103).
    Text,
    /// `image`: fax (ITU-T T.38).
    Image,
    /// `message`: MSRP (RFC 4975).
    Message,
    /// `application`: BFCP, data channels and others.
    Application,
    /// Anything else.
    Other,
}

/// How media is transported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// RTP in clear.
    Rtp,
    /// RTP/SAVP and RTP/SAVPF (RFC 3711, RFC 5124), with or without DTLS (RFC 5764).
    Srtp,
    /// UDPTL of fax (ITU-T T.38), with or without DTLS (RFC 7345).
    Udptl,
    /// MSRP over TCP or TLS.
    Msrp,
    /// Anything else.
    Other,
}

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Both sides.
    #[default]
    SendRecv,
    /// Who describes the session.
    SendOnly,
    /// The other side.
    RecvOnly,
    /// Nobody.
    Inactive,
}

/// One `m=` line, with the lines that belong to it.
#[derive(Debug, Clone, Copy)]
pub struct Media<'a> {
    /// What it carries.
    pub kind: MediaKind,
    /// How it is transported.
    pub profile: Profile,
    /// The profile as it stands, such as `RTP/AVP`.
    pub protocol: &'a [u8],
    /// The first port; 0 if the media is refused (RFC 3264 section 6).
    pub port: u16,
    /// How many port pairs there are: 1 but for a port like `5004/2`.
    pub ports: u16,
    /// Where it is wanted; `None` without a `c=` line.
    pub host: Option<Host<'a>>,
    /// Who sends.
    pub direction: Direction,
    /// Whether the profile, a key or a fingerprint says that it is encrypted.
    pub encrypted: bool,
    /// Whether RTCP may come to the port of RTP.
    pub rtcp_mux: bool,
    rtcp: Option<(u16, Option<Addr>)>,
    formats: &'a [u8],
    lines: &'a [u8],
    /// Payload types that have an `a=rtpmap`, by bit.
    mapped: u128,
}

/// Where an endpoint was announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// In `m=` and `c=`.
    Media,
    /// In an ICE candidate.
    Candidate,
}

/// An endpoint at which media is wanted, and from which it is likely to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// Address and port.
    pub address: (Addr, u16),
    /// Where RTCP is wanted besides; `None` if there is none of its own.
    pub rtcp: Option<(Addr, u16)>,
    /// Whether RTCP may come to `address`.
    pub rtcp_mux: bool,
    /// What it carries.
    pub kind: MediaKind,
    /// How.
    pub profile: Profile,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Where it was announced.
    pub announced: Announced,
    /// Number of its media in the session, from 0.
    pub media: u8,
}

/// What a payload type stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codec<'a> {
    /// Payload type, 0 to 127.
    pub payload_type: u8,
    /// Name of the encoding, as it stands.
    pub name: &'a [u8],
    /// Clock rate in Hz; 0 if it is not said.
    pub clock_rate: u32,
}

impl<'a> Session<'a> {
    /// The session that a message describes.
    #[must_use]
    pub fn of(message: &Message<'a>) -> Option<Self> {
        match description(message) {
            Description::Sdp(text) => Some(Self::parse(text)),
            Description::Encoded(_) | Description::None => None,
        }
    }

    /// The session of a text. Any text is one, if only an empty one.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Self {
        let mut session = Self {
            whole: text,
            media: &[],
            connection: None,
            direction: Direction::default(),
            encrypted: false,
        };
        let mut rest = text;
        while let Some((line, behind)) = split_line(rest) {
            let line = line.trim_ascii();
            if line.starts_with(b"m=") {
                session.media = rest;
                break;
            }
            rest = behind;
            if let Some(host) = connection(line) {
                session.connection = Some(host);
            } else if let Some(direction) = direction(line) {
                session.direction = direction;
            } else if line.starts_with(b"a=fingerprint:") {
                session.encrypted = true;
            }
        }
        session
    }

    /// The hosts of all `c=` lines, in order.
    pub fn hosts(&self) -> impl Iterator<Item = Host<'a>> + use<'a> {
        lines(self.whole).filter_map(connection)
    }

    /// Its media, in order, also those that are refused.
    pub fn media(&self) -> impl Iterator<Item = Media<'a>> + use<'a> {
        let session = *self;
        let mut rest = session.media;
        std::iter::from_fn(move || {
            loop {
                let (line, behind) = split_line(rest)?;
                rest = behind;
                let Some(description) = line.trim_ascii().strip_prefix(b"m=") else {
                    continue;
                };
                if let Some(media) = session.one_media(description, &mut rest) {
                    return Some(media);
                }
            }
        })
        .take(MOST_MEDIA)
    }

    /// The endpoints that it announces. Media without an address, refused media, and what is on hold by address have none.
    pub fn endpoints(&self) -> impl Iterator<Item = Endpoint> + use<'a> {
        self.media()
            .zip(0..)
            .flat_map(|(media, number)| media.endpoints(number))
    }

    /// `rest`: the lines behind the `m=` line; afterwards, those behind the media.
    fn one_media(&self, description: &'a [u8], rest: &mut &'a [u8]) -> Option<Media<'a>> {
        let mut formats = description;
        let kind = next_word(&mut formats)?;
        let (port, ports) = ports(next_word(&mut formats)?)?;
        let protocol = next_word(&mut formats)?;
        let profile = Profile::of(protocol);
        let mut media = Media {
            kind: MediaKind::of(kind),
            profile,
            protocol,
            port,
            ports,
            host: self.connection,
            direction: self.direction,
            encrypted: self.encrypted || profile == Profile::Srtp,
            rtcp_mux: false,
            rtcp: None,
            formats,
            lines: &[],
            mapped: 0,
        };
        let lines = *rest;
        while let Some((line, behind)) = split_line(rest) {
            let line = line.trim_ascii();
            if line.starts_with(b"m=") {
                break;
            }
            *rest = behind;
            media.read(line);
        }
        media.lines = &lines[..lines.len() - rest.len()];
        Some(media)
    }
}

impl<'a> Media<'a> {
    fn read(&mut self, line: &'a [u8]) {
        if let Some(host) = connection(line) {
            self.host = Some(host);
        } else if let Some(direction) = direction(line) {
            self.direction = direction;
        } else if line == b"a=rtcp-mux" || line == b"a=rtcp-mux-only" {
            self.rtcp_mux = true;
        } else if line.starts_with(b"a=fingerprint:") || line.starts_with(b"a=crypto:") {
            self.encrypted = true;
        } else if let Some(rtcp) = line.strip_prefix(b"a=rtcp:") {
            // "5010 IN IP4 192.0.2.1"
            let mut words = words(rtcp);
            let port = words
                .next()
                .and_then(number)
                .and_then(|port| u16::try_from(port).ok());
            let address = words.nth(2).and_then(address);
            self.rtcp = port.filter(|port| *port != 0).map(|port| (port, address));
        } else if let Some(codec) = rtpmap(line) {
            self.mapped |= 1 << codec.payload_type;
        }
    }

    /// Whether the other side shall not send: by direction, by the address 0.0.0.0 (RFC 3264 section 8.4), or refused.
    #[must_use]
    pub fn is_held(&self) -> bool {
        let is_nowhere = self.host.is_some_and(|host| host.is_nowhere());
        matches!(self.direction, Direction::SendOnly | Direction::Inactive)
            || is_nowhere
            || self.port == 0
    }

    /// The codecs by which it may be sent, in order: those that RFC 3551 numbers, then those with an `a=rtpmap`.
    pub fn codecs(&self) -> impl Iterator<Item = Codec<'a>> + use<'a> {
        let mapped = self.mapped;
        let numbered = words(self.formats).filter_map(|format| u8::try_from(number(format)?).ok());
        let numbered = numbered.filter(move |number| *number < 128 && mapped >> number & 1 == 0);
        let numbered = numbered.filter_map(|payload_type| {
            let (name, clock_rate) = static_codec(payload_type)?;
            let name = name.as_bytes();
            Some(Codec {
                payload_type,
                name,
                clock_rate,
            })
        });
        numbered.chain(lines(self.lines).filter_map(rtpmap))
    }

    /// The synchronization sources that it names; one may be named many times.
    pub fn ssrcs(&self) -> impl Iterator<Item = u32> + use<'a> {
        lines(self.lines).filter_map(|line| {
            let ssrc = words(line.strip_prefix(b"a=ssrc:")?).next()?;
            std::str::from_utf8(ssrc).ok()?.parse().ok()
        })
    }

    /// Its endpoints. `number`: its own, in the session.
    pub fn endpoints(&self, number: u8) -> impl Iterator<Item = Endpoint> + use<'a> {
        let media = *self;
        let has_rtcp = matches!(media.profile, Profile::Rtp | Profile::Srtp);
        let endpoint = move |address, rtcp, announced| Endpoint {
            address,
            rtcp: has_rtcp.then_some(rtcp).flatten(),
            rtcp_mux: media.rtcp_mux,
            kind: media.kind,
            profile: media.profile,
            encrypted: media.encrypted,
            announced,
            media: number,
        };
        let host = media.host.and_then(|host| host.reachable());
        let pairs = (0..media.ports.min(MOST_PORTS)).filter_map(move |pair| {
            let port = media
                .port
                .checked_add(pair.checked_mul(2)?)
                .filter(|_| media.port != 0)?;
            let host = host?;
            let rtcp = match media.rtcp {
                Some((port, address)) if pair == 0 => Some((address.unwrap_or(host), port)),
                _ => port.checked_add(1).map(|port| (host, port)),
            };
            Some(endpoint((host, port), rtcp, Announced::Media))
        });
        let candidates = lines(media.lines)
            .filter_map(candidate)
            .take(MOST_CANDIDATES);
        let candidates = candidates.filter(move |_| media.port != 0);
        let candidates =
            candidates.map(move |candidate| endpoint(candidate, None, Announced::Candidate));
        pairs.chain(candidates)
    }
}

impl Host<'_> {
    /// Whether it is 0.0.0.0 or `::`, which mean that nothing shall be sent (RFC 3264 section 8.4).
    #[must_use]
    pub fn is_nowhere(&self) -> bool {
        matches!(self.address, Some(Addr::V4(0) | Addr::V6(0)))
    }

    /// The address, unless it means nowhere.
    #[must_use]
    pub fn reachable(&self) -> Option<Addr> {
        self.address.filter(|_| !self.is_nowhere())
    }
}

impl MediaKind {
    fn of(word: &[u8]) -> Self {
        match word {
            b"audio" => Self::Audio,
            b"video" => Self::Video,
            b"text" => Self::Text,
            b"image" => Self::Image,
            b"message" => Self::Message,
            b"application" => Self::Application,
            _ => Self::Other,
        }
    }
}

impl Profile {
    fn of(protocol: &[u8]) -> Self {
        let mut found = Self::Other;
        for part in protocol.split(|byte| *byte == b'/') {
            let part_is = |name: &[u8]| part.eq_ignore_ascii_case(name);
            if part_is(b"SAVP") || part_is(b"SAVPF") {
                return Self::Srtp;
            } else if part_is(b"RTP") {
                found = Self::Rtp;
            } else if part_is(b"UDPTL") {
                return Self::Udptl;
            } else if part_is(b"MSRP") {
                return Self::Msrp;
            }
        }
        found
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (line, behind) = split_line(rest)?;
        rest = behind;
        Some(line.trim_ascii())
    })
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

/// Cuts the first word off.
fn next_word<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let text = rest.trim_ascii_start();
    let end = text
        .iter()
        .position(u8::is_ascii_whitespace)
        .unwrap_or(text.len());
    let (word, behind) = text.split_at(end);
    *rest = behind;
    (!word.is_empty()).then_some(word)
}

/// A decimal number of at most nine digits, with zeros or a plus sign before it.
fn number(word: &[u8]) -> Option<u32> {
    let digits = word.strip_prefix(b"+").unwrap_or(word);
    let is_number = (1..=9).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| {
        digits
            .iter()
            .fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
    })
}

/// "5004" or "5004/2".
fn ports(word: &[u8]) -> Option<(u16, u16)> {
    let mut parts = word.splitn(2, |byte| *byte == b'/');
    let port = u16::try_from(number(parts.next()?)?).ok()?;
    let count = parts.next().and_then(number).unwrap_or(1);
    Some((port, u16::try_from(count).unwrap_or(MOST_PORTS).max(1)))
}

/// "c=IN IP4 224.2.1.1/127"
fn connection(line: &[u8]) -> Option<Host<'_>> {
    let mut words = words(line.strip_prefix(b"c=")?).skip(1);
    let kind = words.next()?;
    let host = words.next()?.split(|byte| *byte == b'/').next()?;
    if !kind.eq_ignore_ascii_case(b"IP4") && !kind.eq_ignore_ascii_case(b"IP6") || host.is_empty() {
        return None;
    }
    let (text, address) = (host, address(host));
    Some(Host { text, address })
}

fn address(word: &[u8]) -> Option<Addr> {
    // The longest text of an address is 45 bytes.
    match std::str::from_utf8(word.get(..word.len().min(46))?)
        .ok()?
        .parse()
        .ok()?
    {
        IpAddr::V4(address) => Some(Addr::V4(address.to_bits())),
        IpAddr::V6(address) => Some(Addr::of_v6(address.to_bits())),
    }
}

fn direction(line: &[u8]) -> Option<Direction> {
    match line {
        b"a=sendrecv" => Some(Direction::SendRecv),
        b"a=sendonly" => Some(Direction::SendOnly),
        b"a=recvonly" => Some(Direction::RecvOnly),
        b"a=inactive" => Some(Direction::Inactive),
        _ => None,
    }
}

/// "a=rtpmap:96 opus/48000/2"
fn rtpmap(line: &[u8]) -> Option<Codec<'_>> {
    let mut words = words(line.strip_prefix(b"a=rtpmap:")?);
    let payload_type = u8::try_from(number(words.next()?)?).ok()?;
    let mut encoding = words.next()?.split(|byte| *byte == b'/');
    let name = encoding.next()?;
    let clock_rate = encoding.next().and_then(number).unwrap_or(0);
    (payload_type < 128).then_some(Codec {
        payload_type,
        name,
        clock_rate,
    })
}

/// "a=candidate:1 1 UDP 2130706431 192.0.2.1 5004 typ host"
fn candidate(line: &[u8]) -> Option<(Addr, u16)> {
    let mut words = words(line.strip_prefix(b"a=candidate:")?).skip(2);
    let is_udp = words.next()?.eq_ignore_ascii_case(b"udp");
    let address = address(words.nth(1)?)?;
    let port = u16::try_from(number(words.next()?)?).ok()?;
    let is_somewhere = !matches!(address, Addr::V4(0) | Addr::V6(0));
    (is_udp && is_somewhere && port != 0).then_some((address, port))
}

/// Name and clock rate of payload types that need no `a=rtpmap` (RFC 3551 section 6).
fn static_codec(payload_type: u8) -> Option<(&'static str, u32)> {
    Some(match payload_type {
        0 => ("PCMU", 8000),
        3 => ("GSM", 8000),
        4 => ("G723", 8000),
        5 => ("DVI4", 8000),
        6 => ("DVI4", 16000),
        7 => ("LPC", 8000),
        8 => ("PCMA", 8000),
        9 => ("G722", 8000),
        10 | 11 => ("L16", 44100),
        12 => ("QCELP", 8000),
        13 => ("CN", 8000),
        14 => ("MPA", 90000),
        15 => ("G728", 8000),
        16 => ("DVI4", 11025),
        17 => ("DVI4", 22050),
        18 => ("G729", 8000),
        25 => ("CelB", 90000),
        26 => ("JPEG", 90000),
        28 => ("nv", 90000),
        31 => ("H261", 90000),
        32 => ("MPV", 90000),
        33 => ("MP2T", 90000),
        34 => ("H263", 90000),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn v4(text: &str) -> Addr {
        Addr::V4(text.parse::<Ipv4Addr>().unwrap().to_bits())
    }

    fn host(text: &'static str, address: Option<Addr>) -> Option<Host<'static>> {
        let text = text.as_bytes();
        Some(Host { text, address })
    }

    /// Address and port of the endpoints, as text.
    fn endpoints(text: &str) -> Vec<String> {
        let all = Session::parse(text.as_bytes())
            .endpoints()
            .map(|one| show(one.address));
        all.collect()
    }

    fn rtcp(text: &str) -> Vec<Option<String>> {
        Session::parse(text.as_bytes())
            .endpoints()
            .map(|one| one.rtcp.map(show))
            .collect()
    }

    fn show((address, port): (Addr, u16)) -> String {
        match address {
            Addr::V4(address) => format!("{}:{port}", Ipv4Addr::from_bits(address)),
            Addr::V6(address) => format!("[{}]:{port}", std::net::Ipv6Addr::from_bits(address)),
        }
    }

    fn codecs(media: &Media<'_>) -> Vec<(u8, String, u32)> {
        let name = |codec: Codec<'_>| String::from_utf8_lossy(codec.name).into_owned();
        media
            .codecs()
            .map(|codec| (codec.payload_type, name(codec), codec.clock_rate))
            .collect()
    }

    /// Table L. Ports alone, which the reference keys media by, are no endpoints here (X3).
    #[test]
    fn endpoints_are_announced_as_the_table_says() {
        for (id, text, expected) in [
            (
                "L1",
                "v=0\nc=IN IP4 192.0.2.100\nt=0 0\nm=audio 10000 RTP/AVP 0 8 101\na=rtpmap:0 PCMU/8000",
                vec!["192.0.2.100:10000"],
            ),
            (
                "L2",
                "v=0\nc=IN IP4 conf.example\nm=audio 49170 RTP/AVP 0\nm=audio 49172 RTP/AVP 0",
                vec![],
            ),
            (
                "L3",
                "c=IN IP4 192.0.2.9\nm=audio 49170 RTP/AVP 0\nm=video 51372 RTP/AVP 31",
                vec!["192.0.2.9:49170", "192.0.2.9:51372"],
            ),
            ("L4", "m=audio 99999 RTP/AVP 0", vec![]),
            ("L5", "m=audio 0 RTP/AVP 0", vec![]),
            ("L6", "v=0\nm=audio    5008    RTP/AVP    0    8", vec![]),
            ("L7", "v=0\nm=audio nope RTP/AVP 0", vec![]),
            (
                "L8",
                "c=IN IP4 192.0.2.1\nm=audio 16384 RTP/AVP 0\nm=audio 16386 RTP/AVP 8\n",
                vec!["192.0.2.1:16384", "192.0.2.1:16386"],
            ),
            (
                "X24",
                "c=IN IP4 1.1.1.1\r\nm=audio 05006 RTP/AVP 0",
                vec!["1.1.1.1:5006"],
            ),
            (
                "X25",
                "c=IN IP6 2001:DB8::1\r\nm=audio 5004 RTP/AVP 0",
                vec!["[2001:db8::1]:5004"],
            ),
            (
                "X26",
                "c=IN IP4 1.1.1.1\r\nm=audio 5004/2 RTP/AVP 0",
                vec!["1.1.1.1:5004", "1.1.1.1:5006"],
            ),
            // V-5: a media's own address.
            (
                "V-5",
                "c=IN IP4 1.1.1.1\nm=audio 1000 RTP/AVP 0\nc=IN IP4 2.2.2.2\nm=audio 2000 RTP/AVP 0\nc=IN IP4 3.3.3.3\n\
                 m=audio 3000 RTP/AVP 0",
                vec!["2.2.2.2:1000", "3.3.3.3:2000", "1.1.1.1:3000"],
            ),
            (
                "multicast",
                "c=IN IP4 224.2.1.1/127\nm=audio\t5004 RTP/AVP 0",
                vec!["224.2.1.1:5004"],
            ),
            (
                "mapped",
                "c=IN IP6 ::ffff:1.1.1.1\nm=audio +5004 RTP/AVP 0",
                vec!["1.1.1.1:5004"],
            ),
            ("hold", "c=IN IP4 0.0.0.0\nm=audio 5004 RTP/AVP 0", vec![]),
        ] {
            assert_eq!(endpoints(text), expected, "{id}");
        }
        let name = Session::parse(b"c=IN IP4 conf.example\nm=audio 49170 RTP/AVP 0")
            .media()
            .next()
            .unwrap();
        assert_eq!(
            (name.host, name.port),
            (host("conf.example", None), 49170),
            "L2"
        );
        let spaces = Session::parse(b"v=0\nm=audio    5008    RTP/AVP    0    8")
            .media()
            .next()
            .unwrap();
        assert_eq!(
            (spaces.port, codecs(&spaces).len(), spaces.host),
            (5008, 2, None),
            "L6"
        );
    }

    #[test]
    fn rtcp_has_its_own_place() {
        let some = |text: &str| Some(text.to_owned());
        let pair = "c=IN IP4 1.1.1.1\nm=audio 5004/2 RTP/AVP 0\n";
        assert_eq!(
            rtcp(pair),
            [some("1.1.1.1:5005"), some("1.1.1.1:5007")],
            "X26"
        );
        let own = "c=IN IP4 1.1.1.1\nm=audio 5004 RTP/AVP 0\na=rtcp:5010\n";
        assert_eq!(rtcp(own), [some("1.1.1.1:5010")], "X27");
        let other = "c=IN IP4 1.1.1.1\nm=audio 5004 RTP/AVP 0\na=rtcp:5010 IN IP6 2001:db8::2\na=rtcp-mux\n";
        assert_eq!(rtcp(other), [some("[2001:db8::2]:5010")]);
        assert!(
            Session::parse(other.as_bytes())
                .endpoints()
                .all(|one| one.rtcp_mux)
        );
        assert_eq!(rtcp("c=IN IP4 1.1.1.1\nm=image 5004 udptl t38\n"), [None]);
        assert_eq!(rtcp("c=IN IP4 1.1.1.1\nm=audio 65535 RTP/AVP 0\n"), [None]);
    }

    #[test]
    fn candidates_are_endpoints() {
        let text = "v=0\nc=IN IP4 192.0.2.1\na=ice-ufrag:x\nm=audio 9 UDP/TLS/RTP/SAVPF 111\n\
            a=candidate:1 1 UDP 2130706431 10.0.0.1 8998 typ host\n\
            a=candidate:2 2 udp 1694498814 2001:db8::3 45665 typ srflx raddr 10.0.0.1 rport 8998\n\
            a=candidate:3 1 TCP 1 10.0.0.1 9 typ host tcptype active\n\
            a=candidate:4 1 UDP 1 x.local 9 typ host\na=candidate:5\n";
        assert_eq!(
            endpoints(text),
            ["192.0.2.1:9", "10.0.0.1:8998", "[2001:db8::3]:45665"]
        );
        let session = Session::parse(text.as_bytes());
        let announced: Vec<_> = session.endpoints().map(|one| one.announced).collect();
        assert_eq!(
            announced,
            [Announced::Media, Announced::Candidate, Announced::Candidate]
        );
        assert!(
            session
                .endpoints()
                .all(|one| one.encrypted && one.profile == Profile::Srtp)
        );
    }

    #[test]
    fn media_of_every_kind() {
        let text = b"v=0\r\nc=IN IP4 192.0.2.1\r\na=sendonly\r\n\
            m=audio 5004 RTP/AVP 0 8 96 101\r\na=rtpmap:96 opus/48000/2\r\na=rtpmap:8 PCMA/8000\r\n\
            a=rtpmap:101 telephone-event/8000\r\na=ssrc:1234 cname:x\r\na=ssrc:99\r\na=sendrecv\r\n\
            m=image 5006 UDPTL t38\r\nm=message 7394 TCP/MSRP *\r\nc=IN IP4 192.0.2.2\r\n\
            m=text 5008 RTP/AVP 98\r\na=inactive\r\nm=application 5010 UDP/BFCP *\r\nm=video 0 RTP/SAVP 31\r\n\
            m=audio 5012 RTP/AVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\nm=junk\r\nm=x y z\r\n";
        let session = Session::parse(text);
        let media: Vec<_> = session.media().collect();
        let kinds: Vec<_> = media
            .iter()
            .map(|one| (one.kind, one.profile, one.encrypted, one.is_held()))
            .collect();
        assert_eq!(
            kinds,
            [
                (MediaKind::Audio, Profile::Rtp, false, false),
                (MediaKind::Image, Profile::Udptl, false, true),
                (MediaKind::Message, Profile::Msrp, false, true),
                (MediaKind::Text, Profile::Rtp, false, true),
                (MediaKind::Application, Profile::Other, false, true),
                (MediaKind::Video, Profile::Srtp, true, true),
                (MediaKind::Audio, Profile::Rtp, true, true),
            ]
        );
        assert_eq!(
            codecs(&media[0]),
            [
                (0, "PCMU".to_owned(), 8000),
                (96, "opus".to_owned(), 48000),
                (8, "PCMA".to_owned(), 8000),
                (101, "telephone-event".to_owned(), 8000),
            ]
        );
        assert_eq!(media[0].ssrcs().collect::<Vec<_>>(), [1234, 99]);
        assert_eq!(media[2].host, host("192.0.2.2", Some(v4("192.0.2.2"))));
        assert_eq!(media[3].direction, Direction::Inactive);
        let numbers: Vec<_> = session.endpoints().map(|one| one.media).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 6]);
    }

    #[test]
    fn media_ports_and_candidates_are_bounded() {
        let text = format!(
            "c=IN IP4 1.1.1.1\n{}",
            "m=audio 5004/9999 RTP/AVP 0\n".repeat(10_000)
        );
        let session = Session::parse(text.as_bytes());
        assert_eq!(session.media().count(), MOST_MEDIA);
        assert_eq!(
            session.endpoints().count(),
            MOST_MEDIA * usize::from(MOST_PORTS)
        );
        let candidate = "a=candidate:1 1 UDP 1 10.0.0.1 8998 typ host\n";
        let text = format!(
            "m=audio 9 RTP/AVP {}\n{}",
            "0 ".repeat(30_000),
            candidate.repeat(10_000)
        );
        assert_eq!(
            Session::parse(text.as_bytes()).endpoints().count(),
            MOST_CANDIDATES
        );
    }

    proptest! {
        #[test]
        fn any_text_is_accepted(
            parts in prop::collection::vec(prop_oneof![
                prop::sample::select(vec![
                    "m=audio ", "5004", "/2", " RTP/AVP", " 0 8 96", "\r\n", "\n", "c=IN IP4 ", "192.0.2.1", "c=IN IP6 ", "::1",
                    "a=rtpmap:", "a=rtcp:", "a=candidate:1 1 UDP 1 ", "a=sendonly", "a=ssrc:", " ", "/", "+", "65535", "\0",
                ]).prop_map(|text| text.as_bytes().to_vec()),
                prop::collection::vec(any::<u8>(), 0..5),
            ], 0..60),
        ) {
            let text = parts.concat();
            let session = Session::parse(&text);
            for media in session.media() {
                prop_assert!(media.codecs().all(|codec| codec.payload_type < 128));
                let _ = (media.ssrcs().count(), media.is_held());
            }
            for endpoint in session.endpoints() {
                prop_assert!(endpoint.address.1 != 0);
                prop_assert!(endpoint.rtcp.is_none_or(|(_, port)| port != 0));
            }
        }
    }
}
