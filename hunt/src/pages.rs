//! Manual pages of all programs, and completions for shells, made from their command lines (`lc-hunt pages DIR`, hidden;
//! `make install` and the Debian package call it).

use std::fs;
use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

/// Writes `man/*.1`, `man/*.8` and `completions/*` below `dir`.
///
/// # Errors
/// What the file system says.
pub fn write(dir: &Path) -> io::Result<()> {
    let man = dir.join("man");
    fs::create_dir_all(&man)?;
    for (section, command) in [
        ("1", crate::command_line::command()),
        ("1", lc_sink::Flags::command()),
        ("8", lc_capd::Arguments::command()),
        ("8", lc_workerd::arguments::Arguments::command()),
        ("8", lc_fwdd::Arguments::command()),
    ] {
        pages(&man, section, command)?;
    }
    let completions = dir.join("completions");
    fs::create_dir_all(&completions)?;
    for mut command in [crate::command_line::command(), lc_sink::Flags::command()] {
        let name = command.get_name().to_owned();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            generate_to(shell, &mut command, &name, &completions)?;
        }
    }
    Ok(())
}

/// The page of a command, and those of its sub-commands: `lc-hunt.1`, `lc-hunt-status.1`.
fn pages(dir: &Path, section: &str, mut command: Command) -> io::Result<()> {
    command.build();
    let name = command.get_name().to_owned();
    let words = command.get_bin_name().unwrap_or(&name).to_owned();
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let own = sub
            .clone()
            .name(format!("{name}-{}", sub.get_name()))
            .bin_name(format!("{words} {}", sub.get_name()))
            .version(env!("CARGO_PKG_VERSION"));
        pages(dir, section, own)?;
    }
    let man = Man::new(command).section(section).manual("lc-hunt");
    let mut text = Vec::new();
    man.render(&mut text)?;
    fs::write(dir.join(format!("{name}.{section}")), text)
}
