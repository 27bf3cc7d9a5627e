//! Every call to the disk that a change makes fails once, each way a call can fail: the answer is true, nothing
//! acknowledged is lost then or at a power cut, nothing half done is seen, and the change can be made afterwards.

use std::collections::HashMap;

use rustix::io::Errno;

use super::{picture::Picture, rig::Rig, *};
use crate::maildir::seam::{Fault, Seam};

/// Every call fails in each way that leaves something else behind. The errors that differ in their answer alone hit every
/// fourth, or every one too with `PORTCULLIS_SWEEP=whole`.
fn stride(fault: Fault) -> usize {
    let same = matches!(fault, Fault::Refused(Errno::NOSPC | Errno::DQUOT));
    let whole = std::env::var("PORTCULLIS_SWEEP").is_ok_and(|how| how == "whole");
    if same && !whole { 4 } else { 1 }
}

/// The changes that are tried.
#[derive(Clone, Copy, Debug)]
enum Change {
    Append,
    AppendKeyword,
    Copy,
    CopyMany,
    Move,
    Store,
    StoreKeyword,
    Unstore,
    Expunge,
    PopQuit,
    Create,
    CreateBelow,
    Rename,
    RenameInbox,
    Delete,
    Subscribe,
    FirstSignIn,
}

const CHANGES: [Change; 17] = [
    Change::Append,
    Change::AppendKeyword,
    Change::Copy,
    Change::CopyMany,
    Change::Move,
    Change::Store,
    Change::StoreKeyword,
    Change::Unstore,
    Change::Expunge,
    Change::PopQuit,
    Change::Create,
    Change::CreateBelow,
    Change::Rename,
    Change::RenameInbox,
    Change::Delete,
    Change::Subscribe,
    Change::FirstSignIn,
];

const FAULTS: [Fault; 5] = [
    Fault::Refused(Errno::IO),
    Fault::Refused(Errno::NOSPC),
    Fault::Refused(Errno::DQUOT),
    Fault::Short(Errno::NOSPC),
    Fault::Late(Errno::IO),
];

impl Change {
    /// Makes the change. What needs the mailbox open has it open already.
    async fn make(self, store: &Mail, mail: &Maildir, view: &mut View) -> Result<(), MailError> {
        match self {
            Self::Append => append(mail, "INBOX", "new one", &[]).await,
            Self::AppendKeyword => append(mail, "Box", "new two", &["fresh"]).await,
            Self::Copy => view.copy(&[1], "Box").await.map(drop),
            Self::CopyMany => view.copy(&[1, 2, 3], "Archive").await.map(drop),
            Self::Move => view.move_to(&[1, 2], "Box").await.map(drop),
            Self::Store => view.store_flags(&[1, 2], FlagOp::Add, Flags::FLAGGED, &[]).await.map(drop),
            Self::StoreKeyword => view.store_flags(&[1], FlagOp::Add, Flags::NONE, &["fresh"]).await.map(drop),
            Self::Unstore => view.store_flags(&[1, 2], FlagOp::Replace, Flags::NONE, &[]).await.map(drop),
            Self::Expunge => view.expunge(None).await.map(drop),
            Self::PopQuit => {
                let mut drop_view = mail.exclusive().await?;
                drop_view.remove(&[1, 3]).await.map(drop)
            }
            Self::Create => mail.create("Fresh").await,
            Self::CreateBelow => mail.create("Box/Fresh").await,
            Self::Rename => mail.rename("Box", "Crate").await,
            Self::RenameInbox => mail.rename("INBOX", "Old").await,
            Self::Delete => mail.delete("Box").await,
            Self::Subscribe => mail.subscribe("Box", false).await,
            Self::FirstSignIn => {
                let fresh = store.open_for(&UserId::parse("bob@example.net").unwrap()).await?;
                append(&fresh, "INBOX", "for bob", &[]).await
            }
        }
    }

    /// Whether making it once more may be refused because it is done already.
    fn may_be_done(self, error: &MailError) -> bool {
        match self {
            Self::Create | Self::CreateBelow => matches!(error, MailError::AlreadyExists { .. }),
            Self::Rename | Self::RenameInbox => {
                matches!(error, MailError::AlreadyExists { .. } | MailError::NoSuchFolder { .. })
            }
            Self::Delete => matches!(error, MailError::NoSuchFolder { .. } | MailError::HasChildren { .. }),
            Self::Copy | Self::CopyMany | Self::Move => matches!(error, MailError::Gone { .. }),
            _ => false,
        }
    }
}

async fn append(mail: &Maildir, folder: &str, text: &str, keywords: &[&str]) -> Result<(), MailError> {
    let mut appending = mail.append(folder).await?;
    appending.write(text.as_bytes()).await?;
    appending.finish(Flags::NONE, keywords, None).await.map(drop)
}

