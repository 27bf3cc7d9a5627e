//! Which server of several a mailbox owner is sent to: everybody to the same one each time, spread evenly, and moved as
//! little as can be when a server comes or goes. Used by `servers`.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest::{SHA256, digest};

use super::settings::Address;
use crate::model::UserId;

/// How much a place is an owner's own; the highest one is theirs (rendezvous hashing, Thaler and Ravishankar, 1996).
///
/// SHA-256, because every node and every version has to come to the same result.
fn weight(place: &str, owner: &UserId) -> u64 {
    let digest = digest(&SHA256, format!("{place}\0{owner}").as_bytes());
    digest.as_ref().first_chunk::<8>().map_or(0, |first| u64::from_be_bytes(*first))
}

/// An owner's order of places, the best first: by host, so that IMAP and POP3 of one owner go to the same machine, and by
/// port where a machine has several servers. To be sorted by.
pub(super) fn rank(address: &Address, owner: &UserId) -> Reverse<(u64, u64)> {
    Reverse((weight(address.host(), owner), weight(&address.to_string(), owner)))
}

/// On which hosts an owner has relayed sessions: they stay together, also where the first of them had to go elsewhere.
///
/// There is an entry for each owner who has sessions, and for nobody else.
#[derive(Debug, Default)]
pub(super) struct Sticky(Mutex<HashMap<UserId, Hosts>>);

/// Hosts, each with the number of an owner's sessions there.
type Hosts = Vec<(Arc<str>, usize)>;

impl Sticky {
    /// The hosts with the owner's sessions, those with the most of them first.
    pub(super) fn hosts(&self, owner: &UserId) -> Vec<Arc<str>> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hosts = table.get(owner).cloned().unwrap_or_default();
        drop(table);
        hosts.sort_by_key(|(_, sessions)| Reverse(*sessions));
        hosts.into_iter().map(|(host, _)| host).collect()
    }

    pub(super) fn add(&self, owner: &UserId, host: &Arc<str>) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hosts = table.entry(owner.clone()).or_default();
        match hosts.iter_mut().find(|(there, _)| there == host) {
            Some((_, sessions)) => *sessions += 1,
            None => hosts.push((Arc::clone(host), 1)),
        }
    }

    pub(super) fn remove(&self, owner: &UserId, host: &Arc<str>) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(hosts) = table.get_mut(owner) else { return };
        hosts.iter_mut().filter(|(there, _)| there == host).for_each(|(_, sessions)| *sessions -= 1);
        hosts.retain(|(_, sessions)| *sessions > 0);
        if hosts.is_empty() {
            table.remove(owner);
        }
        if table.capacity() > 1024 && table.capacity() / 8 > table.len() {
            table.shrink_to_fit();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().map_or(0, |table| table.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn addresses(hosts: usize) -> Vec<Address> {
        (0..hosts).map(|n| Address::parse(&format!("mail{n}.internal:993")).unwrap()).collect()
    }

    fn order(addresses: &[Address], owner: &UserId) -> Vec<Address> {
        let mut order = addresses.to_vec();
        order.sort_by_key(|address| rank(address, owner));
        order
    }

    fn owner(number: usize) -> UserId {
        UserId::parse(&format!("user{number}@example.com")).unwrap()
    }

    #[test]
    fn owners_are_spread_evenly_over_the_servers() {
        for hosts in [2, 3, 5] {
            let all = addresses(hosts);
            let mut counts = HashMap::<Address, usize>::new();
            for number in 0..6_000 {
                *counts.entry(order(&all, &owner(number)).remove(0)).or_default() += 1;
            }
            let fair = 6_000 / hosts;
            assert_eq!(counts.len(), hosts);
            assert!(counts.values().all(|count| count.abs_diff(fair) < fair / 8), "{hosts}: {counts:?}");
        }
        let ports: Vec<_> = [1143, 2143].map(|p| Address::parse(&format!("127.0.0.1:{p}")).unwrap()).into();
        let first = (0..1_000).filter(|number| order(&ports, &owner(*number)).first() == ports.first()).count();
        assert!((400..600).contains(&first), "two servers of one host share its owners: {first}");
    }

    #[test]
    fn the_order_is_the_same_in_every_process_and_version() {
        let order: Vec<_> = order(&addresses(4), &owner(7)).iter().map(|a| a.host().to_string()).collect();
        assert_eq!(order, ["mail0.internal", "mail1.internal", "mail3.internal", "mail2.internal"]);
    }

    #[test]
    fn hosts_are_kept_for_as_long_as_there_are_sessions() {
        let (sticky, ann) = (Sticky::default(), owner(1));
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        assert!(sticky.hosts(&ann).is_empty());
        sticky.add(&ann, &one);
        sticky.add(&ann, &other);
        sticky.add(&ann, &other);
        assert_eq!(sticky.hosts(&ann), [Arc::clone(&other), Arc::clone(&one)]);
        sticky.remove(&ann, &other);
        sticky.remove(&ann, &other);
        assert_eq!((sticky.hosts(&ann), sticky.len()), (vec![Arc::clone(&one)], 1));
        sticky.remove(&ann, &other);
        sticky.remove(&ann, &one);
        sticky.remove(&ann, &one);
        assert_eq!((sticky.hosts(&ann).len(), sticky.len()), (0, 0));
    }

    proptest! {
        #[test]
        fn a_server_that_goes_moves_its_own_users_alone_and_one_that_comes_takes_some(
            local in "[a-z.+0-9]{1,20}", hosts in 2usize..9, gone in 0usize..9,
        ) {
            let (all, owner) = (addresses(hosts), UserId::parse(&format!("{local}@example.com")).unwrap());
            let before = order(&all, &owner);
            let gone = all.get(gone % hosts).cloned().unwrap();
            let left: Vec<_> = all.iter().filter(|address| **address != gone).cloned().collect();
            let expected: Vec<_> = before.into_iter().filter(|address| *address != gone).collect();
            prop_assert_eq!(order(&left, &owner), expected, "the others stay in their order");
        }

        #[test]
        fn imap_and_pop_of_one_owner_go_to_the_same_host(local in "[a-z]{1,20}", hosts in 1usize..9) {
            let owner = UserId::parse(&format!("{local}@example.com")).unwrap();
            let imap = addresses(hosts);
            let pop: Vec<_> =
                imap.iter().map(|a| Address::parse(&format!("{}:995", a.host())).unwrap()).collect();
            let hosts = |addresses: &[Address]| -> Vec<_> {
                order(addresses, &owner).iter().map(|a| Arc::clone(a.host())).collect()
            };
            prop_assert_eq!(hosts(&imap), hosts(&pop));
        }
    }
}
