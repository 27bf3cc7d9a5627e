//! From a bearer token to a permit and a seat, or to a denial with its audit row. Called by `session`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{debug, error, info, warn};

use super::{
    Gate,
    denial::{Cause, Denial, Hint},
    live::SeatGuard,
    now,
    record::Facts,
    visitor::Visitor,
};
use crate::model::{Blame, Place, Reference, Service, UnixTime, UserId};
use crate::policy::{Directory, Permit, Refusal, decide};
use crate::sasl::{Bearer, SaslError};
use crate::token::Identity;
use crate::upstream::UpstreamError;

/// Most bytes of a name that is logged although nothing has proved it: a peer may claim one as long as a literal.
const MOST_LOGGED: usize = 256;

/// The database is asked every half second; a silence shorter than this is no outage.
const SILENCE: Duration = Duration::from_secs(5);

/// A yes: the permit opens the mailbox, the seat stays with the session until it ends.
pub struct Admission {
    /// Proof for `maildir::Mail::open`.
    pub permit: Permit,
    /// The session's place among the live ones.
    pub seat: SeatGuard,
}

impl Gate {
    /// Lets a token in or says why not. Either way the audit log has a row.
    pub async fn admit(self: &Arc<Self>, visitor: &Visitor, bearer: Bearer) -> Result<Admission, Denial> {
        let began = Instant::now();
        let mut facts = Facts { token: Some(&bearer.token), claimed: bearer.user.as_deref(), who: None };
        match self.verdict(visitor, &bearer, &mut facts.who).await {
            Ok(mut admission) => {
                let row = self.login_event(visitor, &facts, Ok(&admission.permit));
                if self.store.audit(row).is_err() && self.limits.audit_required {
                    let full = Cause::Unavailable {
                        detail: "the audit queue is full".into(),
                        reason: "unavailable_audit",
                        blame: Blame::Dependency,
                    };
                    return Err(self.deny(visitor, &facts, full, Some(began)));
                }
                admission.seat.recorded();
                self.note_knock(visitor, &facts, None);
                self.metrics.of(visitor.service).accepted(began.elapsed());
                // The audit row has all of it and more; a line for each sign-in would cost half as much as that row.
                let (user, app) = (admission.permit.user(), admission.permit.app());
                debug!(session = %visitor.session, %user, owner = %admission.permit.owner(), %app, "signed in");
                Ok(admission)
            }
            Err(cause) => Err(self.deny(visitor, &facts, cause, Some(began))),
        }
    }

    async fn verdict(
        self: &Arc<Self>,
        visitor: &Visitor,
        bearer: &Bearer,
        known: &mut Option<Identity>,
    ) -> Result<Admission, Cause> {
        let at = now();
        if let Some(cause) = self.without_database() {
            return Err(cause);
        }
        if let Some(cause) = self.clock_is_behind(at) {
            return Err(cause);
        }
        let who = self.issuers.identify(&bearer.token, at).await.map_err(Cause::from)?;
        let who = known.insert(who);
        if !self.issuers.scope_suffices(who, visitor.service) {
            return Err(Cause::Scope { wanted: self.issuers.hint(Some(who), visitor.service).0 });
        }
        let owner = self.owner(bearer, who)?;
        self.know_traffic(who.user()).await;
        // Decided and seated under one hold of the directory: a change committed after this finds the seat, one
        // committed before is in the decision.
        let (permit, seat) = self.store.read(|directory| {
            let verdict = || decide(who, &owner, visitor.service, directory, now()).map_err(Cause::Policy);
            let given = verdict()?.given();
            let metered = self.day_goes_on(who.user(), directory)?;
            let limit = self.session_limit(who.user(), directory);
            let Some(seat) = self.live.sit(visitor, who, (&owner, given), limit, now()) else {
                return Err(Cause::TooManySessions { user: who.user().to_string(), limit });
            };
            if metered {
                seat.meter();
            }
            let seat = SeatGuard::new(Arc::clone(self), seat);
            // Decided again with the clock read after the seat was taken: what runs out later finds the seat, what ran
            // out before, while an issuer was asked for example, is in this verdict.
            Ok((verdict()?, seat))
        })?;
        if !self.issuers.holds(who) {
            return Err(Cause::KeyWithdrawn { issuer: who.issuer().into(), key: who.key().into() });
        }
        if permit.grant_is_new() {
            self.store.note_grant(&permit, at).await.map_err(|error| Cause::Unavailable {
                detail: error.to_string(),
                reason: "unavailable_database",
                blame: error.blame(),
            })?;
        }
        Ok(Admission { permit, seat })
    }

    /// The permit stands, but the upstream that has the mailbox cannot be reached, or refused: the session ends before it
    /// has begun.
    pub fn refuse_entry(&self, visitor: &Visitor, permit: &Permit, error: &UpstreamError) -> Denial {
        let detail = error.to_string();
        let cause = match error.refusal() {
            Some(no) => Cause::Upstream { detail, busy: no.is_for_now() },
            None => Cause::Unavailable { detail, reason: "unavailable_upstream", blame: error.blame() },
        };
        let facts = Facts { who: Some(permit.identity().clone()), ..Facts::default() };
        self.deny(visitor, &facts, cause, None)
    }

