//! The outbox's other end: takes queued notices and sends them, by e-mail and as signed webhooks. Called by `serve`, which
//! runs [`run`] on every node; the store sees to it that one node at a time has a delivery.
//!
//! Each channel goes its own way: one that is down does not hold up the others. What is tried without success is tried again
//! later, and given up after a bounded number of tries; the audit log says so, and `POST /api/v1/notices/{id}/retry` begins
//! anew.

mod address;
mod letter;
mod mail;
mod webhook;
mod worker;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub use mail::MailError;
pub use webhook::{WebhookError, WebhookSecret, channel as webhook_channel};
pub use worker::run;

use crate::model::Secret;

/// The channel of e-mail.
pub const EMAIL: &str = "email";

/// What the operator says about notices: `[notify]`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The gateway's own name: for texts, EHLO and Message-IDs.
    pub hostname: String,
    /// The mail server; none: no e-mail.
    pub smtp: Option<Smtp>,
    /// Who is told by HTTP.
    pub webhooks: Vec<Webhook>,
    /// Tries of one delivery.
    pub attempts: u32,
    /// From the first try to the second; doubled with each one.
    pub retry: Duration,
    /// Longest such wait.
    pub retry_most: Duration,
    /// For so long a node keeps the others from what it is sending; more than twice `answer`. For mail `accept` comes on top.
    pub lease: Duration,
    /// Time for one try, in all; of mail up to the message's end.
    pub answer: Duration,
    /// Time for the mail server to say that it has taken a message (RFC 5321 section 4.5.3.2.6).
    pub accept: Duration,
    /// Deliveries of one channel that are under way at once on this node.
    pub at_once: u32,
}

/// How the mail server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpTls {
    /// TLS from the first byte (RFC 8314).
    Implicit,
    /// STARTTLS, without which nothing is sent (RFC 3207).
    StartTls,
    /// None: to this machine only.
    Plain,
}

/// `[notify.smtp]`.
#[derive(Clone, Debug)]
pub struct Smtp {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: SmtpTls,
    /// User and password; none: the server takes mail from us without.
    pub login: Option<(String, Secret)>,
    /// Who the mail is from: `Portcullis <gate@example.com>`.
    pub from: String,
    /// Certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// `[[notify.webhook]]`.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Where it is posted to.
    pub url: String,
    /// What it is signed with.
    pub secret: WebhookSecret,
    /// Whether addresses that are not public may be asked.
    pub allow_private: bool,
    /// Certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// A channel that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// E-mail.
    #[error("notify.smtp: {0}")]
    Mail(#[from] MailError),
    /// A webhook.
    #[error("notify.webhook: {0}")]
    Webhook(#[from] WebhookError),
}

/// Everything that sends, ready to be run.
pub struct Channels {
    settings: Settings,
    mail: Option<Arc<mail::Mailer>>,
    webhooks: Vec<Arc<webhook::Hook>>,
}

/// Whether mail can be from this address.
pub fn check_from(text: &str) -> Result<(), MailError> {
    mail::from(text).map(drop)
}

/// Whether a webhook may be posted to.
pub fn check_webhook(url: &str, allow_private: bool) -> Result<(), WebhookError> {
    webhook::check(url, allow_private).map(drop)
}

impl Channels {
    /// Reads the certificates that the settings name; asks nobody.
    pub fn new(settings: Settings) -> Result<Self, SetupError> {
        let mail = settings.smtp.as_ref().map(|smtp| mail::Mailer::new(smtp, &settings)).transpose()?;
        let hooks = settings.webhooks.iter().map(|hook| webhook::Hook::new(hook, settings.answer).map(Arc::new));
        let webhooks = hooks.collect::<Result<_, _>>()?;
        Ok(Self { mail: mail.map(Arc::new), webhooks, settings })
    }
}

/// What came of handing a notice to a channel.
#[derive(Debug, PartialEq, Eq)]
enum Handed {
    /// It was taken.
    Taken,
    /// Not now.
    NotNow(String),
    /// Not this one, ever.
    Never(String),
}
