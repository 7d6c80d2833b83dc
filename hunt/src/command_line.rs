//! The command line, made from the settings table.
//!
//! `lc-hunt [hunt] [voip|dns|http|tls|email] [flags]`, where flags may stand after any of these words, as with lippycat;
//! flags alone mean `hunt`. The other commands are listed by `lc-hunt --help`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::ValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use lc_daemon::settings::{Kind, Mode, SETTINGS, Setting, Value, by_key};

/// What the person wants.
#[derive(Debug)]
pub enum Order {
    /// Run a mode.
    Run(Flags),
    /// Print the effective configuration.
    ShowConfig(Flags),
    /// Look whether a run would work.
    Check {
        /// The flags of the run.
        flags: Flags,
        /// For programs instead of people.
        json: bool,
    },
    /// Print the interfaces.
    ListInterfaces {
        /// For programs instead of people.
        json: bool,
    },
    /// Print what the running nodes do.
    Status {
        /// `--runtime-dir`, if it was given.
        runtime_dir: Option<PathBuf>,
        /// For programs instead of people.
        json: bool,
    },
    /// Say whether this release can take over running nodes.
    UpgradeCheck {
        /// `--runtime-dir`, if it was given.
        runtime_dir: Option<PathBuf>,
    },
    /// Make running nodes stop capturing, and wait until they have delivered.
    Drain {
        /// `--runtime-dir`, if it was given.
        runtime_dir: Option<PathBuf>,
        /// Longest wait.
        time: Duration,
    },
    /// Look into a disk buffer.
    Buffer {
        /// The buffer's directory.
        dir: PathBuf,
        /// What for.
        look: Look,
    },
    /// Write manual pages and completions.
    Pages {
        /// Below this directory.
        dir: PathBuf,
    },
    /// Print the reference of settings.
    Reference,
}

/// What `lc-hunt buffer` is to do.
#[derive(Debug)]
pub enum Look {
    /// List the segments.
    List {
        /// For programs instead of people.
        json: bool,
    },
    /// Say whether anything is damaged.
    Verify {
        /// For programs instead of people.
        json: bool,
    },
    /// Write the packets that wait into a new pcapng file.
    Export {
        /// The file.
        file: PathBuf,
    },
}

/// The flags of a run.
#[derive(Debug, Default)]
pub struct Flags {
    /// The mode's sub-command, if one was given.
    pub mode: Option<Mode>,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// What was set, by setting.
    pub values: Vec<(&'static Setting, Value)>,
    /// Old spellings that were used.
    deprecated: Vec<&'static Setting>,
}

impl Flags {
    /// Tells the person about old spellings.
    pub fn warn_deprecated(&self) {
        for setting in &self.deprecated {
            if let (Some(old), Some(new)) = (setting.deprecated_flag, setting.flag) {
                tracing::warn!("--{old} is an old name; use --{new}");
            }
        }
    }
}

/// Reads the command line. The error also stands for help and version, which clap prints.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Order, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(args)?;
    order(&matches).map_err(|error| error.format(&mut command))
}

/// The overview of commands.
pub fn help() -> String {
    command().render_help().to_string()
}

/// Makes an order of what clap found.
fn order(matches: &ArgMatches) -> Result<Order, clap::Error> {
    match matches.subcommand() {
        None => Ok(Order::Run(flags(&[(None, matches)])?)),
        Some(("list", list)) => {
            // The one sub-command of list.
            let json = list
                .subcommand()
                .is_some_and(|(_, interfaces)| interfaces.get_flag("json"));
            no_flags(matches, "list interfaces").map(|()| Order::ListInterfaces { json })
        }
        Some(("show", show)) => match show.subcommand() {
            Some((_, config)) => Ok(Order::ShowConfig(flags(&[
                (None, matches),
                (None, config),
            ])?)),
            None => Ok(Order::ShowConfig(flags(&[(None, matches)])?)),
        },
        Some(("check", check)) => Ok(Order::Check {
            flags: flags(&[(None, matches), (None, check)])?,
            json: check.get_flag("json"),
        }),
        Some(("status", status)) => no_flags(matches, "status").map(|()| Order::Status {
            runtime_dir: status.get_one::<PathBuf>("base").cloned(),
            json: status.get_flag("json"),
        }),
        Some(("upgrade-check", check)) => {
            no_flags(matches, "upgrade-check").map(|()| Order::UpgradeCheck {
                runtime_dir: check.get_one::<PathBuf>("base").cloned(),
            })
        }
        Some(("drain", drain)) => no_flags(matches, "drain").map(|()| Order::Drain {
            runtime_dir: drain.get_one::<PathBuf>("base").cloned(),
            time: match drain.get_one::<Value>("timeout") {
                Some(Value::Duration(time)) => *time,
                _ => Duration::ZERO,
            },
        }),
        Some(("buffer", buffer)) => {
            no_flags(matches, "buffer")?;
            let Some((name, below)) = buffer.subcommand() else {
                return Err(clap::Error::raw(ErrorKind::MissingSubcommand, "buffer"));
            };
            Ok(Order::Buffer {
                dir: path(below, "dir"),
                look: match name {
                    "ls" => Look::List {
                        json: below.get_flag("json"),
                    },
                    "verify" => Look::Verify {
                        json: below.get_flag("json"),
                    },
                    _ => Look::Export {
                        file: path(below, "file"),
                    },
                },
            })
        }
        Some(("pages", pages)) => no_flags(matches, "pages").map(|()| Order::Pages {
            dir: path(pages, "dir"),
        }),
        Some(("reference", _)) => no_flags(matches, "reference").map(|()| Order::Reference),
        Some((name, below)) => {
            let mut levels = vec![(None, matches), (mode(name), below)];
            if let Some((name, below)) = below.subcommand() {
                levels.push((mode(name), below));
            }
            Ok(Order::Run(flags(&levels)?))
        }
    }
}

