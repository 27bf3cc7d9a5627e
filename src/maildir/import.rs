//! Taking over messages of another mailbox: with their UIDs and UIDVALIDITY where the folder is new, with flags, keywords,
//! dates, and what POP3 called them. Many messages are made durable in one go, together with how far this source was
//! taken over, so that a run that was cut short goes on where it was, and takes nothing twice.

mod cut_short;
pub mod dovecot;
pub mod mbox;
mod numbering;

pub use numbering::Numbering;

use std::{fs::File, io::Read, os::unix::fs::MetadataExt, path::PathBuf, sync::Arc};

use rustix::{
    fs::{Timespec, Timestamps, futimens},
    io::Errno,
};

use numbering::{Ground, Plan, start};

use super::{
    deliver::{self, TmpFile},
    disk::Dir,
    error::MailError,
    filename::{self, Place},
    flags::Flags,
    folder::{Exclusive, Folder, now_s},
    keywords, measure,
    pool::Pool,
    record::Record,
    repair,
    root::Mail,
    state::Imported,
    tree::Maildir,
    wire,
};
use crate::model::{UnixTime, UserId};

/// How many bytes are gathered before a blocking thread writes them.
const BUFFER: usize = 256 * 1024;
/// Longest unique id of POP3, in bytes (RFC 1939 section 7).
const MAX_UIDL: usize = 70;

/// One owner's mailbox, for taking messages over.
pub struct Importer {
    maildir: Maildir,
    pool: Pool,
}

/// What is said of a message that is taken over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incoming {
    /// Its UID, which it keeps where the folder keeps UIDs.
    pub uid: Option<u32>,
    /// System flags.
    pub flags: Flags,
    /// Keywords. Those that cannot be kept here are left out.
    pub keywords: Vec<String>,
    /// INTERNALDATE.
    pub date: UnixTime,
    /// When it came into its folder; now if that is not known.
    pub saved: Option<UnixTime>,
    /// What POP3 called it. One that POP3 does not allow is left out.
    pub uidl: Option<String>,
}

/// A message whose bytes are safe in `tmp`, not visible yet. Dropped it leaves nothing.
pub struct Staged {
    file: TmpFile,
    size: u64,
    bare: u64,
}

/// What became of some messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Messages that are there now.
    pub messages: usize,
    /// Keywords that were left out: no atoms, too long, or too many in the folder.
    pub keywords_left_out: usize,
    /// Messages that came too late to keep their UIDs: mail delivered here has higher ones already.
    pub renumbered: usize,
}

