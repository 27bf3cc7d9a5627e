//! A mistake in the config file, told so that it can be mended: line, column, what, remedy, and the line itself. Used
//! by all of `config`, shown by `cli`.

use std::{fmt, ops::Range};

/// Everything that is wrong with a config file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file as it was named on the command line.
    pub file: String,
    /// The mistakes, in order of their lines; at least one.
    pub problems: Vec<Problem>,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where; `None` if the file could not be read at all.
    pub place: Option<Place>,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub remedy: String,
}

/// A place in the file, with its line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line's text, cut to a screen's width.
    excerpt: String,
    /// How many characters the carets mark.
    width: usize,
}

/// Longest excerpt, in characters.
const EXCERPT: usize = 110;

/// Most mistakes that are told at once.
const MOST: usize = 50;

impl ConfigError {
    pub(super) fn new(file: String, mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| a.place.cmp(&b.place));
        problems.truncate(MOST);
        Self { file, problems }
    }
}

impl Place {
    /// Where the bytes `span` of `text` stand; a span out of range stands for the nearest place in it.
    pub(super) fn of(text: &str, span: &Range<usize>) -> Self {
        let start = text.floor_char_boundary(span.start);
        let end = text.floor_char_boundary(span.end.max(start));
        let (before, rest) = text.split_at_checked(start).unwrap_or((text, ""));
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(line_start..).unwrap_or("").chars().count();
        let line_text = text.get(line_start..).unwrap_or("").lines().next().unwrap_or("");
        let excerpt: String =
            line_text.chars().take(EXCERPT).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let marked = rest.get(..end - start).unwrap_or("").lines().next().unwrap_or("").chars().count();
        let room = excerpt.chars().count().saturating_sub(column);
        Self { line: before.matches('\n').count() + 1, column: column + 1, excerpt, width: marked.min(room).max(1) }
    }
}

/// `config/portcullis.toml:4:9: what: remedy`, then the line with carets below it.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, Problem { place, what, remedy }) in self.problems.iter().enumerate() {
            if count > 0 {
                writeln!(f)?;
            }
            let Some(Place { line, column, excerpt, width }) = place else {
                write!(f, "{}: {what}: {remedy}", self.file)?;
                continue;
            };
            writeln!(f, "{}:{line}:{column}: {what}: {remedy}", self.file)?;
            let margin = line.to_string().len();
            writeln!(f, "{:margin$} |", "")?;
            writeln!(f, "{line} | {excerpt}")?;
            let before = (column - 1).min(excerpt.chars().count());
            write!(f, "{:margin$} | {:before$}{}", "", "", "^".repeat(*width))?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
