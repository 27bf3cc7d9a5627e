//! A list of users as CSV (RFC 4180). Pure: text in, a line each out, read or with what is wrong. Called by `cli`; `store`
//! brings the lines into the directory.
//!
//! The first line names the columns, in any order and letter case: `address` is needed; `unit`, `suspended` (`true`,
//! `false`, `yes`, `no`, `1`, `0`) and `groups` (names between `;`) may be there. An empty field says nothing.

use crate::model::{GroupId, UnitPath, UserId};

/// Most lines that are read.
pub const MOST_LINES: usize = 100_000;
/// Most groups on one line.
const MOST_GROUPS: usize = 100;

/// One user of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedUser {
    /// Who.
    pub user: UserId,
    /// The unit; none leaves a known user where they are.
    pub unit: Option<UnitPath>,
    /// Whether the user is suspended; none leaves it as it is.
    pub suspended: Option<bool>,
    /// Groups the user is to be in. Groups that are not named stay as they are.
    pub groups: Vec<GroupId>,
}

/// A line of the list: where it begins, and what it says or what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportLine {
    /// Line, from 1; the header is line 1.
    pub line: usize,
    /// The user, or what is wrong and how to mend it.
    pub user: Result<ImportedUser, String>,
}

/// Why a text is no list of users at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The first line does not name the columns.
    #[error("line 1: {0}: begin with a line such as address,unit,suspended,groups")]
    Header(String),
    /// A quote that never ends.
    #[error("line {0}: a quote begins here and never ends: close it, or write a quote inside a field twice")]
    Quote(usize),
    /// Too long a list.
    #[error("more than {MOST_LINES} lines: import the list in parts")]
    TooLong,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Address,
    Unit,
    Suspended,
    Groups,
}

impl Column {
    fn from_name(name: &str) -> Option<Self> {
        match name.trim().to_ascii_lowercase().as_str() {
            "address" => Some(Self::Address),
            "unit" => Some(Self::Unit),
            "suspended" => Some(Self::Suspended),
            "groups" => Some(Self::Groups),
            _ => None,
        }
    }
}

/// Reads a list. Lines that hold nothing are passed over; a user who is named twice is wrong the second time.
pub fn read_users(text: &str) -> Result<Vec<ImportLine>, ImportError> {
    let mut records = Records { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 };
    let header = records.next().transpose()?.ok_or_else(|| ImportError::Header("it is missing".to_owned()))?.1;
    let columns = columns(&header)?;
    let mut seen = std::collections::HashMap::new();
    let mut lines = Vec::new();
    for record in records {
        let (line, fields) = record?;
        if fields.iter().all(|field| field.trim().is_empty()) {
            continue;
        }
        if lines.len() >= MOST_LINES {
            return Err(ImportError::TooLong);
        }
        let mut user = read_user(&columns, &fields);
        if let Ok(known) = &user
            && let Some(first) = seen.insert(known.user.clone(), line)
        {
            user = Err(format!("{} is on line {first} already: keep one of them", known.user));
        }
        lines.push(ImportLine { line, user });
    }
    Ok(lines)
}

fn columns(header: &[String]) -> Result<Vec<Column>, ImportError> {
    let mut columns = Vec::new();
    for name in header {
        let column = Column::from_name(name);
        let short: String = name.chars().take(50).collect();
        let column = column.ok_or_else(|| ImportError::Header(format!("there is no column {short:?}")))?;
        if columns.contains(&column) {
            return Err(ImportError::Header(format!("the column {short:?} is there twice")));
        }
        columns.push(column);
    }
    if !columns.contains(&Column::Address) {
        return Err(ImportError::Header("there is no column \"address\"".to_owned()));
    }
    Ok(columns)
}

fn read_user(columns: &[Column], fields: &[String]) -> Result<ImportedUser, String> {
    if fields.len() > columns.len() {
        return Err(format!(
            "{} fields, but {} columns: quote a field with a comma in it",
            fields.len(),
            columns.len()
        ));
    }
    let field = |wanted: Column| {
        let at = columns.iter().position(|column| *column == wanted)?;
        fields.get(at).map(|field| field.trim()).filter(|field| !field.is_empty())
    };
    let address = field(Column::Address).ok_or("the address is missing")?;
    let user = UserId::parse(address).map_err(|bad| bad.to_string())?;
    let unit = field(Column::Unit).map(UnitPath::parse).transpose().map_err(|bad| bad.to_string())?;
    let suspended = match field(Column::Suspended).map(str::to_ascii_lowercase).as_deref() {
        None => None,
        Some("true" | "yes" | "1") => Some(true),
        Some("false" | "no" | "0") => Some(false),
        Some(other) => {
            return Err(format!(
                "suspended is {:?}: write true or false",
                other.chars().take(50).collect::<String>()
            ));
        }
    };
    let mut groups = Vec::new();
    for name in field(Column::Groups).into_iter().flat_map(|names| names.split(';')) {
        let group = GroupId::parse(name.trim()).map_err(|bad| bad.to_string())?;
        if !groups.contains(&group) {
            groups.push(group);
        }
        if groups.len() > MOST_GROUPS {
            return Err(format!("more than {MOST_GROUPS} groups"));
        }
    }
    Ok(ImportedUser { user, unit, suspended, groups })
}

