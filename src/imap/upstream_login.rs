//! Signing in to another IMAP server, as its client (RFC 9051 section 6.2): bytes in, steps out. The server is not
//! believed more than it has to be: what it says up to the sign-in is bounded, and nothing of it is passed on but the
//! names of capabilities. Called by `upstream`. No I/O, no clock.

use bytes::{Buf, BytesMut};

use super::frame::Announced;
use crate::model::{Offer, UpstreamNo};

/// Longest line of the server, CRLF included, in bytes.
const MAX_LINE: usize = 8 * 1024;
/// All it may say before the sign-in is over, in bytes.
const MAX_SAID: usize = 64 * 1024;
/// Longest list of capabilities that is passed on, in bytes.
const MAX_CAPABILITIES: usize = 4 * 1024;

/// The tags of our commands.
const CAPABILITY: &str = "P1";
const ID: &str = "P2";
const AUTHENTICATE: &str = "P3";
const CAPABILITY_AGAIN: &str = "P4";

/// What there is.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Send what stands in the output, read more, ask again.
    Read,
    /// Signed in; what is left of the input belongs to the session.
    Done {
        /// What the server can do now, as it said it, separated by single spaces.
        capabilities: String,
    },
    /// It did not work.
    No(UpstreamNo),
}

/// One sign-in.
pub struct Login {
    offers: Vec<Offer>,
    /// Arguments of ID, in parentheses; none: no ID is sent.
    id: Option<String>,
    state: State,
    capabilities: Option<String>,
    /// Bytes heard so far.
    heard: usize,
}

enum State {
    Greeting,
    /// The answer to CAPABILITY.
    Asked,
    /// The answer to AUTHENTICATE; `response` is still to be sent, and `dismissal` answers an error challenge.
    Authenticating {
        response: Option<Offer>,
        dismissal: &'static str,
    },
    /// The answer to CAPABILITY after the sign-in.
    AskedAgain,
}

/// One line of the server.
enum Line {
    /// `+ text`
    GoOn,
    /// `* OK ..`, `* NO ..`, `* BAD ..`
    Status {
        word: String,
        rest: String,
    },
    Bye(String),
    Preauth,
    Capability(String),
    /// Another untagged response.
    Other,
    Tagged {
        tag: String,
        word: String,
        rest: String,
    },
}

impl Login {
    /// The first of `offers` that the server lists is taken. `id` is what ID says, `("name" "value" ..)`, to a server
    /// that lists it.
    pub fn new(offers: Vec<Offer>, id: Option<String>) -> Self {
        Self { offers, id, state: State::Greeting, capabilities: None, heard: 0 }
    }

    /// Whether the server has greeted as such a server does.
    pub fn was_greeted(&self) -> bool {
        !matches!(self.state, State::Greeting)
    }

    /// Whether anything was said by which somebody signs in.
    pub fn has_spoken(&self) -> bool {
        matches!(self.state, State::Authenticating { .. } | State::AskedAgain)
    }

