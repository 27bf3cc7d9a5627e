//! COPY and MOVE: a message's file gets a second name in the other folder, or where that can not be, a copy. Called by
//! `view` and `tree`.

use std::sync::{Arc, atomic::Ordering};

use rustix::{
    fs::{Timespec, Timestamps, futimens},
    io::Errno,
};

use super::{
    appending::BUFFER,
    change,
    deliver::{self, Batch, Delivered, Facts, Ready, TmpFile},
    disk::Dir,
    error::{MailError, io},
    filename::{self, Place},
    folder::{Exclusive, Folder, now_s},
    measure,
    quota::Usage,
    state::State,
    tree,
};

/// What was written longer ago than this is on the disk, whether anybody asked for it or not, in seconds.
const WRITTEN_BACK: i64 = 60;

/// So many messages that may not be on disk yet are put there by one call.
const MANY: usize = 16;

/// Where messages went (RFC 4315 section 3): `COPYUID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyUid {
    /// The target's UIDVALIDITY.
    pub uid_validity: u32,
    /// UID here, UID there.
    pub uids: Vec<(u32, u32)>,
}

/// Whether there will be more messages than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copying {
    /// Yes: the quota has to have room for them.
    More,
    /// No: those copied are removed next.
    Moving,
}

/// Copies messages of one folder into another, all or none: what they have become there.
pub(super) async fn copy_uids(
    from: &Arc<Folder>,
    uids: Vec<u32>,
    target: &Arc<Folder>,
    copying: Copying,
) -> Result<CopyUid, MailError> {
    if uids.is_empty() {
        return Ok(CopyUid { uid_validity: 0, uids: Vec::new() });
    }
    from.wake().await?;
    // A copy's name tells the id, which only the file tells.
    if !from.is_measured() {
        for some in uids.chunks(measure::MOST) {
            from.measure(some.to_vec()).await?;
        }
    }
    let known = from.read(|state| uids.iter().map(|uid| Original::of(state, *uid)).collect::<Option<Vec<_>>>());
    let known = known.flatten().filter(|originals| originals.iter().all(|original| original.measured));
    let linked = match known {
        None => None,
        Some(originals) => match link_all(from, originals, target, copying).await {
            // One is elsewhere by now, or can have no second name.
            Err(error) if error.is_missing() || wants_copy(&error) => None,
            done => Some(done?),
        },
    };
    let (uid_validity, there) = match linked {
        Some(delivered) => delivered,
        None => copy_all(from, uids.clone(), target, copying).await?,
    };
    Ok(CopyUid { uid_validity, uids: uids.into_iter().zip(there).collect() })
}

/// A message that is to be copied, as it is known without a look at the disk.
struct Original {
    place: Place,
    name: Vec<u8>,
    id: u64,
    /// When it came into its folder.
    saved: i64,
    /// Whether the file was asked: its name may claim anything.
    measured: bool,
    facts: Facts,
}

impl Original {
    fn of(state: &State, uid: u32) -> Option<Self> {
        let message = state.find(uid)?;
        let keywords = message.keywords().iter().filter_map(|k| state.keywords.get(usize::from(*k)).cloned());
        let (flags, size, bare, date) = (message.flags, message.size, message.bare, message.date);
        let facts = Facts { flags, keywords: keywords.collect(), size, bare, date };
        let (place, id, saved, measured) = (message.place, message.id, message.saved, message.measured);
        Some(Self { place, name: state.name(message).to_vec(), id, saved, measured, facts })
    }
}

/// Gives each file its second name where it belongs, straight away.
async fn link_all(
    from: &Arc<Folder>,
    originals: Vec<Original>,
    target: &Arc<Folder>,
    copying: Copying,
) -> Result<Delivered, MailError> {
    let shared = target.shared.upgrade().ok_or(MailError::FolderGone)?;
    let _room = match copying {
        Copying::Moving => None,
        Copying::More => {
            let more = Usage::of(originals.iter().map(|original| original.facts.size));
            Some(tree::room(&shared, &target.spot().owner, more).await?)
        }
    };
    let from = Arc::clone(from);
    let link = move |ex: &Exclusive| {
        let dir = from.dir()?;
        let (new, cur) = (dir.sub(b"new")?, dir.sub(b"cur")?);
        let mut batch = Batch::begin(ex)?;
        let dir_of = |original: &Original| if original.place == Place::New { &new } else { &cur };
        let safe = from.safe_until.load(Ordering::Acquire);
        let doubtful: Vec<&Original> =
            originals.iter().filter(|o| o.saved >= safe && is_doubtful(&o.name, o.saved)).collect();
        if doubtful.len() < MANY {
            doubtful.iter().try_for_each(|original| make_safe(dir_of(original), &original.name))?;
        } else {
            let now = now_s();
            dir.sync_all()?;
            from.safe_until.fetch_max(now, Ordering::AcqRel);
        }
        let records = batch.together(|batch, records| {
            originals.iter().try_for_each(|original| {
                let dir = dir_of(original);
                let base = fresh_base(&filename::unique(), &original.name, original.id);
                batch.add(&base, &original.facts, records, |cur, name| dir.link(&original.name, cur, name))
            })
        })?;
        let uids = deliver::uids_of(&records);
        batch.commit(records).map(|()| (batch.uid_validity, uids))
    };
    target.exclusively("copying messages", link).await
}

