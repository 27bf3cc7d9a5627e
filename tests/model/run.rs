//! One run: three sessions, a mailbox of their own, commands as the dice fall.

use std::collections::{BTreeSet, HashMap};

use crate::{
    Dice,
    mailbox::{Flags, Mailbox, flags, numbers, stored},
    picture::{Picture, Rules, Told, code},
    support::{ANN, Gate, mail, wire::Imap},
};

/// What a session asked to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What RFC 3501 has.
    Plain,
    /// Mod-sequences too.
    Condstore,
    /// And VANISHED.
    Qresync,
}

/// One connection.
pub struct Session {
    imap: Imap,
    kind: Kind,
    /// What it knows of the mailbox it has open, and whether only to look at it.
    pub open: Option<(Picture, bool)>,
    /// Tells one SELECT from the next.
    selection: u32,
}

impl Session {
    /// Signed in, nothing open.
    pub fn new(mut imap: Imap, kind: Kind) -> Self {
        match kind {
            Kind::Plain => {}
            Kind::Condstore => drop(imap.ok("ENABLE CONDSTORE")),
            Kind::Qresync => drop(imap.ok("ENABLE QRESYNC")),
        }
        Self { imap, kind, open: None, selection: 0 }
    }
}

/// What a program kept of a mailbox it left.
#[derive(Clone, Debug)]
pub struct Memory {
    /// What it was told.
    pub picture: Picture,
}

/// The run.
pub struct Run<'a> {
    gate: &'a Gate,
    pool: &'a mut [Session],
    /// Places of the three in the pool.
    who: [usize; 3],
    pub dice: Dice,
    pub mailbox: Mailbox,
    other: Mailbox,
    /// Which selection was told that a message is `\Recent`.
    recent: HashMap<u32, (usize, u32)>,
    pub memories: Vec<Memory>,
    trace: Trace,
    commands: usize,
}

/// The dialogue, shown when something is wrong with it.
struct Trace(Vec<String>);

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.0.join("\n"));
        }
    }
}

const NAMES: [&str; 7] = ["\\Seen", "\\Flagged", "\\Answered", "\\Deleted", "\\Deleted", "k1", "k2"];
const LOUD: Rules = Rules { expunge: true, bare: false, uid: false };

impl<'a> Run<'a> {
    /// Makes the mailboxes.
    pub fn new(gate: &'a Gate, pool: &'a mut [Session], seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut who = [0; 3];
        let mut places: Vec<usize> = (0..pool.len()).collect();
        for place in &mut who {
            *place = places.remove(dice.roll(places.len()));
        }
        let (mailbox, other) = (Mailbox::new(format!("m{seed}")), Mailbox::new(format!("o{seed}")));
        for name in [&mailbox.name, &other.name] {
            pool[who[0]].imap.ok(&format!("CREATE {name}"));
        }
        let trace = Trace(vec![format!("seed {seed}")]);
        let (recent, memories) = (HashMap::new(), Vec::new());
        Self { gate, pool, who, dice, mailbox, other, recent, memories, trace, commands: 0 }
    }

    /// Plays it; how many commands it was.
    pub fn carry_out(mut self) -> usize {
        for _ in 0..2 + self.dice.roll(5) {
            self.append(0);
        }
        for _ in 0..20 + self.dice.roll(40) {
            self.mailbox.begin();
            let at = self.dice.roll(3);
            if self.session(at).open.is_none() {
                self.open(at);
            } else {
                self.step(at);
            }
        }
        for at in 0..3 {
            if self.session(at).open.take().is_some() {
                self.say(at, "UNSELECT");
            }
        }
        for name in [self.mailbox.name.clone(), self.other.name.clone()] {
            self.say(0, &format!("DELETE {name}"));
        }
        self.commands
    }

    pub fn session(&mut self, at: usize) -> &mut Session {
        &mut self.pool[self.who[at]]
    }

    fn picture(&mut self, at: usize) -> &mut Picture {
        &mut self.session(at).open.as_mut().expect("an open mailbox").0
    }

    pub fn kind(&mut self, at: usize) -> Kind {
        self.session(at).kind
    }

