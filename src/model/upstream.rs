//! What is said between the gateway and another mail server when it signs in there, in either protocol.

use super::Secret;

/// A way to sign in: a SASL mechanism and what is to be said in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The mechanism, in upper case.
    pub mechanism: &'static str,
    /// The client's first and only response: base64, empty for an empty one.
    pub response: Secret,
    /// What answers an error challenge, base64 or empty; the refusal follows.
    pub dismissal: &'static str,
}

/// Why a mail server did not let the gateway in. No text holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamNo {
    /// It said no.
    #[error("it refused the sign-in{}: {text}", code.as_ref().map(|code| format!(" [{code}]")).unwrap_or_default())]
    Refused {
        /// The response code, in upper case, without its arguments.
        code: Option<String>,
        /// Its words, as [`UpstreamNo::shown`] cuts them.
        text: String,
    },
    /// It has none of the ways that its `login` could use.
    #[error("it does not offer what `login` says; it offers {}", if offered.is_empty() { "nothing" } else { offered })]
    NotOffered {
        /// What it offers.
        offered: String,
    },
    /// It said goodbye before anybody was signed in.
    #[error("it closed: {0}")]
    Closing(String),
    /// It said something that makes no sense there.
    #[error("it sent {0}")]
    Nonsense(&'static str),
}

impl UpstreamNo {
    /// Longest text of another server that a log or an error repeats, in characters.
    const SHOWN: usize = 200;
    /// Longest run of characters of base64 in it. A master user's shortest response is about as long.
    const WORD: usize = 20;

    /// What a server that says no has to say behind that: `[CODE ..] text`, the code and its text both optional.
    pub fn refused(said: &str) -> Self {
        let (code, text) = Self::code_and_text(said);
        Self::Refused { code: code.and_then(|code| code.split(' ').next()).map(str::to_ascii_uppercase), text }
    }

    /// Likewise for one that says goodbye.
    pub fn closing(said: &str) -> Self {
        Self::Closing(Self::code_and_text(said).1)
    }

    fn code_and_text(said: &str) -> (Option<&str>, String) {
        let found = said.strip_prefix('[').and_then(|said| said.split_once(']'));
        let (code, text) = found.map_or((None, said), |(code, text)| (Some(code), text));
        (code, Self::shown(text))
    }

    /// What another server said, fit for a log: printable ASCII, cut, and without a word that could be a SASL response, which
    /// some servers repeat with their no.
    pub fn shown(text: &str) -> String {
        let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
        let base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
        let words = text.trim().split(' ').map(|word| {
            let longest = word.split(|c| !base64(c)).map(str::len).max().unwrap_or_default();
            if longest > Self::WORD { "..." } else { word }
        });
        let words: Vec<&str> = words.collect();
        words.join(" ").chars().map(plain).take(Self::SHOWN).collect()
    }

    /// Whether the same may work once other sessions there have ended.
    pub fn is_for_now(&self) -> bool {
        matches!(self, Self::Refused { code: Some(code), .. } if matches!(code.as_str(), "INUSE" | "IN-USE" | "LIMIT" | "LOGIN-DELAY"))
    }

    /// Whether another server of the same kind may do better: this one is about to close, or does not speak the protocol.
    pub fn is_of_this_server(&self) -> bool {
        match self {
            Self::Closing(_) | Self::Nonsense(_) => true,
            Self::Refused { code, .. } => {
                code.as_deref().is_some_and(|code| matches!(code, "UNAVAILABLE" | "SERVERBUG" | "SYS/TEMP"))
            }
            Self::NotOffered { .. } => false,
        }
    }
}
