//! NOTIFY (RFC 5465), and annotations that others change (RFC 5464 section 4.4.2): what happens in mailboxes that are
//! not open, told as it happens. What happens in the open one is told by `news`, as NOTIFY asks for it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::{
    Stage,
    list::{ancestors, attributes},
    reply::{Answer, Reply, refuse},
};
use crate::imap::{
    command::{EventKind, NotifyGroup, NotifyMailboxes, NotifySelected, NotifySet, StatusItem},
    write::{self, Code, ListLine},
};
use crate::maildir::{Folder, Heard, Listener, MailError, Maildir, News, Status};
use crate::session::{Ending, login::Dialog};

/// What a session listens to besides the mailbox it has open.
pub(super) struct Ears {
    listener: Arc<Listener>,
    /// Who listens, for annotations of their own.
    user: String,
    /// What NOTIFY asked for; none before the first NOTIFY.
    set: Option<NotifySet>,
    /// The subscribed names as they were last, where anything asks for them.
    subscribed: HashSet<String>,
    /// What was told of each mailbox that is watched.
    told: HashMap<String, Told>,
}

/// What the peer knows of a mailbox.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Told {
    messages: u32,
    uid_next: u32,
    uid_validity: u32,
    unseen: u32,
    highest_modseq: u64,
}

impl From<&Status> for Told {
    fn from(status: &Status) -> Self {
        Self {
            messages: status.messages,
            uid_next: status.uid_next,
            uid_validity: status.uid_validity,
            unseen: status.unseen,
            highest_modseq: status.highest_modseq,
        }
    }
}

impl Ears {
    /// Listens, and asks for nothing yet.
    pub(super) fn new(mail: &Maildir, user: &str) -> Box<Self> {
        Box::new(Self {
            listener: mail.listen(),
            user: user.to_owned(),
            set: None,
            subscribed: HashSet::new(),
            told: HashMap::new(),
        })
    }

    /// Waits until there may be something to tell. Cancel-safe.
    pub(super) async fn told(&self) {
        self.listener.told().await;
    }

    /// What NOTIFY asked for of the open mailbox; outer none: NOTIFY was not used, everything is told as ever.
    pub(super) fn selected(&self) -> Option<Option<&NotifySelected>> {
        self.set.as_ref().map(|set| set.selected.as_ref())
    }

    /// The events asked for of a mailbox that is not open.
    fn events(&self, name: &str, subscribed: &HashSet<String>) -> BTreeSet<EventKind> {
        let groups = self.set.iter().flat_map(|set| &set.groups);
        groups
            .filter(|group| covers(group, name, subscribed))
            .flat_map(|group| group.events.iter().copied())
            .collect()
    }
}

