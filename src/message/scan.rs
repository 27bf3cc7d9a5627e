//! The MIME scanner: message bytes in, [`Structure`] out (RFC 2045, 2046, 5322). Line by line, with a stack of open
//! parts and one of boundaries; keeps at most one line head or one header field of the input at a time.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::{
    boundary::{self, Boundary, Hit, MAX_LINE_HEAD},
    field::{name_of, starts_folded, trim_eol},
    header::{Known, Limits},
    mime::{Media, Parameter, parameter},
    part::{Part, Shape, Structure},
};

/// What any delimiter line starts with, and the end of the line before.
static DASHES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\n--"));

/// Scans one message. Feed it in pieces of any size: how the message is cut makes no difference.
#[derive(Debug)]
pub struct Scanner {
    limits: Limits,
    /// Whether envelopes are read.
    envelopes: bool,
    parts: Vec<Part>,
    /// From the message to the part that is being read. Never empty before `finish`.
    open: Vec<Open>,
    boundaries: Vec<Boundary>,
    in_header: bool,
    /// The field that is being read, if it is one that counts.
    field: Option<(Known, Vec<u8>)>,
    seen_type: bool,
    /// The boundary that the Content-Type in the current header declares.
    own_boundary: Option<Boundary>,
    /// Where the current line starts.
    line_start: u64,
    /// Length in octets of the line end before it: 0, 1 or 2.
    eol: u64,
    /// LFs seen so far.
    lines: u64,
    /// The kept start of a line that began in an earlier piece, its full length, and its last byte.
    line: Vec<u8>,
    line_length: u64,
    last: u8,
}

/// An open part, and the lines before its body.
#[derive(Debug)]
struct Open {
    part: usize,
    lines_before: u64,
}

impl Default for Scanner {
    fn default() -> Scanner {
        Scanner::new(Limits::default())
    }
}

impl Scanner {
    /// A scanner at the start of a message.
    pub fn new(limits: Limits) -> Scanner {
        Scanner {
            limits,
            envelopes: true,
            parts: vec![Structure::empty_root()],
            open: vec![Open { part: 0, lines_before: 0 }],
            boundaries: Vec::new(),
            in_header: true,
            field: None,
            seen_type: false,
            own_boundary: None,
            line_start: 0,
            eol: 0,
            lines: 0,
            line: Vec::new(),
            line_length: 0,
            last: 0,
        }
    }

    /// The same for whoever asks for parts alone: envelopes stay empty.
    pub fn of_parts(limits: Limits) -> Scanner {
        Scanner { envelopes: false, ..Scanner::new(limits) }
    }

    /// Takes the next bytes of the message, in wire form (lines end in CRLF; a bare LF ends one too, a bare CR does
    /// not).
    pub fn feed(&mut self, mut bytes: &[u8]) {
        loop {
            bytes = self.pass_over(bytes);
            let Some(at) = memchr::memchr(b'\n', bytes) else { break };
            let (line, rest) = bytes.split_at_checked(at + 1).unwrap_or((bytes, &[]));
            bytes = rest;
            if self.line_length == 0 {
                let kept = line.get(..self.kept_of_line()).unwrap_or(line);
                let eol = if line.ends_with(b"\r\n") { 2 } else { 1 };
                self.end_line(kept, line.len() as u64, eol);
            } else {
                let eol = if line.ends_with(b"\r\n") || (line.len() == 1 && self.last == b'\r') { 2 } else { 1 };
                self.hold(line);
                self.end_held_line(eol);
            }
        }
        self.hold(bytes);
    }