    /// Sends a command; the lines and the status.
    pub fn say(&mut self, at: usize, command: &str) -> (Vec<String>, String) {
        self.commands += 1;
        let who = self.who[at];
        self.trace.0.push(format!("{who} C: {command}"));
        let reply = self.pool[who].imap.command(command);
        let lines = reply.lines();
        self.trace.0.extend(lines.iter().map(|line| format!("{who} S: {line}")));
        self.trace.0.push(format!("{who} S: {}", reply.status));
        (lines, reply.status)
    }

    /// Takes in what came with a command; `own` is what the session then knows by itself.
    fn hear(
        &mut self,
        at: usize,
        lines: &[String],
        status: &str,
        rules: Rules,
        own: impl FnOnce(&mut Picture),
    ) -> Told {
        let place = self.who[at];
        let (picture, read_only) = self.pool[place].open.as_mut().expect("an open mailbox");
        for line in lines {
            picture.hear(line, &mut self.mailbox, rules);
        }
        own(picture);
        let told = picture.done(status, &self.mailbox, rules);
        if !*read_only {
            let selection = (place, self.pool[place].selection);
            for (uid, items) in &told.fetched {
                if items.get("FLAGS").is_some_and(|flags| flags.contains("\\Recent")) {
                    let first = *self.recent.entry(*uid).or_insert(selection);
                    assert_eq!(first, selection, "UID {uid} is \\Recent to two sessions");
                }
            }
        }
        told
    }

    /// A command that only looks at, or changes, the open mailbox: what came with it.
    fn ask(&mut self, at: usize, command: &str, expected: &str, rules: Rules) -> (Told, String) {
        self.ask_knowing(at, command, expected, rules, |_| {})
    }

    fn ask_knowing(
        &mut self,
        at: usize,
        command: &str,
        expected: &str,
        rules: Rules,
        own: impl FnOnce(&mut Picture),
    ) -> (Told, String) {
        let (lines, status) = self.say(at, command);
        assert!(status.starts_with(expected), "{command}: {status}, not {expected}");
        (self.hear(at, &lines, &status, rules, own), status)
    }

    fn open(&mut self, at: usize) {
        let read_only = self.dice.chance(1, 5);
        let memory = (self.kind(at) == Kind::Qresync && !self.memories.is_empty() && self.dice.chance(2, 3))
            .then(|| self.memories[self.dice.roll(self.memories.len())].clone());
        let picture = self.select(at, read_only, memory.as_ref());
        let session = self.session(at);
        session.open = Some((picture, read_only));
        session.selection += 1;
    }

    fn step(&mut self, at: usize) {
        match self.dice.roll(20) {
            0 | 1 => self.append(at),
            2 => self.deliver(at),
            3..=5 => self.store(at),
            6 if self.kind(at) != Kind::Plain => self.store_if(at),
            6 => self.store(at),
            7 => self.copy(at),
            8 => self.move_away(at),
            9 | 10 => self.expunge(at),
            11 | 12 => self.fetch(at),
            13 | 14 => self.search(at),
            15 => drop(self.ask(at, "NOOP", "OK", LOUD)),
            16 => drop(self.ask(at, "CHECK", "OK", LOUD)),
            17 => self.idle(at),
            18 => self.status(at),
            _ => self.leave(at),
        }
    }

    fn some_flags(&mut self) -> Flags {
        (0..1 + self.dice.roll(2)).map(|_| (*self.dice.pick(&NAMES)).to_owned()).collect()
    }

    fn append(&mut self, at: usize) {
        let flags = if self.dice.chance(1, 2) { self.some_flags() } else { Flags::new() };
        let here = self.dice.chance(3, 4);
        let name = if here { &self.mailbox.name } else { &self.other.name };
        let list = flags.iter().cloned().collect::<Vec<_>>().join(" ");
        let command = format!("APPEND {name} ({list}) {{3+}}\r\nx\r\n");
        let target = if here { &mut self.mailbox } else { &mut self.other };
        let uid = target.add(flags);
        let (lines, status) = self.say(at, &command);
        let target = if here { &mut self.mailbox } else { &mut self.other };
        let (_, told) = status.split_once("[APPENDUID ").expect("APPENDUID");
        let words: Vec<&str> = told.split([' ', ']']).collect();
        target.validity(words[0].parse().unwrap());
        assert_eq!(words[1], uid.to_string(), "the new UID");
        if self.session(at).open.is_some() {
            self.hear(at, &lines, &status, LOUD, |_| {});
        }
    }