    /// Works on what has come, and writes what is to be sent.
    pub fn next(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Step {
        loop {
            let Some(end) = memchr::memchr(b'\n', input).map(|at| at + 1) else {
                return if input.len() > MAX_LINE { no("a line that is too long") } else { Step::Read };
            };
            let bytes = input.get(..end).unwrap_or_default();
            self.heard += end;
            if end > MAX_LINE || self.heard > MAX_SAID {
                return no("too much before the sign-in");
            }
            if Announced::at_end_of(bytes).is_some() && bytes.starts_with(b"* ") && !is_status(bytes) {
                return no("a literal before the sign-in");
            }
            let Some(line) = Line::read(bytes) else {
                return no("a line that is no IMAP");
            };
            input.advance(end);
            if let Some(step) = self.hear(line, out) {
                return step;
            }
        }
    }

    fn hear(&mut self, line: Line, out: &mut BytesMut) -> Option<Step> {
        match (&mut self.state, line) {
            (_, Line::Bye(text)) => Some(Step::No(UpstreamNo::closing(&text))),
            (State::Greeting, Line::Preauth) => Some(no("PREAUTH: it asks nobody to sign in")),
            (State::Greeting, Line::Status { word, rest }) if word == "OK" => {
                self.capabilities = capability_code(&rest);
                if self.capabilities.is_some() {
                    return self.authenticate(out);
                }
                say(out, &[CAPABILITY, " CAPABILITY"]);
                self.state = State::Asked;
                None
            }
            (State::Greeting, _) => Some(no("no IMAP greeting")),
            (_, Line::Capability(list)) => {
                self.capabilities = Some(list);
                None
            }
            (_, Line::Tagged { tag, .. }) if tag == ID => None,
            (State::Asked, Line::Tagged { tag, .. }) if tag == CAPABILITY => self.authenticate(out),
            (State::Authenticating { response, dismissal }, Line::GoOn) => {
                match response.take() {
                    Some(offer) => say(out, &[offer.response.reveal()]),
                    None => say(out, &[dismissal]),
                }
                None
            }
            (State::Authenticating { .. }, Line::Tagged { tag, word, rest }) if tag == AUTHENTICATE => {
                if word != "OK" {
                    return Some(Step::No(UpstreamNo::refused(&rest)));
                }
                match capability_code(&rest) {
                    Some(list) => Some(Step::Done { capabilities: list }),
                    None => {
                        self.capabilities = None;
                        say(out, &[CAPABILITY_AGAIN, " CAPABILITY"]);
                        self.state = State::AskedAgain;
                        None
                    }
                }
            }
            (State::AskedAgain, Line::Tagged { tag, .. }) if tag == CAPABILITY_AGAIN => {
                let capabilities = self.capabilities.take();
                Some(capabilities.map_or_else(|| no("no capabilities"), |capabilities| Step::Done { capabilities }))
            }
            (_, Line::Status { .. } | Line::Other) => None,
            (_, Line::GoOn | Line::Preauth | Line::Tagged { .. }) => Some(no("an answer to nothing")),
        }
    }

    fn authenticate(&mut self, out: &mut BytesMut) -> Option<Step> {
        let Some(offered) = self.capabilities.take() else {
            return Some(no("no capabilities"));
        };
        let has = |word: &str| offered.split(' ').any(|one| one.eq_ignore_ascii_case(word));
        if let Some(id) = self.id.take().filter(|_| has("ID")) {
            say(out, &[ID, " ID ", &id]);
        }
        let chosen = self.offers.iter().position(|offer| has(&format!("AUTH={}", offer.mechanism)));
        let Some(offer) = chosen.map(|at| self.offers.swap_remove(at)) else {
            return Some(Step::No(UpstreamNo::NotOffered { offered: mechanisms(&offered) }));
        };
        self.offers.clear();
        let dismissal = offer.dismissal;
        let response = if has("SASL-IR") {
            let response = if offer.response.reveal().is_empty() { "=" } else { offer.response.reveal() };
            say(out, &[AUTHENTICATE, " AUTHENTICATE ", offer.mechanism, " ", response]);
            None
        } else {
            say(out, &[AUTHENTICATE, " AUTHENTICATE ", offer.mechanism]);
            Some(offer)
        };
        self.state = State::Authenticating { response, dismissal };
        None
    }
}

impl Line {
    fn read(bytes: &[u8]) -> Option<Self> {
        // A server may speak another language in another charset; what is shown of it is ASCII.
        let text = String::from_utf8_lossy(bytes.strip_suffix(b"\r\n")?);
        if text == "+" || text.starts_with("+ ") {
            return Some(Self::GoOn);
        }
        let (tag, rest) = text.split_once(' ')?;
        let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let (word, rest) = (word.to_ascii_uppercase(), rest.to_owned());
        if tag != "*" {
            return Some(Self::Tagged { tag: tag.to_owned(), word, rest });
        }
        Some(match word.as_str() {
            "OK" | "NO" | "BAD" => Self::Status { word, rest },
            "BYE" => Self::Bye(rest),
            "PREAUTH" => Self::Preauth,
            "CAPABILITY" => Self::Capability(plain_words(&rest)),
            _ => Self::Other,
        })
    }
}

/// What the peer is told that it can do now: what the server lists, without what is about signing in, and without
/// what the relay does not let through.
pub fn told(capabilities: &str) -> String {
    let hidden = |word: &str| {
        const WORDS: [&str; 5] = ["STARTTLS", "LOGINDISABLED", "SASL-IR", "LOGIN-REFERRALS", "UNAUTHENTICATE"];
        let upper = word.to_ascii_uppercase();
        upper.starts_with("AUTH=") || upper.starts_with("XPROXY") || WORDS.contains(&upper.as_str())
    };
    capabilities.split(' ').filter(|word| !hidden(word)).collect::<Vec<_>>().join(" ")
}

fn no(what: &'static str) -> Step {
    Step::No(UpstreamNo::Nonsense(what))
}

fn say(out: &mut BytesMut, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn is_status(line: &[u8]) -> bool {
    [&b"* OK"[..], b"* NO", b"* BAD", b"* BYE"]
        .iter()
        .any(|word| line.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)))
}

/// The list in `[CAPABILITY ..] text`.
fn capability_code(rest: &str) -> Option<String> {
    let inner = rest.strip_prefix('[')?.split_once(']')?.0;
    let (word, list) = inner.split_once(' ')?;
    word.eq_ignore_ascii_case("CAPABILITY").then(|| plain_words(list))
}

/// Words of printable ASCII that may stand in a list of capabilities, separated by single spaces.
fn plain_words(list: &str) -> String {
    let plain = |word: &&str| {
        !word.is_empty()
            && word.bytes().all(|byte| {
                byte.is_ascii_graphic() && !matches!(byte, b'(' | b')' | b'{' | b'[' | b']' | b'"' | b'\\')
            })
    };
    let mut words = String::new();
    for word in list.split(' ').filter(plain) {
        if words.len() + word.len() >= MAX_CAPABILITIES {
            break;
        }
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
    }
    words
}

/// `XOAUTH2 PLAIN`, for an error.
fn mechanisms(capabilities: &str) -> String {
    let names = capabilities.split(' ').filter_map(|word| {
        let (start, name) = word.split_at_checked(5)?;
        start.eq_ignore_ascii_case("AUTH=").then_some(name)
    });
    UpstreamNo::shown(&names.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests;
