//! The gate is killed at random moments while several programs work on one mailbox, again and again. After each start
//! every acknowledged change is there, and what was not acknowledged is there whole or not at all (threats.md section 2).
//!
//! `PORTCULLIS_CRASH_KILLS` is how often, `PORTCULLIS_CRASH_SEED` repeats a run: what each program does, and when it is
//! killed; not how far each got by then.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    net::TcpStream,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::ClientConfig;
use support::{
    ANN, APP, Gate,
    wire::{Wire, xoauth2},
};

/// How many programs work over IMAP. One more works over POP3.
const PROGRAMS: usize = 4;
/// A folder all of them append to.
const COMMON: &str = "Common";

#[test]
fn killed_at_any_moment_the_gate_keeps_what_it_acknowledged() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let kills = number("PORTCULLIS_CRASH_KILLS").unwrap_or(30);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = number("PORTCULLIS_CRASH_SEED").unwrap_or(now);
    println!("PORTCULLIS_CRASH_SEED={seed} PORTCULLIS_CRASH_KILLS={kills}");
    let mut random = Random::new(seed);
    let mut gate = Gate::start();
    let door = Door::to(&gate);
    let mut setup = door.imap().expect("a session");
    assert!(setup.ok(&format!("CREATE {COMMON}")));
    drop(setup);
    let mut programs: Vec<Program> = (0..PROGRAMS).map(|n| Program::new(n, seed)).collect();
    let mut pop = PopProgram::new(seed);
    let mut acknowledged = 0;
    for kill in 0..kills {
        let door = Door::to(&gate);
        let life = Duration::from_millis(random.below(350));
        std::thread::scope(|scope| {
            for program in &mut programs {
                let door = &door;
                scope.spawn(move || program.work(door));
            }
            let (pop, door) = (&mut pop, &door);
            scope.spawn(move || pop.work(door));
            std::thread::sleep(life);
            gate.signal("KILL");
        });
        gate.crash_and_restart();
        let door = Door::to(&gate);
        let what = format!("seed {seed}, kill {kill} after {life:?}");
        common(&door, &mut programs, &what);
        for program in &mut programs {
            acknowledged += program.check(&door, &what);
        }
        acknowledged += pop.check(&door, &what);
    }
    println!("{kills} kills, {acknowledged} acknowledged changes");
    assert!(acknowledged > kills, "the programs hardly got to do anything");
    let left = fs::read_dir(gate.maildir(ANN)).unwrap().filter_map(Result::ok);
    let left: Vec<_> = left.map(|e| e.file_name()).filter(|n| n.to_string_lossy().contains("-gone-")).collect();
    assert!(left.is_empty(), "deleted folders stay on disk: {left:?}");
}

/// Where the gate is now, and how to come in.
struct Door {
    imaps: u16,
    pop3s: u16,
    token: String,
    tls: ClientConfig,
}

impl Door {
    fn to(gate: &Gate) -> Self {
        let tls = Wire::trusting(gate, rustls::DEFAULT_VERSIONS);
        Self { imaps: gate.imaps, pop3s: gate.pop3s, token: gate.token(ANN, APP), tls }
    }

    fn connect(&self, port: u16) -> Option<Talk> {
        let tcp = TcpStream::connect(("127.0.0.1", port)).ok()?;
        let wire = Wire::over(tcp, self.tls.clone(), "localhost").ok()?;
        let mut talk = Talk { wire, buffer: Vec::new(), tag: 0 };
        talk.line()?;
        Some(talk)
    }

    fn imap(&self) -> Option<Talk> {
        let mut talk = self.connect(self.imaps)?;
        let sign_in = format!("AUTHENTICATE XOAUTH2 {}", xoauth2(ANN, &self.token));
        talk.command(&sign_in).filter(|reply| reply.status.starts_with("OK")).map(|_| talk)
    }

