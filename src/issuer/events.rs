//! Identity events of the issuers, checked with the same keys as their tokens. Called by `gate`.

use super::{Issuers, Unidentified};
use crate::model::{Secret, UnixTime};
use crate::token::{EventToken, Form, TokenError, examine_event, peek_issuer};

impl Issuers {
    /// What an event token says, if one of the issuers signed it. `from` is the issuer's address where the way it came
    /// names one: then it has to be that one's.
    ///
    /// Costs a signature check like a first-seen token's, in the same queue; nothing is remembered here.
    pub async fn event(
        &self,
        form: Form,
        from: Option<&str>,
        token: &Secret,
        now: UnixTime,
    ) -> Result<EventToken, Unidentified> {
        let text = token.reveal();
        let peek = peek_issuer(text, self.max_token)?;
        let unknown = || TokenError::Issuer { found: peek.issuer.chars().take(100).collect() };
        if from.is_some_and(|from| from != peek.issuer) {
            return Err(unknown().into());
        }
        let issuer = self.issuer(&peek.issuer).ok_or_else(unknown)?;
        let rules = &issuer.settings.rules;
        let Some(ring) = &issuer.ring else {
            // An issuer that is asked about each token has no keys that could have signed this.
            return Err(TokenError::KeyNotNamed { candidates: 0, issuer: rules.url.clone() }.into());
        };
        let look = |keys: &_| examine_event(text, form, rules, keys, now);
        let (_, examined) = self.examine(peek.kid.as_deref(), issuer, ring, look, now).await?;
        let examined = examined?;
        self.off_io(issuer, move || examined.prove()).await
    }

    /// The address of the one issuer that is meant by `name`: the address itself, or its host where no other issuer has the
    /// same. For paths that name an issuer.
    pub fn named(&self, name: &str) -> Option<&str> {
        let mut urls = self.list.iter().map(|issuer| issuer.settings.rules.url.as_str());
        if let Some(url) = urls.clone().find(|url| *url == name) {
            return Some(url);
        }
        let host = |url: &&str| {
            reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(|host| host == name)) == Some(true)
        };
        let first = urls.by_ref().find(host)?;
        urls.find(host).is_none().then_some(first)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::issuer::{Issuers, KeySource, Settings};
    use crate::model::UnixTime;
    use crate::token::Rules;

    #[test]
    fn an_issuer_is_meant_by_its_address_or_by_a_host_that_is_its_alone() {
        let urls = ["https://id.example.com", "https://login.example.org/a", "https://login.example.org/b"];
        let keys = || Some(KeySource::Url("https://id.example.com/jwks".into()));
        let settings = urls.map(|url| Settings::new(Rules::new(url, ["portcullis"]), keys()));
        let issuers = Issuers::with_limits(settings.into(), crate::issuer::Limits::default(), UnixTime(0)).unwrap();
        for (name, expected) in [
            ("https://id.example.com", Some(urls[0])),
            ("id.example.com", Some(urls[0])),
            ("https://id.example.com/", None),
            ("login.example.org", None),
            ("https://login.example.org/b", Some(urls[2])),
            ("", None),
        ] {
            assert_eq!(issuers.named(name), expected, "{name}");
        }
    }
}
