//! Every seed of the fuzz targets, and every input that once broke one, through the same functions: what fuzzing found
//! stays mended, on stable Rust and without cargo-fuzz. `tests/fuzz/README.md` says how to fuzz.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::expect_used)]

#[path = "fuzz/targets/mod.rs"]
mod targets;

use std::{fs, panic::catch_unwind, path::Path};

#[test]
fn every_seed_and_every_mended_crash_keeps_the_promises_of_its_target() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds");
    let mut broken = Vec::new();
    for (name, _) in targets::ALL {
        let folder = seeds.join(name);
        let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut count = 0;
        for file in files {
            let path = file.unwrap().path();
            let data = fs::read(&path).unwrap();
            // Beginnings too: they are what a connection that breaks off leaves.
            let step = (data.len() / 16).max(1);
            let ends = (0..data.len()).step_by(step).chain([data.len()]);
            for end in ends {
                if catch_unwind(|| targets::run(name, &data[..end])).is_err() {
                    broken.push(format!("{} up to byte {end}", path.display()));
                    break;
                }
            }
            count += 1;
        }
        assert!(count > 0, "{name} has no seeds");
    }
    assert!(broken.is_empty(), "broken by: {broken:#?}");
}

#[test]
fn each_target_has_a_binary_and_a_folder_of_seeds() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let listed = |folder: &str| {
        let entries = fs::read_dir(fuzz.join(folder)).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let mut names: Vec<String> = targets::ALL.map(|(name, _)| name.to_owned()).to_vec();
    names.sort();
    assert_eq!(listed("bins"), names);
    assert_eq!(listed("seeds"), names);
}
