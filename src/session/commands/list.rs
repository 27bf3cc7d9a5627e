//! LIST and LSUB (RFC 3501 sections 6.3.8 and 6.3.9, RFC 3348, RFC 5258, RFC 5819, RFC 6154).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    folders::{counted, put_status},
    reply::{Answer, Reply, refuse},
    turn::worked,
};
use crate::imap::{
    command::List,
    mailbox::Pattern,
    write::{self, ListLine},
};
use crate::maildir::{Folder, MailError, Maildir};
use crate::session::login::Dialog;

/// So many positions of a pattern are gone through in the time of a byte of other work.
const STEPS_A_BYTE: usize = 4;

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
        dialog.link.may_go_on()?;
        if !fits_any(&list.patterns, name).await {
            continue;
        }
        let chosen = names.chosen(&list, name, folder);
        let child_info = names.child_info(name, chosen);
        if !chosen && child_info.is_empty() {
            continue;
        }
        let mut status = None;
        if !list.give.status.is_empty() && folder.is_some_and(|folder| folder.selectable) {
            // A mailbox that cannot be looked into is listed without its numbers (RFC 5819 section 2).
            status = counted(mail, name, &list.give.status).await.inspect_err(|error| dialog.link.note(error)).ok();
        }
        let mut attributes = attributes(folder, list.extended || dialog.enabled.rev2);
        if names.subscribed.contains(name) && list.give.subscribed {
            attributes.push("\\Subscribed");
        }
        let names = dialog.enabled.names();
        let line = ListLine { name, names, attributes: &attributes, child_info: &child_info, old_name: None };
        write::list(&mut dialog.link.wire.out, &line);
        if let Some(status) = status {
            put_status(dialog, name, &list.give.status, &status);
        }
        dialog.link.wire.push().await?;
    }
    Ok(Reply::ok("LIST done"))
}

/// Every name that LIST may have to show.
struct Names {
    /// Those that exist, or stand above others that do.
    folders: Vec<Folder>,
    /// Those the user subscribed to, existing or not; empty where nobody asks.
    subscribed: BTreeSet<String>,
    /// With RECURSIVEMATCH: the names above those that are chosen, whether the pattern shows these or not (RFC 5258
    /// section 3.1), and whether it leaves one of them out.
    above: HashMap<String, bool>,
    /// The selection options, as CHILDINFO names them.
    options: Vec<&'static str>,
}

impl Names {
    async fn find(mail: &Maildir, list: &List) -> Result<Self, MailError> {
        let folders = mail.list().await?;
        let mut subscribed = BTreeSet::new();
        if list.select.subscribed || list.give.subscribed {
            subscribed.extend(mail.subscribed().await?);
        }
        let mut options = Vec::new();
        options.extend(list.select.subscribed.then_some("SUBSCRIBED"));
        options.extend(list.select.special_use.then_some("SPECIAL-USE"));
        let mut names = Self { folders, subscribed, above: HashMap::new(), options };
        if list.select.recursive_match {
            let mut above = HashMap::new();
            for (name, _) in names.all().filter(|(name, folder)| names.chosen(list, name, *folder)) {
                let left_out = !fits_any(&list.patterns, name).await;
                for parent in ancestors(name) {
                    *above.entry(parent.to_owned()).or_default() |= left_out;
                }
            }
            names.above = above;
        }
        Ok(names)
    }

    /// Existing names in their order, then those that only subscriptions keep.
    fn all(&self) -> impl Iterator<Item = (&str, Option<&Folder>)> {
        let known: HashSet<&str> = self.folders.iter().map(|folder| folder.name.as_str()).collect();
        let others: BTreeSet<&str> = self.subscribed.iter().chain(self.above.keys()).map(String::as_str).collect();
        let others = others.into_iter().filter(move |name| !known.contains(name)).map(|name| (name, None));
        self.folders.iter().map(|folder| (folder.name.as_str(), Some(folder))).chain(others)
    }

    /// Whether the selection options choose a name.
    fn chosen(&self, list: &List, name: &str, folder: Option<&Folder>) -> bool {
        let special = folder.is_some_and(|folder| !folder.special_uses.is_empty());
        let asked = folder.is_some() || list.select.subscribed;
        asked
            && (!list.select.subscribed || self.subscribed.contains(name))
            && (!list.select.special_use || special)
    }

    /// What CHILDINFO says. A name that is not chosen itself is shown for what the pattern leaves out below it, and not
    /// for what is shown anyway (RFC 9051 section 6.3.9.6).
    fn child_info(&self, name: &str, chosen: bool) -> Vec<&'static str> {
        match self.above.get(name) {
            Some(left_out) if chosen || *left_out => self.options.clone(),
            _ => Vec::new(),
        }
    }
}

/// The names above, nearest first: for `a/b/c`, `a/b` and `a`.
pub(super) fn ancestors(name: &str) -> impl Iterator<Item = &str> {
    name.rmatch_indices('/').filter_map(|(at, _)| name.get(..at))
}

/// Whether one of the patterns shows a name. A long name held against long patterns is work.
async fn fits_any(patterns: &[Pattern], name: &str) -> bool {
    for pattern in patterns {
        worked(name.len() * pattern.as_str().len() / STEPS_A_BYTE).await;
        if pattern.matches(name) {
            return true;
        }
    }
    false
}

/// What is said of a name without being asked. Programs that asked in the extended form, or speak IMAP4rev2, know
/// `\NonExistent`.
pub(super) fn attributes(folder: Option<&Folder>, extended: bool) -> Vec<&'static str> {
    let mut attributes = Vec::with_capacity(4);
    if folder.is_none_or(|folder| !folder.selectable) {
        attributes.extend(extended.then_some("\\NonExistent"));
        attributes.push("\\Noselect");
    }
    let Some(folder) = folder else { return attributes };
    attributes.push(if folder.has_children { "\\HasChildren" } else { "\\HasNoChildren" });
    attributes.extend(folder.special_uses.iter().map(|special| special.attribute()));
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
        dialog.link.may_go_on()?;
        let patterns = std::slice::from_ref(pattern);
        if fits_any(patterns, name).await {
            lines.insert(name, true);
        } else if pattern.as_str().contains('%') {
            for parent in ancestors(name) {
                if fits_any(patterns, parent).await {
                    lines.entry(parent).or_insert(false);
                    break;
                }
            }
        }
    }
    for (name, subscribed) in lines {
        let attributes: &[&str] = if subscribed { &[] } else { &["\\Noselect"] };
        let line = ListLine { name, names: dialog.enabled.names(), attributes, ..ListLine::default() };
        write::lsub(&mut dialog.link.wire.out, &line);
        dialog.link.wire.push().await?;
    }
    Ok(Reply::ok("LSUB done"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::commands::turn::turns_of_others;

    #[tokio::test(flavor = "current_thread")]
    async fn long_patterns_against_long_names_let_others_have_their_turn() {
        let hostile = [Pattern::new("", &"*a".repeat(500)), Pattern::new("", &format!("{}z", "*a".repeat(499)))];
        let name = "a".repeat(240);
        let list = async |patterns: &[Pattern], names: usize| {
            for _ in 0..names {
                assert!(!fits_any(patterns, &name).await);
            }
        };
        let turns = turns_of_others(list(&hostile, 50)).await;
        assert!(turns >= 40, "{turns} turns for 100 times 240 thousand steps");
        let turns = turns_of_others(list(&[Pattern::new("", "b*")], 50)).await;
        assert!(turns <= 1, "{turns} turns for next to no work");
    }
}
