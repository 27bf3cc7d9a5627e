//! The words a login's outcome may carry as a label: one fixed list, so that no peer can grow it.

/// Every cause word of a refused login (threats.md section 7), sorted; `other` for a word that is not here.
pub const CAUSES: [&str; 52] = [
    "account_disabled",
    "account_purged",
    "grant_disabled",
    "grant_removed",
    "home_moved",
    "legacy_password",
    "limit_bytes",
    "limit_sessions",
    "not_member",
    "other",
    "policy_app",
    "policy_app_blocked",
    "policy_app_limited",
    "policy_service_account",
    "policy_service_off",
    "policy_service_off_by_user",
    "rights_lowered",
    "sasl_malformed",
    "token_algorithm",
    "token_app",
    "token_audience",
    "token_bound",
    "token_claim_missing",
    "token_claim_type",
    "token_critical",
    "token_duplicate",
    "token_expired",
    "token_inactive",
    "token_issuer",
    "token_key_withdrawn",
    "token_malformed",
    "token_not_yet",
    "token_opaque",
    "token_revoked",
    "token_scope",
    "token_signature",
    "token_stale",
    "token_too_long",
    "token_type",
    "token_unknown_key",
    "token_user",
    "unavailable_audit",
    "unavailable_busy",
    "unavailable_clock",
    "unavailable_database",
    "unavailable_introspection",
    "unavailable_keys",
    "unavailable_mailbox",
    "unavailable_upstream",
    "upstream_refused",
    "user_suspended",
    "user_unknown",
];

/// The word's place in [`CAUSES`]; that of `other` for a word that is not there.
pub(super) fn place(word: &str) -> usize {
    CAUSES.binary_search(&word).or_else(|_| CAUSES.binary_search(&"other")).unwrap_or(0)
}

/// Whether the word has a series of its own.
pub fn is_known(word: &str) -> bool {
    CAUSES.binary_search(&word).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_word_finds_its_own_place_and_a_strange_one_that_of_other() {
        assert!(CAUSES.is_sorted(), "a binary search needs an order");
        for (index, word) in CAUSES.iter().enumerate() {
            assert_eq!(place(word), index, "{word}");
        }
        assert_eq!(CAUSES.get(place("made_up")), Some(&"other"));
        assert!(!is_known("made_up"));
    }

    /// A cause that has no series of its own would be lost among `other`.
    #[test]
    fn every_cause_word_of_the_other_rooms_is_known() {
        let sources = [
            include_str!("../token/error.rs"),
            include_str!("../policy/refusal.rs"),
            include_str!("../issuer/mod.rs"),
            include_str!("../gate/denial.rs"),
            include_str!("../gate/admit.rs"),
        ];
        // What `fn reason` says, and what is given as a `reason` where a cause is made; the gate's own word for an end
        // that somebody asked for is a constant, because no login has it.
        let is_word =
            |word: &&str| word.len() > 4 && word.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase());
        let mut found = 0;
        for text in sources {
            let bodies = text.split("fn reason(").skip(1).filter_map(|rest| rest.split("\n    }").next());
            let given = text.lines().filter(|line| line.trim_start().starts_with("reason: \""));
            for word in bodies.chain(given).flat_map(|part| part.split('"').skip(1).step_by(2)).filter(is_word) {
                assert!(is_known(word), "{word} is no cause word of metrics: add it to CAUSES");
                found += 1;
            }
        }
        assert!(found > 30, "the cause words are looked for where they no longer stand: only {found} found");
    }
}
