//! Streaming decoders of Content-Transfer-Encoding (RFC 2045 section 6). Tolerant: what is no code is passed over or
//! kept as it stands, nothing is an error.

use super::part::Part;

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// `7bit`, `8bit`, `binary`, and what we do not know.
    Identity,
    /// `base64`
    Base64,
    /// `quoted-printable`
    QuotedPrintable,
}

impl Transfer {
    /// By name, case does not matter.
    pub fn from_name(name: &[u8]) -> Transfer {
        if name.eq_ignore_ascii_case(b"base64") {
            Transfer::Base64
        } else if name.eq_ignore_ascii_case(b"quoted-printable") {
            Transfer::QuotedPrintable
        } else {
            Transfer::Identity
        }
    }

    /// By name, where it is one that MIME defines (RFC 2045 section 6.1): what has another name cannot be decoded.
    pub fn known(name: &[u8]) -> Option<Transfer> {
        let plain = [b"7bit".as_slice(), b"8bit", b"binary"];
        match Transfer::from_name(name) {
            Transfer::Identity => {
                plain.iter().any(|known| name.eq_ignore_ascii_case(known)).then_some(Transfer::Identity)
            }
            decoded => Some(decoded),
        }
    }

    /// The encoding of a part's body.
    pub fn of(part: &Part) -> Transfer {
        Transfer::from_name(part.encoding())
    }
}

/// Decodes a body that arrives in pieces, cut anywhere.
#[derive(Clone, Debug)]
pub struct TransferDecoder {
    transfer: Transfer,
    /// Base64: the bits not given out yet, and how many sextets they are.
    bits: u32,
    sextets: u32,
    /// Quoted-printable: an escape that is not complete, and white space that may be at the end of a line.
    held: Vec<u8>,
}

/// Longest run of white space that is held back to see whether a line ends after it, in bytes.
const MAX_SPACE: usize = 1024;

impl TransferDecoder {
    /// At the start of a body.
    pub fn new(transfer: Transfer) -> TransferDecoder {
        TransferDecoder { transfer, bits: 0, sextets: 0, held: Vec::new() }
    }

    /// Appends what the next bytes mean to `out`; never more than they and what was held back.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        match self.transfer {
            Transfer::Identity => out.extend_from_slice(bytes),
            Transfer::Base64 => self.base64_run(bytes, out),
            Transfer::QuotedPrintable => self.quoted_printable_run(bytes, out),
        }
    }

    /// Ends the body.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.end_of_quantum(out);
        if self.held.first() == Some(&b'=') {
            out.append(&mut self.held);
        }
        self.held.clear();
    }

    /// Whole quanta at once, what is none of them byte by byte.
    fn base64_run(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        out.reserve(bytes.len() / 4 * 3);
        while let [first, after @ ..] = bytes {
            if self.sextets == 0
                && let [a, b, c, d, after @ ..] = bytes
                && let [a, b, c, d] = [a, b, c, d].map(|byte| sextet(*byte))
                && (a | b | c | d) < 64
            {
                let [_, high, middle, low] = (a << 18 | b << 12 | c << 6 | d).to_be_bytes();
                out.extend_from_slice(&[high, middle, low]);
                bytes = after;
                continue;
            }
            self.base64(*first, out);
            bytes = after;
        }
    }

    fn base64(&mut self, byte: u8, out: &mut Vec<u8>) {
        if byte == b'=' {
            return self.end_of_quantum(out); // more may follow: some concatenate encoded pieces
        }
        let value = sextet(byte);
        if value >= 64 {
            return;
        }
        self.bits = self.bits << 6 | value;
        self.sextets += 1;
        if self.sextets == 4 {
            self.end_of_quantum(out);
        }
    }

    fn end_of_quantum(&mut self, out: &mut Vec<u8>) {
        let [_, high, middle, low] = (self.bits << (6 * (4 - self.sextets))).to_be_bytes();
        match self.sextets {
            2 => out.push(high),
            3 => out.extend_from_slice(&[high, middle]),
            4 => out.extend_from_slice(&[high, middle, low]),
            _ => {}
        }
        (self.bits, self.sextets) = (0, 0);
    }

    /// What stands for itself at once, escapes and ends of lines byte by byte.
    fn quoted_printable_run(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        out.reserve(bytes.len());
        loop {
            if self.held.first() != Some(&b'=') {
                let run = memchr::memchr3(b'=', b'\r', b'\n', bytes).unwrap_or(bytes.len());
                let (run, after) = bytes.split_at_checked(run).unwrap_or((bytes, &[]));
                let text = super::field::trim_end(run);
                if !text.is_empty() {
                    out.append(&mut self.held);
                    out.extend_from_slice(text);
                }
                run.iter().skip(text.len()).for_each(|&space| self.quoted_printable(space, out));
                bytes = after;
            }
            bytes = match bytes {
                [b'=', high, low, after @ ..]
                    if self.held.is_empty() && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
                {
                    out.push(hex(*high) * 16 + hex(*low));
                    after
                }
                [b'=', b'\n', after @ ..] | [b'=', b'\r', b'\n', after @ ..] if self.held.is_empty() => after,
                [first, after @ ..] => {
                    self.quoted_printable(*first, out);
                    after
                }
                [] => return,
            }
        }
    }

    fn quoted_printable(&mut self, byte: u8, out: &mut Vec<u8>) {
        let space = matches!(byte, b' ' | b'\t');
        match (self.held.as_slice(), byte) {
            ([b'=', high], low) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(hex(*high) * 16 + hex(low));
                self.held.clear();
            }
            ([b'='], byte) if byte.is_ascii_hexdigit() => self.held.push(byte),
            // A soft line break, maybe with white space that a gateway added before its CRLF.
            ([b'='] | [b'=', b' ' | b'\t' | b'\r', ..], b' ' | b'\t' | b'\r') if self.held.len() < MAX_SPACE => {
                self.held.push(byte);
            }
            ([b'='] | [b'=', b' ' | b'\t' | b'\r', ..], b'\n') => self.held.clear(),
            ([b'=', ..], _) => {
                out.append(&mut self.held); // no escape after all
                self.quoted_printable(byte, out);
            }
            (_, b'=') => {
                out.append(&mut self.held);
                self.held.push(b'=');
            }
            (_, _) if space && self.held.len() < MAX_SPACE => self.held.push(byte),
            (_, b'\r') => out.push(b'\r'), // held white space waits for the LF
            (_, b'\n') => {
                self.held.clear(); // white space at the end of a line is not part of the text
                out.push(b'\n');
            }
            _ => {
                out.append(&mut self.held);
                out.push(byte);
            }
        }
    }
}