/// What every try begins with.
async fn template() -> tempfile::TempDir {
    let dir = quick_dir();
    let (_store, mail) = open(dir.path(), None).await;
    for name in ["Drafts", "Sent", "Junk", "Trash"] {
        mail.delete(name).await.unwrap();
    }
    for name in ["Box", "Box/Inner"] {
        mail.create(name).await.unwrap();
    }
    for (folder, text) in
        [("INBOX", "one"), ("INBOX", "two"), ("INBOX", "three"), ("Box", "four"), ("Box/Inner", "five")]
    {
        append(&mail, folder, text, &["k"]).await.unwrap();
    }
    let mut view = mail.view("INBOX", Mode::ReadWrite).await.unwrap();
    view.store_flags(&[2], FlagOp::Add, Flags::DELETED.union(Flags::SEEN), &[]).await.unwrap();
    Picture::of(&mail).await;
    dir
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy_tree(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A store over a copy of the template, with INBOX open.
struct Try {
    dir: tempfile::TempDir,
    rig: Arc<Rig>,
    store: Arc<Mail>,
    mail: Maildir,
    view: View,
}

impl Try {
    async fn begin(template: &Path) -> Self {
        let dir = quick_dir();
        copy_tree(template, dir.path());
        let rig = Arc::new(Rig::over(dir.path()));
        let settings = Settings { root: dir.path().to_owned(), limits: Limits::default() };
        let store = Mail::with_seam(settings, Some(Arc::clone(&rig) as Arc<dyn Seam>)).unwrap();
        let mail = store.open_for(&UserId::parse("ann@example.com").unwrap()).await.unwrap();
        let view = mail.view("INBOX", Mode::ReadWrite).await.unwrap();
        Self { dir, rig, store, mail, view }
    }

    async fn change(&mut self, change: Change) -> Result<(), MailError> {
        change.make(&self.store, &self.mail, &mut self.view).await
    }

    /// What a power cut now may leave, several times over.
    async fn cuts(&self, random: &mut Random, check: impl Fn(Picture) -> Result<(), String>) {
        for cut in 0..2 {
            let dir = quick_dir();
            self.rig.power_cut(self.rig.now(), random, dir.path());
            if let Err(wrong) = check(Picture::on(dir.path()).await) {
                panic!("power cut {cut}: {wrong}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_call_fails_the_answer_is_true_and_nothing_acknowledged_is_lost() {
    let template = template().await;
    let before = Picture::on(template.path()).await;
    let mut hits: HashMap<crate::maildir::seam::Call, u32> = HashMap::new();
    for change in CHANGES {
        let mut plain = Try::begin(template.path()).await;
        plain.change(change).await.unwrap_or_else(|error| panic!("{change:?} without a fault: {error}"));
        let after = Picture::of(&plain.mail).await;
        plain.cuts(&mut Random::new(1), |cut| cut.is(&after)).await;
        for fault in FAULTS {
            for nth in (0..).step_by(stride(fault)) {
                let mut tried = Try::begin(template.path()).await;
                let mut random = Random::new(u64::from(nth) + 7);
                tried.rig.fail(nth, fault);
                let outcome = tried.change(change).await;
                let Some(call) = tried.rig.relent() else { break };
                *hits.entry(call).or_default() += 1;
                let what = format!("{change:?} with {fault:?} at call {nth}, {call:?}");
                let there = Picture::of(&tried.mail).await;
                match &outcome {
                    // The call did not matter: all is as if it had not failed.
                    Ok(()) => {
                        there.is(&after).unwrap_or_else(|wrong| panic!("{what}, acknowledged: {wrong}"));
                        tried
                            .cuts(&mut random, |cut| {
                                cut.is(&after).map_err(|w| format!("{what}, acknowledged: {w}"))
                            })
                            .await;
                    }
                    Err(error) => {
                        assert!(is_true(error, fault), "{what}: {error:?}");
                        there.between(&before, &after).unwrap_or_else(|wrong| panic!("{what}: {wrong}"));
                        let fits = |cut: Picture| cut.between(&before, &after).map_err(|w| format!("{what}: {w}"));
                        tried.cuts(&mut random, fits).await;
                    }
                }
                again(tried, change, &there, &what, &mut random).await;
            }
        }
    }
    for call in ["Create", "Write", "SyncFile", "SyncDir", "Rename", "Link", "Unlink", "Open", "Look", "List"] {
        assert!(hits.keys().any(|hit| format!("{hit:?}") == call), "no {call} was ever hit: {hits:?}");
    }
}

/// The same change once more, without a fault: what is acknowledged now is as good as ever.
async fn again(mut tried: Try, change: Change, before: &Picture, what: &str, random: &mut Random) {
    tried.view.sync(true);
    // A MOVE that failed may have taken the messages away that are to be moved.
    let possible = tried.view.len() == 3 || !matches!(change, Change::Copy | Change::CopyMany | Change::Move);
    let outcome = if possible { Some(tried.change(change).await) } else { None };
    let there = Picture::of(&tried.mail).await;
    match outcome {
        None => {}
        Some(Ok(())) => {
            // Nothing that stands there now may go at a power cut: neither what was acknowledged, nor what was found done.
            tried.cuts(random, |cut| cut.is(&there).map_err(|wrong| format!("{what}, again: {wrong}"))).await;
        }
        Some(Err(error)) => assert!(change.may_be_done(&error), "{what}, again: {error:?}"),
    }
    append(&tried.mail, "Archive", "at last", &[]).await.unwrap_or_else(|e| panic!("{what}, at last: {e}"));
    let last = Picture::of(&tried.mail).await;
    let archive = &last.folders["Archive"].messages;
    assert_eq!(archive.values().filter(|m| m.text == "at last").count(), 1, "{what}");
    let used = before.folders["Archive"].uid_next;
    assert!(archive.iter().all(|(uid, m)| m.text != "at last" || *uid >= used), "{what}: a UID was used again");
    let Try { dir, store, mail, view, .. } = tried;
    drop((store, mail, view));
    Picture::on(dir.path()).await.is(&last).unwrap_or_else(|wrong| panic!("{what}, restart: {wrong}"));
}

/// Whether the error says what happened (threats.md section 7: quota, full disk, and the rest each have their answer).
fn is_true(error: &MailError, fault: Fault) -> bool {
    let (Fault::Refused(errno) | Fault::Short(errno) | Fault::Late(errno)) = fault;
    match error {
        MailError::NoSpace { .. } => errno == Errno::NOSPC,
        MailError::OverQuota => errno == Errno::DQUOT,
        MailError::Io { source, .. } => *source == errno,
        _ => false,
    }
}
