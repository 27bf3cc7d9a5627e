//! Filters (RFC 7644 section 3.4.2.2), read into a tree of bounded depth and size.

use serde_json::Value;

use super::{
    error::{ScimError, ScimType},
    path::AttributePath,
};

/// Longest filter, in bytes.
const MOST_BYTES: usize = 8 * 1024;
/// Deepest nesting of brackets and `not`.
const MOST_DEPTH: usize = 16;
/// Most comparisons.
const MOST_TERMS: usize = 200;

/// A filter.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Filter {
    /// Both sides hold.
    And(Box<Self>, Box<Self>),
    /// One side holds at least.
    Or(Box<Self>, Box<Self>),
    /// It does not hold.
    Not(Box<Self>),
    /// The attribute is there and not empty.
    Present(AttributePath),
    /// A value of the attribute compares so.
    Is(AttributePath, Operator, Value),
    /// One element of the attribute fits: `emails[type eq "work"]`.
    Has(AttributePath, Box<Self>),
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Contains,
    StartsWith,
    EndsWith,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Operator {
    fn from_word(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "eq" => Self::Equal,
            "ne" => Self::NotEqual,
            "co" => Self::Contains,
            "sw" => Self::StartsWith,
            "ew" => Self::EndsWith,
            "gt" => Self::Greater,
            "ge" => Self::GreaterOrEqual,
            "lt" => Self::Less,
            "le" => Self::LessOrEqual,
            _ => return None,
        })
    }

    /// Whether it can compare with this value: there is no order among booleans, and only texts have parts.
    fn takes(self, value: &Value) -> bool {
        match self {
            Self::Equal | Self::NotEqual => true,
            Self::Contains | Self::StartsWith | Self::EndsWith => value.is_string(),
            Self::Greater | Self::GreaterOrEqual | Self::Less | Self::LessOrEqual => {
                value.is_string() || value.is_number()
            }
        }
    }
}

impl Filter {
    /// Reads a whole filter.
    pub(super) fn parse(text: &str) -> Result<Self, ScimError> {
        let mut parser = Parser::new(text)?;
        let filter = parser.any_of()?;
        parser.space();
        if parser.rest().is_empty() { Ok(filter) } else { Err(parser.wrong("\"and\", \"or\" or the end")) }
    }

    /// Reads the brackets at the start of `text`, which begins behind their `[`; returns what follows their `]`.
    pub(super) fn parse_brackets(text: &str) -> Result<(Self, &str), ScimError> {
        let mut parser = Parser::new(text)?;
        parser.in_brackets = true;
        let filter = parser.any_of()?;
        parser.space();
        match parser.rest().strip_prefix(']') {
            Some(rest) => Ok((filter, rest)),
            None => Err(parser.wrong("\"]\"")),
        }
    }

    /// How many comparisons it has.
    pub(super) fn terms(&self) -> usize {
        match self {
            Self::And(one, other) | Self::Or(one, other) => one.terms() + other.terms(),
            Self::Not(inner) => inner.terms(),
            Self::Has(_, inner) => 1 + inner.terms(),
            Self::Present(_) | Self::Is(..) => 1,
        }
    }

    /// Whether an attribute of this name is asked for anywhere.
    pub(super) fn names(&self, name: &str) -> bool {
        match self {
            Self::And(one, other) | Self::Or(one, other) => one.names(name) || other.names(name),
            Self::Not(inner) => inner.names(name),
            Self::Present(path) | Self::Is(path, ..) | Self::Has(path, _) => {
                path.first().eq_ignore_ascii_case(name)
            }
        }
    }

    /// The texts that this attribute, a list of complex values, is compared with, if the filter asks nothing else of it:
    /// then only those of its elements matter that have one of them as their `value`.
    pub(super) fn compared<'f>(&'f self, name: &str) -> Option<Vec<&'f str>> {
        match self {
            Self::Is(path, Operator::Equal | Operator::NotEqual, Value::String(text))
                if path.is(&[name]) || path.is(&[name, "value"]) =>
            {
                Some(vec![text])
            }
            Self::And(one, other) | Self::Or(one, other) => {
                let mut texts = one.compared(name)?;
                texts.extend(other.compared(name)?);
                Some(texts)
            }
            Self::Not(inner) => inner.compared(name),
            Self::Present(_) | Self::Is(..) | Self::Has(..) => (!self.names(name)).then(Vec::new),
        }
    }

    /// The values of which an attribute must have one for the filter to hold, if the filter is such: then the rows need
    /// not all be looked at.
    pub(super) fn wants<'f>(&'f self, wanted: &impl Fn(&AttributePath) -> bool) -> Option<Vec<&'f str>> {
        match self {
            Self::Is(path, Operator::Equal, Value::String(text)) if wanted(path) => Some(vec![text]),
            Self::And(one, other) => one.wants(wanted).or_else(|| other.wants(wanted)),
            Self::Or(one, other) => {
                let (mut one, other) = (one.wants(wanted)?, other.wants(wanted)?);
                one.extend(other);
                Some(one)
            }
            Self::Is(..) | Self::Not(_) | Self::Present(_) | Self::Has(..) => None,
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    terms: usize,
    in_brackets: bool,
}

type Read<T> = Result<T, ScimError>;

