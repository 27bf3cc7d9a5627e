//! The directory as the document of a policy file, whoever keeps its rows. Called by `cli`.

use std::collections::BTreeMap;

use sqlx::{AnyConnection, Row};

use super::{
    Store, StoreError,
    apply::policy_version,
    rows::{self, Failed},
};
use crate::model::{GroupId, UnitPath, UserId};
use crate::policy::{
    Edit,
    file::{Document, FileGroup, FileUser},
};

/// Rows read at a time.
const PAGE: i64 = 5_000;

impl Store {
    /// Everything a policy file can say, as it stands in the database, with the version of the policy. Applied to this
    /// database it changes nothing but who keeps the rows: the file, from then on. Grants and users' own switches are no
    /// part of it.
    pub async fn export(&self) -> Result<(Document, i64), StoreError> {
        let read = async {
            let mut tx = self.pool.begin().await?;
            let version = policy_version(&mut tx).await?;
            let document = document(&mut tx).await?;
            tx.rollback().await?;
            Ok((document, version))
        };
        read.await.map_err(|error: Failed| error.at("reading the policy", &self.path))
    }
}

async fn document(c: &mut AnyConnection) -> Result<Document, Failed> {
    let mut document = Document::default();
    for row in sqlx::query("SELECT path, imap, imap_until, pop, pop_until, storage_quota, message_quota, mail, read_only, sessions_per_user, bytes_per_day FROM units")
        .fetch_all(&mut *c)
        .await?
    {
        if let Edit::Unit(path, Some(unit)) = rows::unit(&row)? {
            document.units.insert(path, unit);
        }
    }
    users(c, &mut document.users).await?;
    let sql = "SELECT name, imap, imap_until, pop, pop_until, priority FROM user_groups";
    for row in sqlx::query(sql).fetch_all(&mut *c).await? {
        if let Edit::Group(name, Some(group)) = rows::group(&row)? {
            let group = FileGroup { priority: group.priority, settings: group.settings, members: Vec::new() };
            document.groups.insert(name, group);
        }
    }
    group_members(c, &mut document).await?;
    let mailboxes = sqlx::query("SELECT address, name, unit FROM mailboxes").fetch_all(&mut *c).await?;
    let members = sqlx::query("SELECT mailbox, address, rights FROM mailbox_members ORDER BY mailbox, address");
    let members = members.fetch_all(&mut *c).await?;
    for edit in rows::merge_mailboxes(&mailboxes, &members)? {
        if let Edit::Mailbox(id, Some(mut mailbox)) = edit {
            // A member who is nobody's user lets nobody in, and no file may name one.
            mailbox.members.retain(|user| document.users.contains_key(user));
            mailbox.readers.retain(|user| document.users.contains_key(user));
            document.mailboxes.insert(id, mailbox);
        }
    }
    for row in
        sqlx::query("SELECT id, name, trust, units, delegation, read_only FROM apps").fetch_all(&mut *c).await?
    {
        if let Edit::App(id, Some(app)) = rows::app(&row)? {
            document.apps.insert(id, app);
        }
    }
    name_units(&mut document);
    Ok(document)
}

async fn users(c: &mut AnyConnection, users: &mut BTreeMap<UserId, FileUser>) -> Result<(), Failed> {
    let mut after = String::new();
    loop {
        let page = sqlx::query(
            "SELECT address, imap, imap_until, pop, pop_until, unit, suspended, mail FROM users WHERE address > $1 \
             ORDER BY address LIMIT $2",
        );
        let page = page.bind(&after).bind(PAGE).fetch_all(&mut *c).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.try_get(0)?;
        for row in &page {
            let (id, user) = rows::file_user(row)?;
            users.insert(id, user);
        }
    }
}

async fn group_members(c: &mut AnyConnection, document: &mut Document) -> Result<(), Failed> {
    let mut after = (String::new(), String::new());
    loop {
        let page = sqlx::query(
            "SELECT name, address FROM group_members WHERE (name, address) > ($1, $2) ORDER BY name, address LIMIT $3",
        );
        let page = page.bind(&after.0).bind(&after.1).bind(PAGE).fetch_all(&mut *c).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = (last.try_get(0)?, last.try_get(1)?);
        for row in &page {
            let user = UserId::parse(row.try_get(1)?)?;
            let group = document.groups.get_mut(&GroupId::parse(row.try_get(0)?)?);
            if let Some(group) = group.filter(|_| document.users.contains_key(&user)) {
                group.members.push(user);
            }
        }
    }
}

/// A file may only name units that it has: one that is only named by others gets an empty entry.
fn name_units(document: &mut Document) {
    let mut named: Vec<UnitPath> = document.users.values().map(|user| user.unit.clone()).collect();
    named.extend(document.mailboxes.values().filter_map(|mailbox| mailbox.unit.clone()));
    for app in document.apps.values() {
        named.extend(app.delegation.iter().cloned());
        if let crate::policy::Trust::Limited(units) = &app.trust {
            named.extend(units.iter().cloned());
        }
    }
    named.sort();
    named.dedup();
    for path in named {
        let begin = format!("{path}/");
        let exists = path.parent().is_none() || document.units.keys().any(|unit| unit.as_str().starts_with(&begin));
        if !exists {
            document.units.entry(path).or_default();
        }
    }
}