impl Mail {
    /// An owner's mailbox, made if it is not there yet, for taking messages over. Shows no mail.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn importer(&self, owner: &UserId) -> Result<Importer, MailError> {
        let maildir = self.open_for(owner).await?;
        let pool = maildir.pool();
        Ok(Importer { maildir, pool })
    }

    /// The same if there is such a mailbox; none is made. For a dry run.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn importer_if_there(&self, owner: &UserId) -> Result<Option<Importer>, MailError> {
        match self.existing(owner).await {
            Ok(maildir) => Ok(Some(Importer { pool: maildir.pool(), maildir })),
            Err(MailError::NoSuchFolder { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Importer {
    /// The folder messages of `source` are to go into, made if it is not there. `source` names the other folder for good:
    /// the same text the next time means the same messages. A folder that never had a message, and into which nothing was
    /// delivered, takes over the source's UIDVALIDITY, and messages keep their UIDs: what is delivered here from then on has
    /// UIDs of its own above them. Where the source gave those out too since the last time, the folder gets another
    /// UIDVALIDITY.
    ///
    /// # Errors
    /// `InvalidName`, `Limit`, or what the disk says.
    pub async fn folder(&self, name: &str, numbering: Option<Numbering>, source: &str) -> Result<Into, MailError> {
        if name != "INBOX" {
            match self.maildir.create(name).await {
                Ok(()) | Err(MailError::AlreadyExists { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mut folder = self.maildir.target(name).await?;
        let source = number(source);
        let prepare = move |ex: &Exclusive| {
            cut_short::clear(ex, source)?;
            ex.refresh()?;
            let plan = ex.read(|state| Plan::new(state, numbering, source))?;
            match plan.ground {
                Ground::Fresh => start(ex, numbering, source)?,
                Ground::Mixed => repair::rebuild(ex).map(drop)?,
                Ground::Known => {
                    let Plan { upto, reserved, .. } = plan;
                    if ex.read(|s| s.imported.get(&source) != Some(&Imported { upto, reserved }))? {
                        ex.commit(vec![Record::Imported { source, upto, next: 0, reserved }])?;
                    }
                }
                Ground::Others => {}
            }
            Ok(plan)
        };
        let plan = folder.exclusively("preparing a folder", prepare).await?;
        if folder.is_gone() {
            folder = self.maildir.target(name).await?;
        }
        let Plan { upto, reserved, ground } = plan;
        let pool = self.pool.clone();
        Ok(Into { folder, pool, source, upto, reserved, renumbered: ground == Ground::Mixed })
    }

    /// What [`Importer::folder`] would do: whether the folder would be made, whether UIDs would be kept, and how far its
    /// source was taken over already. Changes nothing.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn would(
        &self,
        name: &str,
        numbering: Option<Numbering>,
        source: &str,
    ) -> Result<(bool, bool, u64), MailError> {
        let (name, source) = (super::path::checked(name)?, number(source));
        let peek = move |_: &Maildir, home: &Dir| {
            let dir = match name.as_str() {
                "INBOX" => Some(home.clone()),
                _ => super::listing::find(home, &name)?.map(|dir| home.sub(&dir)).transpose()?,
            };
            let kept = numbering.is_some_and(|numbering| numbering.can_be_kept());
            let Some(dir) = dir else { return Ok((true, kept, 0)) };
            let fresh = is_empty(&dir)?;
            Ok(match super::index::Index::load(&dir)? {
                None => (false, kept && fresh, 0),
                Some((_, state)) => {
                    let plan = Plan::new(&state, numbering, source);
                    (false, plan.reserved > 0 && (fresh || plan.ground != Ground::Fresh), plan.upto)
                }
            })
        };
        self.maildir.run("looking at a folder", peek).await
    }

    /// Remembers which folders the user wants to see, durably. Names that can be no folder's are left out.
    ///
    /// # Errors
    /// As [`Maildir::subscribe`].
    pub async fn subscribe(&self, wanted: &[(String, bool)]) -> Result<(), MailError> {
        for (name, wanted) in wanted {
            match self.maildir.subscribe(name, *wanted).await {
                Ok(()) | Err(MailError::InvalidName { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The names of the mailbox's folders.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn folders(&self) -> Result<Vec<String>, MailError> {
        Ok(self.maildir.list().await?.into_iter().filter(|f| f.selectable).map(|f| f.name).collect())
    }
}

/// A folder that messages of one source go into.
pub struct Into {
    folder: Arc<Folder>,
    pool: Pool,
    source: u64,
    upto: u64,
    /// UIDs below this one are the source's; 0 where they are not kept.
    reserved: u32,
    renumbered: bool,
}

impl Into {
    /// Whether messages keep their UIDs here.
    pub fn keeps_uids(&self) -> bool {
        self.reserved > 0
    }

    /// Whether the folder got another UIDVALIDITY just now, and all messages other UIDs.
    pub fn is_renumbered(&self) -> bool {
        self.renumbered
    }

    /// How far the source was taken over: the place given to [`Into::take`] last; 0 at first.
    pub fn upto(&self) -> u64 {
        self.upto
    }

    /// Puts a file of another Maildir into `tmp`: by a second name where both lie on one file system and belong to the
    /// same user, else by a copy. What is stored compressed is refused.
    ///
    /// # Errors
    /// `Damaged` for a compressed message; `Io` with `ENOENT` if the file is gone; what the disk says.
    pub async fn stage_file(&self, path: PathBuf) -> Result<Staged, MailError> {
        let folder = Arc::clone(&self.folder);
        self.pool.run("copying a message", move || stage_file(&folder.dir()?.sub(b"tmp")?, &path)).await
    }

    /// Begins a message that comes piece by piece.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn stage(&self) -> Result<Staging, MailError> {
        let folder = Arc::clone(&self.folder);
        let open = move || {
            let (tmp, name) = (folder.dir()?.sub(b"tmp")?, filename::unique());
            let file = tmp.create(name.as_bytes())?;
            Ok((file, TmpFile::new(tmp, name.clone(), name)))
        };
        let (file, tmp) = self.pool.run("beginning a message", open).await?;
        Ok(Staging {
            open: Some((file, tmp)),
            pool: self.pool.clone(),
            buffer: Vec::new(),
            size: 0,
            bare: 0,
            last: 0,
        })
    }

    /// Makes messages durable and visible, all or none, in the order given; `upto` is where the source goes on after
    /// them. Where UIDs are kept they have to ascend; messages that come after mail was delivered here get others.
    ///
    /// # Errors
    /// `Limit` when there are no UIDs left; what the disk says.
    pub async fn take(&mut self, messages: Vec<(Staged, Incoming)>, upto: u64) -> Result<Taken, MailError> {
        let (source, reserved) = (self.source, self.reserved);
        let work = move |ex: &Exclusive| take(ex, messages, source, upto, reserved);
        let (taken, reserved) = self.folder.exclusively("taking messages over", work).await?;
        (self.upto, self.reserved) = (upto, reserved);
        Ok(taken)
    }

    /// Says that no UID below `next` is free, also those of messages that the source has no more. Nothing where UIDs are
    /// not kept.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn reserve(&self, next: u32) -> Result<(), MailError> {
        let reserved = self.reserved.max(next);
        let record = Record::Imported { source: self.source, upto: self.upto, next, reserved };
        let needed = self.keeps_uids() && self.folder.read(|s| s.marks.uid_next < next).unwrap_or(true);
        if !needed {
            return Ok(());
        }
        self.folder.exclusively("reserving UIDs", move |ex| ex.commit(vec![record])).await
    }
}

/// A message on its way in.
pub struct Staging {
    open: Option<(File, TmpFile)>,
    pool: Pool,
    buffer: Vec<u8>,
    size: u64,
    bare: u64,
    last: u8,
}

impl Staging {
    /// Takes the next bytes, as they are: lines may end in CRLF or LF.
    ///
    /// # Errors
    /// What the disk says; the message is then lost.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), MailError> {
        self.bare += wire::bare_line_feeds(bytes, self.last);
        self.last = bytes.last().copied().unwrap_or(self.last);
        self.size += bytes.len() as u64;
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), MailError> {
        let (file, tmp) = self.open.take().ok_or(MailError::Fault { doing: "writing a message" })?;
        let bytes = std::mem::take(&mut self.buffer);
        let write = move || tmp.tmp.write(&file, &bytes).map(|()| (file, tmp));
        self.open = Some(self.pool.run("writing a message", write).await?);
        Ok(())
    }

    /// Makes the bytes safe.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn finish(mut self) -> Result<Staged, MailError> {
        self.flush().await?;
        let (file, mut tmp) = self.open.take().ok_or(MailError::Fault { doing: "writing a message" })?;
        let (size, bare) = (self.size, self.bare);
        let save = move || {
            tmp.tmp.sync_file(&file)?;
            tmp.base = format!("{},S={size},W={}", tmp.base, size + bare);
            Ok(Staged { file: tmp, size: size + bare, bare })
        };
        self.pool.run("saving a message", save).await
    }
}

/// Whether no message lies in the folder.
fn is_empty(dir: &Dir) -> Result<bool, MailError> {
    for place in [Place::New, Place::Cur] {
        let names = dir.sub(place.dir().as_bytes())?.names(rustix::fs::FileType::RegularFile)?;
        if names.iter().any(|name| filename::is_message(name)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What was taken, and the UID below which all are the source's from now on.
fn take(
    ex: &Exclusive,
    messages: Vec<(Staged, Incoming)>,
    source: u64,
    upto: u64,
    mut reserved: u32,
) -> Result<(Taken, u32), MailError> {
    let cur = ex.dir.sub(b"cur")?;
    let mut table = ex.read(keywords::Table::of)?;
    let ((mut next, free), modseq) = (ex.read(|s| (s.marks.uid_next, s.next_uid()))?, ex.next_modseq()?);
    let (mut records, mut ids, mut names) = (Vec::new(), Vec::new(), Vec::new());
    let mut taken = Taken { messages: messages.len(), ..Taken::default() };
    cut_short::note(ex, source, upto, messages.iter().map(|(staged, _)| staged.file.base.as_str()))?;
    let placed = messages.into_iter().try_for_each(|(staged, incoming)| {
        let mut numbers = Vec::new();
        for keyword in &incoming.keywords {
            let known = keywords::checked(&[keyword], &ex.folder.limits)
                .and_then(|keyword| table.numbers(&keyword, &ex.folder.limits, &mut records));
            match known {
                Ok(number) => numbers.extend(number),
                Err(_) => taken.keywords_left_out += 1,
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        let no_more = MailError::Limit { what: "UIDs", most: u64::from(u32::MAX) };
        // Above what is reserved others have UIDs: none is given out below them any more.
        let uid = match incoming.uid.filter(|_| next <= reserved) {
            Some(uid) if uid >= next => {
                reserved = reserved.max(uid.checked_add(1).ok_or_else(|| no_more.clone())?);
                uid
            }
            Some(_) => return Err(MailError::Damaged { what: "UIDs of a source do not ascend" }),
            None => {
                taken.renumbered += usize::from(incoming.uid.is_some() && reserved > 0);
                next.max(free)
            }
        };
        next = uid.checked_add(1).ok_or(no_more)?;
        let Staged { mut file, size, bare } = staged;
        let name = filename::with_flags(file.base.as_bytes(), incoming.flags);
        file.place(&cur, &name)?;
        names.push(name.clone());
        let saved = incoming.saved.map_or_else(now_s, UnixTime::secs);
        let (place, date, keywords) = (Place::Cur, incoming.date.secs(), numbers);
        records.push(Record::Message { uid, modseq, place, name, size, bare, date, saved, keywords });
        let allowed = |id: &String| {
            !id.is_empty() && id.len() <= MAX_UIDL && id.bytes().all(|byte| (0x21..=0x7e).contains(&byte))
        };
        ids.extend(incoming.uidl.filter(allowed).map(|text| Record::Uidl { uid, text }));
        Ok(())
    });
    records.append(&mut ids);
    records.push(Record::Imported { source, upto, next: 0, reserved });
    let done = placed.and_then(|()| cur.sync()).and_then(|()| ex.commit(records));
    if let Err(error) = done {
        for name in names {
            drop(cur.unlink(&name));
        }
        ex.scanned(None);
        drop(cut_short::done(ex, source));
        return Err(error);
    }
    drop(cut_short::done(ex, source));
    Ok((taken, reserved))
}

fn stage_file(tmp: &Dir, path: &std::path::Path) -> Result<Staged, MailError> {
    let errno = |error: std::io::Error| {
        MailError::io("reading a message", Errno::from_io_error(&error).unwrap_or(Errno::IO))
    };
    let mut source = File::open(path).map_err(errno)?;
    let meta = source.metadata().map_err(errno)?;
    if !meta.is_file() {
        return Err(MailError::io("reading a message", Errno::NOENT));
    }
    let mut magic = [0; 2];
    if meta.len() > 2 && source.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b] {
        return Err(MailError::Damaged {
            what: "a message is stored compressed; let Dovecot store it plain first",
        });
    }
    let fresh = filename::unique();
    let mut file = TmpFile::new(tmp.clone(), fresh.clone(), fresh.clone());
    let own = rustix::process::geteuid().as_raw() == meta.uid();
    let linked = own && tmp.link_from(path, fresh.as_bytes()).is_ok();
    if linked {
        // Dovecot may not have synced it, and the promise is ours now.
        tmp.sync_file(&source)?;
    } else {
        let copy = tmp.create(fresh.as_bytes())?;
        let mut source = File::open(path).map_err(errno)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = source.read(&mut buffer).map_err(|error| deliver::reading(&error))?;
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            tmp.write(&copy, bytes)?;
        }
        let stamp = Timespec { tv_sec: meta.mtime(), tv_nsec: 0 };
        let _ = futimens(&copy, &Timestamps { last_access: stamp, last_modification: stamp });
        tmp.sync_file(&copy)?;
    }
    let measured = measure::file(tmp, fresh.as_bytes())?;
    let stored = measured.size.saturating_sub(measured.bare);
    file.base = format!("{fresh},S={stored},W={}", measured.size);
    Ok(Staged { file, size: measured.size, bare: measured.bare })
}

/// A number for the name of a source: the same for ever, and hardly that of another.
fn number(source: &str) -> u64 {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, source.as_bytes());
    digest.as_ref().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
