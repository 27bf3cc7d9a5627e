//! Runs a dialog written in a file against a real listener.
//!
//! Shape of a file, line by line:
//! - `C: text` is sent with CRLF; `{xoauth2 USER APP}` and `{oauthbearer USER APP}` in it become a SASL response with a
//!   good token, `{expired USER APP}` an XOAUTH2 one whose token has run out, `{octets N}` N letters `x`,
//!   `{nul N}` N NUL bytes.
//! - `S: text` must be the next line from the gate. `<*>` in it stands for anything, `<n>` for digits, `<ref>` for a
//!   refusal's reference, `<b64>` for base64. `S: <...>` skips lines until the next `S:` line fits. `S: <closed>`: the
//!   gate has closed.
//! - `C2: text` and `S2: text` are the same on a second connection, opened where it is first named; so on to 9.
//! - `<=name>` in an `S:` line stands for digits and remembers them, the first of its line behind no other mark;
//!   `{=name}` in `C:` and `S:` lines is what was remembered.
//! - `@deliver USER FILE` before the dialog delivers a message of `tests/mail` or `tests/clients/mail`.
//! - `#` starts a comment; empty lines are ignored.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use super::{
    Gate, mail, token,
    wire::{Wire, oauthbearer, xoauth2},
};

/// Runs one file against `port`; panics with file and line where the gate says something else.
pub fn run(gate: &Gate, port: u16, file: &Path) {
    let text = fs::read_to_string(file).unwrap();
    let mut wires: BTreeMap<&str, Wire> = BTreeMap::new();
    let mut known: HashMap<String, String> = HashMap::new();
    let mut skipping = false;
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let place = format!("{}:{}", file.display(), number + 1);
        if let Some(rest) = line.strip_prefix("@deliver ") {
            let (user, name) = rest.split_once(' ').unwrap_or_else(|| panic!("{place}: @deliver USER FILE"));
            gate.deliver(user, &mail::by_name(name));
            continue;
        }
        let (who, text) = line.split_once(':').unwrap_or((line, ""));
        let (side, which) = who.split_at_checked(1).unwrap_or(("", ""));
        assert!(["", "2", "3", "4", "5", "6", "7", "8", "9"].contains(&which), "{place}: C:, S: or @deliver");
        let text = text.strip_prefix(' ').unwrap_or(text);
        let wire = wires.entry(which).or_insert_with(|| Wire::connect(gate, port));
        if side == "C" {
            wire.send(&fill(gate, &known, text));
        } else if side == "S" && text == "<...>" {
            skipping = true;
        } else if side == "S" && text == "<closed>" {
            assert_eq!(wire.line_or_end(), None, "{place}: should be closed");
        } else if side == "S" {
            let (expected, name) = remembering(&fill(gate, &known, text));
            let mut skipped = Vec::new();
            loop {
                let Some(got) = wire.line_or_end() else {
                    panic!("{place}: closed\nexpected: {expected}\nskipped: {skipped:#?}");
                };
                if fits(&got, &expected) {
                    known.extend(name.map(|(before, name)| (name, digits(&got[before..]))));
                    break;
                }
                assert!(skipping, "{place}\nexpected: {expected}\n     got: {got}");
                skipped.push(got);
            }
            skipping = false;
        } else {
            panic!("{place}: neither C:, S: nor @deliver");
        }
    }
}

/// Runs every `.txt` of a folder side by side, each against a gate of its own; `port` picks the listener.
pub fn run_folder(folder: &Path, port: fn(&Gate) -> u16) {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(!files.is_empty(), "no transcripts in {}", folder.display());
    let runs: Vec<_> = files
        .into_iter()
        .map(|file| {
            std::thread::spawn(move || {
                let gate = Gate::start();
                run(&gate, port(&gate), &file);
            })
        })
        .collect();
    let failed = runs.into_iter().map(|run| run.join()).filter(Result::is_err).count();
    assert_eq!(failed, 0, "dialogs that did not go as written");
}

/// The pattern with `<n>` for `<=name>`; how many bytes stand before it, and the name.
fn remembering(line: &str) -> (String, Option<(usize, String)>) {
    let Some((before, rest)) = line.split_once("<=") else { return (line.to_owned(), None) };
    let (name, after) = rest.split_once('>').unwrap();
    (format!("{before}<n>{after}"), Some((before.len(), name.to_owned())))
}

fn digits(text: &str) -> String {
    text.chars().take_while(char::is_ascii_digit).collect()
}

/// Replaces the `{word ..}` marks of a line; other braces (IMAP literals) stay.
fn fill(gate: &Gate, known: &HashMap<String, String>, line: &str) -> String {
    let Some((before, rest)) = line.split_once('{') else { return line.to_owned() };
    let Some((mark, after)) = rest.split_once('}') else { return line.to_owned() };
    let words: Vec<&str> = mark.split(' ').collect();
    let value = match words.as_slice() {
        ["xoauth2", user, app] => xoauth2(user, &gate.token(user, app)),
        ["oauthbearer", user, app] => oauthbearer(user, &gate.token(user, app)),
        ["expired", user, app] => xoauth2(user, &token::mint(&gate.key, user, app, -3600)),
        [name] if name.starts_with('=') => known[&name[1..]].clone(),
        ["octets", n] => "x".repeat(n.parse().unwrap()),
        ["nul", n] => "\0".repeat(n.parse().unwrap()),
        _ => format!("{{{mark}}}"),
    };
    format!("{before}{value}{}", fill(gate, known, after))
}

/// Whether `got` is what `pattern` describes.
pub fn fits(got: &str, pattern: &str) -> bool {
    for (mark, least, allowed) in MARKS {
        // The first mark of the pattern decides; the rest is matched by trying every length.
        if first_mark(pattern) == Some(mark) {
            let (before, after) = pattern.split_once(mark).unwrap_or((pattern, ""));
            let Some(rest) = got.strip_prefix(before) else { return false };
            let longest = rest.find(|c: char| !allowed(c)).unwrap_or(rest.len());
            return rest
                .char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .filter(|&at| at >= least && at <= longest)
                .any(|at| fits(&rest[at..], after));
        }
    }
    got == pattern
}

type Mark = (&'static str, usize, fn(char) -> bool);
const MARKS: [Mark; 4] = [
    ("<*>", 0, |_| true),
    ("<n>", 1, |c| c.is_ascii_digit()),
    ("<ref>", 6, |c| c.is_ascii_uppercase() || c.is_ascii_digit()),
    ("<b64>", 1, |c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=')),
];

fn first_mark(pattern: &str) -> Option<&'static str> {
    let places = MARKS.iter().filter_map(|(mark, ..)| pattern.find(mark).map(|at| (at, *mark)));
    places.min().map(|(_, mark)| mark)
}
