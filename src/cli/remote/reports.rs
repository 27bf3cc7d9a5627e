//! What `portcullis audit`, `legacy` and `explain` print when no config is named: the same, asked of a running gateway.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::Value;

use super::{Access, Outcome, Remote, show::cell, table};

/// Exit code where nothing fits, or the answer is no.
const NO: u8 = 1;
/// Exit code where the API refuses to tell.
const CANNOT_TELL: u8 = 2;

/// A query of the parts that are given.
pub(in crate::cli) fn given(parts: &[(&'static str, Option<&str>)]) -> Vec<(&'static str, String)> {
    parts.iter().filter_map(|(key, value)| Some((*key, (*value)?.to_owned()))).collect()
}

/// Rows of the audit log, newest last.
pub(in crate::cli) fn audit(access: &Access, query: &[(&str, String)]) -> anyhow::Result<ExitCode> {
    let found = ask(access, &["audit"], query)?;
    let mut rows = items(&found);
    rows.reverse();
    if rows.is_empty() && matches!(found, Outcome::Done(_)) {
        eprintln!("portcullis: no row of the audit log fits");
        return Ok(ExitCode::from(NO));
    }
    access.finish(found, |_| rows.iter().map(line).collect())
}

/// Who still tries passwords.
pub(in crate::cli) fn legacy(access: &Access, query: &[(&str, String)]) -> anyhow::Result<ExitCode> {
    let columns = [
        ("tries", "attempts"),
        ("user", "user"),
        ("unit", "unit"),
        ("program", "program"),
        ("from", "from"),
        ("service", "service"),
        ("how", "how"),
        ("first", "first"),
        ("last", "last"),
    ];
    let found = ask(access, &["legacy"], query)?;
    if items(&found).is_empty() && matches!(found, Outcome::Done(_)) {
        eprintln!("portcullis: nobody was seen to try a password");
        return Ok(ExitCode::from(NO));
    }
    access.finish(found, |list| table(list, &columns))
}

/// A decision step by step: exit code 0 yes, 1 no, 2 cannot tell.
pub(in crate::cli) fn why(access: &Access, query: &[(&str, String)]) -> anyhow::Result<ExitCode> {
    let found = ask(access, &["why"], query)?;
    let code = match &found {
        Outcome::Refused(_) => Some(CANNOT_TELL),
        Outcome::Done(answer) => (answer.get("allowed") != Some(&Value::Bool(true))).then_some(NO),
    };
    let shown = access.finish(found, steps)?;
    Ok(code.map_or(shown, ExitCode::from))
}

fn ask(access: &Access, path: &[&str], query: &[(&str, String)]) -> anyhow::Result<Outcome> {
    let send = async |remote: Remote<'_>| remote.send(Method::GET, path, query, None).await;
    crate::cli::block_on(async { send(access.remote(true)?).await })
}

fn items(found: &Outcome) -> Vec<Value> {
    let list = if let Outcome::Done(list) = found { list.get("items").and_then(Value::as_array) } else { None };
    list.cloned().unwrap_or_default()
}

/// `2026-11-21T10:00:00Z  login  no  imap  ann@example.com  app demo-app  policy_service_off  ref 7F3K2Q ...`
fn line(row: &Value) -> String {
    let part = |key: &str| row.get(key).map(|value| cell(Some(value)));
    let head = |key: &str| part(key).unwrap_or_default();
    let mut line = format!("{}  {:<15} {:<4}", head("time"), head("event"), head("outcome"));
    let user = part("user").or_else(|| part("claimed"));
    let owner = part("owner").filter(|owner| Some(owner) != user.as_ref());
    let parts = [
        ("", part("service")),
        ("", user),
        ("mailbox ", owner),
        ("app ", part("app")),
        ("", part("cause")),
        ("ref ", part("reference")),
        ("set at ", part("place")),
        ("from ", part("peer")),
        ("program ", part("program")),
        ("| ", part("detail")),
    ];
    for (label, value) in parts {
        if let Some(value) = value {
            line.push_str(&format!("  {label}{value}"));
        }
    }
    line
}

fn steps(answer: &Value) -> Vec<String> {
    let of = |step: &Value, key: &str| step.get(key).map(|part| cell(Some(part))).unwrap_or_default();
    let walked = answer.get("steps").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut lines: Vec<String> = walked
        .iter()
        .map(|step| {
            let mark = if step.get("passed") == Some(&Value::Bool(true)) { "ok" } else { "NO" };
            let place = step.get("place").map(|place| format!(" ({})", cell(Some(place)))).unwrap_or_default();
            format!("{mark}  {:<11} {}{place}", of(step, "check"), of(step, "finding"))
        })
        .collect();
    lines.push(String::new());
    lines.push(answer.get("refusal").map_or_else(|| "yes".to_owned(), |no| format!("no: {}", cell(Some(no)))));
    lines
}
