//! Who a message is from, for and about: what the processor is told, and what filters compare.
//!
//! Everything is looked up when asked for and borrowed from the message.

use std::fmt::{self, Display, Write};

use sha2::{Digest, Sha256};

use super::address::{Address, Uri, addresses, first_and_other_params, params, unquoted};
use super::header::{Name, Value};
use super::message::{Message, Start};
use super::method::Method;

/// Longest Call-ID, in bytes.
pub const LONGEST_CALL_ID: usize = 1024;
/// Longest instance id of a Contact that can be an IMEI, with separators and parameters.
const LONGEST_INSTANCE: usize = 80;

/// Why a Call-ID is not taken: it becomes part of file names and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallIdFault {
    /// There is none.
    #[error("no Call-ID")]
    Empty,
    /// Above [`LONGEST_CALL_ID`].
    #[error("Call-ID longer than {LONGEST_CALL_ID} bytes")]
    TooLong,
    /// It has a zero byte or a line end.
    #[error("Call-ID with a zero byte or a line end")]
    Control,
    /// It has `...`, or two dots beside a slash.
    #[error("Call-ID with a path in it")]
    Path,
}

/// Checks a Call-ID.
pub fn check_call_id(id: &[u8]) -> Result<&[u8], CallIdFault> {
    if id.is_empty() {
        return Err(CallIdFault::Empty);
    }
    if id.len() > LONGEST_CALL_ID {
        return Err(CallIdFault::TooLong);
    }
    if id.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
        return Err(CallIdFault::Control);
    }
    let is_path = |part: &[u8]| {
        matches!(
            part,
            [b'.', b'.', b'/' | b'\\' | b'.'] | [b'/' | b'\\', b'.', b'.']
        )
    };
    match id.windows(3).any(is_path) {
        true => Err(CallIdFault::Path),
        false => Ok(id),
    }
}

/// A Call-ID as it stands in logs: with `voip.security.sanitize_call_ids`, a long one is cut and hashed.
#[derive(Debug, Clone, Copy)]
pub struct LoggedCallId<'a> {
    /// The Call-ID.
    pub id: &'a [u8],
    /// Whether a long one is replaced.
    pub sanitize: bool,
    /// Longest one that is not, in bytes.
    pub longest: usize,
    /// Hexadecimal digits of its SHA-256 that are shown.
    pub digits: usize,
}

impl Display for LoggedCallId<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.sanitize || self.id.len() <= self.longest {
            return Value(self.id).fmt(out);
        }
        write!(out, "{}...", Value(&self.id[..self.id.len().min(6)]))?;
        let hash = Sha256::digest(self.id);
        let digits = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        for digit in digits.take(self.digits) {
            out.write_char(char::from_digit(digit.into(), 16).unwrap_or_default())?;
        }
        Ok(())
    }
}

/// The first 14 digits of an international mobile equipment identity: without check digit or spare digit, which are not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imei(pub [u8; 14]);

/// Where a subscriber is (P-Access-Network-Info, RFC 7315 section 5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessNetwork<'a> {
    /// Access type, such as `3GPP-E-UTRAN-FDD`.
    pub access_type: &'a [u8],
    /// Cell: of several parameters, the last.
    pub cell_id: &'a [u8],
    /// Access point of a wireless network.
    pub bssid: &'a [u8],
    /// Address of the subscriber within the network.
    pub local_ip: &'a [u8],
    params: &'a [u8],
}

