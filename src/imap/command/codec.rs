//! The verbs that imap-codec parses, and how its values become ours.

use imap_codec::{
    CommandCodec,
    decode::Decoder,
    imap_types::{
        command::{Command as Theirs, CommandBody},
        core::{IString, NString},
        extensions::compress::CompressionAlgorithm,
        mailbox::{ListMailbox, Mailbox},
    },
};

use super::{Command, Head, grammar::Fault, list::pattern};
use crate::imap::mailbox::{MailboxName, Names};
use crate::model::Secret;

/// Most pairs of an ID that are kept (RFC 2971 section 3.3).
const MAX_ID_PAIRS: usize = 30;
/// Most characters kept of an ID's names and values; RFC 2971 allows 1024 for a value, the audit row 256 bytes.
const MAX_ID_CHARS: usize = 256;

/// A whole command, CRLF included.
pub(super) fn command(bytes: &[u8], names: Names) -> Result<Command, Fault> {
    let name = |mailbox: Mailbox<'_>| MailboxName::read(wire(&mailbox), names);
    let body = decode(bytes)?.body;
    Ok(match body {
        CommandBody::Capability => Command::Capability,
        CommandBody::Noop => Command::Noop,
        CommandBody::Logout => Command::Logout,
        CommandBody::Id { parameters } => Command::Id(id(parameters.unwrap_or_default())),
        CommandBody::Enable { capabilities } => {
            Command::Enable(capabilities.as_ref().iter().map(|c| c.to_string().to_ascii_uppercase()).collect())
        }
        CommandBody::Compress { algorithm: CompressionAlgorithm::Deflate } => Command::Compress,
        CommandBody::Delete { mailbox } => Command::Delete(name(mailbox)?),
        CommandBody::Rename { from, to } => Command::Rename { from: name(from)?, to: name(to)? },
        CommandBody::Subscribe { mailbox } => Command::Subscribe(name(mailbox)?),
        CommandBody::Unsubscribe { mailbox } => Command::Unsubscribe(name(mailbox)?),
        CommandBody::Lsub { reference, mailbox_wildcard } => {
            Command::Lsub(pattern(wire(&reference), wildcard(&mailbox_wildcard), names)?)
        }
        CommandBody::Namespace => Command::Namespace,
        CommandBody::Idle => Command::Idle,
        CommandBody::Check => Command::Check,
        CommandBody::Close => Command::Close,
        CommandBody::Unselect => Command::Unselect,
        CommandBody::Expunge => Command::Expunge(None),
        _ => return Err(Fault::syntax("Unknown command")),
    })
}

/// AUTHENTICATE: imap-codec sees the mechanism, never the initial response, which would stay behind in its memory.
pub(super) fn authenticate(bytes: &[u8]) -> Result<Command, Fault> {
    const WRONG: Fault = Fault::syntax("AUTHENTICATE needs a mechanism and at most one response");
    let line = bytes.strip_suffix(b"\r\n").ok_or(WRONG)?;
    let arguments = Head::read(line).ok_or(WRONG)?.arguments.strip_prefix(b" ").ok_or(WRONG)?;
    let word = memchr::memchr(b' ', arguments).unwrap_or(arguments.len());
    let initial = match arguments.get(word + 1..) {
        None => None,
        Some(b"=") => Some(Secret::new("")),
        // Whether it is base64 is for `sasl` to say: a password in a wrong coat is a password all the same.
        Some(text) if !text.is_empty() && !text.contains(&b' ') => Some(Secret::new(String::from_utf8_lossy(text))),
        Some(_) => return Err(WRONG),
    };
    let head = [line.get(..line.len() - arguments.len() + word).unwrap_or_default(), b"\r\n"].concat();
    match decode(&head).map_err(|_| WRONG)?.body {
        CommandBody::Authenticate { mechanism, initial_response: None } => {
            Ok(Command::Authenticate { mechanism: mechanism.as_ref().to_ascii_uppercase(), initial })
        }
        _ => Err(WRONG),
    }
}

fn decode(bytes: &[u8]) -> Result<Theirs<'_>, Fault> {
    match CommandCodec::default().decode(bytes) {
        Ok(([], command)) => Ok(command),
        _ => Err(Fault::syntax("Arguments are not as this command needs them")),
    }
}

fn wire<'a>(mailbox: &'a Mailbox<'_>) -> &'a [u8] {
    match mailbox {
        Mailbox::Inbox => b"INBOX",
        Mailbox::Other(other) => other.inner().as_ref(),
    }
}

fn wildcard<'a>(mailbox: &'a ListMailbox<'_>) -> &'a [u8] {
    match mailbox {
        ListMailbox::Token(token) => token.as_ref(),
        ListMailbox::String(string) => string.as_ref(),
    }
}

fn id(parameters: Vec<(IString<'_>, NString<'_>)>) -> Vec<(String, Option<String>)> {
    let clean = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text.chars().take(MAX_ID_CHARS).map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect::<String>()
    };
    let pairs = parameters.into_iter().take(MAX_ID_PAIRS);
    pairs.map(|(name, value)| (clean(name.as_ref()), value.into_option().map(|v| clean(&v)))).collect()
}
