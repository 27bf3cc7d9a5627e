//! Live sessions as admins see them: which, described, of this node. `nodes` puts those of all nodes together.

use std::{fmt, sync::Arc};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Gate, live::Seat};
use crate::model::{ClientId, Service, SessionId, UnitPath, UnixTime, UserId};
use crate::policy::{Directory, LiveSeat};
use crate::store::NodeId;

/// Most sessions that one list holds.
const MOST: u32 = 1_000;

/// One session among those of all nodes: `k3f9a2xw.s17`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    /// The node that holds it.
    pub node: NodeId,
    /// Its number there.
    pub session: SessionId,
}

impl SessionKey {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (node, session) = text.split_once(".s")?;
        Some(Self { node: NodeId::parse(node)?, session: SessionId(session.parse().ok()?) })
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.session)
    }
}

/// Which sessions: each field that is set must match. The default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// This one alone.
    pub key: Option<SessionKey>,
    /// Those on this node.
    pub node: Option<NodeId>,
    /// Those of this user's tokens.
    pub user: Option<UserId>,
    /// Those that read this mailbox.
    pub owner: Option<UserId>,
    /// Those of this app.
    pub app: Option<ClientId>,
    /// Those that speak this protocol.
    pub service: Option<Service>,
    /// Those of users in this unit or below it; the root stands for everybody, unknown users included.
    pub unit: Option<UnitPath>,
    /// Those from this network, or from one address.
    pub address: Option<IpNet>,
    /// Lists only: what comes after this one, in the order of nodes and numbers.
    pub after: Option<SessionKey>,
    /// Lists only: at most so many; 0 means 100, and no more than 1,000 are given.
    pub limit: u32,
}

/// One live session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Its name among those of all nodes, as [`SessionKey`] shows it.
    pub id: String,
    /// What the operator calls the node that holds it.
    pub node_name: String,
    /// Whose token it came in with.
    pub user: String,
    /// Whose mailbox it reads.
    pub owner: String,
    /// The app's client ID.
    pub app: String,
    /// What the app is called in the catalogue.
    pub app_name: Option<String>,
    /// `imap` or `pop`.
    pub service: String,
    /// The user's unit.
    pub unit: Option<String>,
    /// Address and port it comes from.
    pub peer: String,
    /// When it was admitted, in milliseconds since 1970.
    pub since_ms: i64,
    /// Bytes received from it since the sign-in.
    pub received: u64,
    /// Bytes sent to it since the sign-in.
    pub sent: u64,
    /// The last command, without its arguments; none before the first.
    pub command: Option<String>,
    /// When that came, in milliseconds since 1970.
    pub command_ms: i64,
    /// What the program calls itself (IMAP `ID`).
    pub program: Option<String>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub tls: String,
    /// The cause word, once it has been told to leave.
    pub leaving: Option<String>,
    /// When its token was issued, in milliseconds since 1970.
    #[serde(default)]
    pub issued_ms: Option<i64>,
    /// Whether the app acts as a service account.
    #[serde(default)]
    pub service_account: bool,
}

impl SessionInfo {
    /// In the values that a preview takes; none if a name in it is not understood.
    pub fn seat(&self) -> Option<LiveSeat> {
        Some(LiveSeat {
            user: UserId::parse(&self.user).ok()?,
            owner: UserId::parse(&self.owner).ok()?,
            app: ClientId::parse(&self.app).ok()?,
            service: Service::from_word(&self.service)?,
            issued_at: self.issued_ms.map(UnixTime),
            service_account: self.service_account,
        })
    }
}

/// [`SessionFilter`] as nodes tell one another.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wire {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    limit: u32,
}

impl SessionFilter {
    /// Whether nothing is set that keeps any session out: the root unit keeps nobody out either.
    pub fn is_everyone(&self) -> bool {
        let root = self.unit.as_ref().is_none_or(|unit| unit.as_str() == "/");
        let Self { key, node, user, owner, app, service, unit: _, address, after: _, limit: _ } = self;
        root && key.is_none()
            && node.is_none()
            && user.is_none()
            && owner.is_none()
            && app.is_none()
            && service.is_none()
            && address.is_none()
    }

    /// How many a list may hold.
    pub(super) fn most(&self) -> usize {
        (if self.limit == 0 { 100 } else { self.limit.min(MOST) }) as usize
    }

    /// Whether sessions of this node can be meant.
    pub(super) fn concerns(&self, node: &NodeId) -> bool {
        self.key.as_ref().is_none_or(|key| key.node == *node)
            && self.node.as_ref().is_none_or(|wanted| wanted == node)
    }

