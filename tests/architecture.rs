//! The arrow rule: a room imports only rooms on lower floors. Edit FLOORS to change it, with a reason.
#![allow(clippy::unwrap_used, clippy::panic)]
use std::{fs, path::Path};

const FLOORS: [&[&str]; 9] = [
    &["model"],
    &["imap", "pop3", "sasl", "token", "message", "tls", "metrics"],
    &["policy"],
    &["issuer", "provider", "store", "maildir", "upstream"],
    &["gate"],
    &["session", "admin", "notify"],
    &["config"],
    &["serve"],
    &["cli"],
];
/// Rooms below this floor take bytes, values and a time as arguments and touch nothing else.
const FIRST_FLOOR_WITH_IO: usize = 3;
const IO_WORDS: [&str; 5] = ["tokio::", "std::fs", "std::net", "Instant::now", "SystemTime::now"];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// The word that follows each `mark` in `line`.
fn after_each<'a>(line: &'a str, mark: &'static str) -> impl Iterator<Item = &'a str> {
    line.split(mark).skip(1).map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(""))
}

fn visit(dir: &Path, room: &str, wrong: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            visit(&path, room, wrong);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let here = floor(room).unwrap_or_else(|| panic!("room {room} is on no floor"));
        for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//")) {
            for other in
                after_each(line, "crate::").chain(after_each(line, "super::").filter(|w| floor(w).is_some()))
            {
                if other != room && floor(other).is_none_or(|there| there >= here) {
                    wrong.push(format!("{}:{}: {room} -> {other}", path.display(), number + 1));
                }
            }
            if here < FIRST_FLOOR_WITH_IO && IO_WORDS.iter().any(|w| line.contains(w)) {
                wrong.push(format!("{}:{}: {room} does I/O", path.display(), number + 1));
            }
        }
    }
}

#[test]
fn arrows_point_down() {
    let mut wrong = Vec::new();
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            visit(&entry.path(), entry.file_name().to_str().unwrap(), &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
