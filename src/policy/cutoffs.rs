//! What issuers said of their own tokens and accounts (product.md section 7, identity events). Filled by `store`, asked by
//! `decide` before anything else.
//!
//! An issuer's word counts for its own tokens alone: one organisation's sign-in service cannot end the sessions of
//! another's.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::Refusal;
use crate::model::{UnixTime, UserId};
use crate::token::{Identity, SignIn};

/// Which tokens an issuer's word is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CutoffKey {
    /// The issuer's address.
    pub issuer: String,
    /// Which of its tokens.
    pub whose: Whose,
}

/// Which of an issuer's tokens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Whose {
    /// Those with this `sub`.
    Subject(String),
    /// Those with this `sub` and no `sid`, so that nobody can tell from which sign-in they come.
    SubjectWithoutSession(String),
    /// This user's.
    Address(UserId),
    /// This user's without `sid`.
    AddressWithoutSession(UserId),
    /// Those with this `sid`.
    Session(String),
    /// All. Made by the store where it clears rows away: no token is that old any more.
    Everybody,
}

impl Whose {
    /// The word kept in the database.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Subject(_) => "subject",
            Self::SubjectWithoutSession(_) => "subject_without_session",
            Self::Address(_) => "address",
            Self::AddressWithoutSession(_) => "address_without_session",
            Self::Session(_) => "session",
            Self::Everybody => "everybody",
        }
    }

    /// The `sub`, the address or the `sid`; empty for everybody.
    pub fn text(&self) -> &str {
        match self {
            Self::Subject(text) | Self::SubjectWithoutSession(text) | Self::Session(text) => text,
            Self::Address(user) | Self::AddressWithoutSession(user) => user.as_str(),
            Self::Everybody => "",
        }
    }

    /// Reads what [`Whose::word`] and [`Whose::text`] write; `None` if that is nothing of ours.
    pub fn read(word: &str, text: &str) -> Option<Self> {
        match word {
            "subject" => Some(Self::Subject(text.to_owned())),
            "subject_without_session" => Some(Self::SubjectWithoutSession(text.to_owned())),
            "address" => UserId::parse(text).ok().map(Self::Address),
            "address_without_session" => UserId::parse(text).ok().map(Self::AddressWithoutSession),
            "session" => Some(Self::Session(text.to_owned())),
            "everybody" => text.is_empty().then_some(Self::Everybody),
            _ => None,
        }
    }

    /// The table it stands in.
    const fn table(&self) -> usize {
        match self {
            Self::Subject(_) => SUBJECT,
            Self::SubjectWithoutSession(_) => SUBJECT_WITHOUT_SESSION,
            Self::Address(_) => ADDRESS,
            Self::AddressWithoutSession(_) => ADDRESS_WITHOUT_SESSION,
            Self::Session(_) => SESSION,
            Self::Everybody => EVERYBODY,
        }
    }
}

const SUBJECT: usize = 0;
const SUBJECT_WITHOUT_SESSION: usize = 1;
const ADDRESS: usize = 2;
const ADDRESS_WITHOUT_SESSION: usize = 3;
const SESSION: usize = 4;
const EVERYBODY: usize = 5;
const TABLES: usize = 6;

/// Where an account stands at its issuer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Account {
    /// Usable, as far as the issuer has said.
    #[default]
    Open,
    /// Disabled until it is enabled again. Source: OpenID RISC Profile 1.0 section 2.3.
    Disabled,
    /// Deleted for good. Source: OpenID RISC Profile 1.0 section 2.2.
    Purged,
}

impl Account {
    /// The word kept in the database and shown to people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Disabled => "disabled",
            Self::Purged => "purged",
        }
    }

    /// Reads the word that [`Account::word`] writes.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Open, Self::Disabled, Self::Purged].into_iter().find(|account| account.word() == word)
    }
}

/// An issuer's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cutoff {
    /// Tokens issued at or before this moment are not good any more; nor are those that do not say when.
    pub issued_until: Option<UnixTime>,
    /// A closed account's tokens are no good whenever they were issued.
    pub account: Account,
}

impl Cutoff {
    /// Whether it refuses anything.
    fn is_idle(self) -> bool {
        self.issued_until.is_none() && self.account == Account::Open
    }

