//! Notices to everybody who loses access by a change of the policy, written with the change or ahead of it.

use std::collections::BTreeMap;

use super::{Deed, Draft, Lost, MOST_LOST, MOST_NOTICES, NoticeBody, NoticeKind, short};
use crate::model::{UnixTime, UserId};
use crate::policy::{Directory, Pair, Side};
use crate::store::{Store, StoreError, feed::Write};

/// Most combinations of user, mailbox, app and service that are looked at.
const MOST_PAIRS: usize = 1_000_000;

/// How often the snapshot is brought up to a database that others write to without a pause.
const TRIES: usize = 10;

/// What people are told of a change of the policy.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Telling<'a> {
    pub(in crate::store) deed: Deed,
    /// Since when, or from when on.
    pub(in crate::store) from: Option<UnixTime>,
    pub(in crate::store) reason: Option<&'a str>,
}

impl Store {
    /// The notices to whoever loses by what `write` has touched so far. The snapshot must be that of the moment before:
    /// see [`Store::begin_beside_snapshot`].
    pub(in crate::store) async fn loss_drafts(
        &self,
        write: &mut Write<'_>,
        telling: Telling<'_>,
        now: UnixTime,
    ) -> Result<Vec<Draft>, StoreError> {
        let news = write.news().await?;
        let loses = self.preview_naming(news, now, MOST_PAIRS).loses;
        self.drafts_to(&loses, telling)
    }

    /// One notice for each user of this side of a preview that names all of them.
    pub(in crate::store) fn drafts_to(&self, side: &Side, telling: Telling<'_>) -> Result<Vec<Draft>, StoreError> {
        if side.user_count > MOST_NOTICES || side.pair_count > side.pairs.len() {
            return Err(StoreError::TooManyToTell { found: side.user_count, most: MOST_NOTICES });
        }
        let mut by_user: BTreeMap<&UserId, Vec<&Pair>> = BTreeMap::new();
        for pair in &side.pairs {
            by_user.entry(&pair.user).or_default().push(pair);
        }
        let draft = |directory: &Directory, user: &UserId, pairs: &[&Pair]| {
            let (lost, lost_count) = losses(directory, pairs);
            let body = NoticeBody {
                deed: telling.deed,
                unit: directory.unit_of(user).map(|unit| unit.to_string()),
                from_ms: telling.from.map(|at| at.0),
                reason: telling.reason.map(short),
                lost,
                lost_count,
            };
            Draft { kind: NoticeKind::AccessChange, recipient: user.clone(), body }
        };
        Ok(self.read(|directory| by_user.iter().map(|(user, pairs)| draft(directory, user, pairs)).collect()))
    }

    /// Begins a write while the snapshot has everything that is committed, so that what the write comes to is its own doing.
    pub(in crate::store) async fn begin_beside_snapshot(
        &self,
        doing: &'static str,
    ) -> Result<Write<'_>, StoreError> {
        self.begin_beside(doing, TRIES).await
    }

    /// The same within so many tries; [`StoreError::Overtaken`] after them.
    pub(super) async fn begin_beside(&self, doing: &'static str, tries: usize) -> Result<Write<'_>, StoreError> {
        for _ in 0..tries {
            let mut write = Write::begin(self, doing).await?;
            if write.is_beside_snapshot().await? {
                return Ok(write);
            }
            drop(write);
            self.catch_up().await?;
        }
        Err(StoreError::Overtaken { doing, path: self.path.clone() })
    }
}

/// The pairs of one user, those of one app and mailbox together.
fn losses(directory: &Directory, pairs: &[&Pair]) -> (Vec<Lost>, usize) {
    let mut sums: BTreeMap<(&str, &str), Lost> = BTreeMap::new();
    for pair in pairs {
        let lost = sums.entry((pair.owner.as_str(), pair.app.as_str())).or_insert_with(|| Lost {
            user: pair.user.to_string(),
            mailbox: pair.owner.to_string(),
            app: pair.app.to_string(),
            app_name: directory.app_name(&pair.app).map(|name| short(&name)),
            services: Vec::new(),
            why: None,
        });
        lost.services.push(pair.service.word().to_owned());
        let why = short(&pair.refusal.to_string());
        lost.why = match lost.why.take() {
            // Each service has its own cause, and each names its service.
            Some(first) if first != why => Some(format!("{first}; {why}")),
            _ => Some(why),
        };
    }
    let count = sums.len();
    (sums.into_values().take(MOST_LOST).collect(), count)
}
