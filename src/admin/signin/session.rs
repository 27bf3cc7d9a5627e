//! Whoever is signed in: from a cookie to a person, and the end of sessions whose person may not go on.

use std::{sync::Arc, time::Duration};

use axum::http::{HeaderMap, request::Parts};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::browser::{CSRF, Jar, Site, derived};
use crate::admin::{
    Actor, Control,
    actor::now,
    problem::{Problem, ProblemKind},
};
use crate::model::Secret;
use crate::policy::{Refusal, recognise_sign_in};
use crate::store::{StoreError, WebSession};

/// Sessions are looked at that often, whatever changed.
const LOOK: Duration = Duration::from_secs(60);
/// Pause after a look, so that many changes in a row are one.
const PAUSE: Duration = Duration::from_millis(200);

/// Somebody who signed in in this browser.
pub(super) struct SignedIn {
    pub(super) session: WebSession,
    /// What changes must carry.
    pub(super) csrf: Secret,
    /// Why they are nobody here, if so.
    pub(super) refusal: Option<Refusal>,
}

impl Control {
    /// Who is signed in in this browser, if anybody is.
    pub(super) async fn signed_in(&self, site: &Site, headers: &HeaderMap) -> Result<Option<SignedIn>, Problem> {
        let Some(secret) = site.read(Jar::Session, headers) else { return Ok(None) };
        let found = self.store.web_session(&secret, self.settings.sign_in, now()).await?;
        Ok(found.map(|session| {
            let refusal = self.store.read(|directory| recognise_sign_in(&session.who, directory).err());
            SignedIn { csrf: derived(&secret, "csrf"), session, refusal }
        }))
    }

    /// The person whose cookie came with a request of the API; none without a cookie.
    pub(in crate::admin) async fn person_by_cookie(&self, parts: &Parts) -> Result<Option<Actor>, Problem> {
        let site = Site::of(parts, self.settings.setup.public_url.as_deref())?;
        if site.read(Jar::Session, &parts.headers).is_none() {
            return Ok(None);
        }
        let Some(signed_in) = self.signed_in(&site, &parts.headers).await? else {
            let detail = "the session of this cookie has ended: sign in again at /signin";
            return Err(Problem::new(ProblemKind::Unauthenticated, detail));
        };
        let given = parts.headers.get(CSRF).and_then(|value| value.to_str().ok());
        site.refuse_foreign(&parts.method, &parts.headers, &signed_in.csrf, given)?;
        if let Some(refusal) = signed_in.refusal {
            return Err(Problem::new(ProblemKind::Forbidden, refusal.to_string()));
        }
        let user = signed_in.session.who.user;
        let role = self.store.role_of(&user).await?;
        Ok(Some(Actor::signed_in(user, role, signed_in.csrf)))
    }

    /// Ends the sessions of people who may not go on. Who signed in to bootstrap need not be a user yet.
    async fn end_refused(&self) -> Result<(), StoreError> {
        let sessions = self.store.web_sessions(now()).await?;
        if sessions.is_empty() {
            return Ok(());
        }
        let mut refused: Vec<(WebSession, Refusal)> = self.store.read(|directory| {
            let judged = sessions.into_iter().filter_map(|session| {
                let refusal = recognise_sign_in(&session.who, directory).err()?;
                Some((session, refusal))
            });
            judged.collect()
        });
        if refused.iter().any(|(_, refusal)| is_unknown(refusal)) && self.store.bootstrap_waits(now()).await? {
            refused.retain(|(_, refusal)| !is_unknown(refusal));
        }
        if refused.is_empty() {
            return Ok(());
        }
        let ended: Vec<_> = refused.into_iter().map(|(session, refusal)| (session, refusal.reason())).collect();
        let count = self.store.end_web_sessions(&ended, now()).await?;
        if count > 0 {
            info!(count, "sessions of the console ended by a change");
        }
        Ok(())
    }
}

pub(super) fn is_unknown(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::UserUnknown { .. })
}

/// After every change ends the sessions of the console that it takes the ground from; runs until `stop`. Each request asks
/// for itself too: this is so that who is let in again later has to sign in again.
pub async fn watch_sign_ins(control: Arc<Control>, stop: CancellationToken) {
    let mut changes = control.store.changes();
    changes.mark_changed();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return stop.cancelled().await },
            () = tokio::time::sleep(LOOK) => {}
        }
        if let Err(error) = control.end_refused().await {
            warn!(%error, "the sessions of the console could not be looked at");
        }
        tokio::time::sleep(PAUSE).await;
    }
}