    /// The refusal of a token issued then, if it is one that this refuses.
    pub(super) fn refuse(
        self,
        user: &UserId,
        issuer: &Arc<str>,
        issued_at: Option<UnixTime>,
    ) -> Result<(), Refusal> {
        if self.account != Account::Open {
            let purged = self.account == Account::Purged;
            return Err(Refusal::AccountClosed { user: user.clone(), issuer: issuer.clone(), purged });
        }
        match self.issued_until {
            Some(until) if issued_at.is_none_or(|issued| issued <= until) => {
                Err(Refusal::TokenRevoked { user: user.clone(), issuer: issuer.clone(), until, issued_at })
            }
            _ => Ok(()),
        }
    }
}

/// The names by which an issuer's word can be about a token.
pub(super) struct Named<'a> {
    issuer: &'a str,
    user: &'a UserId,
    subject: Option<&'a str>,
    session: Option<&'a str>,
    issued_at: Option<UnixTime>,
}

impl<'a> From<&'a Identity> for Named<'a> {
    fn from(token: &'a Identity) -> Self {
        Self {
            issuer: token.issuer(),
            user: token.user(),
            subject: token.subject(),
            session: token.session(),
            issued_at: token.issued_at(),
        }
    }
}

impl<'a> From<&'a SignIn> for Named<'a> {
    fn from(sign_in: &'a SignIn) -> Self {
        Self {
            issuer: &sign_in.issuer,
            user: &sign_in.user,
            subject: Some(&sign_in.subject),
            session: sign_in.session.as_deref(),
            issued_at: Some(sign_in.issued_at),
        }
    }
}

/// All of them, by issuer and kind, so that a look-up copies nothing.
#[derive(Debug, Default)]
pub(super) struct Cutoffs(BTreeMap<Arc<str>, [HashMap<Box<str>, Cutoff>; TABLES]>);

impl Cutoffs {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.values().flatten().map(HashMap::len).sum()
    }

    pub(super) fn put(&mut self, key: &CutoffKey, cutoff: Option<Cutoff>) {
        match cutoff.filter(|cutoff| !cutoff.is_idle()) {
            Some(cutoff) => {
                let tables = self.0.entry(key.issuer.as_str().into()).or_default();
                if let Some(table) = tables.get_mut(key.whose.table()) {
                    table.insert(key.whose.text().into(), cutoff);
                }
            }
            None => {
                let Some(tables) = self.0.get_mut(key.issuer.as_str()) else { return };
                if let Some(table) = tables.get_mut(key.whose.table()) {
                    table.remove(key.whose.text());
                }
                if tables.iter().all(HashMap::is_empty) {
                    self.0.remove(key.issuer.as_str());
                }
            }
        }
    }

    /// Each word that is about this token, until one refuses it.
    ///
    /// What is kept about everybody does not count against a token that does not say when it was issued: it is there
    /// for tokens older than any issuer gives out, and must not shut out everybody of an issuer without `iat`.
    pub(super) fn of_token(
        &self,
        token: &Named<'_>,
        refuse: impl Fn(&Cutoff, &Arc<str>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let Some((issuer, tables)) = self.0.get_key_value(token.issuer) else { return Ok(()) };
        let (user, sessionless) = (token.user.as_str(), token.session.is_none());
        let asked = [
            (SUBJECT, token.subject),
            (SUBJECT_WITHOUT_SESSION, token.subject.filter(|_| sessionless)),
            (ADDRESS, Some(user)),
            (ADDRESS_WITHOUT_SESSION, sessionless.then_some(user)),
            (SESSION, token.session),
            (EVERYBODY, token.issued_at.map(|_| "")),
        ];
        for (table, text) in asked {
            let found = text.and_then(|text| tables.get(table)?.get(text));
            found.map_or(Ok(()), |cutoff| refuse(cutoff, issuer))?;
        }
        Ok(())
    }

    /// Each issuer's word about this user, for questions without a token.
    pub(super) fn of_address(
        &self,
        user: &UserId,
        refuse: impl Fn(&Cutoff, &Arc<str>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        for (issuer, tables) in &self.0 {
            let found = tables.get(ADDRESS).and_then(|table| table.get(user.as_str()));
            found.map_or(Ok(()), |cutoff| refuse(cutoff, issuer))?;
        }
        Ok(())
    }
}
