//! What the verbs of IMAP do, as far as a relay has to know: which of them leave mail as it is, and which never go on.

/// What a verb does, as far as that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It leaves mail as it is.
    Reads,
    /// It may change something.
    Writes,
    /// EXAMINE does the same without a right to change anything.
    Select,
    Idle,
    /// Answered here.
    Own,
    /// About signing in.
    SignsIn,
}

/// The verb as those who look at live sessions see it, and what it does.
pub(super) fn plain_verb(verb: &str) -> (&'static str, Kind) {
    use Kind::{Idle, Own, Reads, Select, SignsIn, Writes};
    const VERBS: [(&str, Kind); 49] = [
        ("FETCH", Reads),
        ("SEARCH", Reads),
        ("NOOP", Reads),
        ("IDLE", Idle),
        ("SELECT", Select),
        ("EXAMINE", Reads),
        ("STATUS", Reads),
        ("LIST", Reads),
        ("LOGOUT", Reads),
        ("CAPABILITY", Own),
        ("ID", Own),
        ("COMPRESS", Own),
        ("STORE", Writes),
        ("APPEND", Writes),
        ("COPY", Writes),
        ("MOVE", Writes),
        ("EXPUNGE", Writes),
        ("CHECK", Reads),
        // Nothing is expunged from a mailbox that EXAMINE opened.
        ("CLOSE", Reads),
        ("UNSELECT", Reads),
        ("ENABLE", Reads),
        ("NAMESPACE", Reads),
        ("LSUB", Reads),
        ("XLIST", Reads),
        ("RLIST", Reads),
        ("RLSUB", Reads),
        ("SORT", Reads),
        ("THREAD", Reads),
        ("ESEARCH", Reads),
        ("CANCELUPDATE", Reads),
        ("NOTIFY", Reads),
        ("GETQUOTA", Reads),
        ("GETQUOTAROOT", Reads),
        ("GETMETADATA", Reads),
        ("GETACL", Reads),
        ("MYRIGHTS", Reads),
        ("LISTRIGHTS", Reads),
        ("LANGUAGE", Reads),
        ("COMPARATOR", Reads),
        ("CREATE", Writes),
        ("DELETE", Writes),
        ("RENAME", Writes),
        ("SUBSCRIBE", Writes),
        ("UNSUBSCRIBE", Writes),
        ("REPLACE", Writes),
        ("LOGIN", SignsIn),
        ("AUTHENTICATE", SignsIn),
        ("STARTTLS", SignsIn),
        ("UNAUTHENTICATE", SignsIn),
    ];
    match VERBS.iter().find(|(known, _)| *known == verb) {
        Some((word, kind)) => (word, *kind),
        // Cyrus and others take over other people's mail by these.
        None if verb.starts_with("PROXY") || verb.starts_with("XPROXY") || verb.ends_with("AUTHENTICATE") => {
            ("", SignsIn)
        }
        // What an extension's command does is not known here.
        None => ("(other)", Writes),
    }
}

/// The same for the verb behind `UID`.
pub(super) fn uid_verb(verb: &str) -> (&'static str, Kind) {
    const VERBS: [(&str, &str, Kind); 9] = [
        ("FETCH", "UID FETCH", Kind::Reads),
        ("SEARCH", "UID SEARCH", Kind::Reads),
        ("SORT", "UID SORT", Kind::Reads),
        ("THREAD", "UID THREAD", Kind::Reads),
        ("STORE", "UID STORE", Kind::Writes),
        ("COPY", "UID COPY", Kind::Writes),
        ("MOVE", "UID MOVE", Kind::Writes),
        ("EXPUNGE", "UID EXPUNGE", Kind::Writes),
        ("REPLACE", "UID REPLACE", Kind::Writes),
    ];
    let found = VERBS.iter().find(|(known, ..)| *known == verb);
    found.map_or(("UID", Kind::Writes), |(_, word, kind)| (word, *kind))
}