    /// Another program delivers a message; NOOP looks for it.
    fn deliver(&mut self, at: usize) {
        let folder = self.gate.maildir(ANN).join(format!(".{}", self.mailbox.name));
        let name = mail::unique_name();
        std::fs::write(folder.join("tmp").join(&name), "x\n").unwrap();
        std::fs::rename(folder.join("tmp").join(&name), folder.join("new").join(&name)).unwrap();
        self.trace.0.push("a delivery".to_owned());
        self.mailbox.add(Flags::new());
        self.ask(at, "NOOP", "OK", LOUD);
    }

    /// A set of messages for a command, by number or UID: how it is written, and the UIDs it means; none if it names a
    /// number too high.
    fn set(&mut self, at: usize, uid: bool) -> (String, Option<Vec<u32>>) {
        let count = self.picture(at).known.len();
        if uid {
            let last = self.mailbox.next;
            let (a, b) = (1 + self.dice.roll(last as usize) as u32, 1 + self.dice.roll(last as usize) as u32);
            // UID commands begin with the news: what is gone is not counted any more.
            let there = self.mailbox.uids();
            if self.dice.chance(1, 4) {
                let least = a.min(there.last().copied().unwrap_or(a));
                return (format!("{a}:*"), Some(there.into_iter().filter(|uid| *uid >= least).collect()));
            }
            let set = if a == b { a.to_string() } else { format!("{a}:{b}") };
            return (set, Some(there.into_iter().filter(|uid| (a.min(b)..=a.max(b)).contains(uid)).collect()));
        }
        if count == 0 || self.dice.chance(1, 30) {
            return ((count + 1).to_string(), None);
        }
        let (a, b) = (1 + self.dice.roll(count), 1 + self.dice.roll(count));
        let known = self.picture(at).uids();
        if self.dice.chance(1, 4) {
            return (format!("{a}:*"), Some(known[a - 1..].to_vec()));
        }
        let (set, both) = if self.dice.chance(1, 3) {
            (format!("{a},{b}"), [a, b].into_iter().collect::<BTreeSet<_>>())
        } else {
            (format!("{a}:{b}"), (a.min(b)..=a.max(b)).collect())
        };
        (set, Some(both.into_iter().map(|at| known[at - 1]).collect()))
    }

    fn is_there(&self, uid: &u32) -> bool {
        self.mailbox.messages().contains_key(uid)
    }

    fn read_only(&mut self, at: usize) -> bool {
        self.session(at).open.as_ref().is_some_and(|(_, read_only)| *read_only)
    }

    fn store(&mut self, at: usize) {
        let uid = self.dice.chance(1, 2);
        let (set, chosen) = self.set(at, uid);
        let op = *self.dice.pick(&["+FLAGS", "-FLAGS", "FLAGS"]);
        let silent = self.dice.chance(1, 2);
        let given = self.some_flags();
        let list = given.iter().cloned().collect::<Vec<_>>().join(" ");
        let (prefix, suffix) = (if uid { "UID " } else { "" }, if silent { ".SILENT" } else { "" });
        let command = format!("{prefix}STORE {set} {op}{suffix} ({list})");
        let rules = Rules { expunge: uid, bare: false, uid };
        let Some(chosen) = chosen else { return drop(self.ask(at, &command, "BAD", rules)) };
        if self.read_only(at) {
            return drop(self.ask(at, &command, "NO [READ-ONLY]", rules));
        }
        let missing = chosen.iter().any(|uid| !self.is_there(uid));
        for uid in chosen.iter().filter(|uid| self.is_there(uid)).copied().collect::<Vec<_>>() {
            let flags = stored(&self.mailbox.messages()[&uid], op, &given);
            self.mailbox.set(uid, flags);
        }
        let expected = if missing { "NO [EXPUNGEISSUED]" } else { "OK" };
        // What the session does itself it knows, told or not.
        let own = |picture: &mut Picture| {
            for known in picture.known.iter_mut().filter(|known| chosen.contains(&known.uid)) {
                known.flags = known.flags.as_ref().map(|flags| stored(flags, op, &given));
            }
        };
        let (told, _) = self.ask_knowing(at, &command, expected, rules, own);
        if !silent {
            let heard: BTreeSet<u32> = told.fetched.iter().map(|(uid, _)| *uid).collect();
            assert!(
                chosen.iter().filter(|uid| self.is_there(uid)).all(|uid| heard.contains(uid)),
                "{command}: told of all"
            );
        }
    }

