//! Fills the settings that each room declares for itself. Called by `serve` and `cli`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Config, Introspection, SignIn};
use crate::admin;
use crate::gate;
use crate::imap;
use crate::issuer;
use crate::maildir;
use crate::message;
use crate::model::{MailHome, Secret};
use crate::pop3;
use crate::session;
use crate::store;
use crate::upstream::Homes;

/// A file with a secret that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: the {what} secret of {issuer} cannot be read ({source}): put it there, readable by the gateway's user only, or correct client_secret_file", file.display())]
pub struct SecretFileError {
    /// Which file.
    pub file: PathBuf,
    /// `introspection` or `sign-in`.
    pub what: &'static str,
    /// At which issuer.
    pub issuer: String,
    /// Why.
    pub source: io::Error,
}

impl Config {
    /// For `Issuers::new`; reads the files that hold introspection secrets.
    pub fn issuer_settings(&self) -> Result<Vec<issuer::Settings>, SecretFileError> {
        let one = |own: &super::Issuer| {
            let mut rules = own.rules.clone();
            rules.skew_s = self.limits.clock_skew_s;
            rules.event_age_s = self.limits.event_age_s;
            rules.max_token = size(self.limits.token_bytes);
            rules.json_depth = size(self.limits.token_json_depth);
            let mut settings = issuer::Settings::new(rules, own.keys.clone());
            settings.introspection =
                own.introspection.as_ref().map(|asked| introspection(asked, &own.rules.url)).transpose()?;
            let signin = self.http.signin.as_ref().filter(|signin| signin.issuer == own.rules.url);
            settings.sign_in = signin.map(sign_in).transpose()?;
            settings.openid_configuration = own.openid_configuration.clone();
            settings.ca_file = own.ca_file.clone();
            settings.refresh = Duration::from_secs(self.jwks.refresh_s);
            settings.max_stale = Duration::from_secs(self.jwks.max_stale_s);
            settings.forced_gap = Duration::from_secs(self.jwks.forced_refresh_gap_s);
            settings.timeout = Duration::from_secs(self.jwks.timeout_s);
            settings.reply_bytes = size(self.jwks.reply_bytes);
            Ok(settings)
        };
        self.issuers.iter().map(one).collect()
    }

    /// Bounds over all issuers.
    pub fn issuer_limits(&self) -> issuer::Limits {
        issuer::Limits {
            remembered: self.limits.tokens_remembered,
            refused: self.limits.refused_tokens_remembered,
            unknown_keys: self.limits.unknown_keys_remembered,
            workers: size(self.limits.signatures_at_once),
            queue: size(self.limits.signatures_waiting),
            questions: size(self.limits.introspections_at_once),
        }
    }

    /// For `Store::open`.
    pub fn store_settings(&self) -> store::Settings {
        store::Settings {
            url: self.database.url.clone(),
            data_dir: self.data_dir.clone(),
            audit_required: self.audit.required,
            audit_buffer: size(self.audit.limits.buffer),
            audit_rows: self.audit.limits.rows,
            cutoff_days: self.limits.cutoff_days,
            cutoffs: self.limits.cutoffs,
            audit_days: self.audit.limits.keep_days,
            channels: self.notify.channels(),
            notice_days: self.notify.limits.keep_days,
            notices: self.notify.limits.keep,
            // Read already: it names an upstream or the embedded store.
            default_home: MailHome::parse(&self.mail_default).unwrap_or_default(),
        }
    }

    /// The homes of mail that policy may name.
    pub fn homes(&self) -> Homes {
        let one = |own: &super::Upstream| (own.name.clone(), own.imap.iter().chain(&own.pop3).cloned().collect());
        Homes::new(self.upstreams.iter().map(one))
    }

    /// For `Mail::new`: the mail is in `DATA_DIR/mail`.
    pub fn maildir_settings(&self) -> maildir::Settings {
        maildir::Settings {
            root: self.data_dir.join("mail"),
            limits: maildir::Limits {
                message_bytes: self.limits.append_bytes,
                threads: size(self.limits.file_threads),
                keywords: size(self.limits.keywords_per_mailbox),
                keyword_bytes: size(self.limits.keyword_bytes),
                name_bytes: size(self.limits.mailbox_name_bytes),
                name_depth: size(self.limits.mailbox_depth),
            },
        }
    }

