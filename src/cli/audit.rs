//! `portcullis audit`: rows of the audit log, as a table for people or JSON lines for programs; the whole log for keeping
//! elsewhere; and whether it is as it was written.

use std::process::ExitCode;

use anyhow::{Context, bail};

use super::{
    ConfigFile,
    remote::{Access, reports},
};
use crate::config::Config;
use crate::model::Reference;
use crate::store::{AuditEvent, AuditFilter, AuditLog, Verified};

/// Rows that the API gives at once.
const ASKED: u32 = 1_000;

/// Print recent rows of the audit log, newest last
///
/// A refusal tells the user a reference, `ref 7F3K2Q`: --reference finds its row, with the cause and the place where an
/// admin can change it. With --config the database is read; without it the API of a running gateway is asked.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    mut_arg("path", |config| config.required(false)),
    // Export and verify read the database alone.
    mut_args(|argument| argument.global(false)),
    after_help = "\
With --config, --json prints one JSON line a row, newest last, whose cause is under `reason`; without it the API's document,
with the rows under `items`, newest first, and the cause under `cause`.

Exit codes: 0 rows were found; 1 none fit, or the API refuses; 2 the log cannot be read.

Examples:
    portcullis audit --config config/portcullis.toml --reference 7F3K2Q
    portcullis audit --url https://mail.example.com --token-file token --user ann@example.com
    portcullis audit --config config/portcullis.toml --cause legacy_password --limit 1000 --json
    portcullis audit export --config config/portcullis.toml > audit.jsonl
    portcullis audit verify --config config/portcullis.toml"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    more: Option<More>,
    #[command(flatten)]
    recent: Recent,
}

#[derive(Debug, clap::Subcommand)]
enum More {
    Export(Export),
    Verify(Verify),
}

impl Arguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        match &self.more {
            None => self.recent.run(),
            Some(More::Export(export)) => export.run(),
            Some(More::Verify(verify)) => verify.run(),
        }
    }
}

/// Which rows.
#[derive(Debug, clap::Args)]
struct Filter {
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
}

impl Filter {
    fn read(&self) -> anyhow::Result<AuditFilter> {
        let reference = match &self.reference {
            None => None,
            Some(text) => Some(Reference::parse(text).with_context(|| {
                format!("--reference {text:?}: a reference is six digits and letters, as in `ref 7F3K2Q`")
            })?),
        };
        Ok(AuditFilter {
            user: self.user.clone(),
            app: self.app.clone(),
            reason: self.cause.clone(),
            reference,
            ..AuditFilter::default()
        })
    }
}

async fn open(config: &Config) -> anyhow::Result<AuditLog> {
    let settings = config.store_settings();
    if !settings.is_made().await? {
        bail!(
            "{}: there is no database yet, so there is no audit log; `portcullis serve` makes it at its first start",
            config.data_dir.display()
        );
    }
    Ok(AuditLog::open(&settings).await?)
}

#[derive(Debug, clap::Args)]
struct Recent {
    #[command(flatten)]
    config: Option<ConfigFile>,
    #[command(flatten)]
    access: Access,
    #[command(flatten)]
    filter: Filter,
    /// At most so many rows
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

impl Recent {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let Some(config) = &self.config else { return self.ask() };
        let config = config.read()?;
        let filter = AuditFilter { limit: self.limit, ..self.filter.read()? };
        let rows = super::block_on(async { Ok(open(&config).await?.recent(&filter).await?) })?;
        for row in rows.iter().rev() {
            let line = if self.access.json { row.to_json().to_string() } else { line(row) };
            if !super::say(&line)? {
                break;
            }
        }
        Ok(found(!rows.is_empty()))
    }

