//! Every seed of the fuzz targets, and every input that once broke one, through the same functions: what fuzzing found
//! stays mended, on stable Rust and without cargo-fuzz. `tests/fuzz/README.md` says how to fuzz.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::expect_used)]

#[path = "fuzz/targets/mod.rs"]
mod targets;

use std::{
    fs,
    panic::catch_unwind,
    path::Path,
    time::{Duration, Instant},
};

use portcullis::{
    config::Config,
    message::{Keep, Scanner, addresses, decode_header, header_fields},
    policy::file,
};

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

/// Shapes for which work that grows with the square of the size takes minutes, each in its size.
#[test]
fn a_large_input_of_a_hostile_shape_costs_little_more_than_a_large_input() {
    let numbered = |count: usize, one: &dyn Fn(usize) -> String, between: &str| {
        (0..count).map(one).collect::<Vec<_>>().join(between)
    };
    let policy = |text: String| drop(file::parse(&text).map_err(|error| error.to_string()));
    let config = |text: String| drop(Config::parse(&text, Path::new("/x")).map_err(|error| error.to_string()));
    let table: [(&str, &dyn Fn()); 9] = [
        ("header fields: many names, many lines", &|| {
            let names: Vec<String> = (0..20_000).map(|number| format!("x{number}")).collect();
            header_fields("Y: z\r\n".repeat(100_000).as_bytes(), &names, Keep::Named);
        }),
        ("header: starts of encoded words", &|| drop(decode_header("=?a?q?".repeat(50_000).as_bytes()))),
        ("addresses: brackets that stay open", &|| drop(addresses("(<[\"".repeat(50_000).as_bytes(), 10_000))),
        ("message: a multipart in a multipart", &|| {
            let mut scanner = Scanner::default();
            scanner.feed("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n".repeat(5_000).as_bytes());
            scanner.finish();
        }),
        ("policy: client IDs in a list", &|| {
            let ids = numbered(50_000, &|n| format!("\"a{n}\""), ", ");
            policy(format!("[unit.\"/A\"]\nimap = [{ids}]\n"));
        }),
        ("policy: client IDs in a string", &|| {
            policy(format!("[unit.\"/A\"]\nimap = \"{}\"\n", numbered(50_000, &|n| format!("a{n}"), ",")));
        }),
        ("policy: users in units that do not exist", &|| {
            let units = numbered(10_000, &|n| format!("[unit.\"/A{n}\"]"), "\n");
            policy(format!(
                "{units}\n{}",
                numbered(10_000, &|n| format!("[user.\"u{n}@x\"]\nunit = \"/B{n}\""), "\n")
            ));
        }),
        ("policy: mistakes in one line", &|| {
            policy(format!("unit = {{ {} }}", numbered(30_000, &|n| format!("k{n}=1"), ",")))
        }),
        ("config: mistakes in one line", &|| {
            config(format!("listen = {{ {} }}", numbered(30_000, &|n| format!("k{n}=1"), ",")));
        }),
    ];
    for (name, work) in table {
        let start = Instant::now();
        work();
        let took = start.elapsed();
        println!("{name}: {took:?}");
        assert!(took < Duration::from_secs(10), "{name} took {took:?}");
    }
}
