//! Configuration files: TOML, and lippycat's YAML with the same keys.
//!
//! A file is read completely or refused: an unknown key, a value of the wrong type or out of range is an error that
//! names file, line and key. Two things are let pass in YAML files, because they are shared with lippycat's other
//! programs: the sections of those programs, and keys that lippycat documents although no hunter uses them; of these,
//! [`Values::without_effect`] tells.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use toml::de::{DeTable, DeValue};

use crate::settings::{self, Kind, Origin, Value, Values};

/// Why a configuration file was refused.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("configuration file {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The name does not tell the format.
    #[error("configuration file {path}: the name must end in .toml, .yaml or .yml")]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// Not TOML, not YAML.
    #[error("{path}:{line}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// No setting has this key.
    #[error("{path}:{line}: unknown key \"{key}\"{}", hint(.nearest))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The key with all its tables.
        key: String,
        /// A known key that looks like it.
        nearest: Option<&'static str>,
    },
    /// The setting refuses the value.
    #[error("{path}:{line}: {key}: {reason}")]
    BadValue {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The key with all its tables.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

/// Top-level sections of lippycat's other programs, skipped in YAML files.
const FOREIGN_SECTIONS: &[&str] = &[
    "processor",
    "process",
    "tap",
    "sniff",
    "watch",
    "remote",
    "security",
    "api",
    "list",
    "show",
    "set",
    "rm",
    "virtual_interface",
];

/// Keys that lippycat documents and no hunter uses, accepted in YAML files. A `*` at the end stands for any rest.
const UNUSED_KEYS: &[&str] = &[
    "voip.max_tcp_buffers",
    "voip.tcp_cleanup_interval",
    "voip.tcp_buffer_max_age",
    "voip.tcp_stream_max_queue_time",
    "voip.tcp_stream_timeout",
    "voip.tcp_assembler_max_pages",
    "voip.tcp_buffer_strategy",
    "voip.enable_backpressure",
    "voip.memory_optimization",
    "voip.tcp_buffer_pool_size",
    "voip.tcp_batch_size",
    "voip.tcp_io_threads",
    "voip.tcp_compression_level",
    "voip.tcp_memory_limit",
    "voip.tcp_latency_optimization",
    "voip.enable_auto_tuning",
    "voip.sip_ports",
    "voip.rtp_port_ranges",
    "voip.udp_only",
    "voip.gpu_*",
    "voip.encryption.*",
    "voip.plugins_*",
    "voip.plugin_*",
    "voip.monitoring_*",
    "voip.metrics_enabled",
    "voip.tracing_enabled",
    "voip.performance_profile",
    "voip.max_memory_mb",
    "voip.max_active_streams",
    "voip.stream_timeout",
    "voip.worker_threads",
    "voip.enable_metrics",
    "voip.custom_buffer_size",
    "voip.debug_mode",
];

/// Larger files are no configuration.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The first configuration file that exists at the usual places: lc-hunt's own, then lippycat's.
pub fn search() -> Option<PathBuf> {
    let home = env::var_os("HOME")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from);
    search_paths(home.as_deref())
        .into_iter()
        .find(|path| path.is_file())
}

/// The places that [`search`] looks at, in order.
pub fn search_paths(home: Option<&Path>) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = home
        .map(|home| home.join(".config/lc-hunt/config.toml"))
        .into_iter()
        .collect();
    paths.push(PathBuf::from("/etc/lc-hunt/config.toml"));
    if let Some(home) = home {
        for name in ["config", "lippycat"] {
            for directory in [".config/lippycat", ".config", ""] {
                for extension in ["yaml", "yml"] {
                    paths.push(home.join(directory).join(format!("{name}.{extension}")));
                }
            }
        }
    }
    paths
}