    /// A conditional STORE that all messages pass, or none: since they came, all were changed at mod-sequence 2 or later.
    fn store_if(&mut self, at: usize) {
        let uid = self.dice.chance(1, 2);
        let (set, chosen) = self.set(at, uid);
        let (chosen, read_only) = (chosen.unwrap_or_default(), self.read_only(at));
        if chosen.is_empty() || read_only {
            return;
        }
        let passes = self.dice.chance(1, 2);
        let since = if passes { i64::MAX } else { 1 };
        let command = format!(
            "{}STORE {set} (UNCHANGEDSINCE {since}) +FLAGS.SILENT (\\Answered)",
            if uid { "UID " } else { "" }
        );
        let there: Vec<u32> = chosen.iter().copied().filter(|uid| self.is_there(uid)).collect();
        let known = self.picture(at).uids();
        let given = flags("\\Answered");
        for uid in there.iter().filter(|_| passes) {
            let flags = stored(&self.mailbox.messages()[uid], "+FLAGS", &given);
            self.mailbox.set(*uid, flags);
        }
        let own = |picture: &mut Picture| {
            for known in picture.known.iter_mut().filter(|known| passes && chosen.contains(&known.uid)) {
                known.flags = known.flags.as_ref().map(|flags| stored(flags, "+FLAGS", &given));
            }
        };
        let rules = Rules { expunge: uid, ..LOUD };
        let missing = there.len() < chosen.len();
        let expected = if missing { "NO [" } else { "OK" };
        let (told, status) = self.ask_knowing(at, &command, expected, rules, own);
        assert!(there.iter().all(|uid| told.fetched.iter().any(|(told, _)| told == uid)), "{command}: told of all");
        let modified = status.split_once("[MODIFIED ").map(|(_, rest)| numbers(rest.split(']').next().unwrap()));
        let number = |uid: &u32| known.iter().position(|known| known == uid).map_or(0, |at| at as u32 + 1);
        let refused: Vec<u32> = there.iter().map(|message| if uid { *message } else { number(message) }).collect();
        assert_eq!(modified.unwrap_or_default(), if passes { Vec::new() } else { refused }, "{status}");
    }

    fn fetch(&mut self, at: usize) {
        let uid = self.dice.chance(1, 2);
        let (set, chosen) = self.set(at, uid);
        // The last asks for a piece of the body that is not there: the message is read all the same.
        let items = *self.dice.pick(&["FLAGS", "(FLAGS UID)", "(UID)", "(BODY.PEEK[]<9.1>)", "(BODY[]<9.1>)"]);
        let command = format!("{}FETCH {set} {items}", if uid { "UID " } else { "" });
        let rules = Rules { expunge: uid, bare: true, uid: true };
        let Some(chosen) = chosen else { return drop(self.ask(at, &command, "BAD", rules)) };
        let missing = chosen.iter().any(|uid| !self.is_there(uid));
        if items.contains("BODY[") && !self.read_only(at) {
            for uid in chosen.iter().copied().filter(|uid| self.is_there(uid)).collect::<Vec<_>>() {
                let flags = stored(&self.mailbox.messages()[&uid], "+FLAGS", &flags("\\Seen"));
                self.mailbox.set(uid, flags);
            }
        }
        let (told, _) = self.ask(at, &command, if missing { "NO [EXPUNGEISSUED]" } else { "OK" }, rules);
        let heard: BTreeSet<u32> = told.fetched.iter().map(|(uid, _)| *uid).collect();
        assert!(
            chosen.iter().filter(|uid| self.is_there(uid)).all(|uid| heard.contains(uid)),
            "{command}: told of all"
        );
    }