    /// For `Gate::new`.
    pub fn gate_limits(&self) -> gate::Limits {
        gate::Limits {
            sessions_per_user: size(self.limits.sessions_per_user),
            failed_login_delay: Duration::from_secs(self.limits.failed_login_delay_s),
            failed_login_delay_max: Duration::from_secs(self.limits.failed_login_delay_most_s),
            sessions_end_with_token: self.sessions_end_with_token,
            audit_required: self.audit.required,
            database_grace: Duration::from_secs(self.database.grace_s),
            clock_skew: Duration::from_secs(self.limits.clock_skew_s),
            public_url: self.http.public_url.as_deref().map(Into::into),
        }
    }

    /// For `Control::new`.
    pub fn admin_settings(&self) -> admin::Settings {
        let limits = &self.http.limits;
        let count = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        admin::Settings {
            hosts: self.web_hosts(),
            homes: self.homes(),
            scope: self.http.scope.clone(),
            body_bytes: size(limits.body_bytes),
            request_limit: Duration::from_secs(limits.request_s),
            requests_per_minute: count(limits.requests_per_minute),
            failures_per_minute: count(limits.failures_per_minute),
            scim: self.scim.clone(),
            setup: self.setup.clone(),
            sign_in: store::Lifetime {
                idle: Duration::from_secs(self.http.signin.as_ref().map_or(0, |signin| signin.idle_s)),
                most: Duration::from_secs(self.http.signin.as_ref().map_or(0, |signin| signin.most_s)),
            },
        }
    }

    /// The names by which the HTTP listener is asked: ours, and where mail programs look for their settings.
    fn web_hosts(&self) -> Vec<String> {
        let public = self.http.public_url.as_deref().and_then(|url| reqwest::Url::parse(url).ok());
        let public = public.and_then(|url| url.host_str().map(str::to_owned));
        std::iter::once(self.hostname.to_ascii_lowercase())
            .chain(self.http.hosts.iter().cloned())
            .chain(public)
            .chain(self.setup.domains.iter().map(|domain| format!("autoconfig.{domain}")))
            .collect()
    }

    /// For `Lobby::new`.
    pub fn lobby_limits(&self) -> gate::LobbyLimits {
        gate::LobbyLimits {
            connections: size(self.limits.connections),
            waiting: size(self.limits.connections_without_login),
            per_address: size(self.limits.connections_per_address),
        }
    }

    /// For every session.
    pub fn session_limits(&self) -> session::Limits {
        let limits = &self.limits;
        session::Limits {
            login: Duration::from_secs(limits.login_s),
            sasl: Duration::from_secs(limits.sasl_s),
            sasl_answer: Duration::from_secs(limits.sasl_answer_s),
            progress: Duration::from_secs(limits.progress_s),
            imap_idle: Duration::from_secs(limits.imap_idle_s),
            pop_idle: Duration::from_secs(limits.pop3_idle_s),
            no_output: Duration::from_secs(limits.output_stall_s),
            output: size(limits.output_bytes),
            drain: Duration::from_secs(limits.drain_s),
            bad_before_login: count(limits.bad_commands_before_login),
            bad_after_login: count(limits.bad_commands_after_login),
            failed_logins: count(limits.failed_logins),
            frame: self.imap_limits(),
            pop: self.pop3_limits(),
            message: self.message_limits(),
        }
    }

    /// What an IMAP peer may send.
    pub fn imap_limits(&self) -> imap::frame::Limits {
        imap::frame::Limits {
            line_before_login: size(self.limits.line_before_login_bytes),
            line: size(self.limits.line_after_login_bytes),
            literal: size(self.limits.literal_bytes),
            literals: size(self.limits.literals_per_command),
            search: imap::command::SearchLimits {
                depth: size(self.limits.list_depth),
                keys: size(self.limits.search_keys),
            },
            command: size(self.limits.command_bytes),
            append: self.limits.append_bytes,
            ..imap::frame::Limits::default()
        }
    }

