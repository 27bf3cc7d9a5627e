//! ENABLE (RFC 5161): what a session asked to be told in a newer way. Kept by the dialogue, asked by whoever answers.

use super::{modseq, reply::Reply};
use crate::imap::{mailbox::Names, write};
use crate::maildir::View;
use crate::session::login::Dialog;

/// What this session has switched on. Nothing is ever switched off again (RFC 5161 section 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::session) struct Enabled {
    /// IMAP4rev2 (RFC 9051).
    pub rev2: bool,
    /// UTF8=ACCEPT (RFC 6855).
    pub utf8: bool,
    /// CONDSTORE (RFC 7162 section 3.1): by ENABLE, or by the first command that speaks of mod-sequences.
    pub condstore: bool,
    /// QRESYNC (RFC 7162 section 3.2), which switches CONDSTORE on too.
    pub qresync: bool,
    /// METADATA (RFC 5464 section 4.1): annotations that others change are told.
    pub metadata: bool,
}

impl Enabled {
    /// How this session writes mailbox names.
    pub(super) fn names(self) -> Names {
        if self.rev2 || self.utf8 { Names::Utf8 } else { Names::Mutf7 }
    }

    /// The switches of a word, in capital letters; none for what cannot be enabled.
    fn switch(&mut self, word: &str) -> Option<&'static str> {
        let (name, switches): (_, &mut [&mut bool]) = match word {
            "IMAP4REV2" => ("IMAP4rev2", &mut [&mut self.rev2]),
            "UTF8=ACCEPT" => ("UTF8=ACCEPT", &mut [&mut self.utf8]),
            "METADATA" => ("METADATA", &mut [&mut self.metadata]),
            "CONDSTORE" => ("CONDSTORE", &mut [&mut self.condstore]),
            "QRESYNC" => ("QRESYNC", &mut [&mut self.qresync, &mut self.condstore]),
            _ => return None,
        };
        let was = switches.first().is_some_and(|first| **first);
        switches.iter_mut().for_each(|switch| **switch = true);
        (!was).then_some(name)
    }
}

/// Switches on what is known of `words`; the untagged answer names what was not on before (RFC 5161 section 3.2).
/// `view` is the open mailbox.
pub(super) fn enable(dialog: &mut Dialog, words: &[String], view: Option<&View>) -> Reply {
    let before = dialog.enabled;
    let mut fresh: Vec<&str> = Vec::new();
    for word in words {
        dialog.enabled.switch(word);
        // New is what was off before the command: QRESYNC switches CONDSTORE on, and both may be asked for.
        fresh.extend({ before }.switch(word).filter(|name| !fresh.contains(name)));
    }
    if dialog.enabled.names() == Names::Utf8 {
        dialog.framer.speaks_utf8();
    }
    write::enabled(&mut dialog.link.wire.out, fresh);
    if let Some(view) = view
        && dialog.enabled.condstore
        && !before.condstore
    {
        modseq::tell_highest(dialog, view);
    }
    Reply::ok("ENABLE done")
}
