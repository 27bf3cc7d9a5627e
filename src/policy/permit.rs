//! The yes, as a value that nothing else can make.

use super::{
    Directory, GrantKey, Refusal, Rights,
    decide::{Asked, judge_silently},
};
use crate::model::{ClientId, MailHome, Place, Service, UnitPath, UnixTime, UserId};
use crate::token::Identity;

/// Proof that [`decide`] said yes. Whoever opens mail asks for one, so no code path reaches mail without a verdict.
///
/// Not `Clone`: one permit, one session.
#[derive(Debug)]
pub struct Permit {
    who: Identity,
    owner: UserId,
    service: Service,
    unit: UnitPath,
    set_at: Place,
    policy_version: i64,
    grant_is_new: bool,
    rights: Rights,
    read_only_at: Option<Place>,
    home: MailHome,
}

/// What a session was given when it began, and keeps as long as it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// What it may do in the mailbox.
    pub rights: Rights,
    /// Where the mailbox is.
    pub home: MailHome,
}

/// Whether `who` may read the mail of `owner` by `service`. Pure: same inputs, same answer; [`super::explain`] walks
/// the same code. The order of the checks stands at the head of `decide.rs`.
///
/// Source: Google Workspace admin help, "Turn POP & IMAP on or off for users"; product.md section 2.
pub fn decide(
    who: &Identity,
    owner: &UserId,
    service: Service,
    directory: &Directory,
    now: UnixTime,
) -> Result<Permit, Refusal> {
    let asked = Asked::by_token(who, owner, service);
    let yes = judge_silently(&asked, directory, now)?;
    Ok(Permit {
        who: who.clone(),
        owner: owner.clone(),
        service,
        unit: yes.unit,
        set_at: yes.set_at,
        policy_version: directory.version(),
        grant_is_new: yes.grant_is_new,
        rights: yes.rights,
        read_only_at: yes.read_only_at,
        home: directory.home(owner),
    })
}

/// The same for a session that is open already, which was given something when it began: who may only read by now, and whose
/// mailbox is somewhere else by now, has to come in again.
pub fn decide_again(
    who: &Identity,
    owner: &UserId,
    service: Service,
    given: &Given,
    directory: &Directory,
    now: UnixTime,
) -> Result<Permit, Refusal> {
    let permit = decide(who, owner, service, directory, now)?;
    if permit.rights < given.rights {
        return Err(Refusal::rights_lowered(who.user(), owner, permit.read_only_at.as_ref()));
    }
    if permit.home != given.home {
        let said = directory.home_said(owner, directory.user(owner));
        return Err(Refusal::home_moved(owner, &given.home, &permit.home, said.map(|(_, place)| place)));
    }
    Ok(permit)
}

impl Permit {
    /// Who came in, as the token proved.
    pub fn identity(&self) -> &Identity {
        &self.who
    }

    /// The person.
    pub fn user(&self) -> &UserId {
        self.who.user()
    }

    /// Whose mailbox is open: the person's own address, or a shared mailbox.
    pub fn owner(&self) -> &UserId {
        &self.owner
    }

    /// The app.
    pub fn app(&self) -> &ClientId {
        self.who.app()
    }

    /// The protocol.
    pub fn service(&self) -> Service {
        self.service
    }

    /// The person's unit at the time.
    pub fn unit(&self) -> &UnitPath {
        &self.unit
    }

    /// The setting that let the person in.
    pub fn place(&self) -> &Place {
        &self.set_at
    }

    /// The number of the last change that the verdict took into account.
    pub fn policy_version(&self) -> i64 {
        self.policy_version
    }

    /// Whether this login makes a new grant, or a removed one active again: then `store` has to note it.
    pub fn grant_is_new(&self) -> bool {
        self.grant_is_new
    }

    /// What the person may do in the mailbox: everything in their own, what the member list says in a shared one; nowhere
    /// more than reading where the app or a unit is read-only.
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// The member list, app or unit that allows no more than reading, where one does.
    pub fn read_only_at(&self) -> Option<&Place> {
        self.read_only_at.as_ref()
    }

    /// Where the mailbox is.
    pub fn home(&self) -> &MailHome {
        &self.home
    }

    /// What the session keeps of this as long as it lasts, for [`decide_again`].
    pub fn given(&self) -> Given {
        Given { rights: self.rights, home: self.home.clone() }
    }

    /// The grant this login is under.
    pub fn grant(&self) -> GrantKey {
        GrantKey { user: self.user().clone(), owner: self.owner.clone(), app: self.app().clone() }
    }
}
