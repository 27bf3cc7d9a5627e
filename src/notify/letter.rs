//! The words of a notice: subject and text, and the JSON of a webhook. Values in, text out. Names of apps, units and admins
//! come from outside: in a text each stands on a line of ours, without control characters; none is ever in a header.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::model::UnixTime;
use crate::store::{Deed, Lost, Notice, NoticeKind};

/// The subject: our own words alone.
pub(super) fn subject(notice: &Notice) -> &'static str {
    match (notice.kind, notice.body.deed) {
        (NoticeKind::TeamGrantCut, _) => "An app was disconnected from a shared mailbox",
        (NoticeKind::AccessChange, Deed::Planned) => "A mail app of yours will lose access",
        (NoticeKind::AccessChange, Deed::Changed) => "A mail app of yours has lost access",
        (NoticeKind::AccessChange, Deed::Disabled | Deed::Removed) => "A mail app of yours was disconnected",
    }
}

/// The text: plain, lines ended by LF.
pub(super) fn text(notice: &Notice, hostname: &str) -> String {
    let body = &notice.body;
    let mut text = String::with_capacity(1024);
    let from = body.from_ms.map(|ms| UnixTime(ms).to_string());
    let head = match (notice.kind, body.deed, from) {
        (NoticeKind::TeamGrantCut, deed, from) => {
            let did = if deed == Deed::Disabled { "shut out of" } else { "removed from" };
            format!("These apps were {did} shared mailboxes{}:", at(from))
        }
        (_, Deed::Planned, Some(from)) => format!("From {from} on these apps may no longer read your mail:"),
        (_, Deed::Planned, None) => "These apps will soon no longer be allowed to read your mail:".to_owned(),
        (_, Deed::Changed, from) => format!("These apps may no longer read your mail{}:", since(from)),
        (_, Deed::Disabled, from) => format!("These apps were shut out of your mailbox{}:", at(from)),
        (_, Deed::Removed, from) => format!("These apps were removed from your mailbox{}:", at(from)),
    };
    let _ = writeln!(text, "{head}\n");
    for lost in &body.lost {
        let _ = writeln!(text, "  - {}", line(notice, lost));
    }
    let more = body.lost_count.saturating_sub(body.lost.len());
    if more > 0 {
        let _ = writeln!(text, "  - and {more} more");
    }
    let _ = writeln!(text, "\nBy: {}", plain(&notice.by));
    if let Some(unit) = &body.unit {
        let _ = writeln!(text, "Your unit: {}", plain(unit));
    }
    if let Some(reason) = &body.reason {
        let _ = writeln!(text, "Reason given: {}", plain(reason));
    }
    let _ = writeln!(text, "\n{}", advice(notice));
    let _ = writeln!(text, "\n-- \nThe mail gateway {hostname}, notice {}", notice.id);
    text
}

fn at(time: Option<String>) -> String {
    time.map(|time| format!(" at {time}")).unwrap_or_default()
}

fn since(time: Option<String>) -> String {
    time.map(|time| format!(" since {time}")).unwrap_or_default()
}

/// `Apple iOS Mail (4502..) by IMAP and POP, mailbox team@example.com: imap is off (set at unit /Sales)`.
fn line(notice: &Notice, lost: &Lost) -> String {
    let mut line = match &lost.app_name {
        Some(name) => format!("{} ({})", plain(name), plain(&lost.app)),
        None => plain(&lost.app),
    };
    if !lost.services.is_empty() {
        let words: Vec<String> = lost.services.iter().map(|word| plain(word).to_ascii_uppercase()).collect();
        let _ = write!(line, " by {}", words.join(" and "));
    }
    if lost.mailbox != notice.recipient.as_str() {
        let _ = write!(line, ", mailbox {}", plain(&lost.mailbox));
    }
    if notice.kind == NoticeKind::TeamGrantCut {
        let _ = write!(line, ", connected by {}", plain(&lost.user));
    }
    if let Some(why) = &lost.why {
        let _ = write!(line, ": {}", plain(why));
    }
    line
}

fn advice(notice: &Notice) -> &'static str {
    match (notice.kind, notice.body.deed) {
        (NoticeKind::TeamGrantCut, Deed::Disabled) => {
            "Whoever still needs the app there can ask an administrator to enable it again."
        }
        (NoticeKind::TeamGrantCut, _) => {
            "Whoever still needs the app there signs in with it anew; members of the mailbox may."
        }
        (_, Deed::Planned | Deed::Changed) => {
            "What you can do: read your mail with an app that your organisation allows, or ask your administrator."
        }
        (_, Deed::Disabled) => "What you can do: ask your administrator, who can enable the app again.",
        (_, Deed::Removed) => {
            "What you can do: if you still use the app, sign in with it anew; otherwise there is nothing to do."
        }
    }
}

