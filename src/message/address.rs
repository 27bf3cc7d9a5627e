//! Address lists (RFC 5322 section 3.4 and 4.4) as ENVELOPE shows them (RFC 3501 section 7.4.2). One pass, no
//! recursion, no way back: work is linear in the length of the field whatever it holds.

/// One `address` of an ENVELOPE. A group is a start (`mailbox` its name, no `host`), its members, an end (all `None`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// Display name, else the comment after the address; quotes removed, RFC 2047 words as they are.
    pub name: Option<Vec<u8>>,
    /// Source route, `@a,@b` (RFC 5322 section 4.4).
    pub route: Option<Vec<u8>>,
    /// Local part without quotes, or the name of a group.
    pub mailbox: Option<Vec<u8>>,
    /// Domain.
    pub host: Option<Vec<u8>>,
}

/// Stand-ins for what a malformed address lacks, in Dovecot's spelling: an absent host would mean a group.
const MISSING_MAILBOX: &[u8] = b"MISSING_MAILBOX";
const MISSING_DOMAIN: &[u8] = b"MISSING_DOMAIN";

/// Reads an unfolded address list; at most `max` entries (group starts and ends count) are returned.
///
/// Whatever cannot be read is passed over up to the next comma. `;` outside a group separates as a comma does.
pub fn addresses(value: &[u8], max: usize) -> Vec<Address> {
    let mut list = List { out: Vec::new(), max, now: Pending::default(), in_group: false };
    let mut tokens = Tokens { rest: value, unclosed: [false; 3] };
    while let Some(token) = tokens.next() {
        if list.out.len() >= max {
            return list.out;
        }
        list.take(token);
    }
    list.flush();
    if list.in_group {
        list.push(Address::default());
    }
    list.out
}

enum Token {
    Space,
    /// A run of atom characters and dots, or a domain literal with its brackets.
    Atom(Vec<u8>),
    Quoted(Vec<u8>),
    Comment(Vec<u8>),
    Special(u8),
}

/// What is known of the address that is being read.
#[derive(Default)]
struct Pending {
    /// Words with single spaces: a display name or a group's name.
    phrase: Vec<u8>,
    /// The same words without the spaces: a local part.
    local: Vec<u8>,
    words: usize,
    only_word_quoted: bool,
    domain: Option<Vec<u8>>,
    comment: Option<Vec<u8>>,
    angle: Option<Angle>,
    spaced: bool,
}

#[derive(Default)]
struct Angle {
    route: Vec<u8>,
    in_route: bool,
    local: Vec<u8>,
    domain: Option<Vec<u8>>,
    closed: bool,
}

struct List {
    out: Vec<Address>,
    max: usize,
    now: Pending,
    in_group: bool,
}

impl List {
    fn push(&mut self, address: Address) {
        if self.out.len() < self.max {
            self.out.push(address);
        }
    }

    fn take(&mut self, token: Token) {
        if let Some(angle) = self.now.angle.as_mut().filter(|angle| !angle.closed) {
            if let Some(token) = angle.take(token) {
                self.take_outside(token);
            }
            return;
        }
        self.take_outside(token);
    }

    /// A token outside `<..>`.
    fn take_outside(&mut self, token: Token) {
        match token {
            Token::Space => self.now.spaced = true,
            Token::Comment(text) => self.now.comment = Some(text),
            Token::Atom(text) => self.now.word(&text, false),
            Token::Quoted(text) => self.now.word(&text, true),
            Token::Special(b'<') => self.now.angle = Some(Angle::default()),
            Token::Special(b'@') if self.now.angle.is_none() => {
                self.now.phrase.push(b'@');
                self.now.spaced = false;
                if self.now.domain.is_none() {
                    self.now.domain = Some(Vec::new());
                }
            }
            Token::Special(b':') if !self.in_group && self.now.angle.is_none() && self.now.domain.is_none() => {
                let now = std::mem::take(&mut self.now);
                self.in_group = true;
                self.push(Address { mailbox: Some(now.phrase), ..Address::default() });
            }
            Token::Special(b';') => {
                self.flush();
                if std::mem::take(&mut self.in_group) {
                    self.push(Address::default());
                }
            }
            Token::Special(b',') => self.flush(),
            Token::Special(_) => self.now.spaced = true,
        }
    }

    fn flush(&mut self) {
        if let Some(address) = std::mem::take(&mut self.now).finish() {
            self.push(address);
        }
    }
}

impl Pending {
    fn word(&mut self, text: &[u8], quoted: bool) {
        if self.angle.is_some() {
            return; // words after `<..>` say nothing
        }
        if let Some(domain) = &mut self.domain {
            // `example . com` is one domain (obs-domain); a word that simply follows is not part of it.
            if domain.is_empty() || domain.ends_with(b".") || text.starts_with(b".") {
                domain.extend_from_slice(text);
            }
        } else {
            self.local.extend_from_slice(text);
            self.words += 1;
            self.only_word_quoted = quoted && self.words == 1;
        }
        if (self.spaced || quoted) && !self.phrase.is_empty() && !self.phrase.ends_with(b"@") {
            self.phrase.push(b' ');
        }
        self.phrase.extend_from_slice(text);
        self.spaced = false;
    }

