//! Section numbers of BODY[..]: which octets of a message they mean (RFC 3501 section 6.4.5).

use std::ops::Range;

use super::part::{Part, Shape, Structure};

/// What follows the part numbers in a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SectionText {
    /// Nothing: `BODY[]`, `BODY[1.2]`.
    Whole,
    /// `HEADER`, also the basis of HEADER.FIELDS: the header of the message, or of the `message/rfc822` part named.
    Header,
    /// `TEXT`: the body of the same.
    Text,
    /// `MIME`: the header of the part named. Needs a part number.
    Mime,
}

impl Structure {
    /// The octets that a section means: maybe none of them. `None`: the message has no such section.
    pub fn section(&self, numbers: &[u32], text: SectionText) -> Option<Range<u64>> {
        if numbers.is_empty() {
            return match text {
                SectionText::Whole => Some(0..self.size()),
                SectionText::Header => Some(self.root().header()),
                SectionText::Text => Some(self.root().body()),
                SectionText::Mime => None,
            };
        }
        let part = self.part(numbers)?;
        match text {
            SectionText::Whole => Some(part.body()),
            SectionText::Mime => Some(part.header()),
            SectionText::Header => self.inner(part).map(Part::header),
            SectionText::Text => self.inner(part).map(Part::body),
        }
    }

    /// The part with the given numbers; without numbers the message. `None`: there is no such part.
    ///
    /// A message that is no multipart is its own part 1, at the top ("every message has at least one part number")
    /// and inside a `message/rfc822` alike.
    pub fn part(&self, numbers: &[u32]) -> Option<&Part> {
        let mut message = Some(self.root()); // the message whose only part a number 1 may still name
        let mut part = self.root();
        for &number in numbers {
            if message.is_none() {
                message = self.inner(part);
                part = message.unwrap_or(part);
            }
            let place = usize::try_from(number).ok()?.checked_sub(1)?;
            match (part.shape, message) {
                (Shape::Multipart, _) => part = self.children(part).nth(place)?,
                (_, Some(whole)) if place == 0 => part = whole,
                _ => return None,
            }
            message = None;
        }
        Some(part)
    }
}