    fn search(&mut self, at: usize) {
        let uid = self.dice.chance(1, 2);
        let by_number = self.dice.chance(1, 3);
        let (not, name) = (self.dice.chance(1, 2), *self.dice.pick(&NAMES));
        let key = name.strip_prefix('\\').map_or_else(|| format!("KEYWORD {name}"), str::to_ascii_uppercase);
        let count = self.picture(at).known.len();
        let (low, high) = (1 + self.dice.roll(count + 1), 1 + self.dice.roll(count + 1));
        let range = if by_number { format!(" {low}:{high}") } else { String::new() };
        let command =
            format!("{}SEARCH {}{key}{range}", if uid { "UID " } else { "" }, if not { "NOT " } else { "" });
        let fits = |number: usize, message: u32, mailbox: &Mailbox| {
            let flags = mailbox.messages().get(&message)?;
            let inside = !by_number || (low.min(high)..=low.max(high)).contains(&number);
            (inside && flags.contains(name) != not).then_some(if uid { message } else { number as u32 })
        };
        let known = self.picture(at).uids();
        let expected: Vec<u32> =
            known.iter().enumerate().filter_map(|(at, message)| fits(at + 1, *message, &self.mailbox)).collect();
        let rules = Rules { expunge: uid && !by_number, ..LOUD };
        let (told, _) = self.ask(at, &command, "OK", rules);
        assert_eq!(told.found, Some(expected), "{command}");
    }

    fn copied(status: &str, chosen: &[u32], first: u32) {
        let Some((_, told)) = status.split_once("[COPYUID ") else {
            return assert!(chosen.is_empty(), "no COPYUID: {status}");
        };
        let words: Vec<&str> = told.split([' ', ']']).collect();
        let there: Vec<u32> = (first..).take(chosen.len()).collect();
        assert_eq!((numbers(words[1]), numbers(words[2])), (chosen.to_vec(), there), "{status}");
    }

    /// Puts copies where they belong; the first new UID. None of the messages may be gone.
    fn transfer(&mut self, chosen: &[u32], here: bool) -> u32 {
        let flags: Vec<Flags> = chosen.iter().map(|uid| self.mailbox.messages()[uid].clone()).collect();
        let target = if here { &mut self.mailbox } else { &mut self.other };
        let first = target.next;
        for flags in flags {
            target.add(flags);
        }
        first
    }

    fn copy(&mut self, at: usize) {
        let (uid, here) = (self.dice.chance(1, 2), self.dice.chance(1, 3));
        let (set, chosen) = self.set(at, uid);
        let name = if here { &self.mailbox.name } else { &self.other.name };
        let command = format!("{}COPY {set} {name}", if uid { "UID " } else { "" });
        let Some(chosen) = chosen else { return drop(self.ask(at, &command, "BAD", LOUD)) };
        if chosen.iter().any(|uid| !self.is_there(uid)) {
            return drop(self.ask(at, &command, "NO [EXPUNGEISSUED]", LOUD));
        }
        let first = self.transfer(&chosen, here);
        let (_, status) = self.ask(at, &command, "OK", LOUD);
        Self::copied(&status, &chosen, first);
    }

    fn move_away(&mut self, at: usize) {
        let (uid, here) = (self.dice.chance(1, 2), self.dice.chance(1, 4));
        let (set, chosen) = self.set(at, uid);
        let name = if here { &self.mailbox.name } else { &self.other.name };
        let command = format!("{}MOVE {set} {name}", if uid { "UID " } else { "" });
        let Some(chosen) = chosen else { return drop(self.ask(at, &command, "BAD", LOUD)) };
        if self.read_only(at) {
            return drop(self.ask(at, &command, "NO [READ-ONLY]", LOUD));
        }
        if chosen.iter().any(|uid| !self.is_there(uid)) {
            return drop(self.ask(at, &command, "NO [EXPUNGEISSUED]", LOUD));
        }
        let first = self.transfer(&chosen, here);
        chosen.iter().for_each(|uid| self.mailbox.remove(*uid));
        let (told, _) = self.ask(at, &command, "OK", LOUD);
        let copied = told.other.iter().find(|line| line.contains("COPYUID")).map_or("", |line| line);
        Self::copied(copied, &chosen, first);
    }

    /// Messages that the session counts and that are marked.
    fn marked(&mut self, at: usize) -> Vec<u32> {
        let known = self.picture(at).uids();
        let is_marked =
            |uid: &u32| self.mailbox.messages().get(uid).is_some_and(|flags| flags.contains("\\Deleted"));
        known.into_iter().filter(is_marked).collect()
    }

