//! Which homes of mail there are for policy to name. `config` fills it in; `serve` and `cli` ask it about policy files and
//! about what the database holds, `admin` about what it is told.

use std::{collections::BTreeMap, fmt};

use super::{Address, EMBEDDED};
use crate::model::MailHome;

/// The upstreams of the config, each with the servers of both protocols.
#[derive(Clone, Debug, Default)]
pub struct Homes(BTreeMap<String, Vec<Address>>);

/// A home that there is not: whoever's mail were there could not come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchHome {
    /// What is wrong.
    pub what: String,
    /// What may be written instead.
    pub remedy: String,
}

impl fmt::Display for NoSuchHome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.remedy)
    }
}

impl std::error::Error for NoSuchHome {}

impl Homes {
    /// These upstreams, by name.
    pub fn new(upstreams: impl IntoIterator<Item = (String, Vec<Address>)>) -> Self {
        Self(upstreams.into_iter().collect())
    }

    /// Whether mail can be there.
    ///
    /// # Errors
    /// The config has no such upstream, or it has no such server in either protocol.
    pub fn check(&self, home: &MailHome) -> Result<(), NoSuchHome> {
        let MailHome::Upstream { name, server } = home else { return Ok(()) };
        let Some(servers) = self.0.get(name.as_str()) else {
            let known = std::iter::once(EMBEDDED).chain(self.0.keys().map(String::as_str));
            return Err(NoSuchHome {
                what: format!("mail = \"{home}\" is none of [[upstream]] in the config"),
                remedy: format!("write {}, or add the upstream there", either(known)),
            });
        };
        let Some(host) = server.as_deref().filter(|host| !servers.iter().any(|server| server.is_at(host))) else {
            return Ok(());
        };
        let mut known: Vec<String> = servers.iter().map(|server| format!("{name}/{}", server.host())).collect();
        known.sort();
        known.dedup();
        Err(NoSuchHome {
            what: format!("mail = \"{home}\": the upstream {name} has no server {host} in the config"),
            remedy: format!(
                "write {}",
                either(std::iter::once(name.as_str()).chain(known.iter().map(String::as_str)))
            ),
        })
    }
}

/// `"a", "b" or "c"`.
fn either<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut names: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
    let last = names.pop().unwrap_or_default();
    if names.is_empty() { last } else { format!("{} or {last}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_home_is_in_the_store_or_at_an_upstream_and_a_server_that_the_config_has() {
        let servers = |list: &[&str]| list.iter().map(|text| Address::parse(text).unwrap()).collect();
        let homes = Homes::new([
            ("dovecot".to_owned(), servers(&["mail2.internal:993", "mail1.internal:993", "mail1.internal:995"])),
            ("six".to_owned(), servers(&["[2001:db8::1]:993"])),
        ]);
        for (text, wrong) in [
            ("maildir", None),
            ("dovecot", None),
            ("dovecot/MAIL1.internal", None),
            ("six/2001:db8::1", None),
            ("six/[2001:db8::1]", None),
            (
                "dovcot",
                Some(
                    "mail = \"dovcot\" is none of [[upstream]] in the config: write \"maildir\", \"dovecot\" or \"six\", or \
                     add the upstream there",
                ),
            ),
            (
                "dovecot/mail9.internal",
                Some(
                    "mail = \"dovecot/mail9.internal\": the upstream dovecot has no server mail9.internal in the config: \
                     write \"dovecot\", \"dovecot/mail1.internal\" or \"dovecot/mail2.internal\"",
                ),
            ),
        ] {
            let said = homes.check(&MailHome::parse(text).unwrap()).err().map(|error| error.to_string());
            assert_eq!(said.as_deref(), wrong, "{text}");
        }
        let none = Homes::default().check(&MailHome::parse("x/y").unwrap()).unwrap_err();
        assert_eq!(none.remedy, "write \"maildir\", or add the upstream there");
    }
}