impl<'a> AccessNetwork<'a> {
    /// Parses the value of the header. `None` without an access type.
    #[must_use]
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let end = memchr::memchr(b';', value).unwrap_or(value.len());
        let (access_type, params) = value.split_at(end);
        let mut found = Self {
            access_type: access_type.trim_ascii(),
            cell_id: &[],
            bssid: &[],
            local_ip: &[],
            params,
        };
        if found.access_type.is_empty() {
            return None;
        }
        const CELLS: &[&[u8]] = &[b"cgi-3gpp", b"utran-cell-id-3gpp", b"ecgi", b"ncgi"];
        for (name, value) in found.parameters() {
            if CELLS.iter().any(|cell| name.eq_ignore_ascii_case(cell)) {
                found.cell_id = value;
            } else if name.eq_ignore_ascii_case(b"i-wlan-node-id") {
                found.bssid = value;
            } else if name.eq_ignore_ascii_case(b"local-ip") {
                found.local_ip = value;
            }
        }
        Some(found)
    }

    /// All parameters, names as they stand; values without quotes.
    pub fn parameters(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        params(self.params)
    }
}

/// A header that ties calls together: B2BUA legs, transfers, diversions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Correlation<'a> {
    /// Its key in the details of a packet.
    pub key: &'static str,
    /// What the header says.
    pub value: Value<'a>,
}

impl<'a> Message<'a> {
    /// The method as the processor is told: the token of a method that has a name here; empty for responses.
    #[must_use]
    pub fn method_token(&self) -> &'static str {
        self.method().map_or("", Method::token)
    }

    /// The Call-ID. Of several, the first that can be taken.
    pub fn call_id(&self) -> Result<&'a [u8], CallIdFault> {
        let mut fault = CallIdFault::Empty;
        for value in self.values(Name::CallId) {
            match check_call_id(value.0) {
                Ok(id) => return Ok(id),
                Err(found) => fault = found,
            }
        }
        Err(fault)
    }

    /// Number and method of CSeq. The method has any case; empty if it is missing.
    #[must_use]
    pub fn cseq(&self) -> Option<(u32, &'a [u8])> {
        let value = self.last(Name::CSeq)?;
        let mut words = value
            .0
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        let number = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        Some((number, words.next().unwrap_or_default()))
    }

    /// The method of CSeq, which says what a response answers; empty if there is none.
    #[must_use]
    pub fn cseq_method(&self) -> &'a [u8] {
        let value = self.last(Name::CSeq).map_or(&[][..], Value::bytes);
        let mut words = value
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty());
        words.nth(1).unwrap_or_default()
    }

    /// The address of From.
    #[must_use]
    pub fn from(&self) -> Option<Address<'a>> {
        self.addresses(Name::From).next()
    }

    /// The address of To.
    #[must_use]
    pub fn to(&self) -> Option<Address<'a>> {
        self.addresses(Name::To).next()
    }

    /// The URI of a request line, if it is a SIP or telephone URI.
    #[must_use]
    pub fn request_uri(&self) -> Option<Uri<'a>> {
        match self.start() {
            Start::Request { uri, .. } => Uri::bare(uri),
            Start::Response { .. } => None,
        }
    }

    /// All addresses in headers of a name.
    pub fn addresses(&self, name: Name) -> impl Iterator<Item = Address<'a>> + use<'a> {
        self.values(name).flat_map(|value| addresses(value.0))
    }

    /// Where the subscriber is, by the last P-Access-Network-Info.
    #[must_use]
    pub fn access_network(&self) -> Option<AccessNetwork<'a>> {
        AccessNetwork::parse(self.last(Name::AccessNetwork)?.0)
    }

    /// The network that the subscriber visits (RFC 7315 section 5.3), without quotes.
    #[must_use]
    pub fn visited_network(&self) -> Option<Value<'a>> {
        let value = self.last(Name::VisitedNetwork)?;
        Some(Value(unquoted(value.0).trim_ascii()))
    }

    /// International mobile subscriber identities: of the private identity that authorizes (3GPP TS 23.003 section 13.3), then of
    /// asserted identities. Fifteen digits each.
    pub fn imsis(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let private = self
            .values(Name::Authorization)
            .filter_map(|value| private_identity(value.0));
        let asserted = self.addresses(Name::AssertedIdentity);
        let asserted = asserted.map(|address| (address.uri.user, address.uri.domain));
        private
            .chain(asserted)
            .filter_map(|(user, domain)| imsi(user, domain))
    }

    /// International mobile equipment identities of the instances in Contact (RFC 7254, and an older form).
    pub fn imeis(&self) -> impl Iterator<Item = Imei> + use<'a> {
        self.values(Name::Contact)
            .flat_map(|value| instances(value.0))
            .filter_map(imei)
    }

    /// What ties the call to others, in a fixed order.
    pub fn correlations(&self) -> impl Iterator<Item = Correlation<'a>> + use<'a> {
        const KEYS: &[(Name, &str)] = &[
            (Name::XCallId, "x_call_id"),
            (Name::XCid, "x_cid"),
            (Name::SessionId, "session_id"),
            (Name::Replaces, "replaces"),
            (Name::InReplyTo, "in_reply_to"),
            (Name::ReferTo, "refer_to"),
            (Name::ReferredBy, "referred_by"),
            (Name::Diversion, "diversion"),
            (Name::HistoryInfo, "history_info"),
            (Name::RemotePartyId, "remote_party_id"),
        ];
        let message = *self;
        let headers = KEYS.iter().flat_map(move |(name, key)| {
            message
                .values(*name)
                .map(|value| Correlation { key, value })
        });
        let icid = self
            .value(Name::ChargingVector)
            .and_then(|value| icid(value.0));
        let icid = icid.map(|value| Correlation {
            key: "icid",
            value: Value(value),
        });
        headers.chain(icid)
    }
}

