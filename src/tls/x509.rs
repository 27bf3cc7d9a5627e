//! The two facts we need from a certificate and `rustls` does not give: its names and its validity. Called by `pair`.
//!
//! A walk over DER (ITU-T X.690) that knows the frame of RFC 5280 section 4.1 and skips what it does not need. It
//! judges nothing: signatures and key usage are the client's to check. No recursion, nothing allocated by length.

use core::net::{Ipv4Addr, Ipv6Addr};

use crate::model::UnixTime;

/// What a server certificate says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// `subjectAltName` entries: DNS names in lower case (`*.example.com` too), addresses as text.
    pub(super) names: Vec<String>,
    /// First moment of validity.
    pub(super) not_before: UnixTime,
    /// Last moment of validity.
    pub(super) not_after: UnixTime,
}

/// The bytes are not a certificate: which part could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its {0} cannot be read")]
pub struct Malformed(pub &'static str);

const BOOLEAN: u8 = 0x01;
const OCTET_STRING: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0] EXPLICIT version`.
const VERSION: u8 = 0xa0;
/// `[3] EXPLICIT extensions`.
const EXTENSIONS: u8 = 0xa3;
/// `dNSName [2]` and `iPAddress [7]` of a `GeneralName` (RFC 5280 section 4.2.1.6).
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;
/// `id-ce-subjectAltName`, 2.5.29.17.
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// Reads one DER certificate.
pub(super) fn read(der: &[u8]) -> Result<Facts, Malformed> {
    let mut outer = Der(der);
    let mut certificate = outer.enter(SEQUENCE, "frame")?;
    let mut body = certificate.enter(SEQUENCE, "body")?;
    if body.peek() == Some(VERSION) {
        body.next("version")?;
    }
    for skipped in ["serial number", "signature algorithm", "issuer"] {
        body.next(skipped)?;
    }
    let mut validity = body.enter(SEQUENCE, "validity")?;
    let not_before = time(validity.next("start of validity")?)?;
    let not_after = time(validity.next("end of validity")?)?;
    for skipped in ["subject", "public key"] {
        body.next(skipped)?;
    }
    let mut names = Vec::new();
    while body.peek().is_some() {
        let (tag, content) = body.next("optional fields")?;
        if tag == EXTENSIONS {
            read_extensions(Der(content), &mut names)?;
        }
    }
    Ok(Facts { names, not_before, not_after })
}

fn read_extensions(mut wrapper: Der<'_>, names: &mut Vec<String>) -> Result<(), Malformed> {
    let mut list = wrapper.enter(SEQUENCE, "list of extensions")?;
    while list.peek().is_some() {
        let mut extension = list.enter(SEQUENCE, "extension")?;
        let (tag, id) = extension.next("extension's id")?;
        if tag != OBJECT_ID || id != SUBJECT_ALT_NAME {
            continue;
        }
        if extension.peek() == Some(BOOLEAN) {
            extension.next("extension's critical flag")?;
        }
        let mut value = extension.enter(OCTET_STRING, "subjectAltName")?;
        let mut entries = value.enter(SEQUENCE, "subjectAltName")?;
        while entries.peek().is_some() {
            names.extend(name(entries.next("subjectAltName")?));
        }
    }
    Ok(())
}

/// A DNS name or address; other kinds (mail, URI, directory name) name no server and are skipped.
fn name((tag, content): (u8, &[u8])) -> Option<String> {
    match (tag, content) {
        (DNS_NAME, text) if text.is_ascii() => {
            let text = str::from_utf8(text).ok()?.trim_end_matches('.');
            let usable = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
            usable.then(|| text.to_ascii_lowercase())
        }
        (IP_ADDRESS, bytes) => match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
            (Ok(four), _) => Some(Ipv4Addr::from(four).to_string()),
            (_, Ok(sixteen)) => Some(Ipv6Addr::from(sixteen).to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// `UTCTime` or `GeneralizedTime`, to the second and in `Z`, as RFC 5280 section 4.1.2.5 demands.
fn time((tag, content): (u8, &[u8])) -> Result<UnixTime, Malformed> {
    const WRONG: Malformed = Malformed("validity");
    let text = str::from_utf8(content).map_err(|_| WRONG)?;
    let digits = text.strip_suffix('Z').filter(|d| d.bytes().all(|b| b.is_ascii_digit())).ok_or(WRONG)?;
    let (year, rest) = match tag {
        UTC_TIME if digits.len() == 12 => {
            let (year, rest) = digits.split_at(2);
            let year: i32 = year.parse().map_err(|_| WRONG)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME if digits.len() == 14 => {
            let (year, rest) = digits.split_at(4);
            (year.parse().map_err(|_| WRONG)?, rest)
        }
        _ => return Err(WRONG),
    };
    let part = |at: usize| rest.get(at..at + 2).and_then(|two| two.parse::<u32>().ok()).ok_or(WRONG);
    let day = chrono::NaiveDate::from_ymd_opt(year, part(0)?, part(2)?).ok_or(WRONG)?;
    let moment = day.and_hms_opt(part(4)?, part(6)?, part(8)?).ok_or(WRONG)?;
    Ok(UnixTime::from_secs(moment.and_utc().timestamp()))
}

/// What is left of one level of a DER structure.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next element's tag and content. Definite lengths of at most four bytes: enough for any certificate.
    fn next(&mut self, what: &'static str) -> Result<(u8, &'a [u8]), Malformed> {
        let wrong = Malformed(what);
        let (&tag, rest) = self.0.split_first().ok_or(wrong)?;
        let (&first, mut rest) = rest.split_first().ok_or(wrong)?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            let bytes = usize::from(first & 0x7f);
            let (head, tail) = rest.split_at_checked(bytes).ok_or(wrong)?;
            if bytes == 0 || bytes > 4 {
                return Err(wrong);
            }
            length = head.iter().fold(0, |sum, &byte| (sum << 8) | usize::from(byte));
            rest = tail;
        }
        let (content, rest) = rest.split_at_checked(length).ok_or(wrong)?;
        self.0 = rest;
        Ok((tag, content))
    }

    /// Steps into the next element, which must have this tag.
    fn enter(&mut self, tag: u8, what: &'static str) -> Result<Der<'a>, Malformed> {
        match self.next(what)? {
            (found, content) if found == tag => Ok(Der(content)),
            _ => Err(Malformed(what)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;

    fn certificate(names: &[&str]) -> Vec<u8> {
        let mut params =
            rcgen::CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        params.not_before = rcgen::date_time_ymd(2024, 2, 29);
        params.not_after = rcgen::date_time_ymd(2051, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn names_and_validity_are_read_from_a_certificate() {
        let facts = read(&certificate(&["Mail.Example.com", "*.example.org", "127.0.0.1", "::1"])).unwrap();
        assert_eq!(facts.names, ["mail.example.com", "*.example.org", "127.0.0.1", "::1"]);
        assert_eq!(facts.not_before.to_string(), "2024-02-29T00:00:00Z");
        assert_eq!(facts.not_after.to_string(), "2051-01-01T00:00:00Z", "after 2049 it is a GeneralizedTime");
        assert_eq!(read(&certificate(&[])).unwrap().names, Vec::<String>::new());
    }

    #[test]
    fn a_time_must_be_a_real_moment_in_utc() {
        let cases: [(&str, u8, &[u8], Option<&str>); 8] = [
            ("this century", UTC_TIME, b"491231235959Z", Some("2049-12-31T23:59:59Z")),
            ("last century", UTC_TIME, b"500101000000Z", Some("1950-01-01T00:00:00Z")),
            ("four-digit year", GENERALIZED_TIME, b"99991231235959Z", Some("9999-12-31T23:59:59Z")),
            ("no such day", UTC_TIME, b"250230000000Z", None),
            ("an offset", UTC_TIME, b"250101000000+0100", None),
            ("no seconds", UTC_TIME, b"2501010000Z", None),
            ("a sign among the digits", UTC_TIME, b"25010100+100Z", None),
            ("not a time", 0x02, b"250101000000Z", None),
        ];
        for (name, tag, content, expected) in cases {
            let read = time((tag, content)).ok().map(|t| t.to_string());
            assert_eq!(read.as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn a_certificate_cut_short_anywhere_is_an_error() {
        let whole = certificate(&["mail.example.com"]);
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut]).is_err(), "cut at byte {cut}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }

        #[test]
        fn a_damaged_certificate_gives_an_answer(at in 0usize..700, byte: u8) {
            let mut whole = certificate(&["mail.example.com", "127.0.0.1"]);
            let at = at % whole.len();
            whole[at] = byte;
            let _ = read(&whole);
        }
    }
}
