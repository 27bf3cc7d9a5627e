//! What the gate writes down: the audit rows (every verdict on a sign-in, every session's end), the apps seen, and who
//! tries passwords. Never a token, never a password.

use super::{
    Gate,
    denial::{Cause, Denial},
    live::Seat,
    now,
    visitor::Visitor,
};
use crate::model::{Secret, UserId};
use crate::policy::Permit;
use crate::store::{AuditEvent, Knock, PasswordTry};
use crate::token::{Fingerprint, Identity};

/// What is known of a sign-in when its audit row is written.
#[derive(Default)]
pub(super) struct Facts<'a> {
    /// Only its fingerprint is recorded.
    pub(super) token: Option<&'a Secret>,
    /// The user the SASL message, or the password command, names.
    pub(super) claimed: Option<&'a str>,
    /// Who the token proved to speak for.
    pub(super) who: Option<Identity>,
}

impl Gate {
    /// The row of a sign-in, or of a password way in that was refused.
    pub(super) fn login_event(
        &self,
        visitor: &Visitor,
        facts: &Facts<'_>,
        verdict: Result<&Permit, &Denial>,
    ) -> AuditEvent {
        let (event, outcome) = match verdict {
            Ok(_) => ("login", "yes"),
            Err(Denial { cause: Cause::Password { .. }, .. }) => ("legacy_password", "no"),
            Err(_) => ("login", "no"),
        };
        let mut row = AuditEvent::new(now(), event, outcome);
        row.service = Some(visitor.service);
        row.session = Some(visitor.session);
        row.peer = Some(visitor.peer.to_string());
        row.tls = Some(visitor.tls.to_owned());
        row.program.clone_from(&visitor.program);
        row.claimed = facts.claimed.map(str::to_owned);
        row.fingerprint = match (&facts.who, facts.token) {
            (Some(who), _) => Some(who.fingerprint().to_string()),
            (None, Some(token)) => Some(Fingerprint::of(token.reveal()).to_string()),
            (None, None) => None,
        };
        if let Some(who) = &facts.who {
            self.put_identity(&mut row, who, None);
        }
        match verdict {
            Ok(permit) => {
                row.owner = Some(permit.owner().to_string());
                row.unit = Some(permit.unit().to_string());
                row.place = Some(permit.place().to_string());
            }
            Err(denial) => {
                row.reason = Some(denial.cause.reason().into());
                row.reference = Some(denial.reference);
                row.place = denial.cause.place().map(ToString::to_string);
                row.detail = Some(denial.cause.to_string());
            }
        }
        row
    }

    /// Notes which app knocked, if its token was good.
    pub(super) fn note_knock(&self, visitor: &Visitor, facts: &Facts<'_>, refused: Option<&'static str>) {
        let Some(who) = &facts.who else { return };
        self.store.saw_app(Knock {
            who: who.clone(),
            service: visitor.service,
            program: visitor.program.as_deref().map(Box::from),
            refused,
            at: now(),
        });
    }

    /// Notes that somebody tried a password.
    pub(super) fn note_password(&self, visitor: &Visitor, how: &str, claimed: Option<&str>) {
        self.store.saw_password(&PasswordTry {
            claimed,
            program: visitor.program.as_deref(),
            from: visitor.peer.ip(),
            service: visitor.service,
            how,
            at: now(),
        });
    }

    /// The row of a session's end; `denial` where a change ended it.
    pub(super) fn ended_event(&self, seat: &Seat, denial: Option<&Denial>) -> AuditEvent {
        let mut row = AuditEvent::new(now(), "session.ended", "done");
        row.service = Some(seat.service);
        row.session = Some(seat.session);
        row.peer = Some(seat.peer.to_string());
        self.put_identity(&mut row, &seat.who, Some(&seat.owner));
        if let Some(denial) = denial {
            row.reason = Some(denial.cause.reason().into());
            row.reference = Some(denial.reference);
            row.place = denial.cause.place().map(ToString::to_string);
            row.detail = Some(denial.cause.to_string());
        }
        row
    }

    fn put_identity(&self, row: &mut AuditEvent, who: &Identity, owner: Option<&UserId>) {
        row.issuer = Some(who.issuer().to_owned());
        row.kid = Some(who.key().to_owned());
        row.user = Some(who.user().to_string());
        row.app = Some(who.app().to_string());
        row.owner = owner.map(ToString::to_string);
        self.store.read(|directory| {
            row.policy_version = Some(directory.version());
            row.unit = directory.unit_of(who.user()).map(|unit| unit.to_string());
        });
    }
}
