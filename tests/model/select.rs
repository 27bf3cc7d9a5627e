//! SELECT and EXAMINE: what they tell of the mailbox, and to a program that comes back what it missed.

use crate::{
    mailbox::Mailbox,
    picture::{Picture, Rules, code},
    run::{Kind, Memory, Run},
};

impl Run<'_> {
    /// Opens the mailbox; with a memory, by QRESYNC.
    pub fn select(&mut self, at: usize, read_only: bool, memory: Option<&Memory>) -> Picture {
        let verb = if read_only { "EXAMINE" } else { "SELECT" };
        let kind = self.kind(at);
        let parameter = match (memory, self.mailbox.validity) {
            (Some(memory), Some(validity)) => {
                let known = if self.dice.chance(1, 2) { matches(&memory.picture) } else { String::new() };
                format!(" (QRESYNC ({validity} {}{known}))", memory.picture.highest)
            }
            _ => String::new(),
        };
        let command = format!("{verb} {}{parameter}", self.mailbox.name);
        let was_open = self.session(at).open.take().is_some();
        let (lines, status) = self.say(at, &command);
        let code_word = if read_only { "OK [READ-ONLY]" } else { "OK [READ-WRITE]" };
        assert!(status.starts_with(code_word), "{command}: {status}");
        assert_eq!(lines.first().is_some_and(|line| line.starts_with("* OK [CLOSED]")), was_open, "CLOSED");

        let mut picture = Picture::new(kind, &self.mailbox);
        let told = |name: &str| lines.iter().find_map(|line| code(line, name));
        self.mailbox.validity(told("UIDVALIDITY").unwrap().try_into().unwrap());
        assert_eq!(told("UIDNEXT"), Some(u64::from(self.mailbox.next)), "UIDNEXT");
        let count = picture.known.len();
        assert!(lines.contains(&format!("* {count} EXISTS")), "{count} EXISTS");
        let unseen = self.mailbox.messages().values().position(|flags| !flags.contains("\\Seen"));
        assert_eq!(told("UNSEEN"), unseen.map(|at| at as u64 + 1), "UNSEEN");
        let highest = told("HIGHESTMODSEQ").unwrap();
        assert!(highest >= self.mailbox.highest, "HIGHESTMODSEQ went back");
        self.mailbox.highest = highest;

        let rules = Rules { expunge: false, bare: false, uid: true };
        for line in &lines {
            picture.hear(line, &mut self.mailbox, rules);
        }
        if let Some(memory) = memory {
            caught_up(memory, &picture, &self.mailbox);
        }
        picture.done(&status, &self.mailbox, rules);
        assert_eq!(picture.highest, if kind == Kind::Plain { 0 } else { highest });
        picture
    }
}

/// Every UID that is known, and message numbers for them.
fn matches(picture: &Picture) -> String {
    let Some(last) = picture.known.last() else { return String::new() };
    let list = |numbers: Vec<String>| numbers.join(",");
    let numbers = list((1..=picture.known.len()).map(|at| at.to_string()).collect());
    let uids = list(picture.known.iter().map(|known| known.uid.to_string()).collect());
    format!(" 1:{} ({numbers} {uids})", last.uid)
}

/// What the program kept, with what it was told now, is what is true of the messages it knew.
fn caught_up(memory: &Memory, picture: &Picture, mailbox: &Mailbox) {
    for known in &memory.picture.known {
        let gone = picture.told.earlier.contains(&known.uid);
        let truth = mailbox.messages().get(&known.uid);
        assert_eq!(
            gone,
            truth.is_none(),
            "UID {} after what was missed since {}",
            known.uid,
            memory.picture.highest
        );
        let Some(truth) = truth else { continue };
        let told = picture.known.iter().find(|now| now.uid == known.uid).and_then(|now| now.flags.as_ref());
        if let Some(flags) = told.or(known.flags.as_ref()) {
            assert_eq!(flags, truth, "UID {} after what was missed since {}", known.uid, memory.picture.highest);
        }
    }
    for uid in &picture.told.earlier {
        assert!(!mailbox.messages().contains_key(uid), "UID {uid} is there, and VANISHED");
    }
}
