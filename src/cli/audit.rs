//! `portcullis audit`: recent rows of the audit log, as a table for people or JSON lines for programs.

use std::process::ExitCode;

use anyhow::bail;

use super::ConfigFile;
use crate::model::Reference;
use crate::store::{AuditEvent, AuditFilter, AuditLog};

/// Print recent rows of the audit log, newest last
///
/// A refusal tells the user a reference, `ref 7F3K2Q`: --reference finds its row, with the cause and the place where an
/// admin can change it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 rows were found; 1 none fit; 2 the log cannot be read.

Examples:
    portcullis audit --config config/portcullis.toml --reference 7F3K2Q
    portcullis audit --config config/portcullis.toml --cause legacy_password --limit 1000 --json")]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Only rows about this user (proved by a token, or claimed where nothing was proved)
    #[arg(long, value_name = "ADDRESS")]
    user: Option<String>,
    /// Only rows about this app (its client ID)
    #[arg(long, value_name = "CLIENT-ID")]
    app: Option<String>,
    /// Only rows with this cause: policy_service_off, policy_app, token_expired, legacy_password, ...
    #[arg(long, value_name = "WORD")]
    cause: Option<String>,
    /// Only the row of this reference
    #[arg(long, value_name = "REF")]
    reference: Option<String>,
    /// At most so many rows
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let config = self.config.read()?;
        let filter = AuditFilter {
            user: self.user.clone(),
            app: self.app.clone(),
            reason: self.cause.clone(),
            reference: self.reference()?,
            limit: self.limit,
            ..AuditFilter::default()
        };
        let settings = config.store_settings();
        if !settings.is_made()? {
            bail!(
                "{}: there is no database yet, so there is no audit log; `portcullis serve` makes it at its first start",
                config.data_dir.display()
            );
        }
        let rows = super::block_on(async {
            let log = AuditLog::open(&settings).await?;
            Ok(log.recent(&filter).await?)
        })?;
        for row in rows.iter().rev() {
            if self.json {
                println!("{}", row.to_json());
            } else {
                println!("{}", line(row));
            }
        }
        if rows.is_empty() {
            eprintln!("portcullis: no row of the audit log fits");
            return Ok(ExitCode::from(1));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn reference(&self) -> anyhow::Result<Option<Reference>> {
        let Some(text) = &self.reference else { return Ok(None) };
        match Reference::parse(text) {
            Some(reference) => Ok(Some(reference)),
            None => bail!("--reference {text:?}: a reference is six digits and letters, as in `ref 7F3K2Q`"),
        }
    }
}

/// `2026-11-21T10:00:00Z login no imap ann@example.com app demo-app policy_service_off ref 7F3K2Q unit "/" : detail`
fn line(row: &AuditEvent) -> String {
    let mut line = format!("{}  {:<15} {:<4}", row.time, row.event, row.outcome);
    let mut put = |label: &str, value: Option<&str>| {
        if let Some(value) = value {
            line.push_str("  ");
            line.push_str(label);
            line.push_str(value);
        }
    };
    put("", row.service.map(|service| service.word()));
    put("", row.user.as_deref().or(row.claimed.as_deref()));
    put("mailbox ", row.owner.as_deref().filter(|owner| Some(*owner) != row.user.as_deref()));
    put("app ", row.app.as_deref());
    put("", row.reason.as_deref());
    put("ref ", row.reference.as_ref().map(Reference::as_str));
    put("set at ", row.place.as_deref());
    put("from ", row.peer.as_deref());
    put("program ", row.program.as_deref());
    put("| ", row.detail.as_deref());
    line
}