    /// `None` where there was nothing between two commas.
    fn finish(self) -> Option<Address> {
        let filled = |bytes: Vec<u8>| (!bytes.is_empty()).then_some(bytes);
        let or = |bytes: Option<Vec<u8>>, missing: &[u8]| Some(bytes.unwrap_or_else(|| missing.to_vec()));
        let comment = self.comment.and_then(filled);
        if let Some(angle) = self.angle {
            return Some(Address {
                name: filled(self.phrase).or(comment),
                route: filled(angle.route).filter(|_| !angle.in_route), // one without its colon is none
                mailbox: or(filled(angle.local), MISSING_MAILBOX),
                host: or(angle.domain.and_then(filled), MISSING_DOMAIN),
            });
        }
        let (name, mailbox, host) = match self.domain {
            Some(domain) => (comment, filled(self.local), filled(domain)),
            None if self.phrase.is_empty() => return None,
            None if self.words == 1 && !self.only_word_quoted => (comment, filled(self.local), None),
            None => (filled(self.phrase), None, None),
        };
        Some(Address { name, route: None, mailbox: or(mailbox, MISSING_MAILBOX), host: or(host, MISSING_DOMAIN) })
    }
}

impl Angle {
    /// A token inside `<..>`; gives it back when it cannot belong here, as then the `>` is missing.
    fn take(&mut self, token: Token) -> Option<Token> {
        match token {
            Token::Special(b'>') => self.closed = true,
            Token::Special(b'@') if self.local.is_empty() && self.domain.is_none() => {
                self.in_route = true;
                self.route.push(b'@');
            }
            Token::Special(b':') if self.in_route => self.in_route = false,
            Token::Special(byte @ b',') if self.in_route => self.route.push(byte),
            Token::Special(b'@') => {
                self.domain.get_or_insert_default();
            }
            Token::Special(b',' | b';' | b'<') => {
                self.closed = true;
                return Some(token);
            }
            Token::Atom(text) | Token::Quoted(text) if self.in_route => self.route.extend_from_slice(&text),
            Token::Atom(text) | Token::Quoted(text) => match &mut self.domain {
                Some(domain) => domain.extend_from_slice(&text),
                None => self.local.extend_from_slice(&text),
            },
            Token::Space | Token::Comment(_) | Token::Special(_) => {}
        }
        None
    }
}

/// Reads from an opening bracket to its end: the text, and what follows.
type ReadEnclosed = fn(&[u8]) -> Option<(Vec<u8>, &[u8])>;

/// Brackets whose missing end has been noticed once; from then on their start is garbage, so that no byte is looked at
/// more than a few times.
#[derive(Clone, Copy)]
enum Bracket {
    Comment,
    Quote,
    Literal,
}

struct Tokens<'a> {
    rest: &'a [u8],
    unclosed: [bool; 3],
}

impl Tokens<'_> {
    fn next(&mut self) -> Option<Token> {
        let (&first, rest) = self.rest.split_first()?;
        let token = match first {
            b' ' | b'\t' | b'\r' | b'\n' => {
                let space =
                    self.rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count();
                self.rest = self.rest.get(space..)?;
                return Some(Token::Space);
            }
            b'(' => self.enclosed(Bracket::Comment, comment).map(Token::Comment),
            b'"' => self.enclosed(Bracket::Quote, quoted).map(Token::Quoted),
            b'[' => self.enclosed(Bracket::Literal, literal).map(Token::Atom),
            byte if is_atom(byte) => {
                let length = self.rest.iter().take_while(|&&byte| is_atom(byte)).count();
                let (atom, rest) = self.rest.split_at_checked(length)?;
                self.rest = rest;
                return Some(Token::Atom(atom.to_vec()));
            }
            _ => None,
        };
        Some(token.unwrap_or_else(|| {
            self.rest = rest;
            Token::Special(first)
        }))
    }

    fn enclosed(&mut self, bracket: Bracket, read: ReadEnclosed) -> Option<Vec<u8>> {
        let unclosed = self.unclosed.get_mut(bracket as usize)?;
        if *unclosed {
            return None;
        }
        let Some((text, rest)) = read(self.rest) else {
            *unclosed = true;
            return None;
        };
        self.rest = rest;
        Some(text)
    }
}

/// atext of RFC 5322 section 3.2.3, the dot, and 8-bit bytes.
fn is_atom(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f && !b"()<>[]:;@\\,\"".contains(&byte)
}

/// `(..)` with nested comments; the outer brackets are left off.
fn comment(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut depth = 0_usize;
    let mut text = Vec::new();
    let mut rest = bytes;
    loop {
        rest = match rest {
            [b'\\', byte, rest @ ..] => {
                text.push(*byte);
                rest
            }
            [b'(', rest @ ..] => {
                if depth > 0 {
                    text.push(b'(');
                }
                depth += 1;
                rest
            }
            [b')', rest @ ..] if depth <= 1 => return Some((text, rest)),
            [byte, rest @ ..] => {
                depth -= usize::from(*byte == b')');
                text.push(*byte);
                rest
            }
            [] => return None,
        }
    }
}

/// `"..."`, backslashes taken out.
fn quoted(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut text = Vec::new();
    let mut rest = bytes.get(1..)?;
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some((text, rest)),
            [b'\\', byte, rest @ ..] | [byte, rest @ ..] => {
                text.push(*byte);
                rest
            }
            [] => return None,
        }
    }
}

/// `[..]`, brackets and backslashes kept.
fn literal(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let end = memchr::memchr(b']', bytes)?;
    let (text, rest) = bytes.split_at_checked(end + 1)?;
    Some((text.to_vec(), rest))
}

#[cfg(test)]
mod tests;
