//! A run that is cut short between showing messages and recording them would have them twice, the next time, and give other
//! UIDs to all that follow: so what it is about to show is noted before, and taken away by the run that comes after it.

use std::collections::HashSet;

use rustix::fs::FileType;

use crate::maildir::{
    error::MailError,
    filename::{self, Place},
    folder::Exclusive,
};

/// Largest note that is read, in bytes: far more messages than are taken over in one go.
const MAX_NOTE: usize = 16 << 20;

fn name_of(source: u64) -> String {
    format!("import-{source:016x}")
}

/// Notes durably which names are about to come into `cur`, each up to its `:`; `upto` is where the source goes on once they
/// are recorded.
pub(super) fn note<'a>(
    ex: &Exclusive,
    source: u64,
    upto: u64,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), MailError> {
    let mut text = format!("{upto}\n");
    for name in names {
        text.push_str(name);
        text.push('\n');
    }
    ex.dir.sub(b"tmp")?.put(&name_of(source), text.as_bytes())
}

/// They are recorded, or taken away again. A note that stays because of a crash just now tells the same by its `upto`.
pub(super) fn done(ex: &Exclusive, source: u64) -> Result<(), MailError> {
    ex.dir.sub(b"tmp")?.unlink(name_of(source).as_bytes()).map(drop)
}

/// Takes away what a run left that was cut short. Before the folder is looked through, or it would be new mail.
pub(super) fn clear(ex: &Exclusive, source: u64) -> Result<(), MailError> {
    let (tmp, name) = (ex.dir.sub(b"tmp")?, name_of(source));
    let Some(stat) = tmp.stat(name.as_bytes())? else { return Ok(()) };
    let mut text = vec![0; usize::try_from(stat.st_size).unwrap_or(usize::MAX).min(MAX_NOTE)];
    let length = tmp.read_start(name.as_bytes(), &mut text, true)?;
    text.truncate(length);
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines();
    let upto = lines.next().and_then(|line| line.parse::<u64>().ok());
    let recorded = ex.read(|state| state.imported.get(&source).map(|known| known.upto))?;
    if upto.is_some_and(|upto| recorded.is_none_or(|recorded| recorded < upto)) {
        let left: HashSet<&[u8]> = lines.map(str::as_bytes).collect();
        for place in [Place::New, Place::Cur] {
            let dir = ex.dir.sub(place.dir().as_bytes())?;
            for name in dir.names(FileType::RegularFile)? {
                if left.contains(filename::base(&name)) {
                    dir.unlink(&name)?;
                }
            }
            dir.sync()?;
        }
        ex.scanned(None);
    }
    done(ex, source)
}