/// The same by way of `tmp`, looking for files that were renamed meanwhile, copying those that can not be linked.
async fn copy_all(
    from: &Arc<Folder>,
    uids: Vec<u32>,
    target: &Arc<Folder>,
    copying: Copying,
) -> Result<Delivered, MailError> {
    target.wake().await?;
    let to = Arc::clone(target);
    let ready = from
        .exclusively("copying messages", move |ex| {
            let tmp = to.dir()?.sub(b"tmp")?;
            uids.iter().map(|uid| copy_one(ex, *uid, &tmp)).collect::<Result<Vec<Ready>, _>>()
        })
        .await?;
    match copying {
        Copying::More => deliver::deliver(target, ready).await,
        Copying::Moving => deliver::bring(target, ready).await,
    }
}

fn copy_one(ex: &Exclusive, uid: u32, tmp: &Dir) -> Result<Ready, MailError> {
    for _ in 0..3 {
        match duplicate(ex, uid, tmp) {
            Err(error) if error.is_missing() => change::locate(ex, uid)?.ok_or(MailError::Gone { uid })?,
            done => return done,
        };
    }
    duplicate(ex, uid, tmp)
}

/// Puts a message's file, under a second name that tells its id, into another folder's `tmp`: by a hard link, else by a
/// copy.
fn duplicate(ex: &Exclusive, uid: u32, tmp: &Dir) -> Result<Ready, MailError> {
    let known = || ex.read(|s| Original::of(s, uid))?.ok_or(MailError::Gone { uid });
    let mut original = known()?;
    let from = ex.dir.sub(original.place.dir().as_bytes())?;
    if !original.measured {
        ex.folder.found_out(&[(uid, measure::file(&from, &original.name)?)]);
        original = known()?;
    }
    let Original { name, id, saved, facts, .. } = original;
    if is_doubtful(&name, saved) {
        make_safe(&from, &name)?;
    }
    let fresh = filename::unique();
    match from.link(&name, tmp, fresh.as_bytes()) {
        Ok(()) => {}
        Err(error) if wants_copy(&error) => copy(&from, &name, tmp, &fresh)?,
        Err(error) => return Err(error),
    }
    let base = fresh_base(&fresh, &name, id);
    Ok(Ready { file: TmpFile::new(tmp.clone(), fresh, base), facts })
}

/// Whether a file can have no second name there.
fn wants_copy(error: &MailError) -> bool {
    let io =
        |source: &Errno| matches!(*source, Errno::XDEV | Errno::MLINK | Errno::PERM | Errno::NOTSUP | Errno::NOSYS);
    matches!(error, MailError::Io { source, .. } if io(source))
}

/// A copy's name up to the `:`, with the sizes that the original's tells.
fn fresh_base(fresh: &str, original: &[u8], id: u64) -> String {
    match filename::size_hints(original) {
        (Some(stored), Some(wire)) => filename::with_id(&format!("{fresh},S={stored},W={wire}"), id),
        _ => filename::with_id(fresh, id),
    }
}

/// Whether a message came only just now and may not be on disk yet: other programs deliver without a sync, we do not. One
/// of ours that came long after it had its name was put there by another program, from a backup for example.
fn is_doubtful(name: &[u8], saved: i64) -> bool {
    let is_ours = filename::made_at(name).is_some_and(|made| saved.abs_diff(made) <= WRITTEN_BACK.unsigned_abs());
    !is_ours && is_young(saved)
}

fn is_young(at: i64) -> bool {
    at > now_s() - WRITTEN_BACK
}

/// Syncs a message's file, unless it has not changed for so long that the system has written it.
fn make_safe(dir: &Dir, name: &[u8]) -> Result<(), MailError> {
    let (file, stat) = dir.open(name, false)?;
    if is_young(stat.st_ctime) { dir.sync_file(&file) } else { Ok(()) }
}

fn copy(from: &Dir, name: &[u8], tmp: &Dir, fresh: &str) -> Result<(), MailError> {
    let (mut source, stat) = from.open(name, false)?;
    let file = tmp.create(fresh.as_bytes())?;
    let mut guard = TmpFile::new(tmp.clone(), fresh.to_owned(), String::new());
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = std::io::Read::read(&mut source, &mut buffer)
            .map_err(|e| MailError::io("copying a message", Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
        let Some(bytes) = buffer.get(..count).filter(|b| !b.is_empty()) else { break };
        tmp.write(&file, bytes)?;
    }
    let stamp = Timespec { tv_sec: stat.st_mtime, tv_nsec: 0 };
    futimens(&file, &Timestamps { last_access: stamp, last_modification: stamp })
        .map_err(io("copying a message"))?;
    tmp.sync_file(&file)?;
    guard.kept = true;
    Ok(())
}
