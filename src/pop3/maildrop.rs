//! What one session sees of its mailbox: numbers that never move, marks that count only at QUIT (RFC 1939 sections 5
//! and 6). Called by `session`, which owns the messages themselves.

use std::{collections::BTreeMap, fmt::Write as _};

use bytes::BytesMut;

use super::{command::Command, reply};

/// The messages of one session, numbered from 1 in the order given.
#[derive(Debug)]
pub struct Maildrop {
    uid_validity: u32,
    messages: Vec<Message>,
    /// The unique ids of messages that were taken over from another server, by UID.
    ids: BTreeMap<u32, Box<str>>,
    /// Messages not marked, and their octets.
    kept: usize,
    octets: u64,
    /// DELE is refused.
    only_read: bool,
}

#[derive(Debug)]
struct Message {
    uid: u32,
    /// Octets of the message with CRLF line ends.
    size: u64,
    deleted: bool,
}

/// What the session has to do for a command.
#[derive(Debug)]
pub enum Next {
    /// Nothing: the reply is written.
    Done,
    /// Call [`Listing::fill`] until it says that it is done.
    Listing(Listing),
    /// RETR or TOP: open the message, answer [`reply::message`] and stream it through a [`super::Body`], or `-ERR`.
    Send {
        /// Place of the message in the order given to [`Maildrop::new`], from 0.
        index: usize,
        /// Octets as LIST tells them.
        size: u64,
        /// TOP: lines after the header. `None`: the whole message.
        top: Option<u32>,
    },
    /// QUIT: remove [`Maildrop::deleted`], sync, answer, close.
    Update,
}

impl Maildrop {
    /// `messages` are `(uid, size in octets)`; the order makes the numbers.
    pub fn new(uid_validity: u32, messages: impl IntoIterator<Item = (u32, u64)>) -> Self {
        let messages: Vec<_> =
            messages.into_iter().map(|(uid, size)| Message { uid, size, deleted: false }).collect();
        let ids = BTreeMap::new();
        let mut maildrop = Self { uid_validity, messages, ids, kept: 0, octets: 0, only_read: false };
        maildrop.reset();
        maildrop
    }

    /// Gives the messages with these UIDs the unique ids they had on another server, so that nobody fetches them again.
    pub fn call(&mut self, ids: BTreeMap<u32, Box<str>>) {
        self.ids = ids;
    }

    /// Nothing may be marked as deleted: for a member of a shared mailbox who may only read it.
    pub fn only_read(&mut self) {
        self.only_read = true;
    }

    /// Messages not marked as deleted, and their octets together: for the reply to a login.
    pub fn totals(&self) -> (usize, u64) {
        (self.kept, self.octets)
    }