/// A path that the command line can't do without.
fn path(matches: &ArgMatches, id: &str) -> PathBuf {
    matches.get_one::<PathBuf>(id).cloned().unwrap_or_default()
}

/// Gathers the flags of all levels of sub-commands.
fn flags(levels: &[(Option<Mode>, &ArgMatches)]) -> Result<Flags, clap::Error> {
    let mut flags = Flags::default();
    for (mode, matches) in levels {
        flags.mode = mode.or(flags.mode);
        if let Some(path) = matches.get_one::<PathBuf>("config") {
            flags.config = Some(path.clone());
        }
        for setting in SETTINGS {
            let current = given(matches, setting.key);
            let old = setting
                .deprecated_flag
                .map_or_else(Vec::new, |flag| given(matches, flag));
            if !old.is_empty() {
                flags.deprecated.push(setting);
            }
            if !current.is_empty() && !old.is_empty() {
                let text = format!(
                    "{} and its old name were both given: leave out the old one",
                    setting.title()
                );
                return Err(clap::Error::raw(ErrorKind::ArgumentConflict, text));
            }
            if let Some(value) = setting.kind.join(current.into_iter().chain(old)) {
                flags.values.push((setting, value));
            }
        }
    }
    Ok(flags)
}

/// The values given for an argument on the command line; none if this command does not have it.
fn given(matches: &ArgMatches, id: &str) -> Vec<Value> {
    match matches.try_get_many::<Value>(id) {
        Ok(Some(values)) => values.cloned().collect(),
        _ => Vec::new(),
    }
}

/// Refuses flags before a command that takes none.
fn no_flags(matches: &ArgMatches, name: &str) -> Result<(), clap::Error> {
    match flags(&[(None, matches)])?.values.first() {
        None => Ok(()),
        Some((setting, _)) => {
            let text = format!("{} has no meaning for lc-hunt {name}", setting.title());
            Err(clap::Error::raw(ErrorKind::ArgumentConflict, text))
        }
    }
}

/// The mode with this sub-command.
fn mode(name: &str) -> Option<Mode> {
    Mode::ALL.iter().copied().find(|mode| mode.name() == name)
}

