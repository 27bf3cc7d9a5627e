//! Policy files: a document that fits together, or mistakes that can be shown.

use portcullis::policy::file::{FileError, parse};

pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match parse(text) {
        Err(error) => shown(&error, text),
        Ok(document) => {
            let users = document.users.keys();
            users.for_each(|user| assert!(!document.mailboxes.contains_key(user), "{user} is both"));
            let members = document.groups.values().map(|group| &group.members);
            for list in members.chain(document.mailboxes.values().map(|mailbox| &mailbox.members)) {
                for member in list {
                    let elsewhere = document.elsewhere.iter().any(|(name, _)| name == member);
                    assert!(elsewhere || document.users.contains_key(member));
                    assert_eq!(list.iter().filter(|other| *other == member).count(), 1);
                }
            }
            let problems: Vec<_> = document.elsewhere.into_iter().map(|(_, problem)| problem).collect();
            if !problems.is_empty() {
                shown(&FileError::from_problems(problems), text);
            }
        }
    }
}

/// The mistakes have places in the file, and can be printed.
pub(super) fn shown(error: &FileError, text: &str) {
    assert!(!error.problems.is_empty() && error.problems.len() <= FileError::MOST);
    let lines = text.split('\n').count();
    for problem in &error.problems {
        assert!((1..=lines).contains(&problem.line) && problem.column >= 1, "{problem:?}");
        assert!(!problem.what.is_empty() && !problem.remedy.is_empty());
    }
    let printed = error.to_string();
    assert!(printed.lines().all(|line| !line.contains(|c: char| c.is_control() && c != '\t')), "{printed:?}");
}