    fn ask(&self) -> anyhow::Result<ExitCode> {
        let Filter { user, app, cause, reference } = &self.filter;
        if self.limit > ASKED {
            bail!(
                "--limit {}: the API gives {ASKED} rows at most; name the --config, or take `audit export`",
                self.limit
            );
        }
        let limit = self.limit.to_string();
        let query = [
            ("user", user.as_deref()),
            ("app", app.as_deref()),
            ("cause", cause.as_deref()),
            ("reference", reference.as_deref()),
            ("limit", Some(&*limit)),
        ];
        reports::audit(&self.access, &reports::given(&query))
    }
}

fn found(any: bool) -> ExitCode {
    if any {
        return ExitCode::SUCCESS;
    }
    eprintln!("portcullis: no row of the audit log fits");
    ExitCode::from(1)
}

/// Print the whole audit log as JSON lines, oldest first
///
/// Each line is one row, with its number and its hash beside what `audit --json` prints. While the gateway writes, the
/// export ends with the rows that are there when it gets to them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 rows were found; 1 none fit; 2 the log cannot be read.

Examples:
    portcullis audit export --config config/portcullis.toml > audit.jsonl
    portcullis audit export --config config/portcullis.toml --user ann@example.com | jq .reason")]
struct Export {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    filter: Filter,
}

impl Export {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let config = self.config.read()?;
        let filter = self.filter.read()?;
        super::block_on(async {
            let log = open(&config).await?;
            let (mut after, mut any) = (0, false);
            loop {
                let page = log.page(&filter, after).await?;
                let Some(last) = page.last() else { return Ok(found(any)) };
                (after, any) = (last.number, true);
                for row in &page {
                    if !super::say(&row.to_json().to_string())? {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
            }
        })
    }
}

/// Check that no row of the audit log was changed, removed or put in
///
/// Each row carries a hash over its content and the hash before it. What retention removes, it says in the log itself. Keep
/// the number and hash that are printed in another place, and give them to --noted next time: whoever can write the whole
/// database could make the log anew, but not so that it holds what you noted.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 every row is there and as it was written; 1 something is wrong, a line for each; 2 the log cannot be read.

Examples:
    portcullis audit verify --config config/portcullis.toml
    portcullis audit verify --config config/portcullis.toml --noted 5012:c0ffee...")]
struct Verify {
    #[command(flatten)]
    config: ConfigFile,
    /// A number and hash that an earlier run printed: that row must be the same still
    #[arg(long, value_name = "NUMBER:HASH")]
    noted: Option<String>,
}

impl Verify {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let noted = self.noted.as_deref().map(read_noted).transpose()?;
        let config = self.config.read()?;
        let verified = super::block_on(async { Ok(open(&config).await?.verify(noted).await?) })?;
        report(&verified)
    }
}

fn read_noted(text: &str) -> anyhow::Result<(i64, &str)> {
    let parts = text.split_once(':').and_then(|(number, hash)| Some((number.parse().ok()?, hash)));
    parts
        .filter(|(number, hash)| *number > 0 && hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
        .with_context(|| {
            format!(
                "--noted {text:?}: write what `portcullis audit verify` printed, a number, a colon and 64 digits"
            )
        })
}

fn report(verified: &Verified) -> anyhow::Result<ExitCode> {
    for fault in &verified.faults {
        super::say(&fault.to_string())?;
    }
    let told = u64::try_from(verified.faults.len()).unwrap_or(u64::MAX);
    if verified.fault_count > told {
        super::say(&format!("and {} more", verified.fault_count - told))?;
    }
    if verified.unchained > 0 {
        let unchained = verified.unchained;
        super::say(&format!("{unchained} rows are from before the log was a chain, and cannot be checked"))?;
    }
    if !verified.is_in_order() {
        super::say(&format!("the audit log is not as it was written; {} rows were checked", verified.rows))?;
        return Ok(ExitCode::from(1));
    }
    super::say(&format!("the audit log is in order: {} rows were checked", verified.rows))?;
    if !verified.hash.is_empty() {
        super::say(&format!("to note elsewhere: {}:{}", verified.last, verified.hash))?;
    }
    Ok(ExitCode::SUCCESS)
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
