//! Leaves in the binary which source and compiler it was made from, for `lc-hunt --version`.

use std::env;
use std::process::Command;

fn main() {
    let commit =
        answer("git", &["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    let date = answer("git", &["show", "--no-patch", "--format=%cs", "HEAD"])
        .unwrap_or_else(|| "unknown".to_owned());
    let compiler = env::var("RUSTC")
        .ok()
        .and_then(|rustc| answer(&rustc, &["--version"]));
    let compiler = compiler.unwrap_or_else(|| "rustc".to_owned());
    println!("cargo::rustc-env=LC_HUNT_COMMIT={commit}");
    println!("cargo::rustc-env=LC_HUNT_DATE={date}");
    println!(
        "cargo::rustc-env=LC_HUNT_COMPILER={}",
        compiler.split(" (").next().unwrap_or("rustc")
    );
    println!("cargo::rerun-if-changed=build.rs");
    if let Some(log) = answer("git", &["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
}

/// What a program prints, if it succeeds.
fn answer(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
