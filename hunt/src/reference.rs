//! `docs/CONFIGURATION.md`, made from the settings table. A test fails when the file differs.

use lc_daemon::config_file::search_paths;
use lc_daemon::settings::{Kind, Mode, SETTINGS, Setting};
use std::path::Path;

/// The whole document.
pub fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    for path in search_paths(Some(Path::new("~"))) {
        text += &format!("1. `{}`\n", path.display());
    }
    text += PRECEDENCE;
    let mut section = |heading: &str, wanted: &dyn Fn(&Setting) -> bool| {
        text += &format!(
            "\n## {heading}\n\n| key | flag | takes | default | meaning |\n|---|---|---|---|---|\n"
        );
        for setting in SETTINGS.iter().filter(|setting| wanted(setting)) {
            text += &row(setting);
        }
    };
    section("Settings of all modes", &|setting| {
        setting.modes.len() > 1 && setting.flag.is_some()
    });
    for mode in Mode::ALL.iter().filter(|mode| **mode != Mode::Hunt) {
        section(&format!("`lc-hunt {}`", mode.name()), &|setting| {
            setting.modes == [*mode]
        });
    }
    section("Settings without a flag", &|setting| setting.flag.is_none());
    text
}

const INTRODUCTION: &str = "\
# Configuration

This file is made from the settings table by `lc-hunt reference > docs/CONFIGURATION.md`.

A configuration file is TOML, or YAML in lippycat's form; keys are the same in both. `--config FILE` names it; otherwise
the first of these that exists is read:

";

const PRECEDENCE: &str = "
An unknown key, a value of the wrong type or out of range is an error that names file, line and key. In YAML files the
sections of lippycat's other programs are skipped.

A flag goes before the environment, the environment before the file. The environment variable of a key is `LC_HUNT_`
and the key in upper case, without `hunter.` and with `_` for each further dot: `LC_HUNT_BATCH_SIZE`,
`LC_HUNT_TLS_CA_FILE`. lippycat's variables (the key in upper case, dots kept) and `LOG_LEVEL` work too. Empty variables
count as not set. With `LIPPYCAT_PRODUCTION=true` connections without verified TLS are refused.

`lc-hunt show config` prints the outcome and where each value comes from.
";

/// One row of a table.
fn row(setting: &Setting) -> String {
    let flag = match (setting.flag, setting.short) {
        (Some(flag), Some(short)) => format!("`--{flag}`, `-{short}`"),
        (Some(flag), None) => format!("`--{flag}`"),
        _ => String::new(),
    };
    let keys: Vec<String> = std::iter::once(&setting.key)
        .chain(setting.aliases)
        .map(|key| format!("`{key}`"))
        .collect();
    let takes = match setting.kind {
        Kind::Integer { min, max } => format!("{min} to {max}"),
        kind => kind.noun(),
    };
    let default = match setting.default {
        Some(default) if !default.is_empty() => format!("`{default}`"),
        _ => String::new(),
    };
    let missing = setting
        .missing
        .map_or_else(String::new, |why| format!(". Refused: {why}"));
    let no_effect = setting
        .no_effect
        .map_or_else(String::new, |why| format!(". No effect: {why}"));
    format!(
        "| {} | {flag} | {takes} | {default} | {}{missing}{no_effect} |\n",
        keys.join(", "),
        setting.help
    )
}