    /// The filter in words, for the audit log: `user ann@example.com, app demo-app`.
    pub(super) fn words(&self) -> String {
        let wire = self.wire();
        let fields = [
            ("session", wire.key),
            ("node", wire.node),
            ("user", wire.user),
            ("mailbox", wire.owner),
            ("app", wire.app),
            ("service", wire.service),
            ("unit", wire.unit),
            ("address", wire.address),
        ];
        let set = fields.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?)));
        set.collect::<Vec<_>>().join(", ")
    }

    /// As nodes tell one another.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(&self.wire()).unwrap_or_default()
    }

    fn wire(&self) -> Wire {
        Wire {
            key: self.key.as_ref().map(ToString::to_string),
            node: self.node.as_ref().map(ToString::to_string),
            user: self.user.as_ref().map(ToString::to_string),
            owner: self.owner.as_ref().map(ToString::to_string),
            app: self.app.as_ref().map(ToString::to_string),
            service: self.service.map(|service| service.word().to_owned()),
            unit: self.unit.as_ref().map(ToString::to_string),
            address: self.address.map(|address| address.to_string()),
            after: self.after.as_ref().map(ToString::to_string),
            limit: self.limit,
        }
    }

    /// Reads [`SessionFilter::to_json`]; none if it is not understood, which must never mean "everybody".
    pub(super) fn from_json(text: &str) -> Option<Self> {
        fn read<T>(text: Option<String>, parse: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
            text.map_or(Some(None), |text| parse(&text).map(Some))
        }
        let wire: Wire = serde_json::from_str(text).ok()?;
        Some(Self {
            key: read(wire.key, SessionKey::parse)?,
            node: read(wire.node, NodeId::parse)?,
            user: read(wire.user, |text| UserId::parse(text).ok())?,
            owner: read(wire.owner, |text| UserId::parse(text).ok())?,
            app: read(wire.app, |text| ClientId::parse(text).ok())?,
            service: read(wire.service, Service::from_word)?,
            unit: read(wire.unit, |text| UnitPath::parse(text).ok())?,
            address: read(wire.address, |text| text.parse().ok())?,
            after: read(wire.after, SessionKey::parse)?,
            limit: wire.limit,
        })
    }

    fn takes(&self, seat: &Seat, directory: &Directory) -> bool {
        self.key.as_ref().is_none_or(|key| key.session == seat.session)
            && self.user.as_ref().is_none_or(|user| user == seat.who.user())
            && self.owner.as_ref().is_none_or(|owner| *owner == seat.owner)
            && self.app.as_ref().is_none_or(|app| app == seat.who.app())
            && self.service.is_none_or(|service| service == seat.service)
            && self.address.is_none_or(|network| network.contains(&seat.peer.ip()))
            && self.unit.as_ref().is_none_or(|unit| is_within(directory, seat.who.user(), unit))
    }
}

fn is_within(directory: &Directory, user: &UserId, unit: &UnitPath) -> bool {
    unit.as_str() == "/" || directory.unit_of(user).is_some_and(|own| own.is_within(unit))
}

impl Gate {
    /// The sessions of this node that match, in no order.
    pub(super) fn matching(&self, filter: &SessionFilter) -> Vec<Arc<Seat>> {
        if !filter.concerns(self.store.node()) {
            return Vec::new();
        }
        let seats = match &filter.key {
            Some(key) => self.live.seat(key.session).into_iter().collect(),
            None => self.live.seats(),
        };
        self.store.read(|directory| seats.into_iter().filter(|seat| filter.takes(seat, directory)).collect())
    }

    /// The sessions of this node that match, from where the list goes on, one more than it may hold.
    pub(super) fn sessions_here(&self, filter: &SessionFilter, node_name: &str) -> Vec<SessionInfo> {
        let node = self.store.node();
        let first = match &filter.after {
            Some(after) if after.node > *node => return Vec::new(),
            Some(after) if after.node == *node => after.session.0.saturating_add(1),
            _ => 0,
        };
        let mut seats = self.matching(filter);
        seats.retain(|seat| seat.session.0 >= first);
        seats.sort_by_key(|seat| seat.session);
        seats.truncate(filter.most() + 1);
        self.store.read(|directory| seats.iter().map(|seat| describe(seat, node, node_name, directory)).collect())
    }
}

fn describe(seat: &Seat, node: &NodeId, node_name: &str, directory: &Directory) -> SessionInfo {
    let said = seat.said();
    let (received, sent) = seat.traffic();
    SessionInfo {
        id: SessionKey { node: node.clone(), session: seat.session }.to_string(),
        node_name: node_name.to_owned(),
        user: seat.who.user().to_string(),
        owner: seat.owner.to_string(),
        app: seat.who.app().to_string(),
        app_name: directory.app_name(seat.who.app()).map(|name| name.to_string()),
        service: seat.service.word().to_owned(),
        unit: directory.unit_of(seat.who.user()).map(|unit| unit.to_string()),
        peer: seat.peer.to_string(),
        since_ms: seat.since.0,
        received,
        sent,
        command: Some(said.command.to_owned()).filter(|command| !command.is_empty()),
        command_ms: said.at.0,
        program: said.program.map(|program| program.to_string()),
        tls: seat.tls.to_owned(),
        leaving: seat.fall().map(|denial| denial.cause.reason().to_owned()),
        issued_ms: seat.who.issued_at().map(|at| at.0),
        service_account: seat.who.service_account(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_filter_means_the_same_on_every_node_and_what_is_not_understood_means_nobody() {
        let full = SessionFilter {
            key: SessionKey::parse("k3f9a2xw.s17"),
            node: NodeId::parse("k3f9a2xw"),
            user: UserId::parse("ann@example.com").ok(),
            owner: UserId::parse("team@example.com").ok(),
            app: ClientId::parse("demo-app").ok(),
            service: Some(Service::Pop),
            unit: UnitPath::parse("/Sales").ok(),
            address: "192.0.2.0/24".parse().ok(),
            after: SessionKey::parse("k3f9a2xw.s3"),
            limit: 7,
        };
        assert!(full.key.is_some() && full.unit.is_some() && full.address.is_some());
        for filter in [full, SessionFilter::default()] {
            assert_eq!(SessionFilter::from_json(&filter.to_json()), Some(filter));
        }
        for wrong in ["", "{", "{\"user\":\"\",\"limit\":0}", "{\"color\":\"red\",\"limit\":0}"] {
            assert_eq!(SessionFilter::from_json(wrong), None, "{wrong}");
        }
        assert!(SessionFilter::default().is_everyone());
        assert!(SessionFilter { unit: Some(UnitPath::root()), limit: 3, ..SessionFilter::default() }.is_everyone());
        let some = SessionFilter { service: Some(Service::Imap), ..SessionFilter::default() };
        assert!(!some.is_everyone());
        assert_eq!(some.words(), "service imap");
    }
}
