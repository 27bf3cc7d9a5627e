//! Which header fields the scanner reads, and where their values go: MIME fields into the part, the others into its
//! envelope.

use super::{
    address::addresses,
    envelope::Envelope,
    field::unfold,
    mime::{content_type, disposition, languages, single_token},
    part::Part,
};

/// How far a scan goes. Past a limit offsets stay exact; what is too deep or too much is left unread.
/// Source of the defaults: `threats.md` section 6, and Dovecot for the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Nested parts, the message itself included. What is deeper is an opaque part.
    pub depth: usize,
    /// Parts in all. What comes after the last one belongs to it.
    pub parts: usize,
    /// Octets of header lines that are read for their content, all parts together.
    pub header_bytes: usize,
    /// Octets of one header field that are read.
    pub field_bytes: usize,
    /// Addresses of one envelope member.
    pub field_addresses: usize,
    /// Addresses in all envelopes together.
    pub addresses: usize,
    /// Parameters (or language tags) of one field.
    pub field_parameters: usize,
    /// Parameters and language tags of all parts together.
    pub parameters: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            depth: 100,
            parts: 10_000,
            header_bytes: 10 * 1024 * 1024,
            field_bytes: 1024 * 1024,
            field_addresses: 10_000,
            addresses: 50_000,
            field_parameters: 200,
            parameters: 50_000,
        }
    }
}

/// The header fields that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Type,
    Encoding,
    Id,
    Description,
    Md5,
    Disposition,
    Language,
    Location,
    Date,
    Subject,
    From,
    Sender,
    ReplyTo,
    To,
    Cc,
    Bcc,
    InReplyTo,
    MessageId,
}

const CONTENT_FIELDS: [(&str, Known); 8] = [
    ("type", Known::Type),
    ("transfer-encoding", Known::Encoding),
    ("id", Known::Id),
    ("description", Known::Description),
    ("md5", Known::Md5),
    ("disposition", Known::Disposition),
    ("language", Known::Language),
    ("location", Known::Location),
];

const ENVELOPE_FIELDS: [(&str, Known); 10] = [
    ("date", Known::Date),
    ("subject", Known::Subject),
    ("from", Known::From),
    ("sender", Known::Sender),
    ("reply-to", Known::ReplyTo),
    ("to", Known::To),
    ("cc", Known::Cc),
    ("bcc", Known::Bcc),
    ("in-reply-to", Known::InReplyTo),
    ("message-id", Known::MessageId),
];

impl Known {
    /// By name; those of the envelope only where one is wanted.
    pub(super) fn find(name: &[u8], in_envelope: bool) -> Option<Known> {
        let find = |table: &[(&str, Known)], name: &[u8]| {
            table.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes())).map(|(_, known)| *known)
        };
        match name.split_at_checked(8) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case(b"content-") => find(&CONTENT_FIELDS, rest),
            _ if in_envelope => find(&ENVELOPE_FIELDS, name),
            _ => None,
        }
    }

    /// Puts the value of a field where it belongs. Of several fields of one name the first counts, addresses add up.
    pub(super) fn keep(self, raw: &[u8], part: &mut Part, limits: &mut Limits) {
        let value = unfold(raw);
        let most = limits.field_parameters.min(limits.parameters);
        match self {
            Known::Type => {
                part.media = content_type(&value, most);
                limits.parameters -= part.media.parameters.len();
            }
            Known::Disposition if part.disposition.is_none() => {
                part.disposition = disposition(&value, most);
                limits.parameters -= part.disposition.as_ref().map_or(0, |d| d.parameters.len());
            }
            Known::Language if part.languages.is_empty() => {
                part.languages = languages(&value, most);
                limits.parameters -= part.languages.len();
            }
            Known::Encoding if part.encoding.is_none() => part.encoding = single_token(&value),
            Known::Disposition | Known::Language | Known::Encoding => {}
            Known::Id => keep_first(&mut part.id, value),
            Known::Description => keep_first(&mut part.description, value),
            Known::Md5 => keep_first(&mut part.md5, value),
            Known::Location => keep_first(&mut part.location, value),
            _ => {
                if let Some(envelope) = part.envelope.as_deref_mut() {
                    self.keep_in_envelope(value, envelope, limits);
                }
            }
        }
    }

    fn keep_in_envelope(self, value: Vec<u8>, envelope: &mut Envelope, limits: &mut Limits) {
        let text = match self {
            Known::Date => &mut envelope.date,
            Known::Subject => &mut envelope.subject,
            Known::InReplyTo => &mut envelope.in_reply_to,
            Known::MessageId => &mut envelope.message_id,
            _ => return self.keep_addresses(&value, envelope, limits),
        };
        text.get_or_insert(value);
    }

    fn keep_addresses(self, value: &[u8], envelope: &mut Envelope, limits: &mut Limits) {
        let list = match self {
            Known::From => &mut envelope.from,
            Known::Sender => &mut envelope.sender,
            Known::ReplyTo => &mut envelope.reply_to,
            Known::To => &mut envelope.to,
            Known::Cc => &mut envelope.cc,
            Known::Bcc => &mut envelope.bcc,
            _ => return,
        };
        let most = limits.field_addresses.saturating_sub(list.len()).min(limits.addresses);
        let more = addresses(value, most);
        limits.addresses -= more.len();
        list.extend(more);
    }
}

/// An empty MIME field says nothing: NIL, like an absent one.
fn keep_first(member: &mut Option<Vec<u8>>, value: Vec<u8>) {
    if member.is_none() && !value.is_empty() {
        *member = Some(value);
    }
}
