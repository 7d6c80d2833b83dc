//! Puts the configuration together: default, file, environment, flag, each stronger than the one before.

use lc_daemon::config::ConfigError;
use lc_daemon::config_file;
use lc_daemon::settings::{Origin, Value, Values, by_key};

use crate::command_line::Flags;

/// Every setting's value, and where it comes from.
pub fn resolve(flags: &Flags) -> Result<Values, ConfigError> {
    let mut values = Values::defaults();
    if let Some(path) = flags.config.clone().or_else(config_file::search) {
        values.apply_file(&path)?;
    }
    values.apply_environment()?;
    for (setting, value) in &flags.values {
        values.set(
            setting,
            value.clone(),
            Origin::Flag(setting.flag.unwrap_or(setting.key)),
        );
    }
    if let (Some(mode), Some(setting)) = (flags.mode, by_key("hunter.mode")) {
        values.set(setting, Value::Choice(mode.name()), Origin::Derived);
    }
    Ok(values)
}
