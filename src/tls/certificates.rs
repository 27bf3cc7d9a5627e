//! Several certificates, chosen by the server name a client asks for (SNI, RFC 6066 section 3), swapped live.
//! Called by `server` and, for a reload, by `serve`.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::pair::Pair;

/// A set of certificates. The first is the default: for clients that send no name, or one that no certificate has.
#[derive(Debug)]
pub struct Certificates {
    pairs: Vec<Pair>,
    /// Lower-case name, exact (`mail.example.com`) or wildcard (`*.example.com`) -> places in `pairs`, in order.
    by_name: HashMap<String, Vec<usize>>,
}

impl Certificates {
    /// The default first; `None` for an empty list.
    pub fn new(pairs: Vec<Pair>) -> Option<Self> {
        if pairs.is_empty() {
            return None;
        }
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, pair) in pairs.iter().enumerate() {
            for name in pair.names() {
                by_name.entry(name.clone()).or_default().push(at);
            }
        }
        Some(Self { pairs, by_name })
    }

    /// The pairs, in the order given.
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// The best certificate whose key passes `usable` (a client may know RSA only, or ECDSA only): exact name, then
    /// wildcard, then the default, then any that the client can use at all.
    fn choose(&self, name: Option<&str>, usable: impl Fn(&Pair) -> bool) -> Option<&Pair> {
        let named = |name: &str| self.by_name.get(name).into_iter().flatten().filter_map(|&at| self.pairs.get(at));
        let by_name = name.and_then(|name| {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            let wild = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
            named(&name).find(|p| usable(p)).or_else(|| named(&wild?).find(|p| usable(p)))
        });
        by_name.or_else(|| self.pairs.iter().find(|p| usable(p)))
    }
}

/// Hands each handshake its certificate. Handshakes take no lock; [`Resolver::replace`] touches no open session.
#[derive(Debug)]
pub struct Resolver(ArcSwap<Certificates>);

impl Resolver {
    /// Starts with `certificates`.
    pub fn new(certificates: Certificates) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(certificates)))
    }

    /// From now on handshakes get these.
    pub fn replace(&self, certificates: Certificates) {
        self.0.store(Arc::new(certificates));
    }

    /// What handshakes get at present.
    pub fn current(&self) -> Arc<Certificates> {
        self.0.load_full()
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable = |pair: &Pair| pair.certified.key.choose_scheme(hello.signature_schemes()).is_some();
        self.0.load().choose(hello.server_name(), usable).map(|pair| pair.certified.clone())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn pair(names: &[&str]) -> Pair {
        let names = names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Pair::from_pem(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap()
    }

    #[test]
    fn a_client_gets_the_certificate_of_the_name_it_asks_for() {
        let set = Certificates::new(vec![
            pair(&["default.example.com"]),
            pair(&["*.example.com"]),
            pair(&["mail.example.com", "mail.example.org"]),
        ])
        .unwrap();
        for (asked, expected) in [
            (None, 0),
            (Some("default.example.com"), 0),
            (Some("imap.example.com"), 1),
            (Some("mail.example.com"), 2),
            (Some("Mail.Example.ORG."), 2),
            (Some("deep.mail.example.com"), 0),
            (Some("stranger.test"), 0),
            (Some("localhost"), 0),
            (Some(""), 0),
        ] {
            let chosen = set.choose(asked, |_| true).unwrap();
            assert_eq!(chosen.names(), set.pairs()[expected].names(), "{asked:?}");
        }
    }

    #[test]
    fn a_client_gets_a_certificate_whose_key_it_knows() {
        let set = Certificates::new(vec![pair(&["a.test"]), pair(&["b.test"]), pair(&["b.test"])]).unwrap();
        let third = |p: &Pair| std::ptr::eq(p, &set.pairs()[2]);
        assert!(third(set.choose(Some("b.test"), third).unwrap()), "the second of that name");
        assert!(third(set.choose(Some("a.test"), third).unwrap()), "another name, but the only usable key");
        assert!(set.choose(Some("a.test"), |_| false).is_none());
    }

    #[test]
    fn no_certificate_is_no_set() {
        assert!(Certificates::new(Vec::new()).is_none());
    }
}
