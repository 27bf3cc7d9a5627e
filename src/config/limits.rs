//! Every limit, with its default and the range it may be set to. Source of the numbers: threats.md sections 3 and 6.
//! Read by `sections`; the rooms' own settings are filled from it.

use super::read::{At, Reader, Section};

/// A number that can be set: the key in its section, which value it has if the file says nothing, and its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The key, its unit in its name.
    pub key: &'static str,
    /// Used when the file does not say.
    pub default: u64,
    /// Smallest value taken.
    pub least: u64,
    /// Largest value taken: what the code behind it is built for.
    pub most: u64,
}

macro_rules! limits {
    ($(#[$outer:meta])* $name:ident { $($(#[$doc:meta])* $key:ident: $default:expr, $least:expr, $most:expr;)* }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$doc])* pub $key: u64,)* }

        impl $name {
            /// Each limit, in the order of the config file.
            pub const ALL: &'static [Limit] = &[
                $(Limit { key: stringify!($key), default: $default, least: $least, most: $most },)*
            ];

            /// Each limit's key and value, to be printed at start.
            pub fn values(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($key), self.$key)),*].into_iter()
            }

            /// Reads the section; `others` are the keys in it that are no numbers.
            pub(super) fn read(reader: &mut Reader<'_>, section: Section<'_, '_>, others: &[&'static str]) -> Self {
                let mut known: Vec<&str> = Self::ALL.iter().map(|limit| limit.key).collect();
                known.extend(others);
                reader.only(section, &known);
                let mut read = |key: &str, default: u64, least: u64, most: u64| {
                    reader.number(section, key, least..=most).map_or(default, |At { value, .. }| value)
                };
                Self { $($key: read(stringify!($key), $default, $least, $most),)* }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }
    };
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const DAY_S: u64 = 24 * 3600;

limits! {
    /// `[limits]`. Names that end in `_s` are seconds, in `_bytes` bytes; the rest are counts.
    Limits {
        /// From TCP accept to the end of the TLS handshake, a PROXY header included.
        tls_handshake_s: 10, 1, 600;
        /// From TCP accept to an accepted login, in all.
        login_s: 60, 1, 3600;
        /// From the start of a SASL exchange to the client's answer.
        sasl_s: 30, 1, 3600;
        /// Silence after the error challenge of a refused token, until the refusal is said.
        sasl_answer_s: 2, 1, 60;
        /// Silence of an IMAP client after login. RFC 3501 section 5.4 demands 30 minutes at least.
        imap_idle_s: 1800, 60, DAY_S;
        /// Silence of a POP3 client after login. RFC 1939 section 3 demands 10 minutes at least.
        pop3_idle_s: 600, 60, DAY_S;
        /// How often a long search, sort or copy tells its IMAP client so (RFC 9585).
        progress_s: 10, 1, 3600;
        /// A client that takes no output.
        output_stall_s: 300, 1, DAY_S;
        /// From SIGTERM to the end: sessions are told, work under way is finished.
        drain_s: 8, 0, 3600;
        /// How long relayed sessions may go on in a process whose place another one has taken.
        relay_drain_s: DAY_S, 0, 30 * DAY_S;
        /// Open connections.
        connections: 10_000, 1, 10_000_000;
        /// Connections without login; past it the oldest of them is closed.
        connections_without_login: 4_000, 1, 10_000_000;
        /// Connections of one address, trusted networks excepted.
        connections_per_address: 200, 1, 10_000_000;
        /// Sessions of one user and protocol.
        sessions_per_user: 15, 1, 1_000_000;
        /// Refused logins on one connection.
        failed_logins: 5, 1, 1_000;
        /// Wait after a refused login, doubled with each one, per address and user.
        failed_login_delay_s: 1, 0, 60;
        /// Longest such wait.
        failed_login_delay_most_s: 15, 0, 600;
        /// Commands that are none, before login.
        bad_commands_before_login: 10, 0, 1_000_000;
        /// Commands that are none, after login.
        bad_commands_after_login: 50, 0, 1_000_000;
        /// Longest line before login.
        line_before_login_bytes: 32 * KIB, KIB, MIB;
        /// Longest line after login.
        line_after_login_bytes: 64 * KIB, KIB, 16 * MIB;
        /// Longest token.
        token_bytes: 16 * KIB, KIB, 512 * KIB;
        /// Nesting of JSON in a token.
        token_json_depth: 16, 3, 64;
        /// Validated tokens that are remembered, so that a reconnect costs no signature check.
        tokens_remembered: 50_000, 0, 100_000_000;
        /// Refused opaque tokens that are remembered.
        refused_tokens_remembered: 10_000, 0, 100_000_000;
        /// Unknown key ids remembered per issuer.
        unknown_keys_remembered: 1_000, 0, 1_000_000;
        /// Signatures checked at once; 0: one per processor.
        signatures_at_once: 0, 0, 1_000;
        /// Signatures being checked or waiting for it.
        signatures_waiting: 1_000, 1, 1_000_000;
        /// Introspection requests open at once, per issuer.
        introspections_at_once: 64, 1, 10_000;
        /// How far ahead of our clock a token's `nbf` and `iat` may be.
        clock_skew_s: 60, 0, 3600;
        /// How old an identity event may be, and for how long it is remembered.
        event_age_s: DAY_S, 60, 30 * DAY_S;
        /// For so many days an issuer's word against a token is kept: as long as its tokens live at most.
        cutoff_days: 30, 1, 3_650;
        /// Words of issuers against tokens and accounts that are kept.
        cutoffs: 100_000, 1_000, 10_000_000;
        /// Longest literal that stands for a string.
        literal_bytes: 64 * KIB, KIB, 16 * MIB;
        /// All literals of one command together, a message's excepted.
        command_bytes: MIB, KIB, 64 * MIB;
        /// Literals of one command.
        literals_per_command: 1_000, 1, 100_000;
        /// Largest message taken by APPEND, and announced as APPENDLIMIT.
        append_bytes: 50 * MIB, KIB, 4095 * MIB;
        /// Nesting of search keys: parentheses, OR and NOT.
        list_depth: 32, 1, 100;
        /// Keys in one SEARCH.
        search_keys: 1_000, 1, 100_000;
        /// Nesting of MIME parts that is looked into.
        mime_depth: 100, 1, 1_000;
        /// MIME parts of one message.
        mime_parts: 10_000, 1, 1_000_000;
        /// Header block that is read.
        header_bytes: 10 * MIB, KIB, 64 * MIB;
        /// Addresses read of one header field.
        addresses_per_field: 10_000, 1, 1_000_000;
        /// Parameters read of one header field.
        parameters_per_field: 200, 1, 100_000;
        /// Threads that work on mail files at once.
        file_threads: 64, 1, 400;
        /// Output held for one session; it is sent from an eighth of this on.
        output_bytes: 256 * KIB, 32 * KIB, 64 * MIB;
        /// Longest keyword.
        keyword_bytes: 100, 8, 250;
        /// Keywords of one mailbox.
        keywords_per_mailbox: 500, 0, 10_000;
        /// Longest mailbox name that may be made.
        mailbox_name_bytes: 1_000, 16, 1_000;
        /// Most levels of a mailbox name that may be made.
        mailbox_depth: 32, 1, 100;
    }
}