/// The IMS charging identifier (RFC 7315 section 5.6), which all legs of a call in an operator's network share.
#[must_use]
pub fn icid(value: &[u8]) -> Option<&[u8]> {
    let is_icid = |name: &[u8]| name.eq_ignore_ascii_case(b"icid-value");
    let found =
        first_and_other_params(value).find_map(|(name, value)| is_icid(name).then_some(value));
    found.filter(|value| !value.is_empty())
}

/// User and domain of a digest's `username`, quoted or not.
fn private_identity(value: &[u8]) -> Option<(&[u8], &[u8])> {
    const PARAMETER: &[u8] = b"username=";
    let at = find(value, PARAMETER)?;
    let value = &value[at + PARAMETER.len()..];
    let mut name = match value.strip_prefix(b"\"") {
        Some(quoted) => &quoted[..memchr::memchr(b'"', quoted)?],
        None => value.split(|byte| b", \t\r\n".contains(byte)).next()?,
    };
    for scheme in [&b"sip:"[..], b"sips:"] {
        if starts(name, scheme) {
            name = &name[scheme.len()..];
        }
    }
    split_once(name, b'@')
}

fn imsi<'a>(user: &'a [u8], domain: &[u8]) -> Option<&'a [u8]> {
    let is_imsi = user.len() == 15 && user.iter().all(u8::is_ascii_digit);
    let is_mobile = || {
        find(domain, b"3gppnetwork.org")
            .or(find(domain, b".mnc"))
            .is_some()
    };
    (is_imsi && is_mobile()).then_some(user)
}

/// The values of the `+sip.instance` parameters (RFC 5626), without quotes and brackets.
fn instances(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    const PARAMETER: &[u8] = b"+sip.instance";
    let mut rest = value;
    std::iter::from_fn(move || {
        let at = find(rest, PARAMETER)?;
        rest = split_once(&rest[at + PARAMETER.len()..], b'=')?.1;
        let start = rest
            .iter()
            .position(|byte| !b" \"<".contains(byte))
            .unwrap_or(rest.len());
        let instance = &rest[start..rest.len().min(start + LONGEST_INSTANCE)];
        let end = instance.iter().position(|byte| b"\">;, ".contains(byte));
        Some(&instance[..end.unwrap_or(instance.len())])
    })
}

