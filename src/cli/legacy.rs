//! `portcullis legacy`: who still tries passwords, as a table for people or JSON for programs. Reads the database beside a
//! running gateway, or asks the gateway.

use std::process::ExitCode;

use anyhow::bail;

use super::{
    ConfigFile,
    remote::{Access, reports},
};
use crate::model::UnitPath;
use crate::store::{AuditLog, LegacyFilter, LegacySignIn};

/// Print who still tries to sign in with a password, with which program, from where, how often
///
/// Nothing proves these names: they are what somebody typed. A running gateway adds what it saw about a second later.
/// With --config the database is read; without it the API of a running gateway is asked.
#[derive(Debug, clap::Args)]
#[command(mut_arg("path", |config| config.required(false)), after_help = "\
Exit codes: 0 somebody does; 1 nobody does, or the API refuses; 2 the report cannot be read.

Examples:
    portcullis legacy --config config/portcullis.toml
    portcullis legacy --config config/portcullis.toml --unit /Sales --json
    portcullis legacy --url https://mail.example.com --token-file token --unit /Sales")]
pub(super) struct Arguments {
    #[command(flatten)]
    config: Option<ConfigFile>,
    #[command(flatten)]
    access: Access,
    /// Only users of this unit or of units below it; / for everybody, names nobody knows included
    #[arg(long, value_name = "UNIT")]
    unit: Option<String>,
    /// Only this user, as claimed
    #[arg(long, value_name = "ADDRESS")]
    user: Option<String>,
    /// At most so many rows
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    limit: u32,
}

impl Arguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let Some(config) = &self.config else {
            let limit = self.limit.to_string();
            let query = [("unit", self.unit.as_deref()), ("user", self.user.as_deref()), ("limit", Some(&*limit))];
            return reports::legacy(&self.access, &reports::given(&query));
        };
        let unit = match &self.unit {
            Some(text) => match UnitPath::parse(text) {
                Ok(unit) => Some(unit),
                Err(error) => bail!("--unit {text:?}: {error}"),
            },
            None => None,
        };
        let config = config.read()?;
        let settings = config.store_settings();
        let filter = LegacyFilter { unit, user: self.user.clone(), limit: self.limit, ..LegacyFilter::default() };
        let rows = super::block_on(async {
            if !settings.is_made().await? {
                bail!(
                    "{}: there is no database yet, so nobody was seen; `portcullis serve` makes it at its first start",
                    config.data_dir.display()
                );
            }
            Ok(AuditLog::open(&settings).await?.legacy(&filter).await?)
        })?;
        if rows.is_empty() {
            eprintln!("portcullis: nobody was seen to try a password");
            return Ok(ExitCode::from(1));
        }
        let lines: Vec<String> = if self.access.json {
            rows.iter().map(|row| row.to_json().to_string()).collect()
        } else {
            table(&rows)
        };
        for line in &lines {
            if !super::say(line)? {
                break;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

const HEADS: [&str; 8] = ["TRIES", "USER", "UNIT", "PROGRAM", "FROM", "HOW", "FIRST", "LAST"];

/// Columns as wide as what is in them.
fn table(rows: &[LegacySignIn]) -> Vec<String> {
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let cells: Vec<[String; 8]> = rows
        .iter()
        .map(|row| {
            [
                row.attempts.to_string(),
                dash(&row.claimed),
                dash(row.unit.as_deref().unwrap_or_default()),
                dash(&row.program),
                dash(&row.from),
                format!("{} {}", row.service.word(), row.how),
                row.first.to_string(),
                row.last.to_string(),
            ]
        })
        .collect();
    let mut widths = HEADS.map(|head| head.chars().count());
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: [&str; 8]| {
        let padded = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(HEADS)];
    lines.extend(cells.iter().map(|row| line(row.each_ref().map(String::as_str))));
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::{Service, UnixTime};

    #[test]
    fn the_table_lines_up_and_shows_a_dash_where_nothing_is_known() {
        let row = LegacySignIn {
            claimed: "ann@example.com".into(),
            unit: Some("/Sales".into()),
            program: "Old Mail 1.0".into(),
            from: "192.0.2.7".into(),
            service: Service::Imap,
            how: "LOGIN".into(),
            attempts: 12,
            first: UnixTime::from_secs(0),
            last: UnixTime::from_secs(60),
        };
        let nobody = LegacySignIn {
            claimed: String::new(),
            unit: None,
            program: String::new(),
            attempts: 1,
            service: Service::Pop,
            how: "USER".into(),
            ..row.clone()
        };
        let lines = table(&[row, nobody]);
        let starts: Vec<_> =
            lines.iter().map(|line| line.find("192.0.2.7").or(line.find("FROM")).unwrap()).collect();
        assert!(starts.iter().all(|start| Some(start) == starts.first()), "{lines:#?}");
        assert!(lines.last().unwrap().starts_with("1      -                -       -"), "{lines:#?}");
    }
}