fn covers(group: &NotifyGroup, name: &str, subscribed: &HashSet<String>) -> bool {
    match &group.mailboxes {
        NotifyMailboxes::Personal => true,
        NotifyMailboxes::Subscribed => subscribed.contains(name),
        NotifyMailboxes::Mailboxes(list) => list.iter().any(|named| named.as_str() == name),
        NotifyMailboxes::Subtree(list) => list.iter().any(|top| {
            name.strip_prefix(top.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }),
    }
}

/// What of a mailbox is told for these events of its messages (RFC 5465 section 5).
fn items(events: &BTreeSet<EventKind>, dialog: &Dialog, before: Option<&Told>, now: &Told) -> Vec<StatusItem> {
    let changed = |part: fn(&Told) -> u64| before.is_none_or(|before| part(before) != part(now));
    let modseq = dialog.enabled.condstore;
    let mut items = Vec::with_capacity(4);
    let came = changed(|told| u64::from(told.uid_next)) || changed(|told| u64::from(told.messages));
    if events.contains(&EventKind::MessageNew) && came {
        items.extend([StatusItem::UidNext, StatusItem::Messages]);
        items.extend(modseq.then_some(StatusItem::HighestModseq));
    }
    if events.contains(&EventKind::FlagChange) {
        let unseen = changed(|told| u64::from(told.unseen));
        if modseq && changed(|told| told.highest_modseq) && !items.contains(&StatusItem::HighestModseq) {
            items.push(StatusItem::HighestModseq);
        }
        items.extend(unseen.then_some(StatusItem::Unseen));
        if !items.is_empty() {
            items.push(StatusItem::UidValidity);
        }
    } else if !items.is_empty() && changed(|told| u64::from(told.uid_validity)) {
        items.push(StatusItem::UidValidity);
    }
    items
}

/// NOTIFY SET and NOTIFY NONE.
pub(super) async fn notify(
    dialog: &mut Dialog,
    mail: &Maildir,
    stage: &Stage,
    ears: &mut Ears,
    set: Option<NotifySet>,
) -> Answer {
    let before = ears.set.replace(set.unwrap_or_default());
    // What happened until now is told by the STATUS responses, or known to the peer.
    ears.listener.take();
    let told = std::mem::take(&mut ears.told);
    let covered = match subscribed(mail, ears).await {
        Ok(subscribed) => {
            ears.subscribed = subscribed;
            cover(mail, ears).await
        }
        Err(error) => Err(error),
    };
    let statuses = match covered {
        Ok(statuses) => statuses,
        Err(MailError::Limit { most, .. }) => {
            (ears.set, ears.told) = (before, told);
            let text = format!("At most {most} mailboxes can be watched");
            return Ok(Reply::new(write::Status::No, Some(Code::NotificationOverflow), text));
        }
        Err(error) => {
            (ears.set, ears.told) = (before, told);
            return Ok(refuse(dialog, &error));
        }
    };
    if !ears.set.as_ref().is_some_and(|set| set.status) {
        return Ok(Reply::ok("NOTIFY done"));
    }
    let open = stage.open_name();
    for (name, events, status) in &statuses {
        if Some(name) == open.as_ref() {
            continue;
        }
        let mut items = vec![StatusItem::UidValidity, StatusItem::UidNext, StatusItem::Messages];
        if events.contains(&EventKind::FlagChange) {
            items.push(StatusItem::HighestModseq);
        }
        super::folders::put_status(dialog, name, &items, status);
        dialog.link.wire.push().await?;
    }
    Ok(Reply::ok("NOTIFY done"))
}

/// Watches the mailboxes whose messages are asked for; what each of them holds, which then counts as told where nothing
/// was told before.
async fn cover(mail: &Maildir, ears: &mut Ears) -> Result<Vec<(String, BTreeSet<EventKind>, Status)>, MailError> {
    let of_messages = |group: &NotifyGroup| group.events.iter().any(|kind| kind.is_of_messages());
    if !ears.set.as_ref().is_some_and(|set| set.groups.iter().any(of_messages)) {
        mail.cover(&ears.listener, &[]).await?;
        ears.told.clear();
        return Ok(Vec::new());
    }
    let subscribed = subscribed(mail, ears).await?;
    let wanted = |name: &str| ears.events(name, &subscribed).iter().any(|kind| kind.is_of_messages());
    let folders = mail.list().await?.into_iter().filter(|folder| folder.selectable && wanted(&folder.name));
    let names: Vec<String> = folders.map(|folder| folder.name).collect();
    let statuses = mail.cover(&ears.listener, &names).await?;
    ears.told.retain(|name, _| statuses.iter().any(|(known, _)| known == name));
    let mut found = Vec::with_capacity(statuses.len());
    for (name, status) in statuses {
        ears.told.entry(name.clone()).or_insert_with(|| Told::from(&status));
        let events = ears.events(&name, &subscribed);
        found.push((name, events, status));
    }
    Ok(found)
}

/// Subscribed names, where anything asks for them.
async fn subscribed(mail: &Maildir, ears: &Ears) -> Result<HashSet<String>, MailError> {
    let asks = |group: &NotifyGroup| group.mailboxes == NotifyMailboxes::Subscribed;
    match &ears.set {
        Some(set) if set.groups.iter().any(asks) => Ok(mail.subscribed().await?.into_iter().collect()),
        _ => Ok(HashSet::new()),
    }
}

/// Tells what happened in other mailboxes since the last call.
pub(super) async fn tell(
    dialog: &mut Dialog,
    mail: &Maildir,
    stage: &Stage,
    ears: &mut Ears,
) -> Result<(), Ending> {
    let heard = ears.listener.take();
    if heard.is_empty() {
        return Ok(());
    }
    let told = match tell_heard(dialog, mail, stage, ears, &heard).await? {
        Ok(()) if !heard.overflow => return Ok(()),
        Ok(()) => true,
        Err(MailError::Limit { .. }) => true,
        Err(error) => {
            dialog.link.note(&error);
            true
        }
    };
    if told && ears.set.take().is_some() {
        // From here on as after NOTIFY NONE (RFC 5465 section 5.8).
        ears.set = Some(NotifySet::default());
        ears.told.clear();
        let _ = mail.cover(&ears.listener, &[]).await;
        let text = "More happened than can be told; ask again";
        write::untagged(&mut dialog.link.wire.out, write::Status::Ok, Some(&Code::NotificationOverflow), text);
    }
    Ok(())
}

/// The outer error ends the session, the inner one the notifications.
async fn tell_heard(
    dialog: &mut Dialog,
    mail: &Maildir,
    stage: &Stage,
    ears: &mut Ears,
    heard: &Heard,
) -> Result<Result<(), MailError>, Ending> {
    let about_names = |news: &News| !matches!(news, News::Annotated { .. });
    if ears.set.is_some() && heard.news.iter().any(about_names) {
        // Mailboxes came and went: watch those that are there now, and tell of the names.
        let now = match subscribed(mail, ears).await {
            Ok(subscribed) => subscribed,
            Err(error) => return Ok(Err(error)),
        };
        // Who asks for the subscribed ones is told of one that is not any more.
        let before = std::mem::replace(&mut ears.subscribed, now);
        let either: HashSet<String> = ears.subscribed.union(&before).cloned().collect();
        if let Err(error) = tell_names(dialog, mail, ears, &either, heard).await {
            return Ok(Err(error));
        }
        follow_renames(ears, heard);
        if let Err(error) = cover(mail, ears).await {
            return Ok(Err(error));
        }
    }
    tell_annotations(dialog, mail, ears, heard).await?;
    if ears.told.is_empty() {
        return Ok(Ok(()));
    }
    let subscribed = match subscribed(mail, ears).await {
        Ok(subscribed) => subscribed,
        Err(error) => return Ok(Err(error)),
    };
    let open = stage.open_name();
    for name in mail.touched(heard) {
        let Some(before) = ears.told.get(&name).copied() else { continue };
        // One that is gone by now was told of, or will be.
        let Ok(status) = mail.status(&name).await else { continue };
        let now = Told::from(&status);
        ears.told.insert(name.clone(), now);
        if Some(&name) == open.as_ref() {
            continue;
        }
        let items = items(&ears.events(&name, &subscribed), dialog, Some(&before), &now);
        if !items.is_empty() {
            super::folders::put_status(dialog, &name, &items, &status);
            dialog.link.wire.push().await?;
        }
    }
    Ok(Ok(()))
}

/// What was told of a mailbox holds under its new name.
fn follow_renames(ears: &mut Ears, heard: &Heard) {
    for news in &heard.news {
        let News::Renamed { from, to } = news else { continue };
        let below = |name: &String| {
            name.strip_prefix(from.as_str())
                .filter(|rest| rest.is_empty() || rest.starts_with('/'))
                .map(str::to_owned)
        };
        let moved: Vec<(String, String)> =
            ears.told.keys().filter_map(|name| Some((name.clone(), format!("{to}{}", below(name)?)))).collect();
        for (old, new) in moved {
            if let Some(told) = ears.told.remove(&old) {
                ears.told.insert(new, told);
            }
        }
    }
}

/// MailboxName and SubscriptionChange, in order.
async fn tell_names(
    dialog: &mut Dialog,
    mail: &Maildir,
    ears: &Ears,
    subscribed: &HashSet<String>,
    heard: &Heard,
) -> Result<(), MailError> {
    let folders: HashMap<String, Folder> =
        mail.list().await?.into_iter().map(|folder| (folder.name.clone(), folder)).collect();
    let wanted: HashSet<String> = mail.subscribed().await?.into_iter().collect();
    let asked = |name: &str, kind| ears.events(name, subscribed).contains(&kind);
    let mut put = |name: &str, old_name: Option<&str>, subscription: bool| {
        let mut attributes = attributes(folders.get(name), true);
        if subscription && wanted.contains(name) {
            attributes.push("\\Subscribed");
        }
        let names = dialog.enabled.names();
        let line = ListLine { name, names, attributes: &attributes, child_info: &[], old_name };
        write::list(&mut dialog.link.wire.out, &line);
    };
    for news in &heard.news {
        match news {
            News::Created(name) | News::Deleted(name) => {
                // A new mailbox is subscribed by itself, which is to be told too (RFC 5465 section 5.4).
                for name in std::iter::once(name.as_str()).chain(ancestors(name).next()) {
                    if asked(name, EventKind::MailboxName) {
                        put(name, None, true);
                    }
                }
            }
            News::Renamed { from, to } => {
                if asked(from, EventKind::MailboxName) || asked(to, EventKind::MailboxName) {
                    put(to, Some(from), true);
                }
            }
            News::Subscribed(name) => {
                if asked(name, EventKind::SubscriptionChange) {
                    put(name, None, true);
                }
            }
            News::Annotated { .. } => {}
        }
    }
    Ok(())
}

/// MailboxMetadataChange and ServerMetadataChange, and what ENABLE METADATA asks for.
async fn tell_annotations(dialog: &mut Dialog, mail: &Maildir, ears: &Ears, heard: &Heard) -> Result<(), Ending> {
    let subscribed = match subscribed(mail, ears).await {
        Ok(subscribed) => subscribed,
        Err(error) => {
            dialog.link.note(&error);
            HashSet::new()
        }
    };
    for news in &heard.news {
        let News::Annotated { folder, private_to, entries } = news else { continue };
        if private_to.as_ref().is_some_and(|user| *user != ears.user) {
            continue;
        }
        let server = |set: &NotifySet| {
            set.groups.iter().any(|group| group.events.contains(&EventKind::ServerMetadataChange))
        };
        let asked = match folder {
            Some(name) => ears.events(name, &subscribed).contains(&EventKind::MailboxMetadataChange),
            None => ears.set.as_ref().is_some_and(server),
        };
        if asked || dialog.enabled.metadata {
            let names = dialog.enabled.names();
            write::metadata_changed(&mut dialog.link.wire.out, folder.as_deref(), names, entries);
            dialog.link.wire.push().await?;
        }
    }
    Ok(())
}