/// The whole command line.
pub fn command() -> Command {
    let json = || {
        Arg::new("json")
            .long("json")
            .action(ArgAction::SetTrue)
            .help("Print JSON")
    };
    let base = || {
        Arg::new("base")
            .long("runtime-dir")
            .value_name("PATH")
            .value_parser(value_parser!(PathBuf))
            .help("Base directory of the runs, as given to them")
    };
    let modes = || {
        let others = Mode::ALL.iter().copied().filter(|mode| *mode != Mode::Hunt);
        others.map(|mode| {
            Command::new(mode.name())
                .about(mode.about())
                .args(mode_args(mode))
        })
    };
    Command::new("lc-hunt")
        .about("Captures packets at the edge and sends them to a lippycat processor")
        .after_help("Flags without a command run hunt. lc-hunt hunt --help explains them.")
        .version(version())
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .arg(
            Arg::new("version")
                .long("version")
                .short('v')
                .action(ArgAction::Version)
                .help("Print the version"),
        )
        .arg(config_arg())
        .args(mode_args(Mode::Hunt).map(|arg| arg.hide(true)))
        .subcommand(
            Command::new(Mode::Hunt.name())
                .about(Mode::Hunt.about())
                .args(mode_args(Mode::Hunt))
                .subcommands(modes()),
        )
        .subcommands(modes())
        .subcommand(
            Command::new("list")
                .about("List what there is to capture on")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(
                    Command::new("interfaces")
                        .about("List the network interfaces")
                        .arg(json()),
                ),
        )
        .subcommand(
            Command::new("show")
                .about("Show the configuration")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(
                    Command::new("config")
                        .about("Print the effective configuration and where each value comes from")
                        .args(mode_args(Mode::Hunt)),
                ),
        )
        .subcommand(
            Command::new("check")
                .about("Look whether a run with these flags would work, and say what to do if not")
                .arg(json())
                .args(mode_args(Mode::Hunt)),
        )
        .subcommand(
            Command::new("status")
                .about("Show what the running nodes do and where their packets went")
                .arg(json())
                .arg(base()),
        )
        .subcommand(
            Command::new("upgrade-check")
                .about("Say whether this release can take over from the running nodes' daemons, one by one")
                .arg(base()),
        )
        .subcommand(
            Command::new("drain")
                .about("Make the running nodes stop capturing, and wait until everything captured is delivered; end them afterwards")
                .arg(base())
                .arg(
                    Arg::new("timeout")
                        .long("timeout")
                        .value_name("TIME")
                        .value_parser(ValueParser::from(|text: &str| Kind::Duration.parse(text)))
                        .default_value("10s")
                        .help("Longest wait"),
                ),
        )
        .subcommand(
            Command::new("buffer")
                .about("Look into a disk buffer, also while a node works with it")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(
                    Command::new("ls")
                        .about("List the segments and what waits in them")
                        .args([buffer_dir(), json()]),
                )
                .subcommand(
                    Command::new("verify")
                        .about("Check everything; fails if anything is damaged or missing")
                        .args([buffer_dir(), json()]),
                )
                .subcommand(
                    Command::new("export")
                        .about("Write the packets that wait into a new pcapng file")
                        .args([
                            Arg::new("file")
                                .value_name("FILE.pcapng")
                                .value_parser(value_parser!(PathBuf))
                                .required(true)
                                .help("The file; it must not exist"),
                            buffer_dir(),
                        ]),
                ),
        )
        .subcommand(
            Command::new("pages")
                .about("Write the manual pages and the completions for shells below DIR")
                .hide(true)
                .arg(
                    Arg::new("dir")
                        .value_name("DIR")
                        .value_parser(value_parser!(PathBuf))
                        .required(true),
                ),
        )
        .subcommand(
            Command::new("reference")
                .about("Print docs/CONFIGURATION.md")
                .hide(true),
        )
}

/// `--dir`, for the disk buffer's commands.
fn buffer_dir() -> Arg {
    let default = by_key("hunter.disk_buffer.dir").and_then(|setting| setting.default);
    Arg::new("dir")
        .long("dir")
        .value_name("PATH")
        .value_parser(value_parser!(PathBuf))
        .default_value(default.unwrap_or("."))
        .help("The disk buffer's directory")
}

/// `--config`, for all commands.
fn config_arg() -> Arg {
    Arg::new("config")
        .long("config")
        .short('c')
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .global(true)
        .help("Configuration file (TOML, or lippycat's YAML) instead of the first one found at the usual places")
}

/// The flags of a mode.
fn mode_args(mode: Mode) -> impl Iterator<Item = Arg> {
    SETTINGS
        .iter()
        .filter(move |setting| setting.modes.contains(&mode))
        .flat_map(|setting| {
            let current = setting.flag.map(|flag| {
                let arg = Arg::new(setting.key)
                    .long(flag)
                    .help(flag_help(setting))
                    .hide(setting.hidden);
                value_of(
                    if let Some(short) = setting.short {
                        arg.short(short)
                    } else {
                        arg
                    },
                    setting,
                )
            });
            let old = setting
                .deprecated_flag
                .map(|flag| value_of(Arg::new(flag).long(flag).hide(true), setting));
            current.into_iter().chain(old)
        })
}

/// Adds what values a setting's flag takes.
fn value_of(arg: Arg, setting: &'static Setting) -> Arg {
    let arg = arg
        .value_parser(ValueParser::from(move |text: &str| {
            setting.kind.parse(text)
        }))
        .value_name(value_name(setting.kind))
        .action(if setting.kind.repeats() {
            ArgAction::Append
        } else {
            ArgAction::Set
        });
    match setting.kind {
        // As with lippycat: --promisc, or --promisc=false against a configuration file.
        Kind::Switch => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .hide_possible_values(true),
        // So that a negative number is answered with the range.
        Kind::Integer { .. } | Kind::OneOf(_) => arg.allow_negative_numbers(true),
        _ => arg,
    }
}

