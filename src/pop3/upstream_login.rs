//! Signing in to another POP3 server, as its client (RFC 1939 section 4, RFC 2449, RFC 5034): bytes in, steps out. What the
//! server says is bounded, and nothing of it is passed on but its capabilities. Called by `upstream`. No I/O, no clock.

use std::borrow::Cow;

use bytes::{Buf, BytesMut};

use crate::model::{Offer, Secret, UpstreamNo};

/// Longest line of the server, CRLF included, in bytes: RFC 2449 section 4 says 512, and servers with long tokens in
/// their challenges say more.
const MAX_LINE: usize = 8 * 1024;
/// All it may say before the sign-in is over, in bytes.
const MAX_SAID: usize = 64 * 1024;
/// Longest `AUTH` line with an initial response, CRLF included, in bytes (RFC 5034 section 4).
const MAX_INITIAL: usize = 255;

/// What there is.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Send what stands in the output, read more, ask again.
    Read,
    /// Signed in; what is left of the input belongs to the session.
    Done {
        /// What the server can do, a capability a line, as it said it.
        capabilities: Vec<String>,
    },
    /// It did not work.
    No(UpstreamNo),
}

/// One sign-in.
pub struct Login {
    offers: Vec<Offer>,
    /// For a server without SASL: the user's name and the password.
    user_pass: Option<(String, Secret)>,
    /// Arguments of XCLIENT; none: it is not sent.
    client: Option<String>,
    state: State,
    capabilities: Vec<String>,
    /// The greeting names XCLIENT: Dovecot tells it there, and only to those it trusts.
    greets_xclient: bool,
    greeted: bool,
    spoken: bool,
    heard: usize,
}

enum State {
    Greeting,
    /// The first line of the answer to CAPA.
    Asked,
    /// Its list.
    Listing,
    /// The answer to XCLIENT.
    Introduced,
    /// The answer to AUTH; `response` is still to be sent, and `dismissal` answers an error challenge.
    Authenticating {
        response: Option<Offer>,
        dismissal: &'static str,
    },
    /// The answer to USER.
    Named(Secret),
    /// The answer to PASS.
    Passed(Secret),
}

impl Login {
    /// The first of `offers` that the server lists is taken; else `user_pass`, if there is one. `client` is what XCLIENT
    /// says to a server that lists it: `ADDR=192.0.2.1 PORT=4711`.
    pub fn new(offers: Vec<Offer>, user_pass: Option<(String, Secret)>, client: Option<String>) -> Self {
        Self {
            offers,
            user_pass,
            client,
            state: State::Greeting,
            capabilities: Vec::new(),
            greets_xclient: false,
            greeted: false,
            spoken: false,
            heard: 0,
        }
    }

    /// Whether the server has greeted as such a server does.
    pub fn was_greeted(&self) -> bool {
        self.greeted
    }

    /// Whether anything was said by which somebody signs in.
    pub fn has_spoken(&self) -> bool {
        self.spoken
    }