fn imei(urn: &[u8]) -> Option<Imei> {
    let schemes = [&b"urn:gsma:imei:"[..], b"urn:urn-7:3gpp-imei:"];
    let scheme = schemes.iter().find(|scheme| starts(urn, scheme))?;
    let digits = urn[scheme.len()..]
        .iter()
        .filter(|byte| byte.is_ascii_digit());
    if !(14..=15).contains(&digits.clone().count()) {
        return None;
    }
    let mut imei = [0; 14];
    imei.iter_mut()
        .zip(digits)
        .for_each(|(place, digit)| *place = *digit);
    Some(Imei(imei))
}

fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(separator, text)?;
    Some((&text[..at], &text[at + 1..]))
}

/// Whether `text` starts with `start`, in any case.
fn starts(text: &[u8], start: &[u8]) -> bool {
    text.get(..start.len())
        .is_some_and(|text| text.eq_ignore_ascii_case(start))
}

/// Where `needle`, which is lower-case, first occurs in `text`, in any case.
fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle.first()?;
    let mut places = memchr::memchr2_iter(*first, first.to_ascii_uppercase(), text);
    places.find(|at| starts(&text[*at..], needle))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(headers: &str) -> String {
        format!("INVITE sip:ben@beta.example SIP/2.0\r\n{headers}\r\n\r\n")
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// Table E, rows 1 to 6, and X28.
    #[test]
    fn call_ids_are_checked() {
        let check = |id: &str| check_call_id(id.as_bytes()).map(text);
        let ok = |id: &str| Ok(id.to_owned());
        assert_eq!(check(""), Err(CallIdFault::Empty), "E1");
        assert_eq!(check("plain-call-id-1"), ok("plain-call-id-1"), "E2");
        let odd = "id-@#$%^&*()_+-={}[]|\\:;\"'<>?,./";
        assert_eq!(check(odd), ok(odd), "E3");
        assert_eq!(
            check(&"very-long-call-id-".repeat(100)),
            Err(CallIdFault::TooLong),
            "E4"
        );
        assert_eq!(check("ab\0cd"), Err(CallIdFault::Control), "E5");
        assert_eq!(check("id-../up"), Err(CallIdFault::Path), "E6");
        for (id, taken) in [
            ("...", false),
            ("../", false),
            ("a..b", true),
            ("a...b", false),
            ("a b\u{e4}", true),
        ] {
            assert_eq!(check(id).is_ok(), taken, "X28 {id}");
        }
        for id in ["a\\..", "a/..b", "..\\b"] {
            assert_eq!(check(id), Err(CallIdFault::Path), "{id}");
        }
    }

    /// Table E, rows 7 to 9.
    #[test]
    fn call_ids_in_logs_are_cut_and_hashed() {
        let logged = |id: &str, sanitize| {
            let id = id.as_bytes();
            LoggedCallId {
                id,
                sanitize,
                longest: 16,
                digits: 8,
            }
            .to_string()
        };
        assert_eq!(logged("short-id", true), "short-id", "E7");
        let id = "a84b4c76e66710@pc33.atlanta.com";
        assert_eq!(logged(id, true), "a84b4c...26559daa", "E8");
        assert_eq!(logged(id, false), id, "E9");
    }

    /// Table N, rows 5 to 10.
    #[test]
    fn networks_of_subscribers() {
        for (value, parsed, parameters) in [
            (
                "IEEE-802.11; i-wlan-node-id=00:11:22:33:44:55",
                Some(["IEEE-802.11", "00:11:22:33:44:55", "", ""]),
                vec![("i-wlan-node-id", "00:11:22:33:44:55")],
            ),
            (
                "3GPP-NR; ncgi=234150123456789",
                Some(["3GPP-NR", "", "234150123456789", ""]),
                vec![("ncgi", "234150123456789")],
            ),
            (
                "3GPP-GERAN; cgi-3gpp=234150012345; local-ip=10.0.0.1",
                Some(["3GPP-GERAN", "", "234150012345", "10.0.0.1"]),
                vec![("cgi-3gpp", "234150012345"), ("local-ip", "10.0.0.1")],
            ),
            (
                "3GPP-E-UTRAN; utran-cell-id-3gpp=\"1\"; x;ECGI=2",
                Some(["3GPP-E-UTRAN", "", "2", ""]),
                vec![("utran-cell-id-3gpp", "1"), ("x", ""), ("ECGI", "2")],
            ),
            ("", None, vec![]),
            (";ncgi=1", None, vec![]),
        ] {
            let network = AccessNetwork::parse(value.as_bytes());
            let fields = network
                .map(|one| [one.access_type, one.bssid, one.cell_id, one.local_ip].map(text));
            assert_eq!(
                fields,
                parsed.map(|fields| fields.map(str::to_owned)),
                "N5-N8 {value}"
            );
            let found = network.iter().flat_map(AccessNetwork::parameters);
            let found: Vec<_> = found
                .map(|(name, value)| (text(name), text(value)))
                .collect();
            let wanted: Vec<_> = parameters
                .iter()
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
                .collect();
            assert_eq!(found, wanted);
        }
        let visited = |value: &str| {
            let message = message(&format!("P-Visited-Network-ID: {value}"));
            Message::parse(message.as_bytes())
                .unwrap()
                .visited_network()
                .unwrap()
                .to_string()
        };
        assert_eq!(
            visited("\"Visited Network Name\""),
            "Visited Network Name",
            "N9"
        );
        assert_eq!(visited("   "), "", "N10");
    }

    /// Section 3's probes, and V-14: identities in brackets and of 14 digits are found.
    #[test]
    fn subscribers_and_equipment() {
        let imsis = |headers: &str| -> Vec<String> {
            Message::parse(message(headers).as_bytes())
                .unwrap()
                .imsis()
                .map(text)
                .collect()
        };
        let number = "262011234567890";
        for (headers, found) in [
            (
                "Authorization: Digest username=\"262011234567890@ims.mnc001.mcc262.3gppnetwork.org\", realm=\"x\"",
                true,
            ),
            (
                "Authorization: Digest USERNAME=262011234567890@IMS.MNC001.MCC262.3GPPNETWORK.ORG, realm=\"x\"",
                true,
            ),
            (
                "P-Asserted-Identity: sip:262011234567890@foo.mnc01.lab",
                true,
            ),
            (
                "P-Asserted-Identity: \"x\" <sip:1@x>, <sip:262011234567890@ims.mnc001.mcc262.3gppnetwork.org>",
                true,
            ),
            (
                "Proxy-Authorization: Digest username=\"262011234567890@ims.mnc001.mcc262.3gppnetwork.org\"",
                false,
            ),
            (
                "From: <sip:262011234567890@ims.mnc001.mcc262.3gppnetwork.org>",
                false,
            ),
            (
                "P-Asserted-Identity: sip:262011234567890@carrier.com",
                false,
            ),
            (
                "Authorization: Digest username=\"2620112345678@ims.mnc001.mcc262.3gppnetwork.org\"",
                false,
            ),
            (
                "Authorization: Digest username=\"262011234567890@ims.mnc001.mcc262.3gppnetwork.org",
                false,
            ),
        ] {
            let wanted = if found {
                vec![number.to_owned()]
            } else {
                vec![]
            };
            assert_eq!(imsis(headers), wanted, "{headers}");
        }
        let imeis = |headers: &str| -> Vec<String> {
            let message = message(headers);
            let message = Message::parse(message.as_bytes()).unwrap();
            message.imeis().map(|imei| text(&imei.0)).collect()
        };
        for (instance, found) in [
            ("<urn:gsma:imei:35345678-901234-0>", true),
            ("<URN:GSMA:imei:35345678-901234-7;svn=02>", true),
            ("<urn:gsma:imei:35345678-901234>", true),
            ("<urn:urn-7:3gpp-imei:35345678-901234-0>", true),
            ("<urn:gsma:imei:35345678-9012345-0>", false),
            ("<urn:uuid:35345678-9012-3400-0000-000000000000>", false),
        ] {
            let wanted = if found {
                vec!["35345678901234".to_owned()]
            } else {
                vec![]
            };
            assert_eq!(
                imeis(&format!("m: <sip:a@b>;+SIP.instance=\"{instance}\"")),
                wanted,
                "{instance}"
            );
            assert_eq!(
                imeis(&format!(
                    "X-Contact: <sip:a@b>;+sip.instance=\"{instance}\""
                )),
                Vec::<String>::new()
            );
        }
    }

    #[test]
    fn what_the_processor_is_told_of_a_message() {
        let bytes = message(
            "f: Ann <sip:ann@alpha.example>;tag=f1\r\nTo: <tel:+4930>\r\nCall-ID: ../x\r\ni: ok17\r\nCSeq: 7 invite\r\n\
             P-Asserted-Identity: <sip:a@x>, <tel:+49>\r\nP-Asserted-Identity: \"B\" <sip:b@x>\r\n\
             P-Preferred-Identity: <sip:p@x>\r\nP-Called-Party-ID: <sip:q@x>",
        );
        let message = Message::parse(bytes.as_bytes()).unwrap();
        assert_eq!(message.method_token(), "INVITE");
        assert_eq!(message.call_id(), Ok(&b"ok17"[..]));
        assert_eq!(message.cseq(), Some((7, &b"invite"[..])));
        let (from, to) = (message.from().unwrap(), message.to().unwrap());
        assert_eq!(
            (from.uri.user, from.uri.text, from.tag()),
            (&b"ann"[..], &b"sip:ann@alpha.example"[..], &b"f1"[..])
        );
        assert_eq!(
            (to.uri.user, to.uri.text, to.tag()),
            (&b"+4930"[..], &b"tel:+4930"[..], &b""[..])
        );
        let users = |name| {
            message
                .addresses(name)
                .map(|one| text(one.uri.user))
                .collect::<Vec<_>>()
        };
        assert_eq!(users(Name::AssertedIdentity), ["a", "+49", "b"]);
        assert_eq!(
            (users(Name::PreferredIdentity), users(Name::CalledParty)),
            (vec!["p".to_owned()], vec!["q".to_owned()])
        );
        assert_eq!(message.request_uri().unwrap().user, b"ben");
    }

    #[test]
    fn calls_are_tied_together_by_headers() {
        let bytes = message(
            "X-CID: c2\r\nDiversion: <sip:d@x>;reason=busy\r\nDiversion: <sip:e@x>\r\nX-Call-ID: c1\r\nRefer-To: <sip:r@x>\r\n\
             b: <sip:b@x>\r\nSession-ID: 47755a9de7794ba387653f2099600ef2\r\nReplaces: c3;to-tag=1;from-tag=2\r\n\
             History-Info: <sip:h@x>;index=1\r\nP-Charging-Vector: icid-value=\"ab;c\";icid-generated-at=192.0.2.1",
        );
        let message = Message::parse(bytes.as_bytes()).unwrap();
        let all: Vec<_> = message
            .correlations()
            .map(|one| format!("{}={}", one.key, one.value))
            .collect();
        assert_eq!(
            all,
            [
                "x_call_id=c1",
                "x_cid=c2",
                "session_id=47755a9de7794ba387653f2099600ef2",
                "replaces=c3;to-tag=1;from-tag=2",
                "refer_to=<sip:r@x>",
                "referred_by=<sip:b@x>",
                "diversion=<sip:d@x>;reason=busy",
                "diversion=<sip:e@x>",
                "history_info=<sip:h@x>;index=1",
                "icid=ab;c",
            ]
        );
        assert_eq!(icid(b"x=1; ICID-value = z9"), Some(&b"z9"[..]));
        assert_eq!(icid(b"icid-value="), None);
    }
}
