//! Units, moved and removed with care for what is in them, and apps. Called by `work`.

use sqlx::Row;

use super::{
    Action, AppPatch, EditError, UnitPatch, find, former, put,
    read::Stored,
    work::{Done, Work, check_name, patched},
};
use crate::model::{ClientId, Place, UnitPath, UnixTime, UserId};
use crate::policy::{App, Trust, Unit};
use crate::store::{difference::Words, holders};

impl Work<'_> {
    pub(super) async fn unit(&mut self, path: &UnitPath, action: &Action<UnitPatch>, expect: Option<i64>) -> Done {
        let place = Place::Unit(path.clone());
        let found = match find::unit(self.tx, path).await? {
            // The root is there without a row.
            None if path.parent().is_none() => {
                let (id, managed_by) = (path.clone(), put::ADMIN.to_owned());
                Some(Stored { id, value: Unit::default(), version: 0, managed_by })
            }
            found => found,
        };
        self.admit(&place, found.as_ref(), action, expect).await?;
        let before = found.map(|found| found.value);
        let words = before.as_ref().map(Words::words);
        let (patch, event) = match action {
            Action::Make(patch) => (patch, "unit.made"),
            Action::Change(patch) => (patch, "unit.changed"),
            Action::Remove => {
                self.may_forget_home(&place, before.as_ref().and_then(|unit| unit.mail.as_ref()))?;
                self.unit_is_empty(path).await?;
                put::remove(self.tx, "DELETE FROM units WHERE path = $1", &[path.as_str()]).await?;
                former::leave_unit(self.tx, path).await?;
                self.touched.units.insert(path.clone());
                self.tell("unit.removed", (place, Some(path)), words, None);
                return Ok(());
            }
        };
        if before.is_none()
            && let Some(above) = path.parent()
        {
            self.known_unit(&place, &above).await?;
        }
        let mut unit = before.unwrap_or_default();
        unit.settings = patched(&place, &unit.settings, &patch.imap, &patch.pop)?;
        unit.quota.storage = patch.storage_quota.unwrap_or(unit.quota.storage);
        unit.quota.messages = patch.message_quota.unwrap_or(unit.quota.messages);
        if let Some(mail) = &patch.mail {
            unit.mail.clone_from(mail);
        }
        unit.read_only = patch.read_only.unwrap_or(unit.read_only);
        unit.limits.sessions_per_user = patch.sessions_per_user.unwrap_or(unit.limits.sessions_per_user);
        unit.limits.bytes_per_day = patch.bytes_per_day.unwrap_or(unit.limits.bytes_per_day);
        put::unit(self.tx, path, &unit, self.mark).await?;
        self.touched.units.insert(path.clone());
        self.tell(event, (place, Some(path)), words, Some(unit.words()));
        Ok(())
    }

    async fn unit_is_empty(&mut self, path: &UnitPath) -> Done {
        let place = Place::Unit(path.clone());
        if path.parent().is_none() {
            let remedy = "the root is always there; let it inherit instead";
            return Err(EditError::wrong(place, "the root cannot be removed", remedy).into());
        }
        let (length, begin) = find::below(path);
        for (what, sql) in [
            ("users", "SELECT count(*) FROM users WHERE unit = $1 OR substr(unit, 1, CAST($2 AS INTEGER)) = $3"),
            (
                "units below it",
                "SELECT count(*) FROM units WHERE path <> $1 AND substr(path, 1, CAST($2 AS INTEGER)) = $3",
            ),
            (
                "shared mailboxes",
                "SELECT count(*) FROM mailboxes WHERE unit = $1 OR substr(unit, 1, CAST($2 AS INTEGER)) = $3",
            ),
        ] {
            let query = sqlx::query(sql).bind(path.as_str()).bind(length).bind(&begin);
            let count: i64 = query.fetch_one(&mut *self.tx).await?.try_get(0)?;
            if count > 0 {
                return Err(EditError::InUse { place, what: format!("{what}: {count}") }.into());
            }
        }
        if let Some(app) = self.apps_that_name(path).await?.first() {
            return Err(EditError::InUse { place, what: format!("app \"{}\" names it", app.id) }.into());
        }
        // A role would wait for the next unit of this path.
        let holders = holders::of_unit(self.tx, path, self.now()).await?;
        if !holders.is_empty() {
            return Err(EditError::InUse { place, what: holders::words(&holders) }.into());
        }
        Ok(())
    }

    /// Roles and API tokens stay with the unit they are for.
    async fn follow_roles(&mut self, from: &UnitPath, to: &UnitPath) -> Done {
        for holder in holders::of_unit(self.tx, from, UnixTime(0)).await? {
            let Some(old) = holder.unit() else { continue };
            let new = self.new_path(old, from, to)?;
            let who = (self.by(), self.now());
            let event = holders::follow(self.tx, &holder, new, who).await?;
            self.note(event);
        }
        Ok(())
    }

    /// The catalogue's entries that name this unit or one below it.
    async fn apps_that_name(&mut self, path: &UnitPath) -> Done<Vec<Stored<ClientId, App>>> {
        let sql = "SELECT id FROM apps WHERE units <> '' OR delegation <> ''";
        let mut named = Vec::new();
        for row in sqlx::query(sql).fetch_all(&mut *self.tx).await? {
            let Some(app) = find::app(self.tx, &ClientId::parse(row.try_get(0)?)?).await? else { continue };
            let limits = match &app.value.trust {
                Trust::Limited(units) => &units[..],
                Trust::Trusted | Trust::Blocked => &[],
            };
            if limits.iter().chain(&app.value.delegation).any(|unit| moved(unit, path, path).is_some()) {
                named.push(app);
            }
        }
        Ok(named)
    }

    pub(super) async fn move_unit(&mut self, from: &UnitPath, to: &UnitPath, expect: Option<i64>) -> Done {
        let place = Place::Unit(from.clone());
        let found = find::unit(self.tx, from).await?;
        let Some(found) = found else { return Err(EditError::Absent { place }.into()) };
        self.may_change(&place, (&found.managed_by, found.version), expect).await?;
        let Some(above) = to.parent().filter(|_| from.parent().is_some()) else {
            return Err(EditError::wrong(place, "the root cannot be moved", "move another unit").into());
        };
        if moved(to, from, from).is_some() {
            return Err(EditError::wrong(place, format!("\"{to}\" lies in it"), "choose a path outside it").into());
        }
        if find::unit_exists(self.tx, to).await? {
            return Err(EditError::Exists { place: Place::Unit(to.clone()) }.into());
        }
        self.known_unit(&Place::Unit(to.clone()), &above).await?;
        if found.value.mail.is_none() {
            self.keeps_home(&place, from, &above).await?;
        }
        self.nothing_of_the_file(from).await?;
        let apps = self.apps_that_name(from).await?;
        if let Some(app) = apps.iter().find(|app| app.managed_by == put::FILE) {
            return Err(self.managed(Place::App(app.id.clone())).await?.into());
        }

        let (length, begin) = find::below(from);
        let sql = "SELECT path FROM units WHERE path = $1 OR substr(path, 1, CAST($2 AS INTEGER)) = $3";
        let query = sqlx::query(sql).bind(from.as_str()).bind(length).bind(&begin);
        for row in query.fetch_all(&mut *self.tx).await? {
            let old = UnitPath::parse(row.try_get(0)?)?;
            let new = self.new_path(&old, from, to)?;
            let update = sqlx::query("UPDATE units SET path = $1, version = $2 WHERE path = $3");
            let update = update.bind(new.as_str()).bind(self.mark.version).bind(old.as_str());
            update.execute(&mut *self.tx).await?;
            self.touched.units.extend([old, new]);
        }
        let sql = "SELECT address, unit FROM users WHERE unit = $1 OR substr(unit, 1, CAST($2 AS INTEGER)) = $3";
        let query = sqlx::query(sql).bind(from.as_str()).bind(length).bind(&begin);
        let mut units = std::collections::BTreeSet::new();
        for row in query.fetch_all(&mut *self.tx).await? {
            self.touched.users.insert(UserId::parse(row.try_get(0)?)?);
            units.insert(UnitPath::parse(row.try_get(1)?)?);
        }
        let sql =
            "SELECT address, unit FROM mailboxes WHERE unit = $1 OR substr(unit, 1, CAST($2 AS INTEGER)) = $3";
        let query = sqlx::query(sql).bind(from.as_str()).bind(length).bind(&begin);
        for row in query.fetch_all(&mut *self.tx).await? {
            self.touched.mailboxes.insert(UserId::parse(row.try_get(0)?)?);
            units.insert(UnitPath::parse(row.try_get(1)?)?);
        }
        for old in units {
            let new = self.new_path(&old, from, to)?;
            for sql in [
                "UPDATE users SET unit = $1, version = $2 WHERE unit = $3",
                "UPDATE mailboxes SET unit = $1, version = $2 WHERE unit = $3",
            ] {
                let update = sqlx::query(sql).bind(new.as_str()).bind(self.mark.version).bind(old.as_str());
                update.execute(&mut *self.tx).await?;
            }
        }
        self.follow_roles(from, to).await?;
        let sql = "SELECT DISTINCT unit FROM former_addresses WHERE unit = $1 \
                   OR substr(unit, 1, CAST($2 AS INTEGER)) = $3";
        let query = sqlx::query(sql).bind(from.as_str()).bind(length).bind(&begin);
        for row in query.fetch_all(&mut *self.tx).await? {
            let old = UnitPath::parse(row.try_get(0)?)?;
            let new = self.new_path(&old, from, to)?;
            let update = sqlx::query("UPDATE former_addresses SET unit = $1 WHERE unit = $2");
            update.bind(new.as_str()).bind(old.as_str()).execute(&mut *self.tx).await?;
        }
        for Stored { id, mut value, .. } in apps {
            if let Trust::Limited(units) = &mut value.trust {
                self.rename_all(units, from, to)?;
            }
            self.rename_all(&mut value.delegation, from, to)?;
            put::app(self.tx, &id, &value, self.mark).await?;
            self.touched.apps.insert(id);
        }
        self.tell("unit.moved", (place, Some(from)), Some(format!("path {from}")), Some(format!("path {to}")));
        Ok(())
    }

    /// What moves with the unit is nothing that the policy file keeps.
    async fn nothing_of_the_file(&mut self, path: &UnitPath) -> Done {
        type Kept = (&'static str, fn(&str) -> Option<Place>);
        let kinds: [Kept; 3] = [
            (
                "SELECT path FROM units WHERE managed_by = 'file' AND (path = $1 OR substr(path, 1, CAST($2 AS INTEGER)) = $3) LIMIT 1",
                |name| UnitPath::parse(name).ok().map(Place::Unit),
            ),
            (
                "SELECT address FROM users WHERE managed_by = 'file' AND (unit = $1 OR substr(unit, 1, CAST($2 AS INTEGER)) = $3) LIMIT 1",
                |name| UserId::parse(name).ok().map(Place::User),
            ),
            (
                "SELECT address FROM mailboxes WHERE managed_by = 'file' AND (unit = $1 OR substr(unit, 1, CAST($2 AS INTEGER)) = $3) \
                 LIMIT 1",
                |name| UserId::parse(name).ok().map(Place::Mailbox),
            ),
        ];
        for (sql, place) in kinds {
            if let Some(place) = find::of_file(self.tx, sql, path, place).await? {
                return Err(self.managed(place).await?.into());
            }
        }
        Ok(())
    }

    fn rename_all(&self, units: &mut [UnitPath], from: &UnitPath, to: &UnitPath) -> Result<(), EditError> {
        for unit in units {
            if moved(unit, from, to).is_some() {
                *unit = self.new_path(unit, from, to)?;
            }
        }
        Ok(())
    }

    fn new_path(&self, old: &UnitPath, from: &UnitPath, to: &UnitPath) -> Result<UnitPath, EditError> {
        let text = moved(old, from, to).unwrap_or_else(|| old.to_string());
        UnitPath::parse(&text).map_err(|bad| EditError::name(Place::Unit(old.clone()), &bad))
    }

    pub(super) async fn app(&mut self, id: &ClientId, action: &Action<AppPatch>, expect: Option<i64>) -> Done {
        let place = Place::App(id.clone());
        let found = find::app(self.tx, id).await?;
        self.admit(&place, found.as_ref(), action, expect).await?;
        let before = found.map(|found| found.value);
        let words = before.as_ref().map(Words::words);
        let (patch, event) = match action {
            Action::Make(patch) => (patch, "app.made"),
            Action::Change(patch) => (patch, "app.changed"),
            Action::Remove => {
                put::remove(self.tx, "DELETE FROM apps WHERE id = $1", &[id.as_str()]).await?;
                self.touched.apps.insert(id.clone());
                self.tell("app.removed", (place, None), words, None);
                return Ok(());
            }
        };
        ClientId::parse_entry(id.as_str()).map_err(|bad| EditError::name(place.clone(), &bad))?;
        let mut app = before.unwrap_or_default();
        if let Some(name) = &patch.name {
            check_name(&place, name.as_deref())?;
            app.name.clone_from(name);
        }
        if let Some(trust) = &patch.trust {
            app.trust = trust.clone();
        }
        if let Some(delegation) = &patch.delegation {
            app.delegation.clone_from(delegation);
        }
        app.read_only = patch.read_only.unwrap_or(app.read_only);
        let limits = match &patch.trust {
            Some(Trust::Limited(units)) => &units[..],
            _ => &[],
        };
        for unit in limits.iter().chain(patch.delegation.iter().flatten()) {
            self.known_unit(&place, unit).await?;
        }
        put::app(self.tx, id, &app, self.mark).await?;
        self.touched.apps.insert(id.clone());
        self.tell(event, (place, None), words, Some(app.words()));
        Ok(())
    }
}

/// The path of `unit` when `from` becomes `to`; none for a unit outside `from`.
fn moved(unit: &UnitPath, from: &UnitPath, to: &UnitPath) -> Option<String> {
    let rest = unit.as_str().strip_prefix(from.as_str())?;
    (rest.is_empty() || rest.starts_with('/')).then(|| format!("{to}{rest}"))
}
