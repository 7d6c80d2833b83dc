//! The filter file: TOML or YAML, chosen by its extension.
//!
//! Both hold a list `filters` of id, type, pattern, target_hunters, enabled and description. A type is a capability name
//! or a name of the proto file: `ip_address` or `FILTER_IP_ADDRESS`. A filter without `enabled` is disabled. Unknown keys,
//! an id twice, and a filter without id, type or pattern are errors.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lc_proto::management::{Filter, FilterType};
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde::Deserialize;
use serde_json::Value;

/// How often the file is looked at. A change is taken up when it has been the same for two looks, so that a file which is
/// still being written is left alone.
const LOOK: Duration = Duration::from_millis(100);

/// Why a filter file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the filters in {}: {reason}", path.display())]
pub struct FilterFileError {
    path: PathBuf,
    reason: String,
}

/// Reads the filters of a file.
fn load(path: &Path) -> Result<Vec<Filter>, FilterFileError> {
    let load = || {
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        let extension = path
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or_default();
        parse(&text, extension)
    };
    load().map_err(|reason| FilterFileError {
        path: path.to_owned(),
        reason,
    })
}

/// Calls `take` with the filters of the file whenever it changes. A bad file is reported, and not taken.
pub(crate) async fn watch<T>(mut file: WatchedFile, mut take: T)
where
    T: FnMut(Vec<Filter>) + Send + 'static,
{
    let mut interval = tokio::time::interval(LOOK);
    loop {
        interval.tick().await;
        // A hundred thousand filters take seconds to read: acknowledgements must not wait for that.
        let looked = tokio::task::spawn_blocking(move || {
            match file.look() {
                None => {}
                Some(Ok(filters)) => {
                    tracing::info!(path = %file.path.display(), filters = filters.len(), "filters changed");
                    take(filters);
                }
                Some(Err(error)) => tracing::error!(%error, "the filters in force stay"),
            }
            (file, take)
        });
        match looked.await {
            Ok(again) => (file, take) = again,
            // Only when the runtime ends.
            Err(_) => return,
        }
    }
}

/// A filter file, and how it looked.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    path: PathBuf,
    taken: Option<Stamp>,
    last: Option<Stamp>,
}

impl WatchedFile {
    /// Reads the file for the first time.
    pub(crate) fn open(path: PathBuf) -> Result<(Self, Vec<Filter>), FilterFileError> {
        // Before the text, so that a change in between is seen later.
        let stamp = Stamp::of(&path);
        let filters = load(&path)?;
        Ok((
            Self {
                path,
                taken: stamp,
                last: stamp,
            },
            filters,
        ))
    }

    /// Reads the file again if it has changed and has been at rest since the last look. Each change counts once.
    fn look(&mut self) -> Option<Result<Vec<Filter>, FilterFileError>> {
        let stamp = Stamp::of(&self.path);
        let at_rest = stamp == self.last;
        self.last = stamp;
        if !at_rest || stamp == self.taken {
            return None;
        }
        self.taken = stamp;
        Some(load(&self.path))
    }
}

