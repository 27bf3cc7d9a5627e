//! Who is told that grants were cut: the person who connected, and for a shared mailbox whoever looks after it. Called in
//! the transaction that cuts them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sqlx::{AnyConnection, Row};

use super::{Deed, Draft, Lost, MOST_LOST, NoticeBody, NoticeKind, short};
use crate::model::{ClientId, UnitPath, UnixTime, UserId};
use crate::store::{
    Role,
    rows::{self, Failed},
};

/// Cuts of a member's own team grants that are told to others in an hour.
const TOLD_AN_HOUR: i64 = 20;
const HOUR: Duration = Duration::from_secs(3600);

/// A grant that lets its app in no more.
#[derive(Debug)]
pub(in crate::store) struct Cut {
    pub(in crate::store) user: UserId,
    pub(in crate::store) owner: UserId,
    pub(in crate::store) app: ClientId,
    pub(in crate::store) app_name: Option<String>,
    pub(in crate::store) deed: Deed,
}

impl Cut {
    fn is_team(&self) -> bool {
        self.user != self.owner
    }

    fn lost(&self) -> Lost {
        Lost {
            user: self.user.to_string(),
            mailbox: self.owner.to_string(),
            app: self.app.to_string(),
            app_name: self.app_name.as_deref().map(short),
            services: Vec::new(),
            why: None,
        }
    }
}

/// What one recipient is told of.
#[derive(Default)]
struct Sum {
    lost: Vec<Lost>,
    count: usize,
}

impl Sum {
    fn add(&mut self, cut: &Cut) {
        self.count += 1;
        if self.lost.len() < MOST_LOST {
            self.lost.push(cut.lost());
        }
    }
}

/// The notices of these cuts, one for each recipient and kind; what somebody does to their own mailbox they know already.
///
/// A member of a shared mailbox may cut and enable their own grant as often as they like: the first 20 cuts in an hour are
/// told to others, so that it is no way to fill their mailboxes. The audit log has all of them.
pub(in crate::store) async fn cut_drafts(
    tx: &mut AnyConnection,
    cuts: &[Cut],
    (by, reason): (&str, Option<&str>),
    now: UnixTime,
) -> Result<Vec<Draft>, Failed> {
    let Some(deed) = cuts.first().map(|cut| cut.deed) else { return Ok(Vec::new()) };
    let mut own: BTreeMap<&UserId, Sum> = BTreeMap::new();
    for cut in cuts.iter().filter(|cut| !cut.is_team() && cut.user.as_str() != by) {
        own.entry(&cut.user).or_default().add(cut);
    }
    let by_member = cuts.iter().any(|cut| cut.is_team() && cut.user.as_str() == by);
    let is_team = cuts.iter().any(Cut::is_team) && !(by_member && has_told_enough(tx, by, now).await?);
    let cuts: &[Cut] = if is_team { cuts } else { &[] };
    let keepers = if is_team { keepers(tx).await? } else { Vec::new() };
    let units = units(tx, cuts).await?;
    let mut by_unit: BTreeMap<Option<&UnitPath>, Vec<&Cut>> = BTreeMap::new();
    for cut in cuts.iter().filter(|cut| cut.is_team()) {
        by_unit.entry(units.get(&cut.owner)).or_default().push(cut);
    }
    let mut team: BTreeMap<&UserId, Sum> = BTreeMap::new();
    for (unit, cuts) in &by_unit {
        let here: BTreeSet<&UserId> =
            keepers.iter().filter(|keeper| keeper.looks_after(*unit)).map(|keeper| &keeper.user).collect();
        for keeper in &here {
            let sum = team.entry(*keeper).or_default();
            cuts.iter().take(MOST_LOST).for_each(|cut| sum.add(cut));
            sum.count += cuts.len().saturating_sub(MOST_LOST);
        }
        for cut in cuts.iter().filter(|cut| !here.contains(&cut.user)) {
            team.entry(&cut.user).or_default().add(cut);
        }
    }
    let own = own.into_iter().map(|(user, sum)| (NoticeKind::AccessChange, user, sum));
    let team = team.into_iter().map(|(user, sum)| (NoticeKind::TeamGrantCut, user, sum));
    let draft = |(kind, user, sum): (NoticeKind, &UserId, Sum)| Draft {
        kind,
        recipient: user.clone(),
        body: NoticeBody {
            deed,
            unit: None,
            from_ms: Some(now.0),
            reason: reason.map(short),
            lost: sum.lost,
            lost_count: sum.count,
        },
    };
    Ok(own.chain(team).map(draft).collect())
}

/// Whether the last hour's cuts of this member have been told to others often enough. Each was told to the member too.
async fn has_told_enough(tx: &mut AnyConnection, member: &str, now: UnixTime) -> Result<bool, Failed> {
    let query = sqlx::query(
        "SELECT count(*) FROM notices WHERE recipient = $1 AND kind = $2 AND made_by = $1 AND made_at > $3",
    );
    let query = query.bind(member.to_owned()).bind(NoticeKind::TeamGrantCut.word()).bind((now - HOUR).0);
    let told: i64 = query.fetch_one(tx).await?.try_get(0)?;
    Ok(told >= TOLD_AN_HOUR)
}

/// Somebody who is told of shared mailboxes.
struct Keeper {
    user: UserId,
    role: Role,
}

impl Keeper {
    /// A mailbox of no unit is the whole organisation's.
    fn looks_after(&self, unit: Option<&UnitPath>) -> bool {
        let root = UnitPath::root();
        match &self.role {
            Role::Super => true,
            Role::Admin(own) | Role::AccountAccess(own) => unit.unwrap_or(&root).is_within(own),
            Role::Auditor | Role::User => false,
        }
    }
}

/// Every user whose role reaches grants, but for the suspended; there are at most 10,000 people with a role.
async fn keepers(tx: &mut AnyConnection) -> Result<Vec<Keeper>, Failed> {
    let sql = "SELECT a.address, a.role, a.unit FROM admins a JOIN users u ON u.address = a.address \
               WHERE a.role IN ('super', 'admin', 'account_access') AND u.suspended = 0";
    let rows = sqlx::query(sql).fetch_all(tx).await?;
    let keeper =
        |row| Ok(Keeper { user: UserId::parse(Row::try_get(row, 0)?)?, role: Role::from_columns(row, 1)? });
    rows.iter().map(keeper).collect()
}

/// The units of the shared mailboxes that are cut off.
async fn units(tx: &mut AnyConnection, cuts: &[Cut]) -> Result<BTreeMap<UserId, UnitPath>, Failed> {
    let mut owners: Vec<&str> = cuts.iter().filter(|cut| cut.is_team()).map(|cut| cut.owner.as_str()).collect();
    owners.sort_unstable();
    owners.dedup();
    let sql = "SELECT address, unit FROM mailboxes WHERE unit IS NOT NULL AND address IN ";
    let mut units = BTreeMap::new();
    for row in rows::some(tx, sql, owners.into_iter()).await? {
        units.insert(UserId::parse(row.try_get(0)?)?, UnitPath::parse(row.try_get(1)?)?);
    }
    Ok(units)
}
