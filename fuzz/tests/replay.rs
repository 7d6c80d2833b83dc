//! Every input below `corpus/` through its check.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use lc_fuzz::CHECKS;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{} can't be read: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_input_of_every_corpus_passes() {
    let failed: Vec<_> = thread::scope(|scope| {
        let replays = CHECKS.map(|(name, check)| {
            scope.spawn(move || {
                let mut inputs = files(&folder("corpus").join(name));
                assert!(!inputs.is_empty(), "the corpus of {name} is empty");
                inputs.retain(|input| {
                    let bytes = fs::read(input).unwrap();
                    catch_unwind(|| check(&bytes)).is_err()
                });
                inputs
            })
        });
        replays
            .into_iter()
            .flat_map(|replay| replay.join().unwrap())
            .collect()
    });
    assert!(failed.is_empty(), "these inputs fail: {failed:#?}");
}

#[test]
fn every_check_has_its_fuzz_target_and_no_corpus_is_forgotten() {
    let names = |name: &str| -> BTreeSet<String> {
        let stem = |file: PathBuf| file.file_stem().unwrap().to_str().unwrap().to_owned();
        files(&folder(name)).into_iter().map(stem).collect()
    };
    let checks: BTreeSet<_> = CHECKS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), checks);
    assert_eq!(names("corpus"), checks);
}