    /// The lock of the session before goes with its connection, not with its last reply.
    fn pop(&self) -> Option<Talk> {
        for _ in 0..100 {
            let mut talk = self.connect(self.pop3s)?;
            talk.wire.send(&format!("AUTH XOAUTH2 {}", xoauth2(ANN, &self.token)));
            let reply = talk.line()?;
            if reply.starts_with(b"+OK") {
                return Some(talk);
            }
            assert!(reply.starts_with(b"-ERR [IN-USE]"), "{}", String::from_utf8_lossy(&reply));
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the POP3 lock is never given back");
    }
}

/// A connection that may end at any moment: then everything answers nothing.
struct Talk {
    wire: Wire,
    buffer: Vec<u8>,
    tag: u32,
}

struct Reply {
    untagged: Vec<Vec<u8>>,
    status: String,
}

impl Talk {
    fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffer[..end].to_vec();
                self.buffer.drain(..end + 2);
                return Some(line);
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Option<()> {
        let more = self.wire.some();
        self.buffer.extend_from_slice(&more);
        (!more.is_empty()).then_some(())
    }

    fn response(&mut self) -> Option<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let line = self.line()?;
            all.extend_from_slice(&line);
            let Some(size) = literal(&line) else { return Some(all) };
            all.extend_from_slice(b"\r\n");
            while self.buffer.len() < size {
                self.fill()?;
            }
            all.extend(self.buffer.drain(..size));
        }
    }

    fn send(&mut self, command: &str) -> String {
        self.tag += 1;
        let tag = format!("t{}", self.tag);
        self.wire.send(&format!("{tag} {command}"));
        tag
    }

    fn finish(&mut self, tag: &str) -> Option<Reply> {
        let mut untagged = Vec::new();
        loop {
            let response = self.response()?;
            let text = String::from_utf8_lossy(&response).into_owned();
            if let Some(status) = text.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' ')) {
                return Some(Reply { untagged, status: status.to_owned() });
            }
            untagged.push(response);
        }
    }

    fn command(&mut self, command: &str) -> Option<Reply> {
        let tag = self.send(command);
        self.finish(&tag)
    }

    /// A command that must not be refused; whether its answer came.
    fn ok(&mut self, command: &str) -> bool {
        let Some(reply) = self.command(command) else { return false };
        assert!(reply.status.starts_with("OK"), "{command}: {}", reply.status);
        true
    }

    /// The same; the tagged answer.
    fn done(&mut self, command: &str) -> Option<String> {
        let reply = self.command(command)?;
        assert!(reply.status.starts_with("OK"), "{command}: {}", reply.status);
        Some(reply.status)
    }

    /// The new message's UID, if the answer came.
    fn append(&mut self, folder: &str, text: &str) -> Option<u32> {
        let message = body(text);
        let tag = self.send(&format!("APPEND {folder} (\\Seen) {{{}+}}", message.len()));
        self.wire.send_bytes(message.as_bytes());
        self.wire.send_bytes(b"\r\n");
        let reply = self.finish(&tag)?;
        assert!(reply.status.starts_with("OK"), "APPEND: {}", reply.status);
        Some(code(&reply.status, "APPENDUID")[1].parse().unwrap())
    }

    /// Everything in a folder; nothing if it is not there.
    fn read(&mut self, folder: &str) -> Option<Folder> {
        let reply = self.command(&format!("EXAMINE {folder}")).expect("the gate stays");
        if !reply.status.starts_with("OK") {
            return None;
        }
        let mut found = Folder::default();
        for line in &reply.untagged {
            let text = String::from_utf8_lossy(line).into_owned();
            for (name, into) in [("UIDVALIDITY", &mut found.uid_validity), ("UIDNEXT", &mut found.uid_next)] {
                if let Some((_, rest)) = text.split_once(&format!("[{name} ")) {
                    *into = rest.split(']').next().unwrap().parse().unwrap();
                }
            }
        }
        let reply = self.command("UID FETCH 1:* (UID FLAGS BODY.PEEK[])").expect("the gate stays");
        assert!(reply.status.starts_with("OK"), "{}", reply.status);
        for line in &reply.untagged {
            let text = String::from_utf8_lossy(line).into_owned();
            let Some((_, rest)) = text.split_once("UID ") else { continue };
            let uid = rest.split([' ', ')']).next().unwrap().parse().unwrap();
            let (_, flags) = text.split_once("FLAGS (").unwrap();
            let flags = flags.split(')').next().unwrap().split_whitespace();
            let flags = flags.filter(|flag| *flag != "\\Recent").map(str::to_owned).collect();
            let (_, body) = text.split_once("\r\n").unwrap();
            assert!(body.ends_with("\r\n)") || body.contains("\r\n "), "{body:?}");
            let text = subject(&text);
            assert!(found.messages.insert(uid, Message { text, flags }).is_none(), "UID {uid} twice");
        }
        Some(found)
    }
}

