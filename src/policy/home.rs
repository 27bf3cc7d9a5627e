//! Where a mailbox is, and whether it can only be read there: what each unit says, what is said of one user, and what is in
//! force. Pure.

use super::{Directory, directory::UserRow};
use crate::model::{MailHome, Place, UnitPath, UserId};

impl Directory {
    /// Where somebody's mail is, as far as the policy says: what is said of the user, else the nearest unit upwards that says
    /// something. A shared mailbox follows its own unit, and whatever has no unit the root. None: the configuration's
    /// `mail.default`.
    pub fn home_of(&self, owner: &UserId) -> Option<MailHome> {
        self.home_said(owner, self.user(owner)).map(|(home, _)| home.clone())
    }

    /// Where somebody's mail is, the configuration's default included.
    pub fn home(&self, owner: &UserId) -> MailHome {
        self.home_of(owner).unwrap_or_else(|| self.default_home.clone())
    }

    /// Where the mail of a unit is, as far as the policy says. A unit that nobody made inherits like any other.
    pub fn home_for_unit(&self, unit: &UnitPath) -> Option<MailHome> {
        let unit = self.tree.number_or_above(unit);
        self.tree.nearest(unit, |terms| terms.mail.as_ref()).map(|(home, _)| home.clone())
    }

    /// Whether mail can only be read in a unit. A unit that nobody made inherits like any other.
    pub fn read_only_for_unit(&self, unit: &UnitPath) -> bool {
        self.only_reads(self.tree.number_or_above(unit)).is_some()
    }

    /// The configuration's `mail.default`: where mail is of which the policy says nothing.
    pub fn set_default_home(&mut self, home: MailHome) {
        self.default_home = home;
    }

    /// What is said of the home of `owner`, whose row it is if they are a user, and where that is said.
    pub(super) fn home_said(&self, owner: &UserId, row: Option<UserRow>) -> Option<(&MailHome, Place)> {
        if let Some(home) = row.and_then(|row| self.own_home(row)) {
            return Some((home, Place::User(owner.clone())));
        }
        let unit = match row {
            Some(row) => row.unit(),
            None => self.mailbox(owner).and_then(|row| row.unit).unwrap_or_default(),
        };
        let (home, unit) = self.tree.nearest(unit, |terms| terms.mail.as_ref())?;
        Some((home, Place::Unit(unit.clone())))
    }

    /// The unit that makes a unit read-only, if one does.
    pub(super) fn only_reads(&self, unit: u32) -> Option<&UnitPath> {
        let (read_only, unit) = self.tree.nearest(unit, |terms| terms.read_only)?;
        read_only.then_some(unit)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::policy::file;

    fn user(name: &str) -> UserId {
        UserId::parse(&format!("{name}@example.com")).unwrap()
    }

    #[test]
    fn the_nearest_word_on_where_mail_is_counts_and_a_user_s_own_beats_the_unit_s() {
        let text = "\
            [unit.\"/Sales\"]\nmail = \"dovecot\"\n[unit.\"/Sales/Field\"]\n[unit.\"/Sales/Road\"]\nmail = \"maildir\"\n\
            [user.\"root@example.com\"]\nunit = \"/\"\n[user.\"sal@example.com\"]\nunit = \"/Sales\"\n\
            [user.\"flo@example.com\"]\nunit = \"/Sales/Field\"\n[user.\"rob@example.com\"]\nunit = \"/Sales/Road\"\n\
            [user.\"pin@example.com\"]\nunit = \"/Sales/Road\"\nmail = \"dovecot/mail2.internal\"\n\
            [mailbox.\"team@example.com\"]\nunit = \"/Sales/Field\"\n[mailbox.\"all@example.com\"]\n";
        let mut directory = file::parse(text).unwrap().to_directory();
        for (name, home) in [
            ("root", None),
            ("sal", Some("dovecot")),
            ("flo", Some("dovecot")),
            ("rob", Some("maildir")),
            ("pin", Some("dovecot/mail2.internal")),
            ("team", Some("dovecot")),
            ("all", None),
            ("nobody", None),
        ] {
            let home = home.map(|text| MailHome::parse(text).unwrap());
            assert_eq!(directory.home_of(&user(name)), home, "{name}");
            assert_eq!(directory.home(&user(name)), home.unwrap_or(MailHome::Maildir), "{name}");
        }
        directory.set_default_home(MailHome::parse("cyrus").unwrap());
        assert_eq!(directory.home(&user("root")).to_string(), "cyrus");
        assert_eq!(directory.home(&user("rob")), MailHome::Maildir);
        let unit = UnitPath::parse("/Sales/Field/New").unwrap();
        assert_eq!(directory.home_for_unit(&unit).unwrap().to_string(), "dovecot");
        directory.remove_user(&user("pin"));
        assert_eq!(directory.home_of(&user("pin")), None, "who is gone leaves nothing behind");
    }
}