/// What stands for the value in help texts.
fn value_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Switch => "BOOL",
        Kind::Integer { .. } | Kind::OneOf(_) => "N",
        Kind::Text => "TEXT",
        Kind::Path | Kind::Paths => "PATH",
        Kind::List => "LIST",
        Kind::Choice(_) => "WORD",
        Kind::Duration => "TIME",
        Kind::Ports => "PORTS",
        Kind::Cpus => "CPUS",
        Kind::PortRanges => "RANGES",
        Kind::Addresses => "HOST:PORT,...",
        Kind::Rate => "RATE",
    }
}

/// The help of a flag: what it does, what it takes, its default.
fn flag_help(setting: &Setting) -> String {
    let mut text = setting.help.to_owned();
    if let Kind::Choice(words) = setting.kind {
        text += &format!(" ({})", words.join(", "));
    }
    if setting.missing.is_some() {
        text += " (missing from this version)";
    }
    match setting.default {
        Some(default) if !default.is_empty() && setting.kind != Kind::Switch => {
            text += &format!(" [default: {default}]")
        }
        _ => {}
    }
    text
}

/// `lc-hunt version 0.1.0 (commit: 123456789abc, built: 2026-01-02, rustc 1.95.0 linux/x86_64)`
fn version() -> String {
    format!(
        "version {} (commit: {}, built: {}, {} {}/{})",
        env!("CARGO_PKG_VERSION"),
        env!("LC_HUNT_COMMIT"),
        env!("LC_HUNT_DATE"),
        env!("LC_HUNT_COMPILER"),
        std::env::consts::OS,
        std::env::consts::ARCH,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<Flags, clap::Error> {
        match parse(line.split(' ').map(OsString::from))? {
            Order::Run(flags) => Ok(flags),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn flags_may_stand_after_any_word() {
        for line in [
            "lc-hunt -P p:1",
            "lc-hunt hunt -P p:1",
            "lc-hunt -P p:1 hunt",
            "lc-hunt -c f hunt --processor=p:1 --config g",
        ] {
            let flags = run(line).unwrap();
            assert_eq!(flags.values.len(), 1, "{line}");
            assert_eq!(flags.values[0].0.key, "hunter.processor_addr");
        }
        for line in [
            "lc-hunt hunt voip -S 5060 -P p:1",
            "lc-hunt hunt -P p:1 voip -S 5060",
            "lc-hunt voip --sip-port 5060 -P p:1",
        ] {
            let flags = run(line).unwrap();
            assert_eq!(
                (flags.mode, flags.values.len()),
                (Some(Mode::Voip), 2),
                "{line}"
            );
        }
    }

    #[test]
    fn the_same_flag_has_the_key_of_its_mode() {
        let key = |line| run(line).unwrap().values[0].0.key;
        assert_eq!(key("lc-hunt voip --udp-only"), "hunter.voip.udp_only");
        assert_eq!(key("lc-hunt dns --udp-only"), "hunter.dns.udp_only");
        assert_eq!(key("lc-hunt email --keywords a"), "hunter.email.keywords");
        assert!(run("lc-hunt hunt --udp-only").is_err());
    }

    #[test]
    fn lists_and_switches_follow_the_reference() {
        let flags =
            run("lc-hunt hunt -i eth0,eth1 -i eth2 -p --insecure=false -r a,b -r c").unwrap();
        let of = |key: &str| {
            &flags
                .values
                .iter()
                .find(|(setting, _)| setting.key == key)
                .unwrap()
                .1
        };
        assert_eq!(
            of("hunter.interfaces"),
            &Value::List(vec!["eth0".into(), "eth1".into(), "eth2".into()])
        );
        assert_eq!(of("promiscuous"), &Value::Switch(true));
        assert_eq!(of("hunter.insecure"), &Value::Switch(false));
        assert_eq!(
            of("hunter.read_files"),
            &Value::List(vec!["a,b".into(), "c".into()])
        );
    }

    #[test]
    fn what_cannot_be_understood_is_a_usage_error() {
        for line in [
            "lc-hunt nonsense",
            "lc-hunt hunt nonsense",
            "lc-hunt hunt --nonsense",
            "lc-hunt hunt --id a --hunter-id b",
            "lc-hunt hunt --batch-size -1",
            "lc-hunt hunt -P host",
            "lc-hunt -i eth0 list interfaces",
            "lc-hunt hunt --no-filter-policy perhaps",
            "lc-hunt http --http-port 0",
        ] {
            assert_eq!(
                parse(line.split(' ').map(OsString::from))
                    .unwrap_err()
                    .exit_code(),
                2,
                "{line}"
            );
        }
    }
}
