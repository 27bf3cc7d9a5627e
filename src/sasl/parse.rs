//! From the base64 text of a client response to a [`Bearer`]: who is asked for, and the token, neither of them
//! believed.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::Mechanism;
use crate::model::Secret;

/// Longest token that is ever read, in bytes. What is accepted is a setting (`token::Rules::max_token`).
pub const MAX_TOKEN: usize = 512 * 1024;

/// Longest response after base64, in bytes: the token, a name with every byte escaped, and room for other fields.
/// The limit of a line holds before this one.
pub const MAX_RESPONSE: usize = MAX_TOKEN + 4 * 1024;

/// Longest `user=` or authzid, in bytes, before its escapes are undone: an address has at most 320.
const MAX_USER: usize = 1024;

/// Separates and ends the fields of both mechanisms (RFC 7628 section 3.1, `kvsep`).
const SEPARATOR: u8 = 0x01;

/// What a client response carried: a claim and its token. `token` alone turns it into an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// The mailbox asked for: `user=` or the authzid, exactly as sent, escapes undone. None: OAUTHBEARER named
    /// nobody, so the token's own user is meant.
    pub user: Option<String>,
    /// The access token, in the characters of RFC 6750 section 2.1 and at most [`MAX_TOKEN`] bytes.
    pub token: Secret,
}

/// Why a client response was not understood. The peer hears that the response is malformed, in both mechanisms
/// alike; the text here is for the log, and holds nothing of what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaslError {
    /// A single `*`: the client gives up (RFC 3501 section 6.2.2, RFC 5034 section 4). Answered with BAD or `-ERR`.
    #[error("the client cancelled the exchange")]
    Cancelled,
    /// Nothing, or `=`, or the empty answer `AQ==` of a failed exchange, where a response was due.
    #[error("the response is empty")]
    Empty,
    /// Over [`MAX_RESPONSE`], or a token over [`MAX_TOKEN`], or a name over its limit.
    #[error("the response is too long: {what} is limited to {limit} bytes")]
    TooLong {
        /// What was too long.
        what: &'static str,
        /// Its limit, in bytes.
        limit: usize,
    },
    /// Not strict base64: wrong alphabet, missing padding, stray bits, white space.
    #[error("the response is not base64")]
    Base64,
    /// Not UTF-8, or a NUL.
    #[error("the response holds bytes that are no text")]
    Text,
    /// The GS2 header of OAUTHBEARER is malformed (RFC 7628 section 3.1, RFC 5801 section 4).
    #[error("the GS2 header is malformed")]
    Gs2Header,
    /// `p=`: channel binding, which bearer tokens do not have (RFC 7628 section 3.1).
    #[error("channel binding is asked for, which this mechanism does not have")]
    ChannelBinding,
    /// A bare `=` or an unknown escape in the authzid (RFC 5801 section 4, `saslname`).
    #[error("the authorization identity has a bad escape")]
    Escape,
    /// Fewer than both end markers, or bytes behind them.
    #[error("the response does not end with both end markers")]
    EndMarker,
    /// A field that is no `key=value`.
    #[error("a field is not key=value")]
    Field,
    /// A key that stands twice, in whatever letter case.
    #[error("a field stands twice")]
    Duplicate,
    /// XOAUTH2 without `user=`, or with an empty one.
    #[error("the user field is missing or empty")]
    NoUser,
    /// No `auth=` field.
    #[error("the auth field is missing")]
    NoAuth,
    /// The `auth=` field is not `Bearer` with one token of the characters of RFC 6750 section 2.1.
    #[error("the auth field is not a bearer token")]
    NotBearer,
}

/// True for the line `*`, with which a client cancels instead of answering.
pub fn is_cancel(line: &[u8]) -> bool {
    line == b"*"
}

/// Reads a client response, given as the base64 text on the wire without its line end: the initial response or the
/// answer to the empty challenge, both alike.
///
/// Fields other than `user`, `auth` and the authzid (`host`, `port`, anything) are tolerated and not looked at,
/// because behind a relay they name the relay (clients.md section 1). Source: RFC 7628 section 3.1; for XOAUTH2 the
/// Gmail IMAP documentation.
pub fn parse(mechanism: Mechanism, response: &[u8]) -> Result<Bearer, SaslError> {
    if is_cancel(response) {
        return Err(SaslError::Cancelled);
    }
    if response.is_empty() || response == b"=" {
        return Err(SaslError::Empty);
    }
    let too_long = SaslError::TooLong { what: "a response", limit: MAX_RESPONSE };
    if response.len() > MAX_RESPONSE.div_ceil(3) * 4 {
        return Err(too_long);
    }
    let bytes = Zeroizing::new(STANDARD.decode(response).map_err(|_| SaslError::Base64)?);
    if bytes.len() > MAX_RESPONSE {
        return Err(too_long);
    }
    if *bytes == [SEPARATOR] {
        return Err(SaslError::Empty);
    }
    let text = str::from_utf8(&bytes).map_err(|_| SaslError::Text)?;
    if text.contains('\0') {
        return Err(SaslError::Text);
    }
    match mechanism {
        Mechanism::Xoauth2 => {
            let fields = Fields::read(text)?;
            let user = fields.user.filter(|user| !user.is_empty()).ok_or(SaslError::NoUser)?;
            check_user_length(user)?;
            Ok(Bearer { user: Some(user.to_owned()), token: fields.token()? })
        }
        Mechanism::OauthBearer => {
            let (user, fields) = gs2_header(text)?;
            Ok(Bearer { user, token: Fields::read(fields)?.token()? })
        }
    }
}

