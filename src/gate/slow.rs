//! How long the answer to a failed sign-in is held back: longer with each failure from an address or for a user.
//! A good token is never held back, so nobody can lock another out.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use moka::sync::Cache;

/// Failures are forgotten after this long without a new one.
const MEMORY: Duration = Duration::from_secs(15 * 60);
/// Addresses and users remembered at most; the least used go first.
const REMEMBERED: u64 = 100_000;

/// Counts failures by address and by claimed user.
pub struct Slow {
    first: Duration,
    longest: Duration,
    failures: Cache<Key, u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Address(IpAddr),
    User(Box<str>),
}

impl Slow {
    /// `first` after the first failure, doubled with each further one up to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        let failures = Cache::builder().max_capacity(REMEMBERED).time_to_idle(MEMORY).build();
        Self { first, longest, failures }
    }

    /// Counts one more failure and says how long its answer waits.
    pub fn after_failure(&self, from: IpAddr, claimed: Option<&str>) -> Duration {
        if self.first.is_zero() {
            return Duration::ZERO;
        }
        let mut count = self.count(Key::Address(network(from)));
        if let Some(user) = claimed {
            let user: String = user.chars().take(255).collect();
            count = count.max(self.count(Key::User(user.to_ascii_lowercase().into())));
        }
        let doubled = 2u32.saturating_pow(count.saturating_sub(1).min(16));
        self.first.saturating_mul(doubled).min(self.longest)
    }

    fn count(&self, key: Key) -> u32 {
        let entry =
            self.failures.entry(key).and_upsert_with(|old| old.map_or(1, |old| old.into_value().saturating_add(1)));
        entry.into_value()
    }
}

/// One IPv4 address, or one IPv6 network of 64 bits: what one host can choose freely counts as one.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_failure_doubles_the_wait_up_to_the_longest() {
        let slow = Slow::new(Duration::from_secs(1), Duration::from_secs(15));
        let from: IpAddr = "192.0.2.7".parse().unwrap();
        let waits: Vec<u64> = (0..7).map(|_| slow.after_failure(from, Some("ann@example.com")).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 15, 15, 15]);
    }

    #[test]
    fn changing_the_address_does_not_forget_the_user_nor_the_other_way_round() {
        let slow = Slow::new(Duration::from_secs(1), Duration::from_secs(15));
        let wait = |from: &str, user| slow.after_failure(from.parse().unwrap(), Some(user)).as_secs();
        assert_eq!(wait("192.0.2.1", "ann@example.com"), 1);
        assert_eq!(wait("192.0.2.2", "ann@example.com"), 2);
        assert_eq!(wait("192.0.2.2", "bob@example.com"), 2);
        assert_eq!(wait("2001:db8::1", "carl@example.com"), 1);
        assert_eq!(wait("2001:db8::2", "dora@example.com"), 2, "one /64 is one address");
    }
}
