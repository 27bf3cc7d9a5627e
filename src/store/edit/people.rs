//! Users, groups and shared mailboxes. Called by `work`.

use sqlx::Row;

use super::{
    Action, EditError, GroupPatch, MailboxPatch, Stored, UserPatch, find,
    former::{self, Former, Kind},
    put,
    work::{Done, Work, check_name, patched},
};
use crate::model::{GroupId, Place, UserId};
use crate::policy::{Group, Rights, Settings, file::FileUser};
use crate::store::difference::{MailboxRow, Words};

/// Most members of one group or mailbox that one change names.
const MOST_MEMBERS: usize = 100_000;

/// What stands under an address.
pub(super) struct There {
    pub(super) user: Option<Stored<UserId, FileUser>>,
    pub(super) is_mailbox: bool,
    /// What stood there.
    pub(super) former: Option<Former>,
}

impl Work<'_> {
    pub(super) async fn user(&mut self, id: &UserId, action: &Action<UserPatch>, expect: Option<i64>) -> Done {
        let user = find::user(self.tx, id).await?;
        let is_mailbox = user.is_none() && find::mailbox(self.tx, id).await?.is_some();
        let former = match user {
            None => former::among(self.tx, &[id]).await?.remove(id),
            Some(_) => None,
        };
        self.found_user(id, There { user, is_mailbox, former }, action, expect).await
    }

    /// The same, where it is known already what stands under this address.
    pub(super) async fn found_user(
        &mut self,
        id: &UserId,
        There { user: found, is_mailbox, former }: There,
        action: &Action<UserPatch>,
        expect: Option<i64>,
    ) -> Done {
        let place = Place::User(id.clone());
        self.admit(&place, found.as_ref(), action, expect).await?;
        let before = found.map(|found| found.value);
        let words = before.as_ref().map(Words::words);
        let (patch, event) = match action {
            Action::Make(patch) => (patch, "user.made"),
            Action::Change(patch) => (patch, "user.changed"),
            Action::Remove => {
                self.may_forget_home(&place, before.as_ref().and_then(|user| user.mail.as_ref()))?;
                let unit = before.as_ref().map(|user| &user.unit);
                self.leave_everything(id).await?;
                self.end_role(id).await?;
                put::remove_user(self.tx, id).await?;
                former::note(self.tx, id, (Kind::User, unit)).await?;
                self.touched.users.insert(id.clone());
                self.tell("user.removed", (place, unit), words, None);
                return Ok(());
            }
        };
        if before.is_none() && is_mailbox {
            let remedy = "a shared mailbox is nobody's own: use another address";
            return Err(EditError::wrong(place, "it is a shared mailbox", remedy).into());
        }
        if let Some(unit) = &patch.unit {
            self.known_unit(&place, unit).await?;
        }
        let Some(unit) = patch.unit.clone().or_else(|| before.as_ref().map(|user| user.unit.clone())) else {
            let remedy = "name the one unit the user is in";
            return Err(EditError::wrong(place, "the user is in no unit", remedy).into());
        };
        if let Some(user) = before.as_ref().filter(|user| user.mail.is_none()) {
            self.keeps_home(&place, &user.unit, &unit).await?;
        }
        self.take_address((id, &place, Some(&unit)), former.as_ref(), (Kind::User, false)).await?;
        let (suspended, settings, mail) =
            before.map_or((false, Settings::default(), None), |user| (user.suspended, user.settings, user.mail));
        let settings = patched(&place, &settings, &patch.imap, &patch.pop)?;
        let mail = patch.mail.clone().unwrap_or(mail);
        let user = FileUser { unit, suspended: patch.suspended.unwrap_or(suspended), settings, mail };
        put::user(self.tx, id, &user, self.mark).await?;
        self.touched.users.insert(id.clone());
        self.tell(event, (place, Some(&user.unit)), words, Some(user.words()));
        Ok(())
    }

    /// Takes a user out of every group and shared mailbox. Those that the policy file keeps name the user in the file.
    async fn leave_everything(&mut self, id: &UserId) -> Done {
        for row in sqlx::query("SELECT name, managed_by FROM group_members WHERE address = $1")
            .bind(id.as_str())
            .fetch_all(&mut *self.tx)
            .await?
        {
            let name = GroupId::parse(row.try_get(0)?)?;
            if row.try_get::<String, _>(1)? == put::FILE {
                return Err(self.managed(Place::Group(name)).await?.into());
            }
            self.renew("UPDATE user_groups SET version = $1 WHERE name = $2", name.as_str()).await?;
            self.touched.groups.insert(name);
        }
        for row in sqlx::query("SELECT mailbox, managed_by FROM mailbox_members WHERE address = $1")
            .bind(id.as_str())
            .fetch_all(&mut *self.tx)
            .await?
        {
            let mailbox = UserId::parse(row.try_get(0)?)?;
            if row.try_get::<String, _>(1)? == put::FILE {
                return Err(self.managed(Place::Mailbox(mailbox)).await?.into());
            }
            self.renew("UPDATE mailboxes SET version = $1 WHERE address = $2", mailbox.as_str()).await?;
            self.touched.mailboxes.insert(mailbox);
        }
        put::remove(self.tx, "DELETE FROM group_members WHERE address = $1", &[id.as_str()]).await?;
        put::remove(self.tx, "DELETE FROM mailbox_members WHERE address = $1", &[id.as_str()]).await?;
        Ok(())
    }

    /// A row's members changed, so its version does.
    async fn renew(&mut self, sql: &'static str, key: &str) -> Done {
        sqlx::query(sql).bind(self.mark.version).bind(key).execute(&mut *self.tx).await?;
        Ok(())
    }

    pub(super) async fn group(&mut self, name: &GroupId, action: &Action<GroupPatch>, expect: Option<i64>) -> Done {
        let place = Place::Group(name.clone());
        let found = find::group(self.tx, name).await?;
        self.admit(&place, found.as_ref(), action, expect).await?;
        let before = found.map(|found| found.value);
        let words = before.as_ref().map(Words::words);
        let members = find::group_members(self.tx, name).await?;
        let (patch, event) = match action {
            Action::Make(patch) => (patch, "group.made"),
            Action::Change(patch) => (patch, "group.changed"),
            Action::Remove => {
                put::remove(self.tx, "DELETE FROM group_members WHERE name = $1", &[name.as_str()]).await?;
                put::remove_group(self.tx, name).await?;
                self.touched.users.extend(members);
                self.touched.groups.insert(name.clone());
                self.tell("group.removed", (place, None), words, None);
                return Ok(());
            }
        };
        let before = before.unwrap_or_default();
        let settings = patched(&place, &before.settings, &patch.imap, &patch.pop)?;
        let group = Group { priority: patch.priority.unwrap_or(before.priority), settings };
        put::group(self.tx, name, &group, self.mark).await?;
        self.touched.groups.insert(name.clone());

        let wanted = wanted(
            patch.members.as_ref().map(|members| members.iter().map(|user| (user.clone(), ()))),
            members.iter().map(|user| (user.clone(), ())),
            patch.add.iter().map(|user| (user.clone(), ())),
            &patch.remove,
        )?;
        let come: Vec<&UserId> = wanted.keys().filter(|user| members.binary_search(user).is_err()).collect();
        self.known_users(&place, &come).await?;
        let go: Vec<&UserId> = members.iter().filter(|user| !wanted.contains_key(*user)).collect();
        for user in &come {
            put::group_member(self.tx, name, user, put::ADMIN).await?;
        }
        for user in &go {
            let sql = "DELETE FROM group_members WHERE address = $1 AND name = $2";
            put::remove(self.tx, sql, &[user.as_str(), name.as_str()]).await?;
        }
        let members =
            member_words(come.iter().map(|user| user.to_string()), go.iter().map(|user| user.to_string()));
        self.touched.users.extend(come.into_iter().chain(go).cloned());
        self.tell(event, (place, None), words, Some(format!("{}{members}", group.words())));
        Ok(())
    }

    pub(super) async fn mailbox(
        &mut self,
        id: &UserId,
        action: &Action<MailboxPatch>,
        expect: Option<i64>,
    ) -> Done {
        let place = Place::Mailbox(id.clone());
        let found = find::mailbox(self.tx, id).await?;
        self.admit(&place, found.as_ref(), action, expect).await?;
        let is_new = found.is_none();
        let before = found.map(|found| MailboxRow { name: found.value.0, unit: found.value.1 });
        let words = before.as_ref().map(Words::words);
        let (patch, event) = match action {
            Action::Make(patch) => (patch, "mailbox.made"),
            Action::Change(patch) => (patch, "mailbox.changed"),
            Action::Remove => {
                put::remove(self.tx, "DELETE FROM mailbox_members WHERE mailbox = $1", &[id.as_str()]).await?;
                put::remove(self.tx, "DELETE FROM mailboxes WHERE address = $1", &[id.as_str()]).await?;
                let unit = before.as_ref().and_then(|mailbox| mailbox.unit.as_ref());
                former::note(self.tx, id, (Kind::Mailbox, unit)).await?;
                self.touched.mailboxes.insert(id.clone());
                self.tell("mailbox.removed", (place, unit), words, None);
                return Ok(());
            }
        };
        if is_new {
            if find::user(self.tx, id).await?.is_some() {
                let remedy = "a shared mailbox is nobody's own: use another address";
                return Err(EditError::wrong(place, "it is a user's own address", remedy).into());
            }
            let former = former::among(self.tx, &[id]).await?.remove(id);
            let unit = patch.unit.as_ref().and_then(Option::as_ref);
            self.take_address((id, &place, unit), former.as_ref(), (Kind::Mailbox, patch.take_over)).await?;
        }
        let mut row = before.unwrap_or(MailboxRow { name: None, unit: None });
        if let Some(name) = &patch.name {
            check_name(&place, name.as_deref())?;
            row.name.clone_from(name);
        }
        if let Some(unit) = &patch.unit {
            if let Some(unit) = unit {
                self.known_unit(&place, unit).await?;
            }
            if let (Some(from), Some(to)) = (&row.unit, unit) {
                self.keeps_home(&place, from, to).await?;
            }
            row.unit.clone_from(unit);
        }
        put::mailbox(self.tx, id, (row.name.as_deref(), row.unit.as_ref()), self.mark).await?;
        self.touched.mailboxes.insert(id.clone());
        let members = self.mailbox_members(id, patch, &place).await?;
        self.tell(event, (place, row.unit.as_ref()), words, Some(format!("{}{members}", row.words())));
        Ok(())
    }

    /// Brings the members up to the patch; what came and went, in words.
    async fn mailbox_members(&mut self, id: &UserId, patch: &MailboxPatch, place: &Place) -> Done<String> {
        let members = find::mailbox_members(self.tx, id).await?;
        let wanted = wanted(
            patch.members.as_ref().map(|members| members.iter().cloned()),
            members.iter().cloned(),
            patch.add.iter().cloned(),
            &patch.remove,
        )?;
        let come: Vec<(&UserId, Rights)> = wanted
            .iter()
            .map(|(user, rights)| (user, *rights))
            .filter(|(user, rights)| !members.iter().any(|(member, had)| member == *user && had == rights))
            .collect();
        let users: Vec<&UserId> = come.iter().map(|(user, _)| *user).collect();
        self.known_users(place, &users).await?;
        for member in &come {
            put::mailbox_member(self.tx, id, *member, put::ADMIN).await?;
        }
        let go: Vec<&UserId> =
            members.iter().map(|(user, _)| user).filter(|user| !wanted.contains_key(*user)).collect();
        for user in &go {
            let sql = "DELETE FROM mailbox_members WHERE mailbox = $1 AND address = $2";
            put::remove(self.tx, sql, &[id.as_str(), user.as_str()]).await?;
        }
        Ok(member_words(
            come.iter().map(|(user, rights)| format!("{user} ({})", rights.word())),
            go.iter().map(|user| user.to_string()),
        ))
    }
}