impl Values {
    /// Takes over what a configuration file says.
    pub fn apply_file(&mut self, path: &Path) -> Result<(), FileError> {
        let format = Format::of(path)?;
        let text = read(path).map_err(|source| FileError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        self.apply_text(path, &text, format)
    }

    /// Takes over a configuration in TOML. `path` is for messages.
    pub fn apply_toml(&mut self, path: &Path, text: &str) -> Result<(), FileError> {
        self.apply_text(path, text, Format::Toml)
    }

    /// Takes over a configuration in YAML. `path` is for messages.
    pub fn apply_yaml(&mut self, path: &Path, text: &str) -> Result<(), FileError> {
        self.apply_text(path, text, Format::Yaml)
    }

    fn apply_text(&mut self, path: &Path, text: &str, format: Format) -> Result<(), FileError> {
        let entries = match format {
            Format::Toml => toml_entries(text),
            Format::Yaml => yaml_entries(text),
        };
        let entries = entries.map_err(|(line, message)| FileError::Syntax {
            path: path.to_owned(),
            line,
            message,
        })?;
        // Two keys for one setting (an old and a new one) in one file: the setting's own key wins, wherever it stands.
        let (aliases, own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| {
            settings::by_key(&entry.key).is_some_and(|setting| setting.key != entry.key)
        });
        for Entry { key, line, raw } in aliases.into_iter().chain(own) {
            let Some(setting) = settings::by_key(&key) else {
                if format == Format::Yaml && is_unused(&key) {
                    let path = path.to_owned();
                    self.pass_over(key, Origin::File { path, line });
                    continue;
                }
                let nearest = settings::nearest_key(&key);
                return Err(FileError::UnknownKey {
                    path: path.to_owned(),
                    line,
                    key,
                    nearest,
                });
            };
            match raw.accept(setting.kind) {
                Ok(Some(value)) => self.set(
                    setting,
                    value,
                    Origin::File {
                        path: path.to_owned(),
                        line,
                    },
                ),
                Ok(None) => {}
                Err(reason) => {
                    return Err(FileError::BadValue {
                        path: path.to_owned(),
                        line,
                        key,
                        reason,
                    });
                }
            }
        }
        Ok(())
    }
}

/// The syntax of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Toml,
    Yaml,
}

impl Format {
    fn of(path: &Path) -> Result<Self, FileError> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => Ok(Format::Toml),
            Some("yaml" | "yml") => Ok(Format::Yaml),
            _ => Err(FileError::UnknownFormat {
                path: path.to_owned(),
            }),
        }
    }
}

/// A key with its value, as written in a file.
struct Entry {
    key: String,
    line: usize,
    raw: Raw,
}

/// A value before its setting has seen it.
enum Raw {
    Null,
    Switch(bool),
    Integer(i64),
    Text(String),
    List(Vec<Raw>),
    Other(&'static str),
}

impl Raw {
    /// Makes the setting's value of it; `None` for an empty one.
    fn accept(self, kind: Kind) -> Result<Option<Value>, String> {
        let value = match (self, kind) {
            (Raw::Null, _) => return Ok(None),
            (Raw::Switch(on), Kind::Switch) => Value::Switch(on),
            (Raw::Integer(number), _) => kind.integer(number)?,
            // An empty path or address is the same as none.
            (Raw::Text(text), Kind::Path | Kind::Addresses | Kind::Rate) if text.is_empty() => {
                return Ok(None);
            }
            (Raw::Text(_), Kind::Switch | Kind::Integer { .. } | Kind::OneOf(_)) => {
                return Err(format!("{} is expected, this is a text", kind.noun()));
            }
            (Raw::Text(text), Kind::Paths) => Value::List(vec![text]),
            // A text over several lines, as YAML allows, is one text.
            (Raw::Text(text), Kind::Text) => kind.parse(text.replace(['\n', '\t'], " ").trim())?,
            (Raw::Text(text), _) => kind.parse(&text)?,
            (Raw::List(list), Kind::List | Kind::Paths) => {
                let texts = list.into_iter().map(|raw| match raw {
                    Raw::Text(text) if !text.is_empty() && !text.chars().any(char::is_control) => {
                        Ok(text)
                    }
                    _ => Err(format!(
                        "{} is expected, an item is something else",
                        kind.noun()
                    )),
                });
                Value::List(texts.collect::<Result<_, _>>()?)
            }
            (Raw::List(list), Kind::Ports | Kind::PortRanges | Kind::Addresses | Kind::Cpus) => {
                let items = list.into_iter().map(|raw| match raw {
                    Raw::Text(text) => Ok(text),
                    Raw::Integer(number) => Ok(number.to_string()),
                    _ => Err(format!(
                        "{} is expected, an item is something else",
                        kind.noun()
                    )),
                });
                kind.parse(&items.collect::<Result<Vec<_>, _>>()?.join(","))?
            }
            (Raw::Switch(_), _) => {
                return Err(format!(
                    "{} is expected, this is true or false",
                    kind.noun()
                ));
            }
            (Raw::List(_), _) => {
                return Err(format!("{} is expected, this is a list", kind.noun()));
            }
            (Raw::Other(noun), _) => {
                return Err(format!("{} is expected, this is {noun}", kind.noun()));
            }
        };
        Ok(Some(value))
    }
}

/// Reads a whole regular file.
fn read(path: &Path) -> io::Result<String> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(io::Error::other("larger than 1 MiB"));
    }
    fs::read_to_string(path)
}

