//! Whether messages that are taken over keep their UIDs. Clients that move from the source know them, so none may ever
//! stand for other mail: UIDs that the source gave out are kept from what is delivered here meanwhile.

use crate::maildir::{
    error::MailError,
    folder::Exclusive,
    record::Record,
    state::{Imported, State},
};

/// Highest UIDVALIDITY that is taken over: those of folders made later have to be higher still.
const MAX_VALIDITY: u32 = u32::MAX - 0xFFFF;

/// How a source numbers the messages of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbering {
    /// Its UIDVALIDITY.
    pub uid_validity: u32,
    /// Its UIDNEXT: above every UID it ever gave out there.
    pub uid_next: u32,
}

impl Numbering {
    /// Whether a folder here can have this UIDVALIDITY.
    pub fn can_be_kept(&self) -> bool {
        (1..=MAX_VALIDITY).contains(&self.uid_validity) && self.uid_next > 0
    }
}

/// What a folder is to a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// It never had a message: it takes over the source's numbers.
    Fresh,
    /// It has the source's numbers.
    Known,
    /// It has the source's UIDVALIDITY, and both gave out the same UIDs since: whoever was told of the one would take the
    /// other for it.
    Mixed,
    /// It has numbers of its own.
    Others,
}

/// How messages of a source are to be numbered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub ground: Ground,
    /// How far the source was taken over.
    pub upto: u64,
    /// UIDs below this one are the source's; 0 where they are not kept.
    pub reserved: u32,
}

impl Plan {
    pub(super) fn new(state: &State, numbering: Option<Numbering>, source: u64) -> Self {
        let known = state.imported.get(&source).copied();
        let Imported { upto, reserved } = known.unwrap_or_default();
        let others = Self { ground: Ground::Others, upto, reserved: 0 };
        let Some(wanted) = numbering.filter(Numbering::can_be_kept) else { return others };
        if known.is_none() && state.marks.uid_next <= 1 {
            return Self { ground: Ground::Fresh, upto, reserved: wanted.uid_next };
        }
        if reserved == 0 || state.uid_validity != wanted.uid_validity {
            return others;
        }
        if wanted.uid_next > reserved && state.marks.uid_next > reserved {
            return Self { ground: Ground::Mixed, ..others };
        }
        Self { ground: Ground::Known, upto, reserved: reserved.max(wanted.uid_next) }
    }
}

/// Gives a folder that never had a message the source's numbers, and an identity of its own.
pub(super) fn start(ex: &Exclusive, numbering: Option<Numbering>, source: u64) -> Result<(), MailError> {
    let Numbering { uid_validity, uid_next } = numbering.ok_or(MailError::Fault { doing: "preparing a folder" })?;
    let shared = ex.folder.shared.upgrade().ok_or(MailError::FolderGone)?;
    let owner = ex.folder.spot().owner;
    shared.note_uid_validity(&owner, uid_validity)?;
    let mut state = State::empty(uid_validity);
    // Other folders of the source may have the same UIDVALIDITY.
    state.apply(Record::Identity { id: shared.next_uid_validity(&owner)? }, 1);
    state.apply(Record::Imported { source, upto: 0, next: 0, reserved: uid_next }, 1);
    ex.start_anew(&state)
}