    /// Counts the lines of a body up to the next that may be a delimiter; what is left is that line, or one that has no
    /// end yet.
    fn pass_over<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        if self.in_header || self.line_length > 0 || bytes.starts_with(b"--") {
            return bytes;
        }
        let next = if self.boundaries.is_empty() { None } else { DASHES.find(bytes) };
        let Some(last) = next.or_else(|| memchr::memrchr(b'\n', bytes)) else { return bytes };
        let (lines, rest) = bytes.split_at_checked(last + 1).unwrap_or((bytes, &[]));
        self.lines += memchr::memchr_iter(b'\n', lines).count() as u64;
        self.line_start += lines.len() as u64;
        self.eol = if lines.ends_with(b"\r\n") { 2 } else { 1 };
        rest
    }

    /// Ends the message.
    pub fn finish(mut self) -> Structure {
        if self.line_length > 0 {
            self.end_held_line(0);
        }
        while self.in_header {
            self.end_header(self.line_start);
        }
        self.close_until(None, self.line_start, self.lines);
        Structure { parts: self.parts, size: self.line_start }
    }

    /// How many bytes of the current line are worth keeping. Does not change within a line.
    fn kept_of_line(&self) -> usize {
        if self.in_header {
            self.limits.header_bytes.min(self.limits.field_bytes).max(MAX_LINE_HEAD)
        } else {
            MAX_LINE_HEAD
        }
    }

    fn hold(&mut self, bytes: &[u8]) {
        let Some(&last) = bytes.last() else { return };
        self.last = last;
        self.line_length += bytes.len() as u64;
        let room = self.kept_of_line().saturating_sub(self.line.len());
        self.line.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    fn end_held_line(&mut self, eol: u64) {
        let mut held = std::mem::take(&mut self.line);
        let length = std::mem::take(&mut self.line_length);
        self.end_line(&held, length, eol);
        held.clear();
        if held.capacity() <= 4096 {
            self.line = held; // its memory serves the next line
        }
    }

    /// A line of `length` octets of which `eol` are its end; `kept` is its beginning.
    fn end_line(&mut self, kept: &[u8], length: u64, eol: u64) {
        let (start, end) = (self.line_start, self.line_start + length);
        let content = if kept.len() as u64 == length && eol > 0 { trim_eol(kept) } else { kept };
        let before = self.lines;
        self.lines += u64::from(eol > 0);
        if self.in_header {
            self.header_line(content, start, end, before, eol > 0);
        } else if !self.boundaries.is_empty() && content.starts_with(b"--") {
            self.body_line(content, start, end, before, eol > 0);
        }
        self.line_start = end;
        self.eol = eol;
    }

    fn body_line(&mut self, content: &[u8], start: u64, end: u64, lines_before: u64, ended: bool) {
        let content = content.get(..MAX_LINE_HEAD).unwrap_or(content);
        if let Some(hit) = boundary::find(&self.boundaries, content) {
            self.delimiter(hit, start, end, lines_before, ended);
        }
    }

    fn header_line(&mut self, content: &[u8], start: u64, end: u64, lines_before: u64, ended: bool) {
        if content.is_empty() {
            return self.end_header(end);
        }
        if content.starts_with(b"--") {
            self.flush_field();
            let head = content.get(..MAX_LINE_HEAD).unwrap_or(content);
            let outer = boundary::find(&self.boundaries, head);
            let own = boundary::find(self.own_boundary.as_slice(), head).is_some();
            if own || outer.is_some() {
                // The blank line is missing. Where a multipart reuses the boundary around it, the outer one is meant.
                let reused = |hit: &Hit| {
                    self.boundaries
                        .get(hit.index)
                        .is_some_and(|b| self.own_boundary.as_ref().is_some_and(|own| own.is_like(b)))
                };
                let outer = outer.filter(|hit| !own || reused(hit));
                while self.in_header {
                    self.end_header_after(start, lines_before);
                }
                return match outer {
                    Some(hit) => self.delimiter(hit, start, end, lines_before, ended),
                    None => self.body_line(head, start, end, lines_before, ended),
                };
            }
        }
        self.limits.header_bytes = self.limits.header_bytes.saturating_sub(content.len());
        if starts_folded(content) {
            if let Some((_, value)) = &mut self.field {
                let room = self.limits.field_bytes.saturating_sub(value.len());
                value.extend([b'\n'].into_iter().chain(content.iter().copied()).take(room));
            }
            return;
        }
        self.flush_field();
        let Some((name, colon)) = name_of(content) else { return };
        let in_envelope = self.envelopes && self.current().is_some_and(|part| part.envelope.is_some());
        let known = Known::find(name, in_envelope).filter(|_| self.limits.header_bytes > 0);
        let Some(known) = known else { return };
        self.field = content.get(colon + 1..).map(|value| (known, value.to_vec()));
    }

    fn current(&self) -> Option<&Part> {
        self.parts.get(self.open.last()?.part)
    }

    /// The field that was being read is complete.
    fn flush_field(&mut self) {
        let Some((known, raw)) = self.field.take() else { return };
        let Some(open) = self.open.last() else { return };
        let Some(part) = self.parts.get_mut(open.part) else { return };
        if known != Known::Type {
            return known.keep(&raw, part, &mut self.limits);
        }
        if self.seen_type {
            return;
        }
        self.seen_type = true;
        known.keep(&raw, part, &mut self.limits);
        if part.media.is_kind("multipart") {
            let value = parameter(&part.media.parameters, "boundary").unwrap_or_default();
            self.own_boundary = Boundary::new(&value, open.part);
        }
    }

    fn end_header(&mut self, at: u64) {
        self.end_header_after(at, self.lines);
    }

    /// The header of the current part ends at `at`, after `lines` lines of the message.
    fn end_header_after(&mut self, at: u64, lines: u64) {
        self.flush_field();
        self.in_header = false;
        let own = self.own_boundary.take();
        let room = self.open.len() < self.limits.depth && self.parts.len() < self.limits.parts;
        let seen_type = std::mem::take(&mut self.seen_type);
        let Some(open) = self.open.last_mut() else { return };
        open.lines_before = lines;
        let place = open.part;
        let in_digest = self
            .parts
            .get(place)
            .and_then(|part| self.parts.get(part.parent?))
            .is_some_and(|parent| parent.shape == Shape::Multipart && parent.media.is("multipart", "digest"));
        let Some(part) = self.parts.get_mut(place) else { return };
        part.header.end = at;
        part.body = at..at;
        if !seen_type && in_digest {
            part.media = Media::new("message", "rfc822"); // RFC 2046 section 5.1.5
        }
        part.shape = match (&own, part.media.is("message", "rfc822")) {
            (Some(_), _) if room => Shape::Multipart,
            (_, true) if room => Shape::Message,
            (None, false) if part.media.is_kind("multipart") => {
                // Without a boundary it is no multipart: RFC 2045 section 5.2 advises text/plain.
                part.media = Media::new("text", "plain");
                Shape::Text
            }
            (None, false) if part.media.is_kind("text") => Shape::Text,
            (None, false) => Shape::Basic,
            _ => {
                // Past a limit. `multipart` or `message/rfc822` without its inner parts would be a false structure.
                part.media = Media::new("application", "octet-stream");
                Shape::Basic
            }
        };
        match part.shape {
            Shape::Text => default_charset(&mut part.media),
            Shape::Basic => {}
            Shape::Multipart => self.boundaries.extend(own),
            Shape::Message => {
                self.open_child(place, at);
                self.in_header = true;
                if let Some(inner) = self.parts.last_mut() {
                    inner.envelope = Some(Box::default());
                }
            }
        }
    }

    fn open_child(&mut self, parent: usize, at: u64) {
        let place = self.parts.len();
        self.parts.push(Part::new(Some(parent), at));
        if let Some(parent) = self.parts.get_mut(parent) {
            parent.children.push(place);
        }
        self.open.push(Open { part: place, lines_before: self.lines });
    }

    /// A delimiter line from `start` to `end`, with `lines_before` lines before it.
    fn delimiter(&mut self, hit: Hit, start: u64, end: u64, lines_before: u64, ended: bool) {
        if !hit.close && self.parts.len() >= self.limits.parts {
            self.boundaries.clear();
            return;
        }
        let Some(owner) = self.boundaries.get(hit.index).map(|boundary| boundary.part) else { return };
        // The line end before a delimiter belongs to the delimiter (RFC 2046 section 5.1.1).
        let lines = lines_before - u64::from(self.eol > 0).min(lines_before);
        self.close_until(Some(owner), start - self.eol.min(start), lines);
        self.boundaries.truncate(hit.index + usize::from(!hit.close));
        if ended && !hit.close {
            self.open_child(owner, end);
            self.in_header = true;
        }
    }

    /// Closes the open parts inside `owner` (all without one) at `end`, where `lines` lines have gone by.
    fn close_until(&mut self, owner: Option<usize>, mut end: u64, mut lines: u64) {
        while let Some(open) = self.open.pop_if(|open| Some(open.part) != owner) {
            let Some(part) = self.parts.get_mut(open.part) else { continue };
            if part.body.start > end {
                // An empty body: the line end before the delimiter is that of the part's header, so the part, and
                // with it all around it, reaches up to the delimiter.
                end = part.body.start;
                lines = open.lines_before;
            }
            part.body.end = end;
            part.lines = lines - open.lines_before.min(lines);
            if part.shape == Shape::Multipart && part.children.is_empty() {
                let place = self.parts.len();
                if let Some(part) = self.parts.get_mut(open.part) {
                    part.children.push(place);
                }
                let mut empty = Part::new(Some(open.part), end);
                default_charset(&mut empty.media);
                self.parts.push(empty);
            }
        }
    }
}

/// RFC 2045 section 5.2.
fn default_charset(media: &mut Media) {
    if parameter(&media.parameters, "charset").is_none() {
        media.parameters.push(Parameter { name: b"charset".to_vec(), value: b"us-ascii".to_vec() });
    }
}

#[cfg(test)]
mod tests;