/// What changes when a file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        Some(Self {
            inode: file.ino(),
            size: file.size(),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilterFile {
    filters: Vec<FilterEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilterEntry {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    pattern: String,
    #[serde(default)]
    target_hunters: Vec<String>,
    #[serde(default)]
    enabled: bool,
    #[serde(default)]
    description: String,
}

fn parse(text: &str, extension: &str) -> Result<Vec<Filter>, String> {
    let file: FilterFile = match extension {
        "toml" => toml::from_str(text).map_err(|error| error.to_string())?,
        "yaml" | "yml" => from_yaml(text)?,
        _ => return Err("the name must end in .toml, .yaml or .yml".into()),
    };
    let mut ids = HashSet::new();
    file.filters
        .into_iter()
        .map(|entry| {
            if entry.id.is_empty() || !ids.insert(entry.id.clone()) {
                return Err(format!(
                    "the filter id '{}' is empty or stands twice; give each filter its own",
                    entry.id
                ));
            }
            let kind = FilterType::from_name(&entry.kind).ok_or_else(|| {
                let known: Vec<_> = FilterType::all().map(FilterType::capability).collect();
                format!(
                    "filter '{}' has the unknown type '{}'; known are {}",
                    entry.id,
                    entry.kind,
                    known.join(", ")
                )
            })?;
            Ok(Filter {
                id: entry.id,
                r#type: kind.into(),
                pattern: entry.pattern,
                target_hunters: entry.target_hunters,
                enabled: entry.enabled,
                description: entry.description,
            })
        })
        .collect()
}

fn from_yaml(text: &str) -> Result<FilterFile, String> {
    let documents = Yaml::load_from_str(text).map_err(|error| error.to_string())?;
    let [document] = documents.as_slice() else {
        return Err(format!(
            "expected one YAML document, found {}",
            documents.len()
        ));
    };
    serde_json::from_value(yaml_to_value(document)?).map_err(|error| error.to_string())
}

fn yaml_to_value(node: &Yaml<'_>) -> Result<Value, String> {
    Ok(match node {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => (*value).into(),
        Yaml::Value(Scalar::Integer(value)) => (*value).into(),
        Yaml::Value(Scalar::FloatingPoint(value)) => value.into_inner().into(),
        Yaml::Value(Scalar::String(value)) => value.as_ref().into(),
        Yaml::Sequence(items) => {
            Value::Array(items.iter().map(yaml_to_value).collect::<Result<_, _>>()?)
        }
        Yaml::Mapping(entries) => {
            let entry = |(key, value): (&Yaml<'_>, &Yaml<'_>)| match key {
                Yaml::Value(Scalar::String(key)) => {
                    Ok((key.clone().into_owned(), yaml_to_value(value)?))
                }
                _ => Err("a key that is not a text".to_owned()),
            };
            Value::Object(entries.iter().map(entry).collect::<Result<_, _>>()?)
        }
        _ => return Err("tags and aliases are not understood here".into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_and_yaml_say_the_same() {
        let toml = r#"
            [[filters]]
            id = "f1"
            type = "ip_address"
            pattern = "10.0.0.0/8"
            target_hunters = ["h1"]
            enabled = true
            description = "d"

            [[filters]]
            id = "f2"
            type = "FILTER_BPF"
            pattern = "port 53"
        "#;
        let yaml = "
filters:
  - id: f1
    type: ip_address
    pattern: 10.0.0.0/8
    target_hunters: [h1]
    enabled: true
    description: d
  - id: f2
    type: FILTER_BPF
    pattern: port 53
";
        let filters = parse(toml, "toml").unwrap();
        assert_eq!(filters, parse(yaml, "yaml").unwrap());
        assert!(filters[0].enabled && !filters[1].enabled);
        assert_eq!(filters[1].r#type(), FilterType::FilterBpf);
        assert_eq!(parse("filters: []", "yml").unwrap(), []);
    }

    #[test]
    fn a_change_is_taken_once_it_is_at_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("filters.yaml");
        let replace = |text: &str| {
            let new = folder.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(&new, &path).unwrap();
        };
        replace("filters: [{id: a, type: bpf, pattern: tcp}]");
        let (mut file, filters) = WatchedFile::open(path.clone()).unwrap();
        assert_eq!(filters.len(), 1);
        assert!(file.look().is_none());

        replace("filters: [{id: a, ty");
        assert!(file.look().is_none());
        replace("filters: []");
        assert!(file.look().is_none());
        assert_eq!(file.look().unwrap().unwrap(), []);
        assert!(file.look().is_none());

        for bad in [None, Some("filters: [{id: a")] {
            match bad {
                None => fs::remove_file(&path).unwrap(),
                Some(text) => replace(text),
            }
            assert!(file.look().is_none());
            assert!(file.look().unwrap().is_err());
            assert!(file.look().is_none(), "reported once");
        }
        replace("filters: [{id: a, type: bpf, pattern: udp}]");
        assert!(file.look().is_none());
        assert_eq!(file.look().unwrap().unwrap()[0].pattern, "udp");
    }

    #[test]
    fn bad_files_are_refused_with_the_reason() {
        let cases = [
            (
                "filters: [{id: a, type: nope, pattern: x}]",
                "yaml",
                "unknown type 'nope'",
            ),
            (
                "filters: [{id: a, type: bpf, pattern: x, enable: true}]",
                "yaml",
                "enable",
            ),
            (
                "filters: [{id: a, type: bpf, pattern: x}, {id: a, type: bpf, pattern: y}]",
                "yaml",
                "twice",
            ),
            ("filters: [{type: bpf, pattern: x}]", "yaml", "id"),
            (
                "filters: [{id: a, type: bpf, pattern: 5}]",
                "yaml",
                "string",
            ),
            ("filters: [", "yaml", ""),
            ("", "yaml", ""),
            ("", "toml", "filters"),
            ("filters = 5", "toml", ""),
            ("filters: []", "json", ".toml, .yaml or .yml"),
        ];
        for (text, extension, reason) in cases {
            let error = parse(text, extension).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