/// The members there shall be: the list that replaces all or those there are, with some more and without some.
fn wanted<T>(
    all: Option<impl ExactSizeIterator<Item = (UserId, T)>>,
    before: impl Iterator<Item = (UserId, T)>,
    add: impl ExactSizeIterator<Item = (UserId, T)>,
    remove: &[UserId],
) -> Result<std::collections::BTreeMap<UserId, T>, EditError> {
    let named = all.as_ref().map_or(0, ExactSizeIterator::len) + add.len() + remove.len();
    if named > MOST_MEMBERS {
        return Err(EditError::TooMany { what: "members in one change", most: MOST_MEMBERS });
    }
    let mut wanted: std::collections::BTreeMap<UserId, T> = match all {
        Some(all) => all.collect(),
        None => before.collect(),
    };
    wanted.extend(add);
    for user in remove {
        wanted.remove(user);
    }
    Ok(wanted)
}

/// `, members +ann@example.com -bob@example.com`; the audit log cuts what is too long.
fn member_words(come: impl Iterator<Item = String>, go: impl Iterator<Item = String>) -> String {
    let come = come.take(20).map(|user| format!(" +{user}"));
    let text: String = come.chain(go.take(20).map(|user| format!(" -{user}"))).collect();
    if text.is_empty() { text } else { format!(", members{text}") }
}