    /// How many sessions of a service a user may have.
    fn session_limit(&self, user: &UserId, directory: &Directory) -> usize {
        match directory.session_limit(user) {
            None => self.limits.sessions_per_user,
            Some(limit) => limit.most().map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX)),
        }
    }

    /// Why nothing is allowed any more: the database has been silent for longer than the snapshot may stand in for it.
    pub(super) fn without_database(&self) -> Option<Cause> {
        let lost = self.store.silence() > self.limits.database_grace.max(SILENCE);
        lost.then(|| Cause::Unavailable {
            detail: "the database has not answered for longer than database.grace_s".into(),
            reason: "unavailable_database",
            blame: Blame::Dependency,
        })
    }

    /// Why nobody could sign in now, in words; empty when they can. For readiness checks.
    pub fn obstacles(&self) -> Vec<String> {
        let full = self.limits.audit_required && self.store.audit_is_full();
        let full = full.then(|| "the audit queue is full: the database takes no rows".to_owned());
        let behind = self.clock_is_behind(now()).map(|cause| cause.to_string());
        self.without_database().map(|cause| cause.to_string()).into_iter().chain(behind).chain(full).collect()
    }

    /// A clock that shows less than the time of the last commit is wrong, and then nobody can tell what has expired.
    fn clock_is_behind(&self, at: UnixTime) -> Option<Cause> {
        (at + self.limits.clock_skew < self.store.last_commit()).then(|| Cause::Unavailable {
            detail: format!("the clock shows {at}, before the last change at {}", self.store.last_commit()),
            reason: "unavailable_clock",
            blame: Blame::Dependency,
        })
    }

    /// Whose mailbox is asked for: the token's own user unless the SASL message names another.
    fn owner(&self, bearer: &Bearer, who: &Identity) -> Result<UserId, Cause> {
        let Some(named) = bearer.user.as_deref().filter(|name| !name.is_empty()) else {
            return Ok(who.user().clone());
        };
        let rules = self.issuers.rules_of(who);
        rules.and_then(|rules| rules.user(named).ok()).ok_or_else(|| {
            // No mailbox can have that name; the answer is the one for any mailbox that is not theirs.
            let user = who.user().clone();
            Cause::Policy(Refusal::NotMember { mailbox: user.clone(), at: Place::Mailbox(user.clone()), user })
        })
    }

    /// Refuses a SASL message that cannot be read.
    pub fn refuse_message(&self, visitor: &Visitor, error: SaslError) -> Denial {
        self.deny(visitor, &Facts::default(), Cause::Sasl(error), None)
    }

    /// Refuses a password way in. The password itself never reaches this room.
    pub fn refuse_password(&self, visitor: &Visitor, how: &str, claimed: Option<&str>) -> Denial {
        let facts = Facts { claimed, ..Facts::default() };
        let how = how.get(..how.floor_char_boundary(MOST_LOGGED)).unwrap_or_default();
        self.note_password(visitor, how, claimed);
        self.deny(visitor, &facts, Cause::Password { how: how.to_owned() }, None)
    }

    /// How long the answer to this denial is held back.
    pub fn hold_back(&self, visitor: &Visitor, denial: &Denial, claimed: Option<&str>) -> Duration {
        if denial.cause.is_stranger() {
            self.slow.after_failure(visitor.peer.ip(), claimed)
        } else {
            Duration::ZERO
        }
    }

    fn deny(&self, visitor: &Visitor, facts: &Facts<'_>, cause: Cause, began: Option<Instant>) -> Denial {
        let denial = self.denial(cause, visitor.service, facts.who.as_ref());
        let reason = denial.cause.reason();
        self.note_knock(visitor, facts, Some(reason));
        self.metrics.of(visitor.service).refused(reason, began.map(|began| began.elapsed()));
        let row = self.login_event(visitor, facts, Err(&denial));
        if self.store.audit(row).is_err() {
            warn!(session = %visitor.session, reference = %denial.reference, "audit queue full: a refusal is not recorded");
        }
        let user = facts.who.as_ref().map(|who| who.user().as_str()).or(facts.claimed).unwrap_or("-");
        let user = user.get(..user.floor_char_boundary(MOST_LOGGED)).unwrap_or_default();
        let (session, reference) = (visitor.session, denial.reference);
        match denial.cause.blame() {
            Blame::Peer => info!(%session, %reference, reason, user = ?user, cause = %denial.cause, "refused"),
            Blame::Dependency => {
                warn!(%session, %reference, reason, user = ?user, cause = %denial.cause, "refused")
            }
            Blame::Us => error!(%session, %reference, reason, user = ?user, cause = %denial.cause, "refused"),
        }
        denial
    }

    pub(super) fn denial(&self, cause: Cause, service: Service, who: Option<&Identity>) -> Denial {
        let (scope, discovery) = self.issuers.hint(who, service);
        let help = self.limits.public_url.clone();
        let hint = Hint { scope, discovery: discovery.map(str::to_owned), help };
        Denial { cause, reference: fresh_reference(), service, hint }
    }
}

/// Thirty random bits. Not a secret: a reference only finds an audit row.
pub fn fresh_reference() -> Reference {
    let mut bytes = [0u8; 4];
    // Without randomness the reference is 000000 and the refusal stands all the same.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    Reference::from_bits(u32::from_le_bytes(bytes))
}
