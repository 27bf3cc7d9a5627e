//! ENVELOPE (RFC 3501 section 7.4.2): the fields of a message header that IMAP shows, raw.

use super::address::Address;

/// The envelope of a message. Texts are unfolded, RFC 2047 words undecoded; `None` = the field is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Of several Date, Subject, In-Reply-To or Message-ID fields the first counts.
    pub date: Option<Vec<u8>>,
    /// See `date`.
    pub subject: Option<Vec<u8>>,
    /// Several From fields count as one long one, so that no address hides from whoever looks at the others. The
    /// same holds for all address fields here.
    pub from: Vec<Address>,
    /// Empty when absent: IMAP shows [`Envelope::sender_or_from`].
    pub sender: Vec<Address>,
    /// Empty when absent: IMAP shows [`Envelope::reply_to_or_from`].
    pub reply_to: Vec<Address>,
    /// Empty when absent.
    pub to: Vec<Address>,
    /// Empty when absent.
    pub cc: Vec<Address>,
    /// Empty when absent.
    pub bcc: Vec<Address>,
    /// See `date`.
    pub in_reply_to: Option<Vec<u8>>,
    /// See `date`.
    pub message_id: Option<Vec<u8>>,
}

impl Envelope {
    /// "The server MUST default the reply-to and sender from the from field."
    pub fn sender_or_from(&self) -> &[Address] {
        if self.sender.is_empty() { &self.from } else { &self.sender }
    }

    /// See [`Envelope::sender_or_from`].
    pub fn reply_to_or_from(&self) -> &[Address] {
        if self.reply_to.is_empty() { &self.from } else { &self.reply_to }
    }
}