    /// Places, from 0, of the messages that QUIT removes.
    pub fn deleted(&self) -> impl Iterator<Item = usize> + '_ {
        self.messages.iter().enumerate().filter(|(_, message)| message.deleted).map(|(index, _)| index)
    }

    /// Answers what can be answered from numbers alone, into `out`; says what else is to do.
    pub fn answer(&mut self, command: Command, out: &mut BytesMut) -> Next {
        match command {
            Command::Stat => reply::ok(out, &format!("{} {}", self.kept, self.octets)),
            Command::List(None) => return Next::Listing(Listing { what: What::Sizes, next: None }),
            Command::Uidl(None) => return Next::Listing(Listing { what: What::Ids, next: None }),
            Command::List(Some(number)) => self.one(What::Sizes, number, out),
            Command::Uidl(Some(number)) => self.one(What::Ids, number, out),
            Command::Retr(number) => return self.send(number, None, out),
            Command::Top { number, lines } => return self.send(number, Some(lines), out),
            Command::Dele(number) => self.delete(number, out),
            Command::Rset => {
                self.reset();
                reply::ok(out, &format!("maildrop has {} messages ({} octets)", self.kept, self.octets));
            }
            Command::Quit => return Next::Update,
        }
        Next::Done
    }

    fn one(&self, what: What, number: u32, out: &mut BytesMut) {
        match self.find(number) {
            Ok((_, message)) => {
                let mut text = String::new();
                self.describe(what, number, message, &mut text);
                reply::ok(out, &text);
            }
            Err(problem) => reply::err(out, problem),
        }
    }

    fn send(&self, number: u32, top: Option<u32>, out: &mut BytesMut) -> Next {
        match self.find(number) {
            Ok((index, message)) => Next::Send { index, size: message.size, top },
            Err(problem) => {
                reply::err(out, problem);
                Next::Done
            }
        }
    }

    fn delete(&mut self, number: u32, out: &mut BytesMut) {
        if self.only_read {
            return reply::err(out, "[SYS/PERM] you may only read this mailbox");
        }
        match self.find(number).map(|(index, message)| (index, message.size)) {
            Ok((index, size)) => {
                self.messages.iter_mut().skip(index).take(1).for_each(|message| message.deleted = true);
                self.kept = self.kept.saturating_sub(1);
                self.octets = self.octets.saturating_sub(size);
                reply::ok(out, &format!("message {number} deleted"));
            }
            Err(problem) => reply::err(out, problem),
        }
    }

    fn reset(&mut self) {
        self.messages.iter_mut().for_each(|message| message.deleted = false);
        self.kept = self.messages.len();
        self.octets = self.messages.iter().fold(0, |sum, message| sum.saturating_add(message.size));
    }

    fn find(&self, number: u32) -> Result<(usize, &Message), &'static str> {
        let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        match index.and_then(|index| Some((index, self.messages.get(index)?))) {
            None => Err("no such message"),
            Some((_, message)) if message.deleted => Err("message is deleted"),
            Some(found) => Ok(found),
        }
    }

    /// `number size` or `number unique-id`. The id is UIDVALIDITY and UID: both never change (RFC 1939 section 7 allows
    /// 1 to 70 characters from 0x21 to 0x7E).
    fn describe(&self, what: What, number: u32, message: &Message, text: &mut String) {
        let _ = match what {
            What::Sizes => write!(text, "{number} {}", message.size),
            What::Ids => match self.ids.get(&message.uid) {
                Some(id) => write!(text, "{number} {id}"),
                None => write!(text, "{number} {}.{}", self.uid_validity, message.uid),
            },
        };
    }
}

#[derive(Clone, Copy, Debug)]
enum What {
    Sizes,
    Ids,
}

/// LIST or UIDL of a whole maildrop, written in pieces: a million messages must not become one buffer.
#[derive(Debug)]
pub struct Listing {
    what: What,
    /// Next place, from 0; `None` before the first line.
    next: Option<usize>,
}