    /// Works on what has come, and writes what is to be sent.
    pub fn next(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Step {
        loop {
            let Some(end) = memchr::memchr(b'\n', input).map(|at| at + 1) else {
                return if input.len() > MAX_LINE { no("a line that is too long") } else { Step::Read };
            };
            self.heard += end;
            if end > MAX_LINE || self.heard > MAX_SAID {
                return no("too much before the sign-in");
            }
            // A server may speak another language in another charset; what is shown of it is ASCII.
            let line = input.get(..end).and_then(|line| line.strip_suffix(b"\r\n")).map(String::from_utf8_lossy);
            let Some(line) = line.map(Cow::into_owned) else {
                return no("a line that is no POP3");
            };
            input.advance(end);
            if let Some(step) = self.hear(&line, out) {
                return step;
            }
        }
    }

    fn hear(&mut self, line: &str, out: &mut BytesMut) -> Option<Step> {
        let good = line == "+OK" || line.starts_with("+OK ");
        let bad = line == "-ERR" || line.starts_with("-ERR ");
        if !(good || bad || matches!(self.state, State::Listing | State::Authenticating { .. })) {
            let greeting = matches!(self.state, State::Greeting);
            return Some(no(if greeting { "no POP3 greeting" } else { "an answer that is neither +OK nor -ERR" }));
        }
        match std::mem::replace(&mut self.state, State::Greeting) {
            State::Greeting if bad => Some(Step::No(UpstreamNo::closing(reason(line)))),
            State::Greeting => {
                self.greets_xclient = line.to_ascii_uppercase().starts_with("+OK [XCLIENT]");
                self.greeted = true;
                say(out, &["CAPA"]);
                self.state = State::Asked;
                None
            }
            State::Asked if good => {
                self.state = State::Listing;
                None
            }
            State::Listing if line == "." => self.introduce(out),
            State::Listing => {
                self.capabilities.push(line.strip_prefix('.').unwrap_or(line).to_owned());
                self.state = State::Listing;
                None
            }
            // A server without CAPA, or one that does not want to be told who asks, may know USER all the same.
            State::Asked => self.introduce(out),
            State::Introduced => self.authenticate(out),
            State::Authenticating { .. } if good => self.done(),
            State::Authenticating { response, dismissal } if !bad => {
                if line != "+" && !line.starts_with("+ ") {
                    return Some(no("an answer to AUTH that is no challenge"));
                }
                match response {
                    Some(offer) => say(out, &[offer.response.reveal()]),
                    None => say(out, &[dismissal]),
                }
                self.state = State::Authenticating { response: None, dismissal };
                None
            }
            State::Named(password) if good => {
                say(out, &["PASS ", password.reveal()]);
                self.state = State::Passed(password);
                None
            }
            State::Passed(_) if good => self.done(),
            State::Passed(password) => {
                // It may repeat what it was told.
                let told = Some(password.reveal()).filter(|password| !password.is_empty());
                let said = told.map_or_else(|| reason(line).to_owned(), |told| reason(line).replace(told, "..."));
                Some(Step::No(UpstreamNo::refused(&said)))
            }
            State::Authenticating { .. } | State::Named(_) => Some(Step::No(UpstreamNo::refused(reason(line)))),
        }
    }

    /// Says who asks, where that is wanted and understood.
    fn introduce(&mut self, out: &mut BytesMut) -> Option<Step> {
        match self.client.take().filter(|_| self.greets_xclient || self.lists("XCLIENT").is_some()) {
            Some(client) => {
                say(out, &["XCLIENT ", &client]);
                self.state = State::Introduced;
                None
            }
            None => self.authenticate(out),
        }
    }

    fn authenticate(&mut self, out: &mut BytesMut) -> Option<Step> {
        self.spoken = true;
        let offered = self.lists("SASL").unwrap_or_default().to_ascii_uppercase();
        let has = |mechanism: &str| offered.split(' ').any(|one| one == mechanism);
        if let Some(at) = self.offers.iter().position(|offer| has(offer.mechanism)) {
            let offer = self.offers.swap_remove(at);
            self.offers.clear();
            let response = offer.response.reveal();
            let response = if response.is_empty() { "=" } else { response };
            let dismissal = offer.dismissal;
            let at_once = "AUTH  \r\n".len() + offer.mechanism.len() + response.len() <= MAX_INITIAL;
            let response = if at_once {
                say(out, &["AUTH ", offer.mechanism, " ", response]);
                None
            } else {
                say(out, &["AUTH ", offer.mechanism]);
                Some(offer)
            };
            self.state = State::Authenticating { response, dismissal };
            return None;
        }
        match self.user_pass.take() {
            Some((user, password)) => {
                say(out, &["USER ", &user]);
                self.state = State::Named(password);
                None
            }
            None => Some(Step::No(UpstreamNo::NotOffered { offered: UpstreamNo::shown(offered.trim()) })),
        }
    }

    /// The arguments of a capability, if it is listed.
    fn lists(&self, wanted: &str) -> Option<&str> {
        self.capabilities.iter().find_map(|line| {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            word.eq_ignore_ascii_case(wanted).then_some(rest)
        })
    }

    fn done(&mut self) -> Option<Step> {
        Some(Step::Done { capabilities: std::mem::take(&mut self.capabilities) })
    }
}

/// What the peer is told that it can do now, as the answer to CAPA: what the server lists, without what is about signing
/// in and without commands that the relay does not let through.
pub fn told(capabilities: &[String]) -> String {
    const WORDS: [&str; 8] =
        ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "LOGIN-DELAY", "EXPIRE", "IMPLEMENTATION"];
    let mut text = String::from("+OK Capability list follows\r\n");
    for line in capabilities {
        let word = line.split(' ').next().unwrap_or_default();
        let plain = line.len() <= 500 && line.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if plain && WORDS.iter().any(|known| known.eq_ignore_ascii_case(word)) {
            text.push_str(line);
            text.push_str("\r\n");
        }
    }
    text.push_str(".\r\n");
    text
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

/// What stands behind `-ERR`.
fn reason(line: &str) -> &str {
    line.strip_prefix("-ERR").unwrap_or(line).trim_start()
}

#[cfg(test)]
mod tests;
