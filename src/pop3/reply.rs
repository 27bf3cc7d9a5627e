//! Reply lines, written to the session's output buffer. Text from elsewhere never breaks a line: whatever is not
//! printable ASCII becomes `?`. Called by `dialog`, `maildrop` and `session`.

use bytes::{BufMut, BytesMut};

/// Longest reply line, CRLF included, in bytes (RFC 2449 section 4). Longer text is cut.
pub const MAX_REPLY: usize = 512;

/// `+OK text`
pub fn ok(out: &mut BytesMut, text: &str) {
    line(out, "+OK ", text);
}

/// `-ERR text`. A response code (RFC 2449 section 8, RFC 3206) stands first in `text`: `[AUTH] ...`.
pub fn err(out: &mut BytesMut, text: &str) {
    line(out, "-ERR ", text);
}

/// `+ text`: the server's turn in a SASL exchange (RFC 5034 section 4). `base64` is of our own making, of any length.
pub fn continuation(out: &mut BytesMut, base64: &str) {
    out.put_slice(b"+ ");
    put_text(out, base64, usize::MAX);
    out.put_slice(b"\r\n");
}

/// `+OK n octets`: the line before a message that RETR sends. `octets` is the size that `LIST` told.
pub fn message(out: &mut BytesMut, octets: u64) {
    ok(out, &format!("{octets} octets"));
}

/// The answer to CAPA (RFC 2449 section 5). The same before and after login: `USER` is never in it.
pub(super) fn capabilities(out: &mut BytesMut, mechanisms: &[&str]) {
    ok(out, "Capability list follows");
    out.put_slice(b"TOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nUTF8\r\nLANG\r\nSASL");
    for mechanism in mechanisms {
        out.put_u8(b' ');
        out.put_slice(mechanism.as_bytes());
    }
    // No version: it would tell a stranger which faults to try.
    out.put_slice(b"\r\nEXPIRE NEVER\r\nIMPLEMENTATION Portcullis\r\n.\r\n");
}

/// The answer to `AUTH` alone: the mechanisms, one a line (as Dovecot and Courier do; RFC 5034 points to CAPA).
pub(super) fn mechanisms(out: &mut BytesMut, mechanisms: &[&str]) {
    ok(out, "Mechanisms follow");
    for mechanism in mechanisms {
        out.put_slice(mechanism.as_bytes());
        out.put_slice(b"\r\n");
    }
    out.put_slice(b".\r\n");
}

/// The answer to `LANG` alone (RFC 6856 section 3.2): tag and name, one language a line.
pub(super) fn languages(out: &mut BytesMut) {
    ok(out, "Language listing follows");
    out.put_slice(b"en English\r\ni-default Default\r\n.\r\n");
}

fn line(out: &mut BytesMut, status: &str, text: &str) {
    out.put_slice(status.as_bytes());
    put_text(out, text, MAX_REPLY - status.len() - 2);
    out.put_slice(b"\r\n");
}

fn put_text(out: &mut BytesMut, text: &str, most: usize) {
    let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c as u8 } else { b'?' };
    out.extend(text.chars().map(printable).take(most));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn written(write: impl FnOnce(&mut BytesMut)) -> String {
        let mut out = BytesMut::new();
        write(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn text_from_elsewhere_cannot_break_a_reply() {
        assert_eq!(written(|out| err(out, "[AUTH] a\r\n+OK b\0\u{e9}")), "-ERR [AUTH] a??+OK b??\r\n");
        assert_eq!(written(|out| continuation(out, "")), "+ \r\n");
        let long = written(|out| ok(out, &"x".repeat(600)));
        assert_eq!(long.len(), MAX_REPLY);
        assert!(long.ends_with("x\r\n"));
    }

    #[test]
    fn capabilities_hold_no_user() {
        let capa = written(|out| capabilities(out, &["XOAUTH2", "OAUTHBEARER"]));
        let lines: Vec<_> = capa.split_terminator("\r\n").collect();
        let expected = "+OK Capability list follows,TOP,UIDL,RESP-CODES,AUTH-RESP-CODE,PIPELINING,UTF8,LANG,\
                        SASL XOAUTH2 OAUTHBEARER,EXPIRE NEVER,IMPLEMENTATION Portcullis,.";
        assert_eq!(lines.join(","), expected);
    }
}