/// One line without control characters, or characters that turn the direction of writing.
fn plain(text: &str) -> String {
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if odd(c) { ' ' } else { c }).collect()
}

/// The same for programs: the body of a webhook (Standard Webhooks, section "Payload structure").
pub(super) fn json(notice: &Notice, hostname: &str) -> Value {
    let body = &notice.body;
    json!({
        "type": format!("notice.{}", notice.kind.word()),
        "timestamp": notice.at.to_string(),
        "data": {
            "id": notice.id.0,
            "gateway": hostname,
            "recipient": notice.recipient.as_str(),
            "by": notice.by,
            "deed": body.deed.word(),
            "unit": body.unit,
            "from": body.from_ms.map(|ms| UnixTime(ms).to_string()),
            "reason": body.reason,
            "lost": body.lost,
            "lost_count": body.lost_count,
        },
    })
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::UserId;
    use crate::store::{NoticeBody, NoticeId, NoticeState};

    /// A notice to Ann with these words in every place that outsiders write.
    pub(in crate::notify) fn notice(kind: NoticeKind, deed: Deed, words: &str) -> Notice {
        let lost = Lost {
            user: "ann@example.com".into(),
            mailbox: words.into(),
            app: words.into(),
            app_name: Some(words.into()),
            services: vec!["imap".into(), "pop".into()],
            why: Some(words.into()),
        };
        Notice {
            id: NoticeId(17),
            kind,
            recipient: UserId::parse("ann@example.com").unwrap(),
            state: NoticeState::Queued,
            body: NoticeBody {
                deed,
                unit: Some(words.into()),
                from_ms: Some(1_797_616_800_000),
                reason: Some(words.into()),
                lost: vec![lost],
                lost_count: 3,
            },
            by: words.into(),
            at: UnixTime::from_secs(1_797_000_000),
            read_at: None,
        }
    }

    const ALL: [(NoticeKind, Deed); 6] = [
        (NoticeKind::AccessChange, Deed::Planned),
        (NoticeKind::AccessChange, Deed::Changed),
        (NoticeKind::AccessChange, Deed::Disabled),
        (NoticeKind::AccessChange, Deed::Removed),
        (NoticeKind::TeamGrantCut, Deed::Disabled),
        (NoticeKind::TeamGrantCut, Deed::Removed),
    ];

    #[test]
    fn a_warning_says_what_when_by_whom_why_and_what_to_do() {
        let mut notice = notice(NoticeKind::AccessChange, Deed::Planned, "/Sales");
        notice.by = "root@example.com".into();
        notice.body.reason = Some("old apps go".into());
        if let Some(lost) = notice.body.lost.first_mut() {
            lost.app = "old-mail".into();
            lost.app_name = Some("Old Mail".into());
            lost.mailbox = "ann@example.com".into();
            lost.why = Some("IMAP is off".into());
        }
        assert_eq!(subject(&notice), "A mail app of yours will lose access");
        assert_eq!(
            text(&notice, "mail.example.com"),
            "From 2026-12-18T18:00:00Z on these apps may no longer read your mail:\n\n\
             \x20 - Old Mail (old-mail) by IMAP and POP: IMAP is off\n\
             \x20 - and 2 more\n\n\
             By: root@example.com\n\
             Your unit: /Sales\n\
             Reason given: old apps go\n\n\
             What you can do: read your mail with an app that your organisation allows, or ask your administrator.\n\n\
             -- \nThe mail gateway mail.example.com, notice 17\n"
        );
    }

    #[test]
    fn words_of_outsiders_start_no_line_and_turn_nothing_around() {
        for (kind, deed) in ALL {
            let calm = text(&notice(kind, deed, "x"), "mail.example.com").lines().count();
            for words in
                ["a\r\nBcc: all@example.com", "a\n\n.\nMAIL FROM:<x@y>", "\u{202e}txt", "a\u{2028}b", "\0\u{1b}[2J"]
            {
                let text = text(&notice(kind, deed, words), "mail.example.com");
                assert_eq!(text.lines().count(), calm, "{words:?}: {text}");
                let odd = text.chars().any(|c| c != '\n' && plain(&c.to_string()) != c.to_string());
                assert!(!odd, "{words:?}: {text:?}");
                assert!(subject(&notice(kind, deed, words)).bytes().all(|b| matches!(b, b' '..=b'~')));
            }
        }
    }
}