/// A message that tells whether it is whole.
fn body(text: &str) -> String {
    format!("Subject: {text}\r\n\r\n{}end of {text}\r\n", "a line of some length\r\n".repeat(120))
}

/// The text that a fetched message was made of; panics if it is not whole.
fn subject(response: &str) -> String {
    let (_, rest) = response.split_once("Subject: ").unwrap_or_else(|| panic!("no subject: {response:?}"));
    let text = rest.split("\r\n").next().unwrap();
    assert!(rest.contains(body(text).strip_prefix("Subject: ").unwrap()), "half a message: {text}");
    text.to_owned()
}

fn literal(line: &[u8]) -> Option<usize> {
    let digits = line.strip_suffix(b"}")?;
    let start = digits.iter().rposition(|&byte| byte == b'{')?;
    std::str::from_utf8(&digits[start + 1..]).ok()?.parse().ok()
}

/// The words of a response code.
fn code(status: &str, name: &str) -> Vec<String> {
    let (_, rest) = status.split_once(&format!("[{name} ")).unwrap_or_else(|| panic!("no {name}: {status}"));
    rest.split(']').next().unwrap().split(' ').map(str::to_owned).collect()
}

#[derive(Clone, Debug, Default)]
struct Folder {
    uid_validity: u32,
    uid_next: u32,
    messages: BTreeMap<u32, Message>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    text: String,
    flags: BTreeSet<String>,
}

/// What a program was waiting for when the gate was killed.
#[derive(Clone, Debug)]
enum Pending {
    Nothing,
    Append { folder: String, text: String },
    Store { folder: String, uid: u32 },
    Copy { to: String, text: String },
    Move { from: String, uid: u32, to: String, text: String },
    Expunge { folder: String, uid: u32 },
    Create { name: String },
    Rename { from: String, to: String },
    Delete { name: String },
    Subscribe { name: String },
}

/// Someone who works on folders of their own, and appends to the common one.
struct Program {
    number: usize,
    random: Random,
    step: u32,
    folders: BTreeMap<String, Folder>,
    /// What was said of subscriptions.
    subscribed: BTreeMap<String, bool>,
    common: BTreeMap<u32, String>,
    pending: Pending,
    acknowledged: u64,
}

impl Program {
    fn new(number: usize, seed: u64) -> Self {
        Self {
            number,
            random: Random::new(seed.wrapping_add(number as u64 + 1)),
            step: 0,
            folders: BTreeMap::new(),
            subscribed: BTreeMap::new(),
            common: BTreeMap::new(),
            pending: Pending::Nothing,
            acknowledged: 0,
        }
    }

    /// Works until the connection ends.
    fn work(&mut self, door: &Door) {
        let Some(mut talk) = door.imap() else { return };
        while self.one(&mut talk).is_some() {
            self.pending = Pending::Nothing;
            self.acknowledged += 1;
        }
    }

