//! Two mbsync programs, each with a Maildir tree of its own, write one mailbox at once; in the end both trees and the
//! server hold the same messages, each once, with the same flags.
//!
//! `PORTCULLIS_MBSYNC_S` says for how many seconds they write (15 if absent), `PORTCULLIS_SEED` what they do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use support::{
    ANN, APP, Gate, mail,
    program::{self, Home, run},
};

const FOLDERS: [&str; 2] = ["INBOX", "Work"];
/// The Maildir letters that a person's program sets here.
const FLAGS: [char; 3] = ['F', 'R', 'S'];
/// So many rounds at most until nothing changes any more.
const ROUNDS: usize = 10;

/// What one place holds: of each folder each message, by its subject, with its flags.
type Tree = BTreeMap<(String, String), String>;

#[test]
fn two_mbsyncs_that_write_one_mailbox_at_once_end_with_equal_trees() {
    if !program::have("mbsync") || !program::have("file:sasl2/libkdexoauth2.so") {
        return;
    }
    let time = Duration::from_secs(number("PORTCULLIS_MBSYNC_S", 15));
    let seed = number("PORTCULLIS_SEED", 4);
    eprintln!("PORTCULLIS_MBSYNC_S={} PORTCULLIS_SEED={seed}", time.as_secs());
    let gate = Gate::start();
    let mut imap = gate.imap(ANN, APP);
    imap.ok("CREATE Work");
    for n in 0..20 {
        imap.append(FOLDERS[n % 2], "", &letter(&format!("old{n}"), n));
    }
    imap.ok("LOGOUT");
    let mut sides = ["a", "b"].map(|name| Side::new(&gate, name, seed));
    for side in &mut sides {
        side.sync();
    }

    let until = Instant::now() + time;
    std::thread::scope(|scope| {
        for side in &mut sides {
            scope.spawn(move || {
                while Instant::now() < until {
                    side.change();
                    side.sync();
                }
            });
        }
    });

    // A last round for each, until a whole one changes nothing anywhere.
    let mut states = states(&gate, &sides);
    let mut rounds = 0;
    loop {
        for side in &mut sides {
            side.sync();
        }
        rounds += 1;
        let now = self::states(&gate, &sides);
        if now == states {
            break;
        }
        assert!(rounds < ROUNDS, "after {rounds} rounds there is still news");
        states = now;
    }
    let [a, b, server] = states;
    assert_eq!(a, server, "one tree and the server");
    assert_eq!(b, server, "the other tree and the server");
    let mut there: BTreeSet<String> = (0..20).map(|n| format!("old{n}")).collect();
    there.extend(sides.iter().flat_map(|side| side.made.clone()));
    there.retain(|subject| sides.iter().all(|side| !side.dropped.contains(subject)));
    let found: BTreeSet<String> = server.keys().map(|(_, subject)| subject.clone()).collect();
    assert_eq!(found, there, "every message that nobody deleted, and no other");
    let on_disk = mail::stored(&gate.maildir(ANN)).len();
    assert_eq!(on_disk, server.len(), "files of the store");
    let [runs, made, dropped, flagged] = [
        |side: &Side| side.runs,
        |side: &Side| side.made.len(),
        |side: &Side| side.dropped.len(),
        |side: &Side| side.flagged,
    ]
    .map(|count| sides.iter().map(count).collect::<Vec<_>>());
    eprintln!("runs {runs:?}, new {made:?}, deleted {dropped:?}, flagged {flagged:?}, left {}", server.len());
    assert!(made.iter().chain(&flagged).all(|count| *count > 0), "{made:?} {flagged:?}: nothing was tried");
}

/// A program with its tree, and what its person did there.
struct Side {
    home: Home,
    name: &'static str,
    dice: Dice,
    made: BTreeSet<String>,
    dropped: BTreeSet<String>,
    flagged: usize,
    runs: usize,
}