    /// What a POP3 peer may send, and how often it may fail.
    pub fn pop3_limits(&self) -> pop3::Limits {
        pop3::Limits {
            line_before_login: size(self.limits.line_before_login_bytes),
            line_after_login: size(self.limits.line_after_login_bytes),
            bad_before_login: count(self.limits.bad_commands_before_login),
            bad_after_login: count(self.limits.bad_commands_after_login),
            failed_logins: count(self.limits.failed_logins),
        }
    }

    /// How far a message is looked into.
    pub fn message_limits(&self) -> message::Limits {
        message::Limits {
            depth: size(self.limits.mime_depth),
            parts: size(self.limits.mime_parts),
            header_bytes: size(self.limits.header_bytes),
            field_addresses: size(self.limits.addresses_per_field),
            field_parameters: size(self.limits.parameters_per_field),
            ..message::Limits::default()
        }
    }
}

fn sign_in(own: &SignIn) -> Result<issuer::SignInClient, SecretFileError> {
    let SignIn { client_id, client_secret, client_secret_file, scope, token_endpoint, issuer, .. } = own;
    Ok(issuer::SignInClient {
        client_id: client_id.clone(),
        client_secret: secret(client_secret.as_ref(), client_secret_file.as_deref(), "sign-in", issuer)?,
        scope: scope.clone(),
        token_endpoint: token_endpoint.clone(),
    })
}

fn introspection(own: &Introspection, issuer: &str) -> Result<issuer::Introspection, SecretFileError> {
    let secret = secret(own.client_secret.as_ref(), own.client_secret_file.as_deref(), "introspection", issuer)?;
    let secret = secret.unwrap_or_else(|| Secret::new(""));
    let mut settings = issuer::Introspection::new(&own.endpoint, &own.client_id, secret);
    settings.remember = Duration::from_secs(own.remember_s);
    settings.remember_refusal = Duration::from_secs(own.remember_refusal_s);
    Ok(settings)
}

/// A secret out of the config itself, or out of the file it names.
fn secret(
    own: Option<&Secret>,
    file: Option<&Path>,
    what: &'static str,
    issuer: &str,
) -> Result<Option<Secret>, SecretFileError> {
    match (own, file) {
        (Some(secret), _) => Ok(Some(secret.clone())),
        (None, Some(file)) => {
            let wrong = |source| SecretFileError { file: file.to_owned(), what, issuer: issuer.to_owned(), source };
            read_secret(file).map(Some).map_err(wrong)
        }
        (None, None) => Ok(None),
    }
}

pub(super) fn read_secret(file: &Path) -> io::Result<Secret> {
    let text = zeroize::Zeroizing::new(fs::read_to_string(file)?);
    match text.trim() {
        "" => Err(io::Error::other("it is empty")),
        secret => Ok(Secret::new(secret)),
    }
}

fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn count(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TEXT: &str = r#"
        hostname = "mail.example.com"
        data_dir = "data"
        listen = { imaps = ["[::]:993"] }
        tls = { certificate = "a.pem", private_key = "a.key" }
        [[issuer]]
        url = "https://id.example.com"
        audience = ["portcullis"]
    "#;

    fn config(more: &str) -> Config {
        Config::parse(&format!("{TEXT}{more}"), Path::new("/srv/gate/portcullis.toml")).unwrap()
    }

    /// What every room has for defaults is what an empty config gives it; else a default is written down twice, differently.
    #[test]
    fn an_empty_config_gives_each_room_its_own_defaults() {
        let config = config("");
        assert_eq!(config.imap_limits(), imap::frame::Limits::default());
        assert_eq!(config.pop3_limits(), pop3::Limits::default());
        assert_eq!(config.message_limits(), message::Limits::default());
        let mail = config.maildir_settings();
        assert_eq!(mail.root, Path::new("/srv/gate/data/mail"));
        let print = |value: &dyn std::fmt::Debug| format!("{value:?}");
        assert_eq!(print(&mail.limits), print(&maildir::Limits::default()));
        assert_eq!(print(&config.issuer_limits()), print(&issuer::Limits::default()));
        let rules = crate::token::Rules::new("https://id.example.com", ["portcullis"]);
        let own = issuer::Settings::new(rules, Some(issuer::KeySource::Discovery));
        assert_eq!(print(&config.issuer_settings().unwrap()), print(&vec![own]));
        assert_eq!(print(&config.store_settings()), print(&store::Settings::in_dir("/srv/gate/data")));
    }

    /// Everything the rooms are told, as text. The limits of handshakes and of a hand-over are `serve`'s own, read where they
    /// hold.
    fn told(config: &Config) -> String {
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {} {}",
            config.issuer_settings().unwrap(),
            config.issuer_limits(),
            config.store_settings(),
            config.notify_settings().unwrap(),
            config.maildir_settings(),
            config.gate_limits(),
            config.lobby_limits(),
            config.session_limits(),
            config.limits.tls_handshake_s,
            config.limits.relay_drain_s
        )
    }

    #[test]
    fn every_limit_reaches_a_room() {
        let sections = [
            ("limits", super::super::Limits::ALL),
            ("jwks", super::super::Jwks::ALL),
            ("audit", super::super::AuditLimits::ALL),
            ("notify", super::super::NotifyLimits::ALL),
        ];
        let usual = told(&config(""));
        for (section, limits) in sections {
            for limit in limits {
                assert!(limit.least < limit.most, "{section}.{} cannot be set", limit.key);
                // Of the two ends of its range, one that does not contradict the other limits.
                let differs = [limit.least, limit.most, limit.default / 2].into_iter().any(|value| {
                    let text = format!("{TEXT}[{section}]\n{} = {value}\n", limit.key);
                    let read = Config::parse(&text, Path::new("/srv/gate/portcullis.toml"));
                    value != limit.default && read.is_ok_and(|config| told(&config) != usual)
                });
                assert!(differs, "{section}.{} has no effect", limit.key);
            }
        }
        assert_ne!(told(&config("[database]\ngrace_s = 7\n")), usual);
        assert_ne!(told(&config("[audit]\nrequired = false\n")), usual);
    }

    #[test]
    fn what_the_file_says_reaches_the_rooms() {
        let config = config(
            "[audit]\nrequired = false\n[jwks]\ntimeout_s = 7\n[limits]\nbad_commands_before_login = 3\n\
             append_bytes = 2048\nmime_parts = 9\nclock_skew_s = 5\ntoken_bytes = 2048\nsignatures_waiting = 8\n",
        );
        assert!(!config.store_settings().audit_required);
        assert_eq!((config.pop3_limits().bad_before_login, config.imap_limits().append), (3, 2048));
        assert_eq!((config.message_limits().parts, config.issuer_limits().queue), (9, 8));
        let settings = config.issuer_settings().unwrap();
        let issuer = settings.first().unwrap();
        assert_eq!(
            (issuer.timeout, issuer.rules.skew_s, issuer.rules.max_token),
            (Duration::from_secs(7), 5, 2048)
        );
    }

    #[test]
    fn what_providers_may_say_reaches_the_api() {
        assert_eq!(config("").admin_settings().scim, admin::ScimSettings::default());
        let scim = config("[scim]\nunit = \"/Staff\"\nunit_attribute = \"organization\"\n").admin_settings().scim;
        assert_eq!((scim.unit.as_str(), scim.unit_attribute), ("/Staff", Some(admin::UnitAttribute::Organization)));
    }

    #[test]
    fn an_introspection_secret_is_read_from_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        let config = config(&format!(
            "[issuer.introspection]\nendpoint = \"https://id.example.com/i\"\nclient_id = \"gate\"\n\
             client_secret_file = {:?}\nremember_s = 0\n",
            file.display().to_string()
        ));
        let told = config.issuer_settings().unwrap_err().to_string();
        assert!(
            told.contains("the introspection secret of https://id.example.com cannot be read (No such file"),
            "{told}"
        );
        fs::write(&file, " \n").unwrap();
        assert!(config.issuer_settings().unwrap_err().to_string().contains("it is empty"));
        fs::write(&file, "hush\n").unwrap();
        let settings = config.issuer_settings().unwrap();
        let asked = settings.first().unwrap().introspection.as_ref().unwrap();
        assert_eq!((asked.client_secret.reveal(), asked.remember), ("hush", Duration::ZERO));
    }
}