    fn one(&mut self, talk: &mut Talk) -> Option<()> {
        self.step += 1;
        let text = format!("p{}.{}", self.number, self.step);
        let names: Vec<String> = self.folders.keys().cloned().collect();
        if names.len() < 2 {
            return self.create(talk, &format!("F{}x{}", self.number, self.step));
        }
        let folder = names[self.random.below(names.len() as u64) as usize].clone();
        let other = names[self.random.below(names.len() as u64) as usize].clone();
        let uids: Vec<u32> = self.folders[&folder].messages.keys().copied().collect();
        let uid = uids.get(self.random.below(uids.len() as u64) as usize).copied();
        // Grown folders are cut down, or reading them takes all the time there is.
        let kind = if uids.len() > 30 { 11 } else { self.random.below(18) };
        match (kind, uid) {
            (0, _) if names.len() < 5 => self.create(talk, &format!("F{}x{}", self.number, self.step)),
            (1, _) => {
                let to = format!("F{}y{}", self.number, self.step);
                self.pending = Pending::Rename { from: folder.clone(), to: to.clone() };
                talk.done(&format!("RENAME {folder} {to}"))?;
                let moved = self.folders.remove(&folder).unwrap();
                self.folders.insert(to, moved);
                Some(())
            }
            (2, _) if names.len() > 3 => {
                self.pending = Pending::Delete { name: folder.clone() };
                talk.done(&format!("DELETE {folder}"))?;
                self.folders.remove(&folder);
                Some(())
            }
            (3, _) => {
                let on = !self.subscribed.get(&folder).copied().unwrap_or(true);
                self.pending = Pending::Subscribe { name: folder.clone() };
                talk.done(&format!("{} {folder}", if on { "SUBSCRIBE" } else { "UNSUBSCRIBE" }))?;
                self.subscribed.insert(folder, on);
                Some(())
            }
            (4 | 5, Some(uid)) => {
                let word = ["\\Flagged", "\\Answered", "$Forwarded", "\\Draft"][self.random.below(4) as usize];
                let has = self.folders[&folder].messages[&uid].flags.contains(word);
                talk.ok(&format!("SELECT {folder}")).then_some(())?;
                self.pending = Pending::Store { folder: folder.clone(), uid };
                talk.done(&format!("UID STORE {uid} {}FLAGS.SILENT ({word})", if has { '-' } else { '+' }))?;
                let flags = &mut self.folders.get_mut(&folder)?.messages.get_mut(&uid)?.flags;
                if has {
                    flags.remove(word);
                } else {
                    flags.insert(word.to_owned());
                }
                Some(())
            }
            (6 | 7, Some(uid)) => {
                let message = self.folders[&folder].messages[&uid].clone();
                talk.ok(&format!("SELECT {folder}")).then_some(())?;
                self.pending = Pending::Copy { to: other.clone(), text: message.text.clone() };
                let there = code(&talk.done(&format!("UID COPY {uid} {other}"))?, "COPYUID")[2].parse().unwrap();
                self.put(&other, there, message);
                Some(())
            }
            (8 | 9, Some(uid)) if folder != other => {
                let message = self.folders[&folder].messages[&uid].clone();
                talk.ok(&format!("SELECT {folder}")).then_some(())?;
                let (from, to, text) = (folder.clone(), other.clone(), message.text.clone());
                self.pending = Pending::Move { from, uid, to, text };
                let reply = talk.command(&format!("UID MOVE {uid} {other}"))?;
                assert!(reply.status.starts_with("OK"), "MOVE: {}", reply.status);
                let told = reply.untagged.iter().map(|line| String::from_utf8_lossy(line).into_owned());
                let told = told.chain([reply.status]).find(|line| line.contains("[COPYUID ")).unwrap();
                let there = code(&told, "COPYUID")[2].parse().unwrap();
                self.folders.get_mut(&folder)?.messages.remove(&uid);
                self.put(&other, there, message);
                Some(())
            }
            (10 | 11, Some(uid)) => {
                talk.ok(&format!("SELECT {folder}")).then_some(())?;
                self.pending = Pending::Store { folder: folder.clone(), uid };
                talk.done(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"))?;
                let message = self.folders.get_mut(&folder)?.messages.get_mut(&uid)?;
                message.flags.insert("\\Deleted".to_owned());
                self.pending = Pending::Expunge { folder: folder.clone(), uid };
                talk.done(&format!("UID EXPUNGE {uid}"))?;
                self.folders.get_mut(&folder)?.messages.remove(&uid);
                Some(())
            }
            (12 | 13, _) => {
                self.pending = Pending::Append { folder: COMMON.to_owned(), text: text.clone() };
                let uid = talk.append(COMMON, &text)?;
                assert!(self.common.insert(uid, text).is_none(), "UID {uid} was given twice");
                Some(())
            }
            _ => {
                self.pending = Pending::Append { folder: folder.clone(), text: text.clone() };
                let uid = talk.append(&folder, &text)?;
                self.put(&folder, uid, Message { text, flags: BTreeSet::from(["\\Seen".to_owned()]) });
                Some(())
            }
        }
    }

    fn create(&mut self, talk: &mut Talk, name: &str) -> Option<()> {
        self.pending = Pending::Create { name: name.to_owned() };
        talk.done(&format!("CREATE {name}"))?;
        self.folders.insert(name.to_owned(), Folder::default());
        Some(())
    }

    fn put(&mut self, folder: &str, uid: u32, message: Message) {
        let folder = self.folders.get_mut(folder).unwrap();
        assert!(uid >= folder.uid_next, "UID {uid} was announced before: {folder:?}");
        folder.uid_next = uid + 1;
        folder.messages.insert(uid, message);
    }

    /// Compares all that is there with all that was acknowledged, and takes it for what is there from now on.
    fn check(&mut self, door: &Door, what: &str) -> u64 {
        let mut talk = door.imap().expect("a session");
        let what = format!("{what}, program {}, in flight: {:?}", self.number, self.pending);
        let listed = talk.command(&format!("LIST \"\" \"F{}*\"", self.number)).expect("the gate stays");
        let name = |line: &Vec<u8>| {
            let text = String::from_utf8_lossy(line).into_owned();
            text.rsplit(' ').next().unwrap().trim_matches('"').to_owned()
        };
        let names: BTreeSet<String> = listed.untagged.iter().map(name).collect();
        let mut found = BTreeMap::new();
        for name in &names {
            found.insert(name.clone(), talk.read(name).unwrap_or_else(|| panic!("{what}: {name} is listed only")));
        }
        // A folder in the middle of its renaming goes by the name it has.
        if let Pending::Rename { from, to } = &self.pending {
            assert!(found.contains_key(from) != found.contains_key(to), "{what}: neither or both of the names");
            if found.contains_key(to) {
                let folder = self.folders.remove(from).unwrap();
                self.folders.insert(to.clone(), folder);
            }
        }
        for (name, folder) in &found {
            match self.folders.get(name) {
                Some(known) => self.compare(name, known, folder, &what),
                None => {
                    let made = matches!(&self.pending, Pending::Create { name: made } if made == name);
                    assert!(made && folder.messages.is_empty(), "{what}: {name} came from nowhere");
                }
            }
        }
        for name in self.folders.keys().filter(|name| !found.contains_key(*name)) {
            let deleted = matches!(&self.pending, Pending::Delete { name: gone } if gone == name);
            assert!(deleted, "{what}: {name} is lost");
        }
        if let Pending::Move { text, .. } = &self.pending {
            let there = found.values().flat_map(|f| f.messages.values()).any(|m| m.text == *text);
            assert!(there, "{what}: a MOVE lost its message");
        }
        let listed = talk.command(&format!("LSUB \"\" \"F{}*\"", self.number)).expect("the gate stays");
        let subscribed: BTreeSet<String> = listed.untagged.iter().map(name).collect();
        let unsure = if let Pending::Subscribe { name } = &self.pending { name.as_str() } else { "" };
        for (name, on) in self.subscribed.iter().filter(|(name, _)| *name != unsure && found.contains_key(*name)) {
            assert_eq!(subscribed.contains(name), *on, "{what}: subscription of {name}");
        }
        let there = |name: &String| (name.clone(), subscribed.contains(name));
        self.subscribed = found.keys().map(there).collect();
        self.folders = found;
        self.pending = Pending::Nothing;
        std::mem::take(&mut self.acknowledged)
    }

    fn compare(&self, name: &str, known: &Folder, found: &Folder, what: &str) {
        let same = known.uid_validity == 0 || known.uid_validity == found.uid_validity;
        assert!(same, "{what}: UIDVALIDITY of {name} changed");
        assert!(found.uid_next >= known.uid_next, "{what}: UIDNEXT of {name} went back");
        for (uid, message) in &known.messages {
            match found.messages.get(uid) {
                None => {
                    let leaving = match &self.pending {
                        Pending::Move { from: folder, uid: leaving, .. }
                        | Pending::Expunge { folder, uid: leaving } => folder == name && leaving == uid,
                        _ => false,
                    };
                    assert!(leaving, "{what}: {name} lost {uid}, {message:?}");
                }
                Some(there) => {
                    assert_eq!(there.text, message.text, "{what}: {name} {uid} is another message");
                    let changing = matches!(&self.pending,
                        Pending::Store { folder, uid: changing } if folder == name && changing == uid);
                    assert!(
                        changing || there.flags == message.flags,
                        "{what}: {name} {uid}: {there:?}, not {message:?}"
                    );
                }
            }
        }
        let fresh: Vec<_> = found.messages.iter().filter(|(uid, _)| !known.messages.contains_key(uid)).collect();
        assert!(fresh.len() <= 1, "{what}: {name} has {fresh:?}");
        for (uid, message) in fresh {
            assert!(*uid >= known.uid_next, "{what}: {name} uses UID {uid} again");
            let coming = match &self.pending {
                Pending::Append { folder, text } => folder == name && *text == message.text,
                Pending::Copy { to, text } | Pending::Move { to, text, .. } => to == name && *text == message.text,
                _ => false,
            };
            assert!(coming, "{what}: {name} has {message:?}, which nobody put there");
        }
    }
}

/// The folder that all append to at once.
fn common(door: &Door, programs: &mut [Program], what: &str) {
    let found = door.imap().expect("a session").read(COMMON).expect(COMMON);
    let mut texts = BTreeSet::new();
    for (uid, message) in &found.messages {
        assert!(texts.insert(&message.text), "{what}: {} is there twice", message.text);
        let owner = programs.iter_mut().find(|p| message.text.starts_with(&format!("p{}.", p.number))).unwrap();
        let coming = matches!(&owner.pending,
            Pending::Append { folder, text } if folder == COMMON && *text == message.text);
        if coming {
            assert!(owner.common.insert(*uid, message.text.clone()).is_none(), "{what}: UID {uid} is used again");
        }
        assert_eq!(owner.common.get(uid), Some(&message.text), "{what}: {uid} in {COMMON}");
    }
    for program in programs {
        for (uid, text) in &program.common {
            let there = found.messages.get(uid).map(|message| &message.text);
            assert_eq!(there, Some(text), "{what}: {uid} in {COMMON}");
        }
    }
}

/// Someone who fills INBOX by IMAP and empties it by POP3.
struct PopProgram {
    random: Random,
    step: u32,
    inbox: Folder,
    /// A message that is being appended.
    coming: Option<String>,
    /// Messages whose removal was asked for by a QUIT that was not answered.
    leaving: BTreeSet<u32>,
    acknowledged: u64,
}

impl PopProgram {
    fn new(seed: u64) -> Self {
        let random = Random::new(seed ^ 0x706f70);
        Self { random, step: 0, inbox: Folder::default(), coming: None, leaving: BTreeSet::new(), acknowledged: 0 }
    }

