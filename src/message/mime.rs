//! The structured MIME fields: Content-Type, Content-Disposition, Content-Language, Content-Transfer-Encoding
//! (RFC 2045 section 5, RFC 2183, RFC 3282, RFC 2231). Values come in unfolded; malformed ones give what can be read.

/// `name=value`, the name as written (RFC 2231 `filename*0*` too), the value without its quotes, else undecoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Never empty; letter case as written.
    pub name: Vec<u8>,
    /// May be empty.
    pub value: Vec<u8>,
}

/// A media type with its parameters. Letter case as written; compare with [`Media::is`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// `text`, `multipart`, `message`, ...
    pub kind: Vec<u8>,
    /// `plain`, `mixed`, `rfc822`, ...
    pub subtype: Vec<u8>,
    /// In their order.
    pub parameters: Vec<Parameter>,
}

impl Media {
    pub(super) fn new(kind: &str, subtype: &str) -> Media {
        Media { kind: kind.into(), subtype: subtype.into(), parameters: Vec::new() }
    }

    /// Whether this is the given type, e.g. `is("text", "plain")`; case does not matter.
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind.as_bytes()) && self.subtype.eq_ignore_ascii_case(subtype.as_bytes())
    }

    pub(super) fn is_kind(&self, kind: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind.as_bytes())
    }
}

/// A Content-Disposition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disposition {
    /// `attachment`, `inline`, ...; letter case as written.
    pub kind: Vec<u8>,
    /// In their order.
    pub parameters: Vec<Parameter>,
}

/// Reads a Content-Type. At most `max` parameters are kept.
///
/// Without a `type/subtype` the type is the default `text/plain` (RFC 2045 section 5.2), except that a bare
/// `multipart` becomes `multipart/mixed` and other bare binary types `application/octet-stream`.
pub(super) fn content_type(value: &[u8], max: usize) -> Media {
    let mut cursor = Cursor { rest: value };
    cursor.skip_space();
    let kind = cursor.token();
    cursor.skip_space();
    let subtype = if cursor.eat(b'/') {
        cursor.skip_space();
        cursor.token()
    } else {
        &[]
    };
    let mut media = if !kind.is_empty() && !subtype.is_empty() {
        Media { kind: kind.to_vec(), subtype: subtype.to_vec(), parameters: Vec::new() }
    } else if kind.eq_ignore_ascii_case(b"multipart") {
        Media::new("multipart", "mixed")
    } else if [&b"application"[..], b"image", b"audio", b"video"].iter().any(|k| kind.eq_ignore_ascii_case(k)) {
        Media::new("application", "octet-stream")
    } else {
        Media::new("text", "plain")
    };
    media.parameters = cursor.parameters(max);
    media
}

/// Reads a Content-Disposition; `None` when it names none.
pub(super) fn disposition(value: &[u8], max: usize) -> Option<Disposition> {
    let mut cursor = Cursor { rest: value };
    cursor.skip_space();
    let kind = cursor.token().to_vec();
    (!kind.is_empty()).then(|| Disposition { kind, parameters: cursor.parameters(max) })
}

/// Reads a value that is a single token, such as Content-Transfer-Encoding.
pub(super) fn single_token(value: &[u8]) -> Option<Vec<u8>> {
    let mut cursor = Cursor { rest: value };
    cursor.skip_space();
    let token = cursor.token();
    (!token.is_empty()).then(|| token.to_vec())
}

/// Reads a Content-Language: tags between commas.
pub(super) fn languages(value: &[u8], max: usize) -> Vec<Vec<u8>> {
    value.split(|&byte| byte == b',').filter_map(single_token).take(max).collect()
}

