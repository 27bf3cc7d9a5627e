//! FETCH's items and modifiers (RFC 3501 section 6.4.5, RFC 3516 section 4.2, RFC 7162 sections 3.1.4 and 3.2.6, RFC 8474,
//! 8514, RFC 8970 section 6).

use nom::{
    Parser,
    branch::alt,
    character::complete::char,
    combinator::{map, opt},
    multi::separated_list1,
    sequence::preceded,
};

use super::{
    Command,
    grammar::{
        Fault, Parsed, astring, list0, list1, message_set, nz_number, nz_number64, partial, sp, whole, word,
    },
};
use crate::imap::write::Code;

/// One question of FETCH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchItem {
    /// UID
    Uid,
    /// FLAGS
    Flags,
    /// INTERNALDATE
    InternalDate,
    /// RFC822.SIZE
    Size,
    /// ENVELOPE
    Envelope,
    /// BODY: the structure without extension data.
    Body,
    /// BODYSTRUCTURE
    BodyStructure,
    /// `BODY[..]` and `BODY.PEEK[..]`
    Section {
        /// Which bytes.
        section: Section,
        /// First octet and most octets, the latter at least 1.
        partial: Option<(u32, u32)>,
        /// Without setting `\Seen`.
        peek: bool,
    },
    /// RFC822: as `BODY[]`, under another name.
    Rfc822,
    /// RFC822.HEADER: as `BODY.PEEK[HEADER]`, under another name.
    Rfc822Header,
    /// RFC822.TEXT: as `BODY[TEXT]`, under another name.
    Rfc822Text,
    /// MODSEQ (RFC 7162 section 3.1.4.2)
    Modseq,
    /// SAVEDATE (RFC 8514)
    SaveDate,
    /// EMAILID (RFC 8474)
    EmailId,
    /// THREADID (RFC 8474)
    ThreadId,
    /// `BINARY[..]` and `BINARY.PEEK[..]`: the octets of a part, its transfer encoding undone.
    Binary {
        /// Part numbers, as in [`Section`].
        part: Vec<u32>,
        /// First octet and most octets of what is decoded, the latter at least 1.
        partial: Option<(u32, u32)>,
        /// Without setting `\Seen`.
        peek: bool,
    },
    /// `BINARY.SIZE[..]`: how many octets they are.
    BinarySize {
        /// Part numbers, as in [`Section`].
        part: Vec<u32>,
    },
    /// PREVIEW
    Preview {
        /// Only if it is there at once.
        lazy: bool,
    },
}

/// Which of the messages a FETCH is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since {
    /// CHANGEDSINCE: those that changed after this mod-sequence; at least 1, 63 bits.
    pub modseq: u64,
    /// VANISHED: those that are gone are told too. Only with UID FETCH.
    pub vanished: bool,
}

impl FetchItem {
    /// Whether the message counts as read after it (RFC 3501 section 6.4.5).
    pub fn sets_seen(&self) -> bool {
        matches!(
            self,
            Self::Section { peek: false, .. } | Self::Binary { peek: false, .. } | Self::Rfc822 | Self::Rfc822Text
        )
    }
}

/// What stands between the brackets of `BODY[..]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Part numbers, outermost first, each at least 1; empty: the message itself. At most 100.
    pub part: Vec<u32>,
    /// Which text of that part.
    pub text: SectionText,
}

/// The text of a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SectionText {
    /// All of it.
    #[default]
    All,
    /// HEADER
    Header,
    /// HEADER.FIELDS: names as they were asked for, printable ASCII; at least one.
    HeaderFields(Vec<String>),
    /// HEADER.FIELDS.NOT
    HeaderFieldsNot(Vec<String>),
    /// TEXT
    Text,
    /// MIME; only with part numbers.
    Mime,
}

/// Most items in one command: each may be nearly the whole message again.
const MAX_ITEMS: usize = 200;
/// Deepest part; deeper than any message is parsed.
const MAX_PART_DEPTH: usize = 100;