/// All keys of a TOML text with their values; or the line and text of what is wrong.
fn toml_entries(text: &str) -> Result<Vec<Entry>, (usize, String)> {
    let line_of = |offset: usize| {
        1 + text
            .as_bytes()
            .iter()
            .take(offset)
            .filter(|byte| **byte == b'\n')
            .count()
    };
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(span.start));
        (line, error.message().to_owned())
    })?;
    let mut entries = Vec::new();
    collect_toml("", table.get_ref(), &line_of, &mut entries);
    Ok(entries)
}

fn collect_toml(
    prefix: &str,
    table: &DeTable<'_>,
    line_of: &dyn Fn(usize) -> usize,
    entries: &mut Vec<Entry>,
) {
    for (name, value) in table {
        let key = format!("{prefix}{}", name.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) => collect_toml(&format!("{key}."), inner, line_of, entries),
            other => entries.push(Entry {
                key,
                line: line_of(name.span().start),
                raw: toml_raw(other),
            }),
        }
    }
}

fn toml_raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Raw::Integer(number),
            Err(_) => Raw::Other("too large a number"),
        },
        DeValue::Float(_) => Raw::Other("a fraction"),
        DeValue::Boolean(on) => Raw::Switch(*on),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Array(items) => {
            Raw::List(items.iter().map(|item| toml_raw(item.get_ref())).collect())
        }
        DeValue::Table(_) => Raw::Other("a table"),
    }
}

/// All keys of a YAML text with their values, without foreign sections; or the line and text of what is wrong.
fn yaml_entries(text: &str) -> Result<Vec<Entry>, (usize, String)> {
    let documents = MarkedYaml::load_from_str(text)
        .map_err(|error| (error.marker().line(), error.info().to_owned()))?;
    let mut entries = Vec::new();
    match documents.as_slice() {
        [] => {}
        [document] => collect_yaml("", document, &mut entries)?,
        [_, second, ..] => {
            return Err((
                second.span.start.line(),
                "more than one YAML document".to_owned(),
            ));
        }
    }
    Ok(entries)
}

fn collect_yaml(
    prefix: &str,
    node: &MarkedYaml<'_>,
    entries: &mut Vec<Entry>,
) -> Result<(), (usize, String)> {
    let mapping = match &node.data {
        YamlData::Mapping(mapping) => mapping,
        YamlData::Value(Scalar::Null) => return Ok(()),
        _ => {
            return Err((
                node.span.start.line(),
                "keys with values are expected".to_owned(),
            ));
        }
    };
    for (name, value) in mapping {
        let line = name.span.start.line();
        let YamlData::Value(Scalar::String(name)) = &name.data else {
            return Err((line, "a key must be a text".to_owned()));
        };
        // Keys are compared without regard to case, as lippycat does.
        let key = format!("{prefix}{}", name.to_lowercase());
        if prefix.is_empty() && FOREIGN_SECTIONS.contains(&key.as_str()) {
            continue;
        }
        match &value.data {
            YamlData::Mapping(_) => collect_yaml(&format!("{key}."), value, entries)?,
            // An empty section such as `hunter:` says nothing.
            YamlData::Value(Scalar::Null)
                if settings::by_key(&key).is_none() && is_section(&key) => {}
            other => entries.push(Entry {
                key,
                line,
                raw: yaml_raw(other),
            }),
        }
    }
    Ok(())
}

fn yaml_raw<'t>(value: &YamlData<'t, MarkedYaml<'t>>) -> Raw {
    match value {
        YamlData::Value(Scalar::Null) => Raw::Null,
        YamlData::Value(Scalar::Boolean(on)) => Raw::Switch(*on),
        YamlData::Value(Scalar::Integer(number)) => Raw::Integer(*number),
        YamlData::Value(Scalar::FloatingPoint(_)) => Raw::Other("a fraction"),
        YamlData::Value(Scalar::String(text)) => Raw::Text(text.to_string()),
        YamlData::Sequence(items) => {
            Raw::List(items.iter().map(|item| yaml_raw(&item.data)).collect())
        }
        YamlData::Mapping(_) => Raw::Other("a table"),
        _ => Raw::Other("something else"),
    }
}

/// Whether settings live below this key.
fn is_section(key: &str) -> bool {
    settings::SETTINGS.iter().any(|setting| {
        setting
            .key
            .strip_prefix(key)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}

/// Whether lippycat documents the key although no hunter uses it.
fn is_unused(key: &str) -> bool {
    UNUSED_KEYS
        .iter()
        .any(|unused| match unused.strip_suffix('*') {
            Some(start) => key.starts_with(start),
            None => key == *unused,
        })
}

/// The second half of the message on an unknown key.
fn hint(nearest: &Option<&'static str>) -> String {
    match nearest {
        Some(key) => format!("; did you mean \"{key}\"?"),
        None => "; docs/CONFIGURATION.md lists all keys".to_owned(),
    }
}
