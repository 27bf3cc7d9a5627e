//! A mistake in a policy file, told so that it can be mended: line, column, what, remedy, and the line itself.

use std::{fmt, ops::Range};

/// Everything that is wrong with a policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// The file's name as people know it; `policy.toml` until [`FileError::in_file`] says better.
    pub file: String,
    /// The mistakes, in order of their lines; at least one.
    pub problems: Vec<Problem>,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub remedy: String,
    /// The line's text, or the part of it around the column.
    excerpt: String,
    /// Characters before the caret, and carets, within the excerpt.
    caret: (usize, usize),
}

/// Longest excerpt, in characters.
const EXCERPT: usize = 110;

impl FileError {
    /// Most mistakes that are told at once.
    pub const MOST: usize = 50;

    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems.dedup();
        problems.truncate(Self::MOST);
        Self { file: "policy.toml".to_owned(), problems }
    }

    /// From problems that only the database showed.
    pub fn from_problems(problems: Vec<Problem>) -> Self {
        Self::new(problems)
    }

    /// Names the file.
    pub fn in_file(mut self, name: impl Into<String>) -> Self {
        self.file = name.into();
        self
    }
}

/// A text with its line starts at hand: a file may hold as many mistakes as lines. `config` uses it too, so that both
/// files' mistakes read alike.
pub struct Text<'t> {
    text: &'t str,
    /// Byte offset of each line's start.
    lines: Vec<usize>,
}

impl<'t> Text<'t> {
    /// Finds the lines.
    pub fn new(text: &'t str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, lines }
    }

    /// About the bytes `span`; a span that is out of range points at the nearest place in it.
    pub fn problem(&self, span: Range<usize>, what: impl Into<String>, remedy: impl Into<String>) -> Problem {
        let text = self.text;
        let start = text.floor_char_boundary(span.start);
        let end = text.floor_char_boundary(span.end.max(start));
        let line = self.lines.partition_point(|line_start| *line_start <= start).max(1);
        let line_start = self.lines.get(line - 1).copied().unwrap_or(0);
        let rest = text.get(line_start..).unwrap_or("");
        let line_text = rest.split('\n').next().unwrap_or("").trim_end_matches('\r');
        let column = text.get(line_start..start).unwrap_or("").chars().count();
        let (what, remedy) = (what.into(), remedy.into());
        if may_hold_a_secret(line_text) {
            let key = line_text.split('=').next().unwrap_or("").trim();
            let excerpt = format!("{key} = (not shown: it may hold a secret)");
            return Problem {
                line,
                column: column + 1,
                what,
                remedy,
                excerpt,
                caret: (0, key.chars().count().max(1)),
            };
        }
        let marked = text.get(start..end).unwrap_or("");
        let width = marked.split('\n').next().unwrap_or("").chars().count().max(1);

        let skipped =
            if column + width.min(EXCERPT / 2) > EXCERPT { column.saturating_sub(EXCERPT / 2) } else { 0 };
        let excerpt: String = line_text.chars().skip(skipped).take(EXCERPT).collect();
        let caret_at = column - skipped;
        let room = excerpt.chars().count().saturating_sub(caret_at).max(1);
        Problem {
            line,
            column: column + 1,
            what,
            remedy,
            excerpt: excerpt.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
            caret: (caret_at, width.min(room)),
        }
    }
}

/// `client_secret = ".."` and `url = "postgres://user:password@host"`, well-formed or not: messages end up in logs.
fn may_hold_a_secret(line: &str) -> bool {
    // The name of a file is none. What stands for a variable's name may be the secret itself, by mistake.
    let line = line.replace("secret_file", "").replace("password_file", "");
    ["secret", "password"].iter().any(|word| line.contains(word)) || (line.contains("://") && line.contains('@'))
}

/// `config/policy.toml:12:9: unit "/Slaes" is not in this file: add [unit."/Slaes"] ...`, with the line and a caret.
impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, problem) in self.problems.iter().enumerate() {
            if count > 0 {
                writeln!(f)?;
            }
            let Problem { line, column, what, remedy, excerpt, caret: (before, width) } = problem;
            writeln!(f, "{}:{line}:{column}: {what}: {remedy}", self.file)?;
            let margin = line.to_string().len();
            writeln!(f, "{:margin$} |", "")?;
            writeln!(f, "{line} | {excerpt}")?;
            write!(f, "{:margin$} | {:before$}{}", "", "", "^".repeat(*width))?;
        }
        Ok(())
    }
}

impl std::error::Error for FileError {}