impl Listing {
    /// Writes on until `out` holds `room` bytes or more. True when all is written.
    pub fn fill(&mut self, maildrop: &Maildrop, out: &mut BytesMut, room: usize) -> bool {
        let next = self.next.get_or_insert_with(|| {
            reply::ok(out, &format!("{} messages ({} octets)", maildrop.kept, maildrop.octets));
            0
        });
        let mut line = String::new();
        while let Some(message) = maildrop.messages.get(*next) {
            if out.len() >= room {
                return false;
            }
            *next += 1;
            if !message.deleted {
                line.clear();
                maildrop.describe(self.what, u32::try_from(*next).unwrap_or(u32::MAX), message, &mut line);
                line.push_str("\r\n");
                out.extend_from_slice(line.as_bytes());
            }
        }
        out.extend_from_slice(b".\r\n");
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn three() -> Maildrop {
        Maildrop::new(17, [(4, 100), (9, 2_000), (12, 30)])
    }

    #[test]
    fn who_may_only_read_marks_nothing() {
        let mut maildrop = three();
        maildrop.only_read();
        assert_eq!(said(&mut maildrop, Command::Dele(1)), "-ERR [SYS/PERM] you may only read this mailbox\r\n");
        assert_eq!(maildrop.deleted().count(), 0);
        assert_eq!(maildrop.totals(), (3, 2_130));
    }

    fn said(maildrop: &mut Maildrop, command: Command) -> String {
        let mut out = BytesMut::new();
        match maildrop.answer(command, &mut out) {
            Next::Done => {}
            Next::Listing(mut listing) => while !listing.fill(maildrop, &mut out, usize::MAX) {},
            Next::Send { index, size, top } => return format!("send {index} {size} {top:?}"),
            Next::Update => return format!("update {:?}", maildrop.deleted().collect::<Vec<_>>()),
        }
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn numbers_never_move_and_marks_count_only_at_quit() {
        use Command::{Dele, List, Quit, Retr, Rset, Stat, Top, Uidl};
        let mut drop = three();
        for (command, expected) in [
            (Stat, "+OK 3 2130\r\n"),
            (List(None), "+OK 3 messages (2130 octets)\r\n1 100\r\n2 2000\r\n3 30\r\n.\r\n"),
            (Uidl(None), "+OK 3 messages (2130 octets)\r\n1 17.4\r\n2 17.9\r\n3 17.12\r\n.\r\n"),
            (Dele(2), "+OK message 2 deleted\r\n"),
            (Dele(2), "-ERR message is deleted\r\n"),
            (Stat, "+OK 2 130\r\n"),
            (List(None), "+OK 2 messages (130 octets)\r\n1 100\r\n3 30\r\n.\r\n"),
            (List(Some(2)), "-ERR message is deleted\r\n"),
            (List(Some(3)), "+OK 3 30\r\n"),
            (Uidl(Some(3)), "+OK 3 17.12\r\n"),
            (Uidl(Some(0)), "-ERR no such message\r\n"),
            (Retr(4), "-ERR no such message\r\n"),
            (Retr(u32::MAX), "-ERR no such message\r\n"),
            (Retr(2), "-ERR message is deleted\r\n"),
            (Retr(3), "send 2 30 None"),
            (Top { number: 1, lines: 0 }, "send 0 100 Some(0)"),
            (Quit, "update [1]"),
            (Rset, "+OK maildrop has 3 messages (2130 octets)\r\n"),
            (Stat, "+OK 3 2130\r\n"),
            (Quit, "update []"),
        ] {
            assert_eq!(said(&mut drop, command), expected, "{command:?}");
        }
    }

    #[test]
    fn messages_of_another_server_keep_their_ids() {
        let mut drop = three();
        drop.call(BTreeMap::from([(9, "000000090000abcd".into())]));
        let all = "+OK 3 messages (2130 octets)\r\n1 17.4\r\n2 000000090000abcd\r\n3 17.12\r\n.\r\n";
        assert_eq!(said(&mut drop, Command::Uidl(None)), all);
        assert_eq!(said(&mut drop, Command::Uidl(Some(2))), "+OK 2 000000090000abcd\r\n");
    }

    #[test]
    fn an_empty_maildrop_lists_nothing() {
        let mut drop = Maildrop::new(1, []);
        assert_eq!(said(&mut drop, Command::Stat), "+OK 0 0\r\n");
        assert_eq!(said(&mut drop, Command::List(None)), "+OK 0 messages (0 octets)\r\n.\r\n");
        assert_eq!(said(&mut drop, Command::List(Some(1))), "-ERR no such message\r\n");
    }

    #[test]
    fn a_long_list_is_written_in_pieces() {
        let mut drop = Maildrop::new(1, (1..=10_000).map(|uid| (uid, 1)));
        let whole = said(&mut drop, Command::Uidl(None));
        let Next::Listing(mut listing) = drop.answer(Command::Uidl(None), &mut BytesMut::new()) else {
            panic!("a list");
        };
        let mut pieces = String::new();
        loop {
            let mut out = BytesMut::new();
            let done = listing.fill(&drop, &mut out, 1_000);
            assert!(out.len() < 1_100, "{} bytes", out.len());
            pieces.push_str(str::from_utf8(&out).unwrap());
            if done {
                break;
            }
        }
        assert_eq!(pieces, whole);
    }
}