/// The value of the parameter `name` (lower case), put together from its RFC 2231 pieces and percent-decoded where it
/// comes so. The charset that RFC 2231 may name is left off.
pub fn parameter(parameters: &[Parameter], name: &str) -> Option<Vec<u8>> {
    let find = |wanted: &str| parameters.iter().find(|p| p.name.eq_ignore_ascii_case(wanted.as_bytes()));
    if let Some(plain) = find(name) {
        return Some(plain.value.clone());
    }
    if let Some(extended) = find(&format!("{name}*")) {
        return Some(percent_decoded(without_charset(&extended.value)));
    }
    let mut whole = Vec::new();
    for number in 0..parameters.len() {
        if let Some(piece) = find(&format!("{name}*{number}")) {
            whole.extend_from_slice(&piece.value);
        } else if let Some(piece) = find(&format!("{name}*{number}*")) {
            let value = if number == 0 { without_charset(&piece.value) } else { &piece.value };
            whole.extend_from_slice(&percent_decoded(value));
        } else if number == 0 {
            return None;
        } else {
            break;
        }
    }
    (!parameters.is_empty()).then_some(whole)
}

/// RFC 2231 section 4: `charset'language'value`.
fn without_charset(value: &[u8]) -> &[u8] {
    value.splitn(3, |&byte| byte == b'\'').nth(2).unwrap_or(value)
}

fn percent_decoded(mut value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    loop {
        match value {
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(super::transfer::hex(*high) * 16 + super::transfer::hex(*low));
                value = rest;
            }
            [byte, rest @ ..] => {
                out.push(*byte);
                value = rest;
            }
            [] => return out,
        }
    }
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn eat(&mut self, wanted: u8) -> bool {
        match self.rest {
            [first, rest @ ..] if *first == wanted => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Skips white space and comments; a comment that never ends takes the rest of the value.
    fn skip_space(&mut self) {
        let mut depth = 0_usize;
        loop {
            self.rest = match self.rest {
                [b'(', rest @ ..] => {
                    depth += 1;
                    rest
                }
                [b')', rest @ ..] if depth > 0 => {
                    depth -= 1;
                    rest
                }
                [b'\\', _, rest @ ..] if depth > 0 => rest,
                [b' ' | b'\t', rest @ ..] => rest,
                [_, rest @ ..] if depth > 0 => rest,
                _ => return,
            }
        }
    }

    /// A token of RFC 2045 section 5.1, 8-bit bytes allowed; maybe empty.
    fn token(&mut self) -> &'a [u8] {
        let is_token = |byte: &u8| *byte > b' ' && *byte != 0x7f && !b"()<>@,;:\\\"/[]?=".contains(byte);
        self.take(self.rest.iter().take_while(|byte| is_token(byte)).count())
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    /// `;`-separated parameters; what is between them and is none is skipped up to the next `;`.
    fn parameters(&mut self, max: usize) -> Vec<Parameter> {
        let mut parameters = Vec::new();
        while parameters.len() < max {
            let Some(semicolon) = memchr::memchr(b';', self.rest) else { break };
            self.take(semicolon + 1);
            self.skip_space();
            let name = self.token();
            self.skip_space();
            if name.is_empty() || !self.eat(b'=') {
                continue;
            }
            self.skip_space();
            let value = self.value();
            parameters.push(Parameter { name: name.to_vec(), value });
        }
        parameters
    }

    /// A quoted string, or else all up to white space or `;`: more than a token, as many forget the quotes.
    fn value(&mut self) -> Vec<u8> {
        if !self.eat(b'"') {
            let ends = |byte: &u8| matches!(byte, b';' | b' ' | b'\t');
            return self.take(self.rest.iter().take_while(|byte| !ends(byte)).count()).to_vec();
        }
        let mut value = Vec::new();
        loop {
            match self.rest {
                [b'"', rest @ ..] => {
                    self.rest = rest;
                    return value;
                }
                [b'\\', byte, rest @ ..] | [byte, rest @ ..] => {
                    value.push(*byte);
                    self.rest = rest;
                }
                [] => return super::field::trim_end(&value).to_vec(), // the closing quote is missing
            }
        }
    }
}