limits! {
    /// `[jwks]`: how issuers' signing keys are fetched and how long they are believed.
    Jwks {
        /// Between two refreshes in the background.
        refresh_s: 300, 10, DAY_S;
        /// Between two refreshes that an unknown key id asked for.
        forced_refresh_gap_s: 30, 1, 3600;
        /// How long known keys stay good while the issuer is out of reach.
        max_stale_s: DAY_S, 0, 30 * DAY_S;
        /// One request, in all.
        timeout_s: 5, 1, 60;
        /// Largest answer or key file.
        reply_bytes: 256 * KIB, KIB, MIB;
    }
}

limits! {
    /// The numbers of `[http]`.
    HttpLimits {
        /// Open connections.
        connections: 1_000, 1, 1_000_000;
        /// From the first byte of a request to the last of its answer.
        request_s: 30, 1, 600;
        /// A request's head, and a connection between two requests.
        idle_s: 60, 1, 3600;
        /// A request's body.
        body_bytes: MIB, KIB, 64 * MIB;
        /// Requests of one address (IPv6: of one /64) in a minute; a tenth of them may come at once.
        requests_per_minute: 1_200, 10, 10_000_000;
        /// Requests with a token that is not good, of one address in a minute.
        failures_per_minute: 30, 1, 1_000_000;
    }
}

limits! {
    /// The numbers of `[audit]`.
    AuditLimits {
        /// Events that may wait for the database.
        buffer: 10_000, 1, 10_000_000;
        /// Rows kept in the database; the oldest go first, looked at once an hour.
        rows: 1_000_000, 1_000, 1_000_000_000;
        /// Days for which rows are kept; 0: however old.
        keep_days: 0, 0, 36_500;
    }
}

limits! {
    /// The numbers of `[notify]`.
    NotifyLimits {
        /// Days for which notices are kept.
        keep_days: 90, 1, 36_500;
        /// Notices kept; the oldest go first, looked at once an hour.
        keep: 1_000_000, 1_000, 100_000_000;
        /// Tries of one delivery.
        attempts: 30, 1, 1_000;
        /// From the first try to the second; doubled with each one.
        retry_s: 30, 1, DAY_S;
        /// Longest such wait.
        retry_most_s: 3_600, 1, DAY_S;
        /// Time for one try, in all.
        answer_s: 30, 1, 600;
        /// Time for the mail server to take a message.
        accept_s: 600, 1, 3_600;
        /// For so long a node keeps the others from what it is sending.
        lease_s: 150, 2, 3_600;
        /// Tries of one channel that are under way at once on a node.
        at_once: 8, 1, 100;
    }
}

impl Limits {
    /// Limits that contradict each other.
    pub(super) fn check(&self, reader: &mut Reader<'_>, section: Section<'_, '_>) {
        let pairs = [
            ("connections_without_login", self.connections_without_login, "connections", self.connections),
            ("connections_per_address", self.connections_per_address, "connections", self.connections),
            (
                "failed_login_delay_s",
                self.failed_login_delay_s,
                "failed_login_delay_most_s",
                self.failed_login_delay_most_s,
            ),
            ("literal_bytes", self.literal_bytes, "command_bytes", self.command_bytes),
            // SASL sends the token in base64: four bytes for three, and some for the verb and the user's name.
            (
                "token_bytes (in base64, with the user's name)",
                self.token_bytes.div_ceil(3) * 4 + 1_000,
                "line_before_login_bytes",
                self.line_before_login_bytes,
            ),
        ];
        for (small_key, small, large_key, large) in pairs {
            if small > large {
                let key = small_key.split(' ').next().unwrap_or(small_key);
                let span =
                    [key, large_key].iter().find_map(|key| section.value(key)).map_or(section.span(), |v| v.span());
                let what = format!("{small_key} is {small}, more than {large_key}, which is {large}");
                reader.wrong::<()>(span, what, "lower the first or raise the second");
            }
        }
    }
}