pub(super) fn fetch(arguments: &[u8], uid: bool) -> Result<Command, Fault> {
    let items = alt((list0(item), map(item_or_macro, |items| items)));
    let rule = (preceded(sp, message_set), preceded(sp, items), opt(preceded(sp, list1(modifier))));
    let (set, items, modifiers) = whole(rule, arguments)?;
    if items.is_empty() {
        return Err(Fault::syntax("FETCH needs at least one item"));
    }
    let mut items = each_once(items)?;
    let since = since(modifiers.as_deref().unwrap_or_default(), uid)?;
    if since.is_some() && !items.contains(&FetchItem::Modseq) {
        items.push(FetchItem::Modseq);
    }
    Ok(Command::Fetch { set, items, since, uid })
}

/// What is asked twice is told once: of a large item every copy would have to be made anew.
pub(super) fn each_once(items: Vec<FetchItem>) -> Result<Vec<FetchItem>, Fault> {
    if items.len() > MAX_ITEMS {
        return Err(Fault::no(Code::Limit, "At most 200 items of a message"));
    }
    let mut once: Vec<FetchItem> = Vec::with_capacity(items.len());
    for item in items {
        if !once.contains(&item) {
            once.push(item);
        }
    }
    Ok(once)
}

#[derive(Clone, Copy, PartialEq)]
enum Modifier {
    ChangedSince(u64),
    Vanished,
}

fn modifier(i: &[u8]) -> Parsed<'_, Modifier> {
    let (rest, name) = word(i)?;
    match name.as_str() {
        "CHANGEDSINCE" => map(preceded(sp, nz_number64), Modifier::ChangedSince).parse(rest),
        "VANISHED" => Ok((rest, Modifier::Vanished)),
        _ => {
            Err(nom::Err::Failure(Fault::syntax("Unknown modifier of FETCH; CHANGEDSINCE and VANISHED are known")))
        }
    }
}

fn since(modifiers: &[Modifier], uid: bool) -> Result<Option<Since>, Fault> {
    let vanished = modifiers.contains(&Modifier::Vanished);
    let mut modseqs = modifiers.iter().filter_map(|m| match m {
        Modifier::ChangedSince(modseq) => Some(*modseq),
        Modifier::Vanished => None,
    });
    let (modseq, more) = (modseqs.next(), modseqs.next());
    if more.is_some() || modifiers.len() > 2 {
        return Err(Fault::syntax("A modifier of FETCH stands twice"));
    }
    if vanished && (!uid || modseq.is_none()) {
        return Err(Fault::syntax("VANISHED goes with CHANGEDSINCE, and with UID FETCH alone"));
    }
    Ok(modseq.map(|modseq| Since { modseq, vanished }))
}

fn item_or_macro(i: &[u8]) -> Parsed<'_, Vec<FetchItem>> {
    use FetchItem::{Body, Envelope, Flags, InternalDate, Size};
    let (rest, name) = word(i)?;
    match name.as_str() {
        "ALL" => Ok((rest, vec![Flags, InternalDate, Size, Envelope])),
        "FAST" => Ok((rest, vec![Flags, InternalDate, Size])),
        "FULL" => Ok((rest, vec![Flags, InternalDate, Size, Envelope, Body])),
        _ => map(item, |item| vec![item]).parse(i),
    }
}

