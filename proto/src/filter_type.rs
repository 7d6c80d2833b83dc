//! The capability name of each filter type: what a hunter lists to be sent filters of that type, and what people write.

use crate::management::FilterType;

impl FilterType {
    /// The name under which a hunter announces that it understands this type, such as `ip_address`.
    pub fn capability(self) -> &'static str {
        match self {
            Self::FilterSipUser => "sip_user",
            Self::FilterPhoneNumber => "phone_number",
            Self::FilterIpAddress => "ip_address",
            Self::FilterCallId => "call_id",
            Self::FilterCodec => "codec",
            Self::FilterBpf => "bpf",
            Self::FilterSipUri => "sip_uri",
            Self::FilterDnsDomain => "dns_domain",
            Self::FilterEmailAddress => "email_address",
            Self::FilterEmailSubject => "email_subject",
            Self::FilterTlsSni => "tls_sni",
            Self::FilterTlsJa3 => "tls_ja3",
            Self::FilterTlsJa3s => "tls_ja3s",
            Self::FilterTlsJa4 => "tls_ja4",
            Self::FilterHttpHost => "http_host",
            Self::FilterHttpUrl => "http_url",
            Self::FilterImsi => "imsi",
            Self::FilterImei => "imei",
        }
    }

    /// The type that `name` means: a capability name or a name of the proto file, such as `FILTER_IP_ADDRESS`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::from_str_name(name).or_else(|| Self::all().find(|kind| kind.capability() == name))
    }

    /// Every type, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..).map_while(|number| Self::try_from(number).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_type() {
        assert_eq!(FilterType::all().count(), 18);
        for kind in FilterType::all() {
            assert_eq!(FilterType::from_name(kind.capability()), Some(kind));
            assert_eq!(FilterType::from_name(kind.as_str_name()), Some(kind));
        }
        assert_eq!(FilterType::from_name("http_path"), None);
    }
}