/// What each byte means in base64; 64 and more for what means nothing.
#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler, which refuses an index out of bounds")]
const SEXTETS: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut at = 0;
    while at < letters.len() {
        values[letters[at] as usize] = at as u8;
        at += 1;
    }
    values
};

fn sextet(byte: u8) -> u32 {
    SEXTETS.get(usize::from(byte)).map_or(u32::from(u8::MAX), |value| u32::from(*value))
}

/// The value of a hexadecimal digit; 0 for anything else.
pub(super) fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(transfer: Transfer, pieces: &[&[u8]]) -> Vec<u8> {
        let mut decoder = TransferDecoder::new(transfer);
        let mut out = Vec::new();
        pieces.iter().for_each(|piece| decoder.feed(piece, &mut out));
        decoder.finish(&mut out);
        out
    }

    #[test]
    fn broken_encodings_give_what_can_be_read() {
        use Transfer::{Base64, QuotedPrintable};
        let table: [(Transfer, &[u8], &[u8]); 17] = [
            (Base64, b"aGVs\r\nbG8=\r\n", b"hello"),
            (Base64, b"aGVsbG8", b"hello"),
            (Base64, b"aGU=bGxv", b"hello"),
            (Base64, b"a*G(V s-b G8=", b"hello"),
            (Base64, b"====a", b""),
            (QuotedPrintable, b"a=20b=C3=A9\r\n", "a b\u{e9}\r\n".as_bytes()),
            (QuotedPrintable, b"soft=\r\nbreak", b"softbreak"),
            (QuotedPrintable, b"soft= \t\r\nbreak=\n.", b"softbreak."),
            (QuotedPrintable, b"=3d=3D", b"=="),
            (QuotedPrintable, b"a =b= c =4", b"a =b= c =4"),
            (QuotedPrintable, b"==41=4=41", b"=A=4A"),
            (QuotedPrintable, b"trailing  \r\nspace \t\n", b"trailing\r\nspace\n"),
            (QuotedPrintable, b"end=", b"end="),
            (QuotedPrintable, b"end  ", b"end"),
            (QuotedPrintable, b"a\rb", b"a\rb"),
            (QuotedPrintable, b"= = =41", b"= = A"),
            (QuotedPrintable, b" =\r\n x", b"  x"),
        ];
        for (transfer, body, expected) in table {
            assert_eq!(decoded(transfer, &[body]), expected, "{}", String::from_utf8_lossy(body));
        }
    }

    proptest! {
        #[test]
        fn a_body_cut_anywhere_decodes_the_same(
            body in proptest::collection::vec(prop_oneof![Just(b'='), Just(b'\r'), Just(b'\n'), Just(b' '), Just(b'4'), Just(b'Z'), any::<u8>()], 0..100),
            cut in any::<prop::sample::Index>(),
        ) {
            let (head, tail) = body.split_at(cut.index(body.len() + 1));
            for transfer in [Transfer::Identity, Transfer::Base64, Transfer::QuotedPrintable] {
                let whole = decoded(transfer, &[&body]);
                prop_assert!(whole.len() <= body.len());
                prop_assert_eq!(&decoded(transfer, &[head, tail]), &whole);
                let single: Vec<&[u8]> = body.chunks(1).collect();
                prop_assert_eq!(decoded(transfer, &single), whole);
            }
        }
    }
}