pub(super) fn item(i: &[u8]) -> Parsed<'_, FetchItem> {
    let (rest, name) = word(i)?;
    let item = match name.as_str() {
        "UID" => FetchItem::Uid,
        "FLAGS" => FetchItem::Flags,
        "INTERNALDATE" => FetchItem::InternalDate,
        "RFC822.SIZE" => FetchItem::Size,
        "ENVELOPE" => FetchItem::Envelope,
        "BODYSTRUCTURE" => FetchItem::BodyStructure,
        "RFC822" => FetchItem::Rfc822,
        "RFC822.HEADER" => FetchItem::Rfc822Header,
        "RFC822.TEXT" => FetchItem::Rfc822Text,
        "MODSEQ" => FetchItem::Modseq,
        "SAVEDATE" => FetchItem::SaveDate,
        "EMAILID" => FetchItem::EmailId,
        "THREADID" => FetchItem::ThreadId,
        "BODY" if !rest.starts_with(b"[") => FetchItem::Body,
        "BODY" | "BODY.PEEK" => {
            let (rest, (section, partial)) = (section, opt(partial)).parse(rest)?;
            let partial = partial.map(|(first, most)| (first, most.get()));
            return Ok((rest, FetchItem::Section { section, partial, peek: name == "BODY.PEEK" }));
        }
        "BINARY" | "BINARY.PEEK" => {
            let (rest, (part, partial)) = (binary_section, opt(partial)).parse(rest)?;
            let partial = partial.map(|(first, most)| (first, most.get()));
            return Ok((rest, FetchItem::Binary { part, partial, peek: name == "BINARY.PEEK" }));
        }
        "BINARY.SIZE" => return map(binary_section, |part| FetchItem::BinarySize { part }).parse(rest),
        "PREVIEW" => {
            let modifiers = opt(preceded(sp, list1(preview_modifier)));
            return map(modifiers, |found| FetchItem::Preview { lazy: found.is_some() }).parse(rest);
        }
        _ => return Err(nom::Err::Error(Fault::syntax("Unknown item of FETCH"))),
    };
    Ok((rest, item))
}

/// `section-binary`: `"[" [section-part] "]"`
fn binary_section(i: &[u8]) -> Parsed<'_, Vec<u32>> {
    let (rest, section) = section(i)?;
    if section.text != SectionText::All {
        return Err(nom::Err::Failure(Fault::syntax("BINARY takes the numbers of a part and nothing else")));
    }
    Ok((rest, section.part))
}

/// `preview-mod`
fn preview_modifier(i: &[u8]) -> Parsed<'_, ()> {
    match word(i)? {
        (rest, name) if name == "LAZY" => Ok((rest, ())),
        _ => Err(nom::Err::Failure(Fault::syntax("PREVIEW knows no modifier but LAZY"))),
    }
}

/// `"[" [section-spec] "]"`
fn section(i: &[u8]) -> Parsed<'_, Section> {
    let wrong = || nom::Err::Failure(Fault::syntax("That is not a section of a message"));
    let (rest, _) = char('[').parse(i)?;
    let (rest, part) = opt(separated_list1(char('.'), nz_number)).parse(rest)?;
    let part: Vec<u32> = part.unwrap_or_default().into_iter().map(u32::from).collect();
    if part.len() > MAX_PART_DEPTH {
        return Err(wrong());
    }
    let text_follows = if part.is_empty() { !rest.starts_with(b"]") } else { rest.starts_with(b".") };
    let (rest, text) = match (text_follows, part.is_empty()) {
        (false, _) => (rest, SectionText::All),
        (true, true) => section_text(rest)?,
        (true, false) => preceded(char('.'), section_text).parse(rest)?,
    };
    if part.is_empty() && text == SectionText::Mime {
        return Err(wrong());
    }
    let (rest, _) = char(']').parse(rest)?;
    Ok((rest, Section { part, text }))
}

fn section_text(i: &[u8]) -> Parsed<'_, SectionText> {
    let (rest, name) = word(i)?;
    match name.as_str() {
        "HEADER" => Ok((rest, SectionText::Header)),
        "TEXT" => Ok((rest, SectionText::Text)),
        "MIME" => Ok((rest, SectionText::Mime)),
        "HEADER.FIELDS" => map(preceded(sp, list1(field_name)), SectionText::HeaderFields).parse(rest),
        "HEADER.FIELDS.NOT" => map(preceded(sp, list1(field_name)), SectionText::HeaderFieldsNot).parse(rest),
        _ => Err(nom::Err::Failure(Fault::syntax("That is not a section of a message"))),
    }
}

/// A header field's name: printable ASCII, since it is written back into the answer.
pub(super) fn field_name(i: &[u8]) -> Parsed<'_, String> {
    let (rest, name) = astring(i)?;
    match str::from_utf8(&name) {
        Ok(text) if text.bytes().all(|b| matches!(b, b' '..=b'~')) => Ok((rest, text.to_owned())),
        _ => Err(nom::Err::Failure(Fault::syntax("That is not the name of a header field"))),
    }
}