/// The records of a CSV text, each with the line it begins on.
struct Records<'t> {
    rest: &'t str,
    line: usize,
}

impl Iterator for Records<'_> {
    type Item = Result<(usize, Vec<String>), ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let start = self.line;
        let mut fields = vec![String::new()];
        let mut chars = self.rest.char_indices().peekable();
        let mut quoted = false;
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            self.line += usize::from(c == '\n');
            let Some(field) = fields.last_mut() else { break };
            match c {
                '"' if quoted && chars.peek().is_some_and(|(_, next)| *next == '"') => {
                    chars.next();
                    field.push('"');
                }
                '"' if quoted => quoted = false,
                _ if quoted => field.push(c),
                '"' if field.trim().is_empty() => {
                    field.clear();
                    quoted = true;
                }
                ',' => fields.push(String::new()),
                '\n' => {
                    end = at + 1;
                    break;
                }
                _ => field.push(c),
            }
        }
        if quoted {
            self.rest = "";
            return Some(Err(ImportError::Quote(start)));
        }
        self.rest = self.rest.get(end..).unwrap_or("");
        if let Some(last) = fields.last_mut()
            && last.ends_with('\r')
        {
            last.pop();
        }
        Some(Ok((start, fields)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;

    fn told(text: &str) -> Vec<(usize, String)> {
        let lines = read_users(text).unwrap();
        let words = |user: &Result<ImportedUser, String>| match user {
            Ok(user) => format!(
                "{} {} {:?} {}",
                user.user,
                user.unit.as_ref().map_or("-", UnitPath::as_str),
                user.suspended,
                user.groups.iter().map(GroupId::as_str).collect::<Vec<_>>().join("+")
            ),
            Err(wrong) => wrong.clone(),
        };
        lines.iter().map(|line| (line.line, words(&line.user))).collect()
    }

    #[test]
    fn columns_come_in_any_order_and_quotes_hold_what_commas_part() {
        let text = "\u{feff}Unit,ADDRESS,groups\r\n\"/Sales, \"\"North\"\"\",ann@Example.com, pilot ; staff;pilot\r\n\r\n,bob@example.com\n";
        assert_eq!(
            told(text),
            [
                (2, "ann@example.com /Sales, \"North\" None pilot+staff".to_owned()),
                (4, "bob@example.com - None ".to_owned()),
            ]
        );
        assert_eq!(
            told("address,suspended\na@b.c,YES\nd@b.c,0\n"),
            [(2, "a@b.c - Some(true) ".to_owned()), (3, "d@b.c - Some(false) ".to_owned()),]
        );
    }

    #[test]
    fn each_wrong_line_is_told_and_the_others_are_read() {
        let text = "address,unit,suspended,groups\nann,/\nann@b.c,Sales\nbob@b.c,/,perhaps\nbob@b.c,/,true,a b\n\
                    cid@b.c,/,,x,y\n,/x\ndora@b.c,/\nDora@b.c,/\ndora@B.C,/\n";
        let lines = told(text);
        for (at, said) in [
            (0, "is not an address"),
            (1, "unit path \"Sales\""),
            (2, "suspended is \"perhaps\": write true or false"),
            (3, "group \"a b\""),
            (4, "5 fields, but 4 columns"),
            (5, "the address is missing"),
            (6, "dora@b.c / None"),
            (7, "Dora@b.c / None"),
            (8, "dora@b.c is on line 8 already"),
        ] {
            assert!(lines[at].1.contains(said), "{said:?}: {:?}", lines[at]);
        }
    }

    #[test]
    fn what_is_no_list_is_told_as_such() {
        for (text, said) in [
            ("", "line 1: it is missing"),
            ("name,unit\n", "line 1: there is no column \"name\""),
            ("unit\n", "there is no column \"address\""),
            ("address,Address\n", "is there twice"),
            ("address\n\"ann@b.c\n", "line 2: a quote begins here"),
        ] {
            let error = read_users(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text:?}: {error}");
        }
        let long = format!("address\n{}", "a@b.c\n".repeat(MOST_LINES + 1));
        assert_eq!(read_users(&long), Err(ImportError::TooLong));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_lines_ascend(text in "(address,unit\n)?[a-c@.,\"\r\n;/é]{0,80}") {
            if let Ok(lines) = read_users(&text) {
                prop_assert!(lines.windows(2).all(|pair| pair[0].line < pair[1].line));
                prop_assert!(lines.iter().all(|line| line.line >= 2));
            }
        }

        #[test]
        fn a_quoted_field_holds_any_text(name in "/[ -~\n]{1,30}") {
            let Ok(unit) = UnitPath::parse(&name) else { return Ok(()) };
            let text = format!("address,unit\nann@b.c,\"{}\"\n", name.replace('"', "\"\""));
            let lines = read_users(&text).unwrap();
            prop_assert_eq!(lines[0].user.as_ref().map(|user| user.unit.clone()), Ok(Some(unit)));
        }
    }
}
