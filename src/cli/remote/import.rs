//! `portcullis directory import --url`: a list of users over the API.

use std::path::PathBuf;

use anyhow::{Context, bail};
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

use super::{Access, Outcome};
use crate::store::Imported;

/// Where the API is, for a command that can do without one
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Place {
    /// Go over the API of a running gateway at this address, not to the database
    #[arg(long, value_name = "URL")]
    url: Option<Url>,
    /// File with the token for --url; without it the token is taken from the variable PORTCULLIS_TOKEN
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Certificate authority (PEM) to trust for --url beside the system's
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_CA")]
    ca: Option<PathBuf>,
}

/// What the API made of a list, or its problem in words.
pub(in crate::cli) enum Answer {
    Report(Imported),
    Refused(String),
}

impl Place {
    /// The API, if there is one named.
    pub(in crate::cli) fn access(&self) -> Option<Access> {
        let url = self.url.clone()?;
        Some(Access { url, token_file: self.token_file.clone(), ca: self.ca.clone(), json: false })
    }
}

/// Has the API import a list.
pub(in crate::cli) async fn send(access: &Access, list: String, dry_run: bool) -> anyhow::Result<Answer> {
    let remote = access.remote(true)?;
    let query = [("dry_run", dry_run.to_string())];
    let request = remote.request(Method::POST, &["directory-import"], &query);
    let request = request.header("content-type", "text/csv").body(list);
    let (status, value) = remote.answer(request).await?;
    if status != StatusCode::UNPROCESSABLE_ENTITY {
        return match remote.outcome(status, value)? {
            Outcome::Done(report) => Ok(Answer::Report(read(&report)?)),
            Outcome::Refused(problem) => Ok(Answer::Refused(problem)),
        };
    }
    Ok(Answer::Report(read(&value)?))
}

fn read(report: &Value) -> anyhow::Result<Imported> {
    let number = |value: &Value, key: &str| {
        let number = value.get(key).and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok());
        number.with_context(|| format!("the API's report has no {key}: is it as new as this command?"))
    };
    let Some(wrong) = report.get("wrong").and_then(Value::as_array) else {
        bail!("the API's report names no lines: is it as new as this command?")
    };
    let line = |item: &Value| {
        let what = item.get("what").and_then(Value::as_str).unwrap_or_default();
        Ok((number(item, "line")?, super::show::cell(Some(&Value::from(what)))))
    };
    Ok(Imported {
        made: number(report, "made")?,
        changed: number(report, "changed")?,
        same: number(report, "same")?,
        wrong_count: number(report, "wrong_count")?,
        wrong: wrong.iter().map(line).collect::<anyhow::Result<_>>()?,
        is_done: report.get("done") == Some(&Value::Bool(true)),
    })
}
