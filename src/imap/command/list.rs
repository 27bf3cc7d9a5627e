//! LIST with its selection and return options (RFC 3501 section 6.3.8, RFC 5258, 5819, 6154).

use nom::{
    Parser,
    branch::alt,
    bytes::complete::{tag_no_case, take_while1},
    combinator::{map, opt},
    sequence::{preceded, terminated},
};
use std::borrow::Cow;

use imap_codec::imap_types::utils::indicators::is_list_char;

use super::{
    Command, StatusItem,
    grammar::{Fault, Parsed, astring, list0, list1, sp, string, whole, word},
    messages::status_items,
};
use crate::imap::{
    mailbox::{MailboxName, Names, Pattern},
    write::Code,
};

/// A LIST command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// What fits any of these is listed, once. None where no mailbox can be called what was asked for.
    pub patterns: Vec<Pattern>,
    /// Which mailboxes are looked at.
    pub select: ListSelect,
    /// What is told about them besides.
    pub give: ListReturn,
    /// Written in the extended form of RFC 5258.
    pub extended: bool,
    /// `LIST reference ""`: only the separator is asked for (RFC 3501 section 6.3.8); never in the extended form.
    pub separator: bool,
}

/// Selection options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListSelect {
    /// Only subscribed names, those that do not exist too (`\NonExistent`); implies telling `\Subscribed`.
    pub subscribed: bool,
    /// Parents of a match that do not match themselves, with CHILDINFO.
    pub recursive_match: bool,
    /// Only mailboxes with a special use.
    pub special_use: bool,
}

/// Return options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListReturn {
    /// `\Subscribed`
    pub subscribed: bool,
    /// `\HasChildren`, `\HasNoChildren`
    pub children: bool,
    /// `\Sent`, `\Trash`, ..
    pub special_use: bool,
    /// A STATUS response for each; empty: none.
    pub status: Vec<StatusItem>,
}

/// Most patterns in one LIST: each is held against each name.
const MAX_PATTERNS: usize = 32;
/// Longest all of them together may be, each with the reference, in bytes.
const MAX_PATTERN_BYTES: usize = 4096;

pub(super) fn list(arguments: &[u8], names: Names) -> Result<Command, Fault> {
    let select = opt(preceded(sp, list0(word)));
    let patterns =
        alt((map(list1(list_mailbox), |list| (list, true)), map(list_mailbox, |one| (vec![one], false))));
    let give = opt(preceded((sp, tag_no_case("RETURN"), sp), list0(return_option)));
    let rule = (select, preceded(sp, astring), preceded(sp, patterns), give);
    let (select, reference, (patterns, several), give) = whole(rule, arguments)?;

    let extended = select.is_some() || several || give.is_some();
    if patterns.len() > MAX_PATTERNS {
        return Err(Fault::no(Code::Limit, "At most 32 patterns in one LIST"));
    }
    let separator = !extended && patterns.iter().all(|pattern| pattern.is_empty());
    // What no mailbox can be called finds none (RFC 9051 section 6.3.9: "MUST be silently ignored").
    let patterns: Vec<Pattern> = patterns.iter().filter_map(|p| pattern(&reference, p, names).ok()).collect();
    if patterns.iter().map(|pattern| pattern.as_str().len()).sum::<usize>() > MAX_PATTERN_BYTES {
        return Err(Fault::no(Code::Limit, "At most 4096 bytes of patterns in one LIST"));
    }
    let select = selection(&select.unwrap_or_default())?;
    let mut told =
        ListReturn { subscribed: select.subscribed, special_use: select.special_use, ..Default::default() };
    for option in give.unwrap_or_default() {
        match option {
            Give::Subscribed => told.subscribed = true,
            Give::Children => told.children = true,
            Give::SpecialUse => told.special_use = true,
            Give::Status(items) => told.status = items,
        }
    }
    Ok(Command::List(List { patterns, select, give: told, extended, separator }))
}

/// A reference and a pattern as sent, to a pattern over UTF-8 names. Fails on what no mailbox can be called.
pub(super) fn pattern(reference: &[u8], pattern: &[u8], names: Names) -> Result<Pattern, Fault> {
    const WRONG: Fault = Fault::no(Code::Cannot, "No mailbox can have such a name");
    if reference.len() + pattern.len() > MailboxName::MAX_BYTES {
        return Err(WRONG);
    }
    // A wildcard never stands inside a shifted run: neither `*` nor `%` is a digit of it.
    let reference = names.read(reference).map_err(|_| WRONG)?;
    let pattern = names.read(pattern).map_err(|_| WRONG)?;
    Ok(Pattern::new(&reference, &pattern))
}

fn list_mailbox(i: &[u8]) -> Parsed<'_, Cow<'_, [u8]>> {
    alt((map(take_while1(is_list_char), Cow::Borrowed), string)).parse(i)
}

fn selection(words: &[String]) -> Result<ListSelect, Fault> {
    let mut select = ListSelect::default();
    for word in words {
        match word.as_str() {
            "SUBSCRIBED" => select.subscribed = true,
            // There are no remote mailboxes, so asking for them too changes nothing.
            "REMOTE" => {}
            "RECURSIVEMATCH" => select.recursive_match = true,
            "SPECIAL-USE" => select.special_use = true,
            _ => return Err(Fault::syntax("Unknown selection option of LIST")),
        }
    }
    if select.recursive_match && !select.subscribed && !select.special_use {
        return Err(Fault::syntax("RECURSIVEMATCH needs another selection option beside it"));
    }
    Ok(select)
}

enum Give {
    Subscribed,
    Children,
    SpecialUse,
    Status(Vec<StatusItem>),
}

fn return_option(i: &[u8]) -> Parsed<'_, Give> {
    if let Ok((rest, items)) = preceded(terminated(tag_no_case("STATUS"), sp), status_items).parse(i) {
        return Ok((rest, Give::Status(items)));
    }
    let (rest, word) = word(i)?;
    let option = match word.as_str() {
        "SUBSCRIBED" => Give::Subscribed,
        "CHILDREN" => Give::Children,
        "SPECIAL-USE" => Give::SpecialUse,
        _ => return Err(nom::Err::Failure(Fault::syntax("Unknown return option of LIST"))),
    };
    Ok((rest, option))
}
