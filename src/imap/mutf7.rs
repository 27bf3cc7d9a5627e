//! Modified UTF-7, in which IMAP4rev1 writes mailbox names (RFC 3501 section 5.1.3). Called by `mailbox` and the
//! command grammar on the way in, by `write` on the way out. Imports nothing of the house.

/// Why a name is not modified UTF-7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not modified UTF-7")]
pub struct NotMutf7;

/// The digits of RFC 3501's base 64: `,` in the place of `/`.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/// Writes a name: printable ASCII as it is, `&` as `&-`, the rest as shifted base 64 of UTF-16.
pub fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut shifted: Option<Shift> = None;
    for c in name.chars() {
        if matches!(c, ' '..='~') {
            if let Some(shift) = shifted.take() {
                shift.end(&mut out);
            }
            out.push(c);
            if c == '&' {
                out.push('-');
            }
            continue;
        }
        let shift = shifted.get_or_insert_with(|| {
            out.push('&');
            Shift::default()
        });
        let mut units = [0u16; 2];
        for unit in c.encode_utf16(&mut units) {
            shift.push(*unit, &mut out);
        }
    }
    if let Some(shift) = shifted {
        shift.end(&mut out);
    }
    out
}

/// Reads a name, strictly: exactly the one spelling that [`encode`] gives is accepted, so two spellings never name
/// one mailbox.
///
/// Fails on 8-bit and control bytes, unpaired surrogates, printable characters in base 64, stray bits, an open shift,
/// and shifts that follow each other.
pub fn decode(wire: &[u8]) -> Result<String, NotMutf7> {
    let mut out = String::with_capacity(wire.len());
    let mut rest = wire;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'&' => {
                let end = rest.iter().position(|b| *b == b'-').ok_or(NotMutf7)?;
                let (run, after) = rest.split_at_checked(end).ok_or(NotMutf7)?;
                rest = after.get(1..).unwrap_or_default();
                if run.is_empty() {
                    out.push('&');
                } else {
                    unshift(run, &mut out)?;
                }
            }
            b' '..=b'~' => out.push(char::from(byte)),
            _ => return Err(NotMutf7),
        }
    }
    // What is loose above (stray bits, superfluous shifts, ASCII in base 64) does not come out the same way again.
    if encode(&out).as_bytes() == wire { Ok(out) } else { Err(NotMutf7) }
}

/// Bits of UTF-16 that wait for six of them to make a digit.
#[derive(Default)]
struct Shift {
    bits: u32,
    count: u32,
}

impl Shift {
    fn push(&mut self, unit: u16, out: &mut String) {
        self.bits = (self.bits << 16) | u32::from(unit);
        self.count += 16;
        while self.count >= 6 {
            self.count -= 6;
            out.push(digit(self.bits >> self.count));
        }
        self.bits &= (1 << self.count) - 1;
    }

    fn end(self, out: &mut String) {
        if self.count > 0 {
            out.push(digit(self.bits << (6 - self.count)));
        }
        out.push('-');
    }
}

fn digit(bits: u32) -> char {
    DIGITS.get((bits & 63) as usize).map_or('A', |b| char::from(*b))
}

fn unshift(run: &[u8], out: &mut String) -> Result<(), NotMutf7> {
    let mut units = Vec::with_capacity(run.len() * 6 / 16);
    let (mut bits, mut count) = (0u32, 0u32);
    for byte in run {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b',' => 63,
            _ => return Err(NotMutf7),
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 16 {
            count -= 16;
            units.push(u16::try_from((bits >> count) & 0xFFFF).map_err(|_| NotMutf7)?);
            bits &= (1 << count) - 1;
        }
    }
    for c in char::decode_utf16(units) {
        out.push(c.map_err(|_| NotMutf7)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_the_rfc_and_of_real_folders_read_both_ways() {
        let cases = [
            ("INBOX", "INBOX"),
            ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
            ("Entwürfe", "Entw&APw-rfe"),
            ("R&D", "R&-D"),
            ("&&", "&-&-"),
            ("☺!", "&Jjo-!"),
            ("𝄞", "&2DTdHg-"),
            ("Отправленные", "&BB4EQgQ,BEAEMAQyBDsENQQ9BD0ESwQ1-"),
            ("", ""),
        ];
        for (name, wire) in cases {
            assert_eq!(encode(name), wire, "{name}");
            assert_eq!(decode(wire.as_bytes()).as_deref(), Ok(name), "{wire}");
        }
    }

    #[test]
    fn a_second_spelling_of_a_name_is_refused() {
        let wrong: [(&str, &[u8]); 12] = [
            ("8-bit", "é".as_bytes()),
            ("control", b"a\tb"),
            ("NUL", b"a\0b"),
            ("open shift", b"&AOk"),
            ("bare ampersand", b"R&D"),
            ("ASCII in base 64", b"&AEE-"),
            ("stray bits", b"&AOl-"),
            ("a digit too many", b"&AOkA-"),
            ("superfluous shift", b"&AOk-&AOk-"),
            ("unpaired surrogate", b"&2DQ-"),
            ("ampersand in base 64", b"&ACY-"),
            ("slash digit", b"&U/BTFw-"),
        ];
        for (what, wire) in wrong {
            assert_eq!(decode(wire), Err(NotMutf7), "{what}");
        }
    }

    proptest! {
        #[test]
        fn every_name_survives_the_way_out_and_in(name in any::<String>()) {
            let wire = encode(&name);
            prop_assert!(wire.bytes().all(|b| (b' '..=b'~').contains(&b)));
            prop_assert_eq!(decode(wire.as_bytes()), Ok(name));
        }

        #[test]
        fn what_reads_at_all_writes_back_the_same(wire in "[&A-Za-z0-9+,\\- ]{0,24}") {
            if let Ok(name) = decode(wire.as_bytes()) {
                prop_assert_eq!(encode(&name), wire);
            }
        }

        #[test]
        fn no_bytes_upset_it(wire in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&wire);
        }
    }
}
