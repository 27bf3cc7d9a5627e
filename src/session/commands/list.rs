//! LIST and LSUB (RFC 3501 sections 6.3.8 and 6.3.9, RFC 3348, RFC 5258, RFC 5819, RFC 6154).

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{
    folders::put_status,
    reply::{Answer, Reply, refuse},
};
use crate::imap::{
    command::List,
    mailbox::Pattern,
    write::{self, ListLine},
};
use crate::maildir::{Folder, MailError, Maildir};
use crate::session::login::Dialog;

pub(super) async fn list(dialog: &mut Dialog, mail: &Maildir, list: List) -> Answer {
    if list.separator {
        write::list_separator(&mut dialog.link.wire.out);
        return Ok(Reply::ok("LIST done"));
    }
    let names = match Names::find(mail, &list).await {
        Ok(names) => names,
        Err(error) => return Ok(refuse(dialog, &error)),
    };
    for (name, folder) in names.all() {
        tokio::task::consume_budget().await;
        if !list.patterns.iter().any(|pattern| pattern.matches(name)) {
            continue;
        }
        let subscribed = names.subscribed.contains(name);
        let below = list.select.recursive_match && names.above.contains(name);
        let selected = (!list.select.subscribed || subscribed)
            && (!list.select.special_use || folder.is_some_and(|folder| folder.special_use.is_some()));
        if !selected && !below {
            continue;
        }
        let mut attributes = attributes(folder, list.extended);
        if subscribed && list.give.subscribed {
            attributes.push("\\Subscribed");
        }
        let line = ListLine { name, attributes: &attributes, subscribed_below: below };
        write::list(&mut dialog.link.wire.out, &line);
        if !list.give.status.is_empty() && folder.is_some_and(|folder| folder.selectable) {
            // A mailbox that cannot be looked into is listed without its numbers (RFC 5819 section 2).
            let _ = put_status(dialog, mail, name, &list.give.status).await;
        }
        dialog.link.wire.push().await?;
        dialog.link.may_go_on()?;
    }
    Ok(Reply::ok("LIST done"))
}

/// Every name that LIST may have to show.
struct Names {
    /// Those that exist, or stand above others that do.
    folders: Vec<Folder>,
    /// Those the user subscribed to, existing or not; empty where nobody asks.
    subscribed: BTreeSet<String>,
    /// With RECURSIVEMATCH: the names above those that the selection options select (RFC 5258 section 3.1: "it doesn't
    /// matter whether or not the submailbox matches the canonical LIST pattern").
    above: HashSet<String>,
}

impl Names {
    async fn find(mail: &Maildir, list: &List) -> Result<Self, MailError> {
        let folders = mail.list().await?;
        let mut subscribed = BTreeSet::new();
        if list.select.subscribed || list.give.subscribed {
            subscribed.extend(mail.subscribed().await?);
        }
        let mut above = HashSet::new();
        // No mailbox with a special use lies below another, so only subscriptions select anything down there.
        if list.select.recursive_match && list.select.subscribed && !list.select.special_use {
            for name in &subscribed {
                above.extend(ancestors(name).map(str::to_owned));
            }
        }
        Ok(Self { folders, subscribed, above })
    }

    /// Existing names in their order, then those that only subscriptions keep.
    fn all(&self) -> impl Iterator<Item = (&str, Option<&Folder>)> {
        let known: HashSet<&str> = self.folders.iter().map(|folder| folder.name.as_str()).collect();
        let others: BTreeSet<&str> = self.subscribed.iter().chain(&self.above).map(String::as_str).collect();
        let others = others.into_iter().filter(move |name| !known.contains(name)).map(|name| (name, None));
        self.folders.iter().map(|folder| (folder.name.as_str(), Some(folder))).chain(others)
    }
}

/// The names above, nearest first: for `a/b/c`, `a/b` and `a`.
fn ancestors(name: &str) -> impl Iterator<Item = &str> {
    name.rmatch_indices('/').filter_map(|(at, _)| name.get(..at))
}

/// What is said of a name without being asked. Programs that asked in the extended form know `\NonExistent`.
fn attributes(folder: Option<&Folder>, extended: bool) -> Vec<&'static str> {
    let mut attributes = Vec::with_capacity(4);
    if folder.is_none_or(|folder| !folder.selectable) {
        attributes.extend(extended.then_some("\\NonExistent"));
        attributes.push("\\Noselect");
    }
    let Some(folder) = folder else { return attributes };
    attributes.push(if folder.has_children { "\\HasChildren" } else { "\\HasNoChildren" });
    attributes.extend(folder.special_use.map(|r#use| r#use.attribute()));
    attributes
}

/// LSUB: subscribed names, existing or not; with `%` also a parent of one that the pattern does not reach (RFC 3501
/// section 6.3.9).
pub(super) async fn lsub(dialog: &mut Dialog, mail: &Maildir, pattern: &Pattern) -> Answer {
    let subscribed = match mail.subscribed().await {
        Ok(subscribed) => subscribed,
        Err(error) => return Ok(refuse(dialog, &error)),
    };
    let mut lines: BTreeMap<&str, bool> = BTreeMap::new();
    for name in &subscribed {
        tokio::task::consume_budget().await;
        if pattern.matches(name) {
            lines.insert(name, true);
        } else if pattern.as_str().contains('%')
            && let Some(parent) = ancestors(name).find(|parent| pattern.matches(parent))
        {
            lines.entry(parent).or_insert(false);
        }
    }
    for (name, subscribed) in lines {
        let attributes: &[&str] = if subscribed { &[] } else { &["\\Noselect"] };
        write::lsub(&mut dialog.link.wire.out, &ListLine { name, attributes, subscribed_below: false });
        dialog.link.wire.push().await?;
    }
    Ok(Reply::ok("LSUB done"))
}