    fn work(&mut self, door: &Door) {
        let Some(mut imap) = door.imap() else { return };
        loop {
            for _ in 0..3 {
                self.step += 1;
                let text = format!("pop.{}", self.step);
                self.coming = Some(text.clone());
                let Some(uid) = imap.append("INBOX", &text) else { return };
                assert!(uid >= self.inbox.uid_next, "UID {uid} was announced before");
                self.inbox.uid_next = uid + 1;
                self.inbox.messages.insert(uid, Message { text, flags: BTreeSet::new() });
                self.coming = None;
                self.acknowledged += 1;
            }
            if self.drop_some(door).is_none() {
                return;
            }
            self.acknowledged += 1;
        }
    }

    fn drop_some(&mut self, door: &Door) -> Option<()> {
        let mut pop = door.pop()?;
        let listed = listing(&mut pop)?;
        let mut marked = BTreeSet::new();
        for (number, (_, uid)) in &listed {
            if self.random.below(2) == 0 || self.inbox.messages.len() > 30 {
                pop.wire.send(&format!("DELE {number}"));
                let reply = pop.line()?;
                assert!(reply.starts_with(b"+OK"), "{}", String::from_utf8_lossy(&reply));
                marked.insert(*uid);
            }
        }
        if self.random.below(4) == 0 {
            // Goes away without QUIT: nothing may go.
            return Some(());
        }
        self.leaving = marked;
        pop.wire.send("QUIT");
        let reply = pop.line()?;
        assert!(reply.starts_with(b"+OK"), "{}", String::from_utf8_lossy(&reply));
        for uid in std::mem::take(&mut self.leaving) {
            self.inbox.messages.remove(&uid);
        }
        Some(())
    }