impl Side {
    fn new(gate: &Gate, name: &'static str, seed: u64) -> Self {
        let home = Home::for_user(gate, ANN, &gate.token(ANN, APP));
        fs::create_dir(home.path().join("mail")).unwrap();
        let dice =
            Dice(seed.wrapping_mul(2).wrapping_add(u64::from(name == "b")).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self { home, name, dice, made: BTreeSet::new(), dropped: BTreeSet::new(), flagged: 0, runs: 0 }
    }

    fn tree(&self) -> PathBuf {
        self.home.path().join("mail")
    }

    fn sync(&mut self) {
        let config = self.home.config("mbsync.rc");
        self.runs += 1;
        run(self.home.command("mbsync").arg("--config").arg(config).arg("all"))
            .expect_good(&format!("mbsync {}, run {}", self.name, self.runs));
    }

    /// A few changes to the tree.
    fn change(&mut self) {
        for _ in 0..self.dice.below(5) {
            let folder = self.tree().join(FOLDERS[self.dice.below(2)]);
            let files = files(&folder);
            match self.dice.below(10) {
                0..4 => self.write(&folder),
                4..8 if !files.is_empty() => {
                    let file = &files[self.dice.below(files.len())];
                    self.flag(file);
                }
                8.. if !files.is_empty() => {
                    let file = &files[self.dice.below(files.len())];
                    self.dropped.insert(subject(&fs::read(file).unwrap()));
                    fs::remove_file(file).unwrap();
                }
                _ => {}
            }
        }
    }

    /// A new message, long now and then.
    fn write(&mut self, folder: &Path) {
        let subject = format!("{}{}", self.name, self.made.len());
        let lines = if self.dice.below(8) == 0 { 3000 } else { self.dice.below(40) };
        let flags = if self.dice.below(2) == 0 { "S" } else { "" };
        let name = format!("{}:2,{flags}", mail::unique_name());
        fs::write(folder.join("tmp").join(&name), mail::with_lf(&letter(&subject, lines))).unwrap();
        fs::rename(folder.join("tmp").join(&name), folder.join("cur").join(&name)).unwrap();
        self.made.insert(subject);
    }

    /// Turns one flag of a message on or off.
    fn flag(&mut self, file: &Path) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let (base, old) = name.split_once(":2,").unwrap_or((&name, ""));
        let flag = FLAGS[self.dice.below(FLAGS.len())];
        let mut flags: BTreeSet<char> = old.chars().collect();
        if !flags.remove(&flag) {
            flags.insert(flag);
        }
        let to = file.parent().unwrap().parent().unwrap().join("cur");
        fs::rename(file, to.join(format!("{base}:2,{}", flags.into_iter().collect::<String>()))).unwrap();
        self.flagged += 1;
    }

    fn state(&self) -> Tree {
        let mut tree = Tree::new();
        for folder in FOLDERS {
            for file in files(&self.tree().join(folder)) {
                let name = file.file_name().unwrap().to_string_lossy().into_owned();
                let flags = name.split_once(":2,").map_or("", |(_, flags)| flags);
                put(&mut tree, self.name, folder, &fs::read(&file).unwrap(), flags.chars());
            }
        }
        tree
    }
}

/// What the two trees and the server hold, each message once.
fn states(gate: &Gate, sides: &[Side; 2]) -> [Tree; 3] {
    let mut server = Tree::new();
    let mut imap = gate.imap(ANN, APP);
    for folder in FOLDERS {
        for (flags, bytes) in imap.read_all(folder) {
            let letters = flags.iter().filter_map(|flag| match flag.as_str() {
                "\\Flagged" => Some('F'),
                "\\Answered" => Some('R'),
                "\\Seen" => Some('S'),
                "\\Recent" => None,
                other => panic!("nobody set {other}"),
            });
            put(&mut server, "the server", folder, &bytes, letters);
        }
    }
    imap.ok("LOGOUT");
    [sides[0].state(), sides[1].state(), server]
}

fn put(tree: &mut Tree, place: &str, folder: &str, bytes: &[u8], flags: impl Iterator<Item = char>) {
    let subject = subject(bytes);
    let flags: BTreeSet<char> = flags.collect();
    let before = tree.insert((folder.to_owned(), subject.clone()), flags.into_iter().collect());
    assert!(before.is_none(), "{place} has {subject} in {folder} twice");
}

fn letter(subject: &str, lines: usize) -> Vec<u8> {
    let text = "One more line of this letter, and nothing new in it.\r\n".repeat(lines);
    format!("From: {ANN}\r\nSubject: {subject}\r\nMessage-ID: <{subject}@example.com>\r\n\r\n{text}").into_bytes()
}

fn subject(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines().find_map(|line| line.strip_prefix("Subject: ")).expect("a subject").to_owned()
}

/// The message files of a Maildir, in the order of their names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let parts = ["new", "cur"].iter().flat_map(|part| fs::read_dir(folder.join(part)).unwrap());
    let mut files: Vec<PathBuf> = parts.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")))
}

/// Numbers that a seed gives again (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(limit).unwrap()).unwrap()
    }
}
