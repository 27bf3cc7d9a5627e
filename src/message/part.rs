//! The structure of a scanned message: a list of parts that know their parent and children, with all that
//! BODYSTRUCTURE shows of them. Made by `scan`, read by `section` and `session`.

use std::ops::Range;

use super::{
    envelope::Envelope,
    mime::{Disposition, Media, parameter},
};

/// What a part holds, which decides how BODYSTRUCTURE writes it (RFC 3501 section 7.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `text/*`: has a line count.
    Text,
    /// Anything opaque.
    Basic,
    /// Holds any number of parts, but at least one: where a multipart shows none, it holds one empty text part, as
    /// the grammar of BODYSTRUCTURE needs one.
    Multipart,
    /// `message/rfc822`: holds exactly one part, the root of the message inside. Has a line count.
    Message,
}

/// A part of a message; the message itself is the first one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub(super) parent: Option<usize>,
    pub(super) children: Vec<usize>,
    pub(super) shape: Shape,
    pub(super) header: Range<u64>,
    pub(super) body: Range<u64>,
    pub(super) lines: u64,
    pub(super) media: Media,
    pub(super) encoding: Option<Vec<u8>>,
    pub(super) id: Option<Vec<u8>>,
    pub(super) description: Option<Vec<u8>>,
    pub(super) md5: Option<Vec<u8>>,
    pub(super) disposition: Option<Disposition>,
    pub(super) languages: Vec<Vec<u8>>,
    pub(super) location: Option<Vec<u8>>,
    pub(super) envelope: Option<Box<Envelope>>,
}

impl Part {
    /// An empty text part at `at`.
    pub(super) fn new(parent: Option<usize>, at: u64) -> Part {
        Part {
            parent,
            children: Vec::new(),
            shape: Shape::Text,
            header: at..at,
            body: at..at,
            lines: 0,
            media: Media::new("text", "plain"),
            encoding: None,
            id: None,
            description: None,
            md5: None,
            disposition: None,
            languages: Vec::new(),
            location: None,
            envelope: None,
        }
    }

    /// How the part is to be written and looked into.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Octets of its header in the message, the blank line included.
    pub fn header(&self) -> Range<u64> {
        self.header.clone()
    }

    /// Octets of its body in the message; its length is BODYSTRUCTURE's size.
    pub fn body(&self) -> Range<u64> {
        self.body.clone()
    }

    /// Size of the body in octets, in its transfer encoding.
    pub fn size(&self) -> u64 {
        self.body.end.saturating_sub(self.body.start)
    }

    /// Line ends in the body, whatever the shape.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Its media type with all parameters; `charset` is always there for [`Shape::Text`]. A part that could not be
    /// looked into because of a limit is an `application/octet-stream`.
    pub fn media(&self) -> &Media {
        &self.media
    }

    /// Content-Transfer-Encoding as written, `7bit` where there is none.
    pub fn encoding(&self) -> &[u8] {
        self.encoding.as_deref().unwrap_or(b"7bit")
    }

    /// Content-ID.
    pub fn id(&self) -> Option<&[u8]> {
        self.id.as_deref()
    }

    /// Content-Description, RFC 2047 words undecoded.
    pub fn description(&self) -> Option<&[u8]> {
        self.description.as_deref()
    }

    /// Content-MD5.
    pub fn md5(&self) -> Option<&[u8]> {
        self.md5.as_deref()
    }

    /// Content-Disposition.
    pub fn disposition(&self) -> Option<&Disposition> {
        self.disposition.as_ref()
    }

    /// Content-Language tags; empty = NIL.
    pub fn languages(&self) -> &[Vec<u8>] {
        &self.languages
    }

    /// Content-Location.
    pub fn location(&self) -> Option<&[u8]> {
        self.location.as_deref()
    }

    /// The envelope, if this part is the root of a message (the whole one, or one inside a `message/rfc822`).
    pub fn envelope(&self) -> Option<&Envelope> {
        self.envelope.as_deref()
    }

    /// The charset that its Content-Type names, `us-ascii` where it names none.
    pub fn charset(&self) -> Vec<u8> {
        parameter(&self.media.parameters, "charset").unwrap_or_else(|| b"us-ascii".to_vec())
    }
}

/// A scanned message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    /// Never empty; the first is the message.
    pub(super) parts: Vec<Part>,
    pub(super) size: u64,
}

/// One step of [`Structure::walk`].
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// Before the children of a part.
    Enter(&'a Part),
    /// After them. Comes for parts without children, too.
    Leave(&'a Part),
}

impl Structure {
    pub(super) fn empty_root() -> Part {
        let mut root = Part::new(None, 0);
        root.envelope = Some(Box::default());
        root
    }

    /// The message itself: its header, body, envelope, and its type as the outermost part.
    pub fn root(&self) -> &Part {
        static EMPTY: std::sync::LazyLock<Part> = std::sync::LazyLock::new(Structure::empty_root);
        self.parts.first().unwrap_or(&EMPTY)
    }

    /// Size of the message in octets.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// All parts: a part comes after its parent, otherwise in no promised order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The parts inside a multipart in order, or the root of the message inside a `message/rfc822`.
    pub fn children<'a>(&'a self, part: &'a Part) -> impl ExactSizeIterator<Item = &'a Part> {
        part.children.iter().map(|&child| self.parts.get(child).unwrap_or(self.root()))
    }

    /// The message inside a `message/rfc822` part.
    pub fn inner<'a>(&'a self, part: &'a Part) -> Option<&'a Part> {
        (part.shape == Shape::Message).then(|| self.children(part).next()).flatten()
    }

    /// All parts in the order of the message, each entered and left: for writers that must not recurse.
    pub fn walk(&self) -> impl Iterator<Item = Step<'_>> {
        let mut path: Vec<(&Part, usize)> = Vec::new();
        let mut started = false;
        std::iter::from_fn(move || {
            if !started {
                started = true;
                path.push((self.root(), 0));
                return Some(Step::Enter(self.root()));
            }
            let (part, next) = path.last_mut()?;
            let (part, child) = (*part, part.children.get(*next).and_then(|&child| self.parts.get(child)));
            *next += 1;
            match child {
                Some(child) => {
                    path.push((child, 0));
                    Some(Step::Enter(child))
                }
                None => {
                    path.pop();
                    Some(Step::Leave(part))
                }
            }
        })
    }
}