/// Splits `n,a=ann@example.com,^A<fields>` into the authzid and the fields (RFC 7628 section 3.1).
fn gs2_header(text: &str) -> Result<(Option<String>, &str), SaslError> {
    if text.starts_with("p=") {
        return Err(SaslError::ChannelBinding);
    }
    let rest = text.strip_prefix("n,").or_else(|| text.strip_prefix("y,")).ok_or(SaslError::Gs2Header)?;
    let (authzid, rest) = rest.split_once(',').ok_or(SaslError::Gs2Header)?;
    let fields = rest.strip_prefix(char::from(SEPARATOR)).ok_or(SaslError::Gs2Header)?;
    if authzid.is_empty() {
        return Ok((None, fields));
    }
    let name = authzid.strip_prefix("a=").filter(|name| !name.is_empty()).ok_or(SaslError::Gs2Header)?;
    if name.contains(char::from(SEPARATOR)) {
        return Err(SaslError::Gs2Header);
    }
    check_user_length(name)?;
    Ok((Some(unescape(name)?), fields))
}

/// Undoes the escapes of a `saslname`: `=2C` is a comma and `=3D` an equals sign; no other `=` may stand there.
fn unescape(name: &str) -> Result<String, SaslError> {
    let mut pieces = name.split('=');
    let mut plain = String::with_capacity(name.len());
    plain.push_str(pieces.next().unwrap_or(""));
    for piece in pieces {
        let (sign, rest) = match piece {
            p if p.starts_with("2C") => (',', p.strip_prefix("2C")),
            p if p.starts_with("3D") => ('=', p.strip_prefix("3D")),
            _ => return Err(SaslError::Escape),
        };
        plain.push(sign);
        plain.push_str(rest.unwrap_or(""));
    }
    Ok(plain)
}

fn check_user_length(user: &str) -> Result<(), SaslError> {
    if user.len() > MAX_USER {
        return Err(SaslError::TooLong { what: "a user name", limit: MAX_USER });
    }
    Ok(())
}

/// The two fields that matter, out of `key=value^Akey=value^A^A`.
#[derive(Default)]
struct Fields<'a> {
    user: Option<&'a str>,
    auth: Option<&'a str>,
}

impl<'a> Fields<'a> {
    /// Each field ends with a separator and one more ends the list. A key stands once, whatever its letter case, so
    /// that no two readers of one response can pick different tokens.
    fn read(text: &'a str) -> Result<Self, SaslError> {
        let separator = char::from(SEPARATOR);
        let list = text.strip_suffix(separator).ok_or(SaslError::EndMarker)?;
        let list = list.strip_suffix(separator).ok_or(SaslError::EndMarker)?;
        let mut fields = Self::default();
        let mut seen: Vec<String> = Vec::new();
        for field in list.split(separator) {
            if field.is_empty() {
                return Err(SaslError::EndMarker);
            }
            let (key, value) = field.split_once('=').ok_or(SaslError::Field)?;
            if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
                return Err(SaslError::Field);
            }
            let folded = key.to_ascii_lowercase();
            if seen.contains(&folded) {
                return Err(SaslError::Duplicate);
            }
            if seen.len() == MAX_FIELDS {
                return Err(SaslError::TooLong { what: "the number of fields", limit: MAX_FIELDS });
            }
            seen.push(folded);
            match key {
                "user" => fields.user = Some(value),
                "auth" => fields.auth = Some(value),
                _ => {}
            }
        }
        Ok(fields)
    }

    /// The token of `auth=Bearer <token>`: the scheme in any letter case and spaces as in RFC 6750 section 2.1.
    fn token(&self) -> Result<Secret, SaslError> {
        let auth = self.auth.ok_or(SaslError::NoAuth)?;
        let (scheme, rest) = auth.split_once(' ').ok_or(SaslError::NotBearer)?;
        let token = rest.trim_start_matches(' ');
        if !scheme.eq_ignore_ascii_case("Bearer") || !is_b64token(token) {
            return Err(SaslError::NotBearer);
        }
        if token.len() > MAX_TOKEN {
            return Err(SaslError::TooLong { what: "a token", limit: MAX_TOKEN });
        }
        Ok(Secret::new(token))
    }
}

/// Most fields in one response.
const MAX_FIELDS: usize = 16;

/// `b64token` of RFC 6750 section 2.1: letters, digits, `-._~+/`, then any number of `=`.
fn is_b64token(token: &str) -> bool {
    let body = token.trim_end_matches('=');
    !body.is_empty() && body.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b))
}

#[cfg(test)]
mod tests;
