//! Lists of keywords, part of which may stand in files.
//!
//! An item `@FILE` stands for the lines of that file, without blanks around them; empty lines and those that begin with `#` are passed over. `@@text` is the
//! keyword `@text`. `lc-hunt` reads the files, and gives the daemons, which may not be allowed to, their lines ([`pin`]).

use std::fs::File;
use std::io::{self, Read};

use super::{ConfigError, list, set, title};
use crate::settings::{Value, Values};

/// Longest file, in bytes.
const LONGEST_FILE: u64 = 16 << 20;

/// The keywords of a setting.
///
/// # Errors
/// [`ConfigError::Keywords`]
pub(super) fn keywords(values: &Values, key: &str) -> Result<Vec<String>, ConfigError> {
    let mut found = Vec::new();
    for item in list(values, key) {
        match item.strip_prefix('@') {
            Some(text) if text.starts_with('@') => found.push(text.to_owned()),
            Some(path) => found.extend(lines(path).map_err(|cause| ConfigError::Keywords {
                setting: title(key),
                path: path.to_owned(),
                cause,
            })?),
            None => found.push(item.clone()),
        }
    }
    Ok(found)
}

/// Puts what [`keywords`] gave in the place of the names of files.
pub(super) fn pin(values: &mut Values, key: &str, keywords: &[String]) {
    let escape = |word: &String| match word.starts_with('@') {
        true => format!("@{word}"),
        false => word.clone(),
    };
    if !keywords.is_empty() {
        let words = keywords.iter().map(escape).collect();
        set(values, key, Value::List(words));
    }
}

fn lines(path: &str) -> io::Result<Vec<String>> {
    let mut text = String::new();
    let most = File::open(path)?.take(LONGEST_FILE + 1);
    { most }.read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST_FILE {
        return Err(io::Error::other(format!(
            "it has more than {LONGEST_FILE} bytes"
        )));
    }
    let words = text.lines().map(str::trim);
    let words: Vec<_> = words
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    match words.is_empty() {
        true => Err(io::Error::other("it holds no keyword")),
        false => Ok(words),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::settings::{Origin, by_key};

    const KEY: &str = "hunter.http.keywords";

    fn values(items: &[&str]) -> Values {
        let mut values = Values::defaults();
        let items = items.iter().map(|item| (*item).to_owned()).collect();
        values.set(
            by_key(KEY).unwrap(),
            Value::List(items),
            Origin::Flag("keywords"),
        );
        values
    }

    #[test]
    fn files_hold_a_keyword_in_each_line() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "# words\n one \n\n@two\nthree, four").unwrap();
        let mut values = values(&["zero", &format!("@{}", file.path().display()), "@@five"]);
        let expected = ["zero", "one", "@two", "three, four", "@five"];
        let found = keywords(&values, KEY).unwrap();
        assert_eq!(found, expected);
        pin(&mut values, KEY, &found);
        drop(file);
        assert_eq!(keywords(&values, KEY).unwrap(), expected);
    }

    #[test]
    fn files_without_keywords_are_refused() {
        for path in ["/nowhere/at/all", "/dev/null", "/dev/zero", "/"] {
            let error = keywords(&values(&[&format!("@{path}")]), KEY).unwrap_err();
            assert!(error.to_string().contains(path), "{error}");
        }
    }
}