    fn check(&mut self, door: &Door, what: &str) -> u64 {
        let what = format!("{what}, POP3, coming {:?}, leaving {:?}", self.coming, self.leaving);
        let mut pop = door.pop().expect("a session");
        let listed = listing(&mut pop).expect("the gate stays");
        drop(pop);
        let found = door.imap().expect("a session").read("INBOX").expect("INBOX");
        let same = self.inbox.uid_validity == 0 || self.inbox.uid_validity == found.uid_validity;
        assert!(same, "{what}: UIDVALIDITY changed");
        assert!(found.uid_next >= self.inbox.uid_next, "{what}: UIDNEXT went back");
        let ids: Vec<(u32, u32)> = listed.into_values().collect();
        let expected: Vec<(u32, u32)> = found.messages.keys().map(|uid| (found.uid_validity, *uid)).collect();
        assert_eq!(ids, expected, "{what}: UIDL");
        for (uid, message) in &self.inbox.messages {
            match found.messages.get(uid) {
                None => assert!(self.leaving.contains(uid), "{what}: {uid} is lost, {message:?}"),
                Some(there) => assert_eq!(there.text, message.text, "{what}: {uid}"),
            }
        }
        for (uid, message) in found.messages.iter().filter(|(uid, _)| !self.inbox.messages.contains_key(uid)) {
            assert!(*uid >= self.inbox.uid_next, "{what}: UID {uid} is used again, or came back");
            assert_eq!(self.coming.as_ref(), Some(&message.text), "{what}: {uid}");
        }
        self.inbox = found;
        (self.coming, self.leaving) = (None, BTreeSet::new());
        std::mem::take(&mut self.acknowledged)
    }
}

/// Message numbers, with UIDVALIDITY and UID from the unique ids.
fn listing(pop: &mut Talk) -> Option<BTreeMap<u32, (u32, u32)>> {
    pop.wire.send("UIDL");
    let first = pop.line()?;
    assert!(first.starts_with(b"+OK"), "{}", String::from_utf8_lossy(&first));
    let mut all = BTreeMap::new();
    loop {
        let line = String::from_utf8(pop.line()?).unwrap();
        if line == "." {
            return Some(all);
        }
        let (number, id) = line.split_once(' ').unwrap();
        let (validity, uid) = id.split_once('.').unwrap();
        all.insert(number.parse().unwrap(), (validity.parse().unwrap(), uid.parse().unwrap()));
    }
}

/// Numbers that a seed decides (xorshift).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }
}
