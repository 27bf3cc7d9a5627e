//! UIDVALIDITY: a number that no folder of an owner ever had before, also after a power cut. Called by `folder` where an
//! index is made.

use super::{
    disk::Dir,
    error::MailError,
    folder::{lock, now_s},
    root::{Owner, Shared},
};

/// The file that holds the highest UIDVALIDITY given out, or set aside to be.
const NAME: &str = "portcullis-uidvalidity";
/// So many more are set aside together: whoever looks at many new folders makes the file durable once for all of them.
const AHEAD: u32 = 63;

/// Numbers set aside for an owner.
pub(super) struct Reserved {
    owner: Owner,
    next: u32,
    last: u32,
}

impl Shared {
    /// A UIDVALIDITY that no folder of the owner has ever had: the time, or one more than the last.
    pub(super) fn next_uid_validity(&self, owner: &Owner) -> Result<u32, MailError> {
        let mut reserved = lock(&self.validity);
        let home = self.home(owner)?;
        let last = last(&home)?;
        // Unless another process has given out others since.
        if let Some(own) = reserved.as_mut().filter(|r| r.owner == *owner && r.last == last && r.next <= last) {
            let next = own.next;
            own.next = next.saturating_add(1);
            return Ok(next);
        }
        let next = u32::try_from(now_s()).unwrap_or(u32::MAX).max(last.saturating_add(1)).max(1);
        let last = next.saturating_add(AHEAD);
        home.put(NAME, format!("{last}\n").as_bytes())?;
        *reserved = Some(Reserved { owner: owner.clone(), next: next.saturating_add(1), last });
        Ok(next)
    }

    /// Remembers that a folder of the owner has this UIDVALIDITY, taken over from elsewhere: later ones will be higher.
    pub(super) fn note_uid_validity(&self, owner: &Owner, taken: u32) -> Result<(), MailError> {
        let _turn = lock(&self.validity);
        let home = self.home(owner)?;
        let last = last(&home)?;
        if taken < last.saturating_sub(AHEAD) {
            return Ok(());
        }
        // It may be one of those set aside, here or by another process: none of them is given out any more.
        home.put(NAME, format!("{}\n", taken.max(last).saturating_add(1)).as_bytes())
    }
}

fn last(home: &Dir) -> Result<u32, MailError> {
    match home.open(NAME.as_bytes(), false) {
        Ok((file, _)) => {
            let mut text = String::new();
            drop(std::io::Read::read_to_string(&mut std::io::Read::take(file, 32), &mut text));
            Ok(text.trim().parse::<u32>().unwrap_or(0))
        }
        Err(error) if error.is_missing() => Ok(0),
        Err(error) => Err(error),
    }
}
