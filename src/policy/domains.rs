//! The mail domains of the listed users, counted, so that whether somebody is in one costs one look-up. Kept by
//! `directory`.

use std::collections::HashMap;

use crate::model::UserId;

/// How many listed users each domain has; none has zero.
#[derive(Debug, Default)]
pub(super) struct Domains(HashMap<Box<str>, usize>);

impl Domains {
    pub(super) fn add(&mut self, user: &UserId) {
        match self.0.get_mut(user.domain()) {
            Some(count) => *count += 1,
            None => drop(self.0.insert(user.domain().into(), 1)),
        }
    }

    pub(super) fn take(&mut self, user: &UserId) {
        let Some(count) = self.0.get_mut(user.domain()) else { return };
        *count -= 1;
        if *count == 0 {
            self.0.remove(user.domain());
        }
    }

    /// Whether a listed user has an address in this domain, which is in lower case.
    pub(super) fn has(&self, domain: &str) -> bool {
        self.0.contains_key(domain)
    }
}
