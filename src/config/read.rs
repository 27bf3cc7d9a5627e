//! Typed reading of TOML: each function gives a value, or notes what is wrong and gives none, so that one run tells all
//! mistakes. Used by `sections`, `issuers` and `limits`.

use std::ops::{Range, RangeInclusive};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::policy::file::{FileError, Problem, Text};

type Value<'t> = Spanned<DeValue<'t>>;

/// A value with its bytes in the file.
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// The text being read and what was found wrong with it so far.
pub(super) struct Reader<'t> {
    text: Text<'t>,
    pub(super) problems: Vec<Problem>,
}

/// One table of the file; empty if the file has none of that name.
#[derive(Clone, Copy)]
pub(super) struct Section<'v, 't> {
    /// As it is written: `listen`, `issuer`, empty for the top level.
    name: &'static str,
    header: (usize, usize),
    table: Option<&'v DeTable<'t>>,
}

impl<'v, 't> Section<'v, 't> {
    pub(super) fn top(table: &'v DeTable<'t>) -> Self {
        Self { name: "", header: (0, 0), table: Some(table) }
    }

    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// The place of its header.
    pub(super) fn span(&self) -> Range<usize> {
        self.header.0..self.header.1
    }

    pub(super) fn value(&self, key: &str) -> Option<&'v Value<'t>> {
        self.table.and_then(|table| table.get(key))
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

impl<'text> Reader<'text> {
    pub(super) fn new(text: &'text str) -> Self {
        Self { text: Text::new(text), problems: Vec::new() }
    }

    /// Notes a mistake; always `None`, so that callers can return it.
    pub(super) fn wrong<T>(
        &mut self,
        span: Range<usize>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Option<T> {
        // Each shows its line, which may be long: without a bound a file of one line takes minutes.
        if self.problems.len() < FileError::MOST * 2 {
            self.problems.push(self.text.problem(span, what, remedy));
        }
        None
    }

    /// A required key that is not there.
    pub(super) fn missing<T>(&mut self, section: Section<'_, '_>, key: &str, remedy: &str) -> Option<T> {
        self.wrong(section.span(), format!("{} is missing", section.path(key)), remedy)
    }

    /// Refuses keys other than these, and names the one that was likely meant.
    pub(super) fn only(&mut self, section: Section<'_, '_>, known: &[&str]) {
        for key in section.table.into_iter().flat_map(DeTable::keys) {
            let word: &str = key.get_ref();
            if known.contains(&word) {
                continue;
            }
            let what = format!("there is no key {}", section.path(word));
            let nearest = known.iter().map(|k| (distance(k, word), k)).min().filter(|(far, _)| *far <= 3);
            let remedy = match nearest {
                Some((_, near)) => format!("did you mean {near}?"),
                None => format!("known here: {}", known.join(", ")),
            };
            self.wrong::<()>(key.span(), what, remedy);
        }
    }

    /// The table `key` of `parent`.
    pub(super) fn section<'v, 't>(
        &mut self,
        parent: Section<'v, 't>,
        key: &'static str,
        name: &'static str,
    ) -> Section<'v, 't> {
        let absent = Section { name, header: parent.header, table: None };
        let Some((word, value)) = parent.table.and_then(|table| table.get_key_value(key)) else {
            return absent;
        };
        let header = (word.span().start, word.span().end);
        match value.get_ref() {
            DeValue::Table(table) => Section { name, header, table: Some(table) },
            _ => {
                self.wrong_type::<()>(value, name, &format!("a table: [{name}]"));
                Section { header, ..absent }
            }
        }
    }

    /// The tables `[[key]]`.
    pub(super) fn sections<'v, 't>(&mut self, parent: Section<'v, 't>, key: &'static str) -> Vec<Section<'v, 't>> {
        let remedy = format!("a list of tables, each headed [[{key}]]");
        let Some(value) = parent.value(key) else { return Vec::new() };
        let DeValue::Array(entries) = value.get_ref() else {
            self.wrong_type::<()>(value, key, &remedy);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for entry in entries.iter() {
            let header = (entry.span().start, entry.span().end);
            match entry.get_ref() {
                DeValue::Table(table) => sections.push(Section { name: key, header, table: Some(table) }),
                _ => self.wrong_type::<()>(entry, key, &remedy).unwrap_or_default(),
            }
        }
        sections
    }

    pub(super) fn string(&mut self, section: Section<'_, '_>, key: &str) -> Option<At<String>> {
        let value = section.value(key)?;
        self.text_of(value, &section.path(key))
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, section: Section<'_, '_>, key: &str, words: &[(&str, T)]) -> Option<T> {
        let At { value, span } = self.string(section, key)?;
        match words.iter().find(|(word, _)| *word == value) {
            Some((_, meaning)) => Some(*meaning),
            None => {
                let known: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
                let remedy = format!("write {}", known.join(" or "));
                self.wrong(span, format!("{} = {value:?}", section.path(key)), remedy)
            }
        }
    }

    pub(super) fn boolean(&mut self, section: Section<'_, '_>, key: &str) -> Option<bool> {
        let value = section.value(key)?;
        match value.get_ref() {
            DeValue::Boolean(yes) => Some(*yes),
            _ => self.wrong_type(value, &section.path(key), "true or false"),
        }
    }

    /// A whole number within `range`.
    pub(super) fn number(
        &mut self,
        section: Section<'_, '_>,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Option<At<u64>> {
        let value = section.value(key)?;
        let DeValue::Integer(number) = value.get_ref() else {
            return self.wrong_type(value, &section.path(key), "a whole number");
        };
        match i128::from_str_radix(number.as_str(), number.radix()).ok().and_then(|n| u64::try_from(n).ok()) {
            Some(number) if range.contains(&number) => Some(At { value: number, span: value.span() }),
            _ => {
                let (least, most) = range.into_inner();
                let remedy = format!("write a number from {least} to {most}");
                self.wrong(value.span(), format!("{} is out of range", section.path(key)), remedy)
            }
        }
    }

    /// `"one"` or `["one", "two"]`. `None` if the key is absent or wrong.
    pub(super) fn strings(&mut self, section: Section<'_, '_>, key: &str) -> Option<Vec<At<String>>> {
        let value = section.value(key)?;
        let path = section.path(key);
        match value.get_ref() {
            DeValue::Array(entries) => entries.iter().map(|entry| self.text_of(entry, &path)).collect(),
            DeValue::String(_) => Some(self.text_of(value, &path).into_iter().collect()),
            _ => self.wrong_type(value, &path, "a string in quotes, or a list of them"),
        }
    }

    /// As [`Reader::strings`], each read by `parse`, which says what it expected. Absent means empty.
    pub(super) fn parsed<T>(
        &mut self,
        section: Section<'_, '_>,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let mut parsed = Vec::new();
        for At { value, span } in self.strings(section, key).unwrap_or_default() {
            match parse(&value) {
                Ok(value) => parsed.push(value),
                Err(remedy) => {
                    self.wrong(span, format!("{value:?} in {}", section.path(key)), remedy).unwrap_or_default()
                }
            }
        }
        parsed
    }

    fn text_of(&mut self, value: &Value<'_>, path: &str) -> Option<At<String>> {
        match value.get_ref() {
            DeValue::String(text) if text.trim().is_empty() => {
                self.wrong(value.span(), format!("{path} is empty"), "write a value, or remove it")
            }
            DeValue::String(text) if text.contains('\0') => {
                self.wrong(value.span(), format!("{path} holds a NUL character"), "remove it")
            }
            DeValue::String(text) => Some(At { value: text.clone().into_owned(), span: value.span() }),
            _ => self.wrong_type(value, path, "a string in quotes"),
        }
    }

    fn wrong_type<T>(&mut self, value: &Value<'_>, path: &str, expected: &str) -> Option<T> {
        let found = value.get_ref().type_str();
        self.wrong(value.span(), format!("{path} is of type {found}"), format!("write {expected}"))
    }
}

/// How many letters have to change to make `a` into `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut left = i + 1;
        let mut diagonal = i;
        for (above, to) in row.iter_mut().skip(1).zip(b.chars()) {
            let cost = (diagonal + usize::from(from != to)).min(*above + 1).min(left + 1);
            diagonal = std::mem::replace(above, cost);
            left = cost;
        }
        row.first_mut().into_iter().for_each(|first| *first = i + 1);
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found() {
        for (a, b, expected) in
            [("", "", 0), ("imaps", "imaps", 0), ("imap", "imaps", 1), ("kitten", "sitting", 3), ("", "abc", 3)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }
}
