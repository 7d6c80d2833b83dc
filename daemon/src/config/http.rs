//! What http mode looks for.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::keywords::keywords;
use super::{Chosen, ConfigError, Modes, choose, integer, list, switch, text, title, unset};
use crate::settings::{Mode, Origin, Value, Values};

const KEY_LOG: &str = "hunter.http.tls_keylog";
const KEY_LOG_PIPE: &str = "hunter.http.tls_keylog_pipe";

/// Settings of http mode. In other modes they mean nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Http {
    /// The ports that the operator has given, to which the capture is limited. None: HTTP is found on any port.
    pub ports: Vec<u16>,
    /// Which exchanges are wanted.
    pub content: HttpContent,
    /// Most bytes of a body, before and after it was decoded, that are searched for keywords. None: bodies are not looked into.
    pub body: Option<usize>,
    /// Where secrets of TLS are read, by which HTTP within it is followed.
    pub key_log: Option<KeyLog>,
}

/// Where secrets of TLS are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyLog {
    /// A file, which may come into being later.
    File(PathBuf),
    /// A named pipe.
    Pipe(PathBuf),
}

impl KeyLog {
    fn of(values: &Values, modes: &Modes) -> Result<Option<Self>, ConfigError> {
        let path = |key| text(values, key).map(PathBuf::from);
        let log = match choose(values, KEY_LOG, KEY_LOG_PIPE)? {
            Chosen::Neither => None,
            Chosen::First => path(KEY_LOG).map(Self::File),
            Chosen::Second => path(KEY_LOG_PIPE).map(Self::Pipe),
        };
        match log {
            Some(_) if modes.has(Mode::Http) && modes.has(Mode::Tls) => {
                Err(ConfigError::Modes(format!(
                    "http with {} and tls would follow the same connections; leave one of them out",
                    title(KEY_LOG)
                )))
            }
            log => Ok(log.filter(|_| modes.has(Mode::Http))),
        }
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Pipe(path) => path,
        }
    }
}

/// Which exchanges of requests and responses are wanted: those that have something of each list that is not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpContent {
    /// Globs for hosts.
    pub hosts: Vec<String>,
    /// Globs for paths, without the query.
    pub paths: Vec<String>,
    /// Methods, in any case.
    pub methods: Vec<String>,
    /// Statuses of responses.
    pub statuses: Vec<RangeInclusive<u16>>,
    /// Texts in path, query, fields and bodies that are looked into, in any case.
    pub keywords: Vec<String>,
    /// Globs for the User-Agent of requests.
    pub user_agents: Vec<String>,
    /// Globs for the Content-Type of requests and responses.
    pub content_types: Vec<String>,
}

impl Http {
    /// As the settings say.
    ///
    /// # Errors
    /// [`ConfigError::Status`], [`ConfigError::Keywords`], [`ConfigError::Exclusive`], [`ConfigError::Modes`]
    pub(super) fn of(values: &Values, modes: &Modes) -> Result<Self, ConfigError> {
        let globs = |key| list(values, key).to_vec();
        Ok(Self {
            ports: match values.get("hunter.http.ports") {
                Some((Value::Ports(ports), origin)) if *origin != Origin::Default => ports.clone(),
                _ => Vec::new(),
            },
            content: HttpContent {
                hosts: globs("hunter.http.host"),
                paths: globs("hunter.http.path"),
                methods: globs("hunter.http.method"),
                statuses: statuses(values)?,
                keywords: keywords(values, "hunter.http.keywords")?,
                user_agents: globs("hunter.http.user_agent"),
                content_types: globs("hunter.http.content_type"),
            },
            body: switch(values, "hunter.http.capture_body")
                .then(|| integer(values, "hunter.http.max_body_size").unwrap_or(65_536)),
            key_log: KeyLog::of(values, modes)?,
        })
    }

    /// Takes out of the values what lost against others.
    pub(super) fn pin(&self, values: &mut Values) {
        match self.key_log {
            Some(KeyLog::File(_)) => unset(values, &[KEY_LOG_PIPE]),
            Some(KeyLog::Pipe(_)) => unset(values, &[KEY_LOG]),
            None => {}
        }
    }
}

fn statuses(values: &Values) -> Result<Vec<RangeInclusive<u16>>, ConfigError> {
    const KEY: &str = "hunter.http.status";
    let range = |item: &String| {
        status(item).ok_or_else(|| ConfigError::Status {
            setting: title(KEY),
            item: item.clone(),
        })
    };
    list(values, KEY).iter().map(range).collect()
}

/// A status, a class of them such as `4xx`, or a range such as `400-499`; 100 to 599.
fn status(item: &str) -> Option<RangeInclusive<u16>> {
    let item = item.trim();
    let code = |text: &str| {
        let is_number = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        let code = text.parse().ok().filter(|_| is_number);
        code.filter(|code| (100..600).contains(code))
    };
    if let Some((first, last)) = item.split_once('-') {
        let (first, last) = (code(first.trim())?, code(last.trim())?);
        return (first <= last).then_some(first..=last);
    }
    if let [class @ b'1'..=b'5', b'x' | b'X', b'x' | b'X'] = item.as_bytes() {
        let first = u16::from(class - b'0') * 100;
        return Some(first..=first + 99);
    }
    code(item).map(|code| code..=code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_codes_classes_and_ranges() {
        for (item, range) in [
            ("404", 404..=404),
            ("4xx", 400..=499),
            (" 5XX ", 500..=599),
            ("400-403", 400..=403),
            ("200 - 200", 200..=200),
        ] {
            assert_eq!(status(item), Some(range), "{item}");
        }
        for item in [
            "6xx", "abc", "500-400", "99", "600", "1000", "0404", "+40", "4x", "400-", "-400", "",
            "400-700",
        ] {
            assert_eq!(status(item), None, "{item}");
        }
    }
}
