//! What people see of the API's answers: tables, one thing line by line, and what a change would come to.

use serde_json::Value;

/// The items of a list as a table: a heading, then a line each. `columns` are headings and keys; a key with dots leads into
/// what is nested.
pub(in crate::cli) fn table(list: &Value, columns: &[(&str, &str)]) -> Vec<String> {
    let items = list.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        return vec!["nothing fits".to_owned()];
    }
    let mut lines = rows(items, columns);
    if list.get("more") == Some(&Value::Bool(true)) {
        lines.push("(there are more: raise --limit)".to_owned());
    }
    lines
}

fn rows(items: &[Value], columns: &[(&str, &str)]) -> Vec<String> {
    let mut rows: Vec<Vec<String>> = vec![columns.iter().map(|(heading, _)| heading.to_uppercase()).collect()];
    rows.extend(items.iter().map(|item| columns.iter().map(|(_, key)| cell(at(item, key))).collect()));
    let widths: Vec<usize> = (0..columns.len())
        .map(|at| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn at<'a>(item: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(item, |value, part| value.get(part))
}

/// One thing, a line for each of its fields.
pub(super) fn fields(value: &Value) -> Vec<String> {
    let Some(map) = value.as_object() else { return vec!["done".to_owned()] };
    let mut lines = Vec::new();
    for (key, value) in map {
        let label = key.replace('_', " ");
        match value.as_object().filter(|inner| !inner.contains_key("apps")) {
            Some(inner) => {
                let inner = inner.iter().map(|(key, value)| (format!("{label} {key}"), cell(Some(value))));
                lines.extend(inner.map(|(label, text)| format!("{label:<14} {text}")));
            }
            None => lines.push(format!("{label:<14} {}", cell(Some(value)))),
        }
    }
    lines
}

/// One value in a few words.
pub(super) fn cell(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(list)) if list.is_empty() => "-".to_owned(),
        Some(Value::Array(list)) => list.iter().map(|item| cell(Some(item))).collect::<Vec<_>>().join(","),
        Some(other) => words(other).unwrap_or_else(|| other.to_string()),
    };
    // What a peer has named itself must not move the cursor of a terminal.
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A setting as `--imap` takes it, and a member as `--member` does.
fn words(value: &Value) -> Option<String> {
    let part = |key: &str| value.get(key).map(|part| cell(Some(part)));
    if let Some(apps) = part("apps") {
        // An empty list admits nobody.
        let apps = if apps == "-" { "no app".to_owned() } else { apps };
        let until = part("until").map(|until| format!(" until {until}")).unwrap_or_default();
        let from = part("from").map(|from| format!(" (from {from})")).unwrap_or_default();
        return Some(format!("{apps}{until}{from}"));
    }
    Some(format!("{}={}", part("user")?, part("rights")?))
}

const PAIRS: [(&str, &str); 5] =
    [("user", "user"), ("mailbox", "owner"), ("service", "service"), ("app", "app"), ("refusal", "refusal")];
const FALLS: [(&str, &str); 5] =
    [("session", "id"), ("user", "user"), ("mailbox", "owner"), ("service", "service"), ("app", "app")];

/// What a change would come to: who is touched, as tables, and that nothing was changed.
pub(super) fn preview(found: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for (side, verb) in [("loses", "would lose"), ("gains", "would gain")] {
        let part = found.get(side).unwrap_or(&Value::Null);
        let (people, imap, pop) = (count(part, "users"), count(part, "imap"), count(part, "pop"));
        if people == 0 {
            lines.push(format!("nobody {verb} access"));
            continue;
        }
        let plural = if people == 1 { "person" } else { "people" };
        lines.push(format!("{people} {plural} {verb} access: {imap} ways in by IMAP, {pop} by POP3"));
        let apps = list(part, "apps").iter().filter_map(|app| app.get("sentence").and_then(Value::as_str));
        lines.extend(apps.map(|sentence| format!("    {}", cell(Some(&sentence.into())))));
        shown(&mut lines, list(part, "first"), &PAIRS, count(part, "pairs"));
    }
    let sessions = found.get("sessions").unwrap_or(&Value::Null);
    match count(sessions, "count") {
        0 => lines.push("no open session would end".to_owned()),
        many => {
            lines.push(format!("{many} open {} would end", if many == 1 { "session" } else { "sessions" }));
            shown(&mut lines, list(sessions, "first"), &FALLS, many);
        }
    }
    lines.push("this was a preview: nothing was changed".to_owned());
    lines
}

fn count(of: &Value, key: &str) -> u64 {
    of.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn list<'a>(of: &'a Value, key: &str) -> &'a [Value] {
    of.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn shown(lines: &mut Vec<String>, items: &[Value], columns: &[(&str, &str)], all: u64) {
    lines.extend(rows(items, columns).into_iter().map(|line| format!("  {line}")));
    let more = all.saturating_sub(u64::try_from(items.len()).unwrap_or(u64::MAX));
    if more > 0 {
        lines.push(format!("  (and {more} more)"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_is_aligned_and_carries_no_control_characters() {
        let list = json!({ "items": [
            { "id": 1, "app": "mail\u{1b}[2J", "scopes": ["a", "b"], "in": { "force": { "apps": "any", "from": "unit \"/\"" } } },
            { "id": 20, "app": null },
        ], "more": true });
        let lines = table(&list, &[("id", "id"), ("app", "app"), ("scopes", "scopes"), ("in force", "in.force")]);
        assert_eq!(
            lines,
            [
                "ID  APP       SCOPES  IN FORCE",
                "1   mail\u{fffd}[2J  a,b     any (from unit \"/\")",
                "20  -         -       -",
                "(there are more: raise --limit)"
            ]
        );
        assert_eq!(table(&json!({ "items": [] }), &[("id", "id")]), ["nothing fits"]);
    }

    #[test]
    fn settings_and_members_are_shown_as_they_are_written() {
        let unit = json!({ "path": "/Sales", "imap": { "apps": ["a", "b"], "until": "2026-12-18T18:00:00Z" },
            "effective": { "pop": { "apps": [], "from": "unit \"/\"" } },
            "members": [{ "user": "ann@example.com", "rights": "read" }] });
        assert_eq!(
            fields(&unit),
            [
                "effective pop  no app (from unit \"/\")",
                "imap           a,b until 2026-12-18T18:00:00Z",
                "members        ann@example.com=read",
                "path           /Sales",
            ]
        );
        assert_eq!(fields(&Value::Null), ["done"]);
    }

    #[test]
    fn a_preview_names_who_is_touched_and_how_many_more_there_are() {
        let pair = json!({ "user": "ann@example.com", "owner": "ann@example.com", "service": "imap", "app": "a",
            "refusal": "off" });
        let found = json!({
            "loses": { "users": 1, "pairs": 3, "imap": 2, "pop": 1, "first": [pair],
                "apps": [{ "sentence": "1 person uses Mail" }] },
            "gains": { "users": 0 },
            "sessions": { "count": 1, "first": [{ "id": "k3f9.s7", "user": "ann@example.com" }] },
        });
        assert_eq!(
            preview(&found),
            [
                "1 person would lose access: 2 ways in by IMAP, 1 by POP3",
                "    1 person uses Mail",
                "  USER             MAILBOX          SERVICE  APP  REFUSAL",
                "  ann@example.com  ann@example.com  imap     a    off",
                "  (and 2 more)",
                "nobody would gain access",
                "1 open session would end",
                "  SESSION  USER             MAILBOX  SERVICE  APP",
                "  k3f9.s7  ann@example.com  -        -        -",
                "this was a preview: nothing was changed",
            ]
        );
    }
}