    fn expunge(&mut self, at: usize) {
        let (uid, read_only) = (self.dice.chance(1, 3), self.read_only(at));
        let (set, among) = if uid { self.set(at, true) } else { (String::new(), None) };
        let command = if uid { format!("UID EXPUNGE {set}") } else { "EXPUNGE".to_owned() };
        if read_only {
            return drop(self.ask(at, &command, "NO [READ-ONLY]", LOUD));
        }
        // UID EXPUNGE begins with the news, so that it knows new messages too.
        let marked = match among {
            Some(among) => {
                let is_marked = |uid: &u32| self.mailbox.messages()[uid].contains("\\Deleted");
                among.into_iter().filter(is_marked).collect()
            }
            None => self.marked(at),
        };
        marked.iter().for_each(|uid| self.mailbox.remove(*uid));
        let (_, status) = self.ask(at, &command, "OK", LOUD);
        let tells = self.kind(at) != Kind::Plain && !marked.is_empty();
        assert_eq!(code(&status, "HIGHESTMODSEQ").is_some(), tells, "{status}");
    }

    fn status(&mut self, at: usize) {
        let command = format!("STATUS {} (MESSAGES UIDNEXT UNSEEN)", self.mailbox.name);
        let (told, _) = self.ask(at, &command, "OK", LOUD);
        let unseen = self.mailbox.messages().values().filter(|flags| !flags.contains("\\Seen")).count();
        let expected =
            format!("(MESSAGES {} UIDNEXT {} UNSEEN {unseen})", self.mailbox.messages().len(), self.mailbox.next);
        assert!(told.other.iter().any(|line| line.ends_with(&expected)), "{expected}");
    }

    /// One session waits, the others work.
    fn idle(&mut self, at: usize) {
        let place = self.who[at];
        self.trace.0.push(format!("{place} C: IDLE"));
        let tag = self.pool[place].imap.idle();
        self.commands += 1;
        for _ in 0..1 + self.dice.roll(3) {
            let other = (at + 1 + self.dice.roll(2)) % 3;
            if self.session(other).open.is_some() {
                match self.dice.roll(3) {
                    0 => self.append(other),
                    1 => self.store(other),
                    _ => self.expunge(other),
                }
            } else {
                self.append(other);
            }
        }
        // Everything comes without being asked for; how long it may take is for `Wire` to say.
        let mut heard = Vec::new();
        while !self.knows_all(at) {
            let line = String::from_utf8_lossy(&self.pool[place].imap.response()).into_owned();
            self.trace.0.push(format!("{place} S: {line}"));
            let (picture, _) = self.pool[place].open.as_mut().expect("an open mailbox");
            picture.hear(&line, &mut self.mailbox, LOUD);
            heard.push(line);
        }
        self.pool[place].imap.wire.send("DONE");
        let reply = self.pool[place].imap.finish(&tag);
        self.trace.0.extend(reply.lines().iter().map(|line| format!("{place} S: {line}")));
        self.hear(at, &reply.lines(), &reply.status, LOUD, |_| {});
    }

    fn knows_all(&mut self, at: usize) -> bool {
        let truth = self.mailbox.messages().clone();
        let picture = self.picture(at);
        let knows =
            |uid: u32, flags: &Option<Flags>| flags.as_ref().is_none_or(|flags| Some(flags) == truth.get(&uid));
        picture.uids().into_iter().eq(truth.keys().copied())
            && picture.known.iter().all(|known| knows(known.uid, &known.flags))
    }

    /// UNSELECT, CLOSE, another SELECT; what the session knew may come back.
    fn leave(&mut self, at: usize) {
        let (picture, read_only) = self.session(at).open.clone().expect("an open mailbox");
        if picture.kind == Kind::Qresync && picture.highest > 0 {
            self.memories.push(Memory { picture });
        }
        match self.dice.roll(3) {
            0 => {
                self.say(at, "UNSELECT");
                self.session(at).open = None;
            }
            1 => {
                if !read_only {
                    let marked = self.marked(at);
                    marked.iter().for_each(|uid| self.mailbox.remove(*uid));
                }
                let (lines, status) = self.say(at, "CLOSE");
                assert!(
                    lines.is_empty() && status.starts_with("OK") && !status.contains("MODSEQ"),
                    "CLOSE is silent"
                );
                self.session(at).open = None;
            }
            _ => self.open(at),
        }
    }
}
