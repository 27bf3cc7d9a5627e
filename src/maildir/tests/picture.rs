//! All that can be seen of one owner's mail, to compare: before a change, after it, after a failure or a power cut.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// An owner's folders by name, and what is subscribed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Picture {
    pub folders: BTreeMap<String, Shown>,
    pub subscribed: BTreeSet<String>,
}

/// One folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    pub uid_validity: u32,
    pub uid_next: u32,
    pub messages: BTreeMap<u32, Seen>,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub text: String,
    pub flags: Flags,
    pub keywords: BTreeSet<String>,
}

impl Picture {
    pub(super) async fn of(mail: &Maildir) -> Self {
        let mut picture = Self::default();
        for folder in mail.list().await.unwrap() {
            if folder.subscribed {
                picture.subscribed.insert(folder.name.clone());
            }
            if !folder.selectable {
                continue;
            }
            let view = mail.view(&folder.name, Mode::ReadOnly).await.unwrap();
            let mut shown =
                Shown { uid_validity: view.uid_validity(), uid_next: view.uid_next(), messages: BTreeMap::new() };
            for seq in 1..=view.len() {
                let meta = view.message(seq).unwrap();
                let text = String::from_utf8(bytes(&view, seq).await).unwrap();
                let keywords = meta.keywords.iter().map(ToString::to_string).collect();
                shown.messages.insert(meta.uid, Seen { text, flags: meta.flags, keywords });
            }
            picture.folders.insert(folder.name, shown);
        }
        picture
    }

    /// What a store in this directory shows after a start.
    pub(super) async fn on(root: &Path) -> Self {
        let (_store, mail) = open(root, None).await;
        Self::of(&mail).await
    }

    fn texts(&self) -> Vec<&str> {
        self.folders.values().flat_map(|f| f.messages.values()).map(|m| m.text.as_str()).collect()
    }

    /// What is wrong if this is what stands there after a change from `before` to `after` that was not acknowledged: each
    /// folder and message must be as it was or as it was to be; where both agree, so must this.
    ///
    /// A message that was to be added may stand there with a UID of its own. A folder may have a UIDVALIDITY of its own
    /// where it has none in common with `before`: one that was to be made.
    pub(super) fn between(&self, before: &Self, after: &Self) -> Result<(), String> {
        for (name, shown) in &self.folders {
            let sides: Vec<&Shown> = [before, after].iter().filter_map(|p| p.folders.get(name)).collect();
            if sides.is_empty() {
                return Err(format!("folder {name} came from nowhere"));
            }
            shown.among(before.folders.get(name), after).map_err(|wrong| format!("{name}: {wrong}"))?;
        }
        for (name, was) in &before.folders {
            let Some(to_be) = after.folders.get(name) else { continue };
            let Some(shown) = self.folders.get(name) else { return Err(format!("folder {name} is lost")) };
            for (uid, message) in &was.messages {
                let Some(next) = to_be.messages.get(uid) else { continue };
                let Some(seen) = shown.messages.get(uid) else { return Err(format!("{name}: {uid} is lost")) };
                let fits = |side: &Seen| (side.flags, &side.keywords) == (seen.flags, &seen.keywords);
                // Flags are in the file's name, keywords in the index: of a STORE that failed either may have changed.
                let parts = [message.flags, next.flags].contains(&seen.flags)
                    && [&message.keywords, &next.keywords].contains(&&seen.keywords);
                if !fits(message) && !fits(next) && !parts {
                    return Err(format!("{name}: {uid} has {:?} {:?}", seen.flags, seen.keywords));
                }
            }
        }
        let (kept, there) = (after.texts(), self.texts());
        for text in before.texts().into_iter().filter(|text| kept.contains(text)) {
            if !there.contains(&text) {
                return Err(format!("{text:?} is lost"));
            }
        }
        for name in before.subscribed.intersection(&after.subscribed) {
            if !self.subscribed.contains(name) && self.folders.contains_key(name) {
                return Err(format!("subscription of {name} is lost"));
            }
        }
        Ok(())
    }

    /// What is wrong if this is what stands there after an acknowledged change to `after`.
    pub(super) fn is(&self, after: &Self) -> Result<(), String> {
        if self.subscribed != after.subscribed {
            return Err(format!("subscribed: {:?}, not {:?}", self.subscribed, after.subscribed));
        }
        let (here, there): (Vec<_>, Vec<_>) = (self.folders.keys().collect(), after.folders.keys().collect());
        if here != there {
            return Err(format!("folders: {here:?}, not {there:?}"));
        }
        for (name, shown) in &self.folders {
            let wanted = &after.folders[name];
            if shown.messages != wanted.messages {
                return Err(format!("{name}: {:?}, not {:?}", shown.messages, wanted.messages));
            }
            if shown.uid_next < wanted.uid_next {
                return Err(format!("{name}: UIDNEXT {}, not {}", shown.uid_next, wanted.uid_next));
            }
        }
        Ok(())
    }
}

impl Shown {
    fn among(&self, was: Option<&Self>, after: &Picture) -> Result<(), String> {
        if let Some(was) = was {
            if self.uid_validity != was.uid_validity {
                return Err(format!("UIDVALIDITY {} became {}", was.uid_validity, self.uid_validity));
            }
            if self.uid_next < was.uid_next {
                return Err(format!("UIDNEXT {} became {}", was.uid_next, self.uid_next));
            }
        }
        let known = after.texts();
        for (uid, seen) in &self.messages {
            match was.and_then(|was| was.messages.get(uid)) {
                Some(old) if old.text == seen.text => {}
                Some(old) => return Err(format!("{uid} was {:?} and is {:?}", old.text, seen.text)),
                None if was.is_some_and(|was| *uid < was.uid_next) => return Err(format!("{uid} was used before")),
                None if known.contains(&seen.text.as_str()) => {}
                None => return Err(format!("{uid} is {:?}, which nobody put there", seen.text)),
            }
        }
        Ok(())
    }
}