impl<'t> Parser<'t> {
    fn new(text: &'t str) -> Read<Self> {
        if text.len() > MOST_BYTES {
            let detail = format!("the filter has more than {MOST_BYTES} bytes: ask in parts");
            return Err(ScimError::new(ScimType::InvalidFilter, detail));
        }
        Ok(Self { text, at: 0, depth: 0, terms: 0, in_brackets: false })
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn wrong(&self, wanted: &str) -> ScimError {
        let found: String = self.rest().chars().take(20).collect();
        let found = if found.is_empty() { "the end".to_owned() } else { format!("{found:?}") };
        let detail = format!("the filter, byte {}: {wanted} should stand here, not {found}", self.at + 1);
        ScimError::new(ScimType::InvalidFilter, detail)
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches(' ').len();
    }

    /// Takes this word, in whatever letter case, if it stands here and ends here.
    fn word(&mut self, word: &str) -> bool {
        let rest = self.rest();
        let here = rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        let ends = rest.get(word.len()..).is_some_and(|after| after.is_empty() || after.starts_with([' ', '(']));
        if here && ends {
            self.at += word.len();
        }
        here && ends
    }

    fn mark(&mut self, mark: char) -> bool {
        let here = self.rest().starts_with(mark);
        if here {
            self.at += mark.len_utf8();
        }
        here
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        if self.depth >= MOST_DEPTH {
            let detail = format!("the filter nests deeper than {MOST_DEPTH}: ask in parts");
            return Err(ScimError::new(ScimType::InvalidFilter, detail));
        }
        self.depth += 1;
        let outcome = read(self);
        self.depth -= 1;
        outcome
    }

    fn any_of(&mut self) -> Read<Filter> {
        let mut filter = self.all_of()?;
        loop {
            self.space();
            if !self.word("or") {
                return Ok(filter);
            }
            filter = Filter::Or(Box::new(filter), Box::new(self.all_of()?));
        }
    }

    fn all_of(&mut self) -> Read<Filter> {
        let mut filter = self.one()?;
        loop {
            self.space();
            if !self.word("and") {
                return Ok(filter);
            }
            filter = Filter::And(Box::new(filter), Box::new(self.one()?));
        }
    }

    fn one(&mut self) -> Read<Filter> {
        self.terms += 1;
        if self.terms > MOST_TERMS {
            let detail = format!("the filter has more than {MOST_TERMS} terms: ask in parts");
            return Err(ScimError::new(ScimType::InvalidFilter, detail));
        }
        self.space();
        let before = self.at;
        let is_not = self.word("not");
        self.space();
        if self.mark('(') {
            let inner = self.deeper(Self::any_of)?;
            self.space();
            if !self.mark(')') {
                return Err(self.wrong("\")\""));
            }
            return Ok(if is_not { Filter::Not(Box::new(inner)) } else { inner });
        }
        self.at = before;
        self.comparison()
    }

    fn comparison(&mut self) -> Read<Filter> {
        let rest = self.rest();
        let end = rest.find([' ', '[', ']', '(', ')', '"']).unwrap_or(rest.len());
        let name = rest.get(..end).unwrap_or("");
        let path = AttributePath::parse(name).map_err(|_| self.wrong("the name of an attribute"))?;
        self.at += end;
        if self.mark('[') {
            return self.brackets(path);
        }
        self.space();
        let rest = self.rest();
        let end = rest.find([' ', ')', ']']).unwrap_or(rest.len());
        let word = rest.get(..end).unwrap_or("");
        if word.eq_ignore_ascii_case("pr") {
            self.at += end;
            return Ok(Filter::Present(path));
        }
        let operator =
            Operator::from_word(word).ok_or_else(|| self.wrong("one of eq, ne, co, sw, ew, pr, gt, ge, lt, le"))?;
        self.at += end;
        self.space();
        let begin = self.at;
        let value = self.value()?;
        if !operator.takes(&value) {
            self.at = begin;
            return Err(self.wrong("a text, which this comparison needs,"));
        }
        Ok(Filter::Is(path, operator, value))
    }

    fn brackets(&mut self, path: AttributePath) -> Read<Filter> {
        if self.in_brackets {
            return Err(self.wrong("a comparison without further [ ]"));
        }
        self.in_brackets = true;
        let inner = self.deeper(Self::any_of)?;
        self.in_brackets = false;
        self.space();
        if !self.mark(']') {
            return Err(self.wrong("\"]\""));
        }
        if !self.mark('.') {
            return Ok(Filter::Has(path, Box::new(inner)));
        }
        // `emails[type eq "work"].value eq "x"`: not in the grammar, but Entra asks so.
        self.in_brackets = true;
        let also = self.comparison()?;
        self.in_brackets = false;
        Ok(Filter::Has(path, Box::new(Filter::And(Box::new(inner), Box::new(also)))))
    }

    /// A value as JSON writes it (RFC 7159); the words in any letter case, as Entra sends them.
    fn value(&mut self) -> Read<Value> {
        let rest = self.rest();
        let end = if rest.starts_with('"') {
            let mut escaped = false;
            let closing = rest.char_indices().skip(1).find(|(_, c)| {
                let closes = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                closes
            });
            closing.map_or(rest.len(), |(at, _)| at + 1)
        } else {
            rest.find([' ', ')', ']']).unwrap_or(rest.len())
        };
        let word = rest.get(..end).unwrap_or("");
        let value = match word.to_ascii_lowercase().as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" => Value::Null,
            _ => match serde_json::from_str(word) {
                Ok(value @ (Value::String(_) | Value::Number(_))) => value,
                _ => return Err(self.wrong("a value such as \"text\", 7, true or null")),
            },
        };
        self.at += end;
        Ok(value)
    }
}

#[cfg(test)]
mod tests;
