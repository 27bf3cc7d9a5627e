//! Header fields: splitting a header block, unfolding a value. Used all over this room and by `session` for SEARCH.

/// One header field with its folded lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Name without the colon and without white space before it; empty where the line has no colon.
    pub name: &'a [u8],
    /// What follows the colon, still folded, without the final line end. The whole line where there is no colon.
    pub value: &'a [u8],
    /// All bytes of the field, final line end included.
    pub raw: &'a [u8],
}

impl Field<'_> {
    /// Whether the field is called `name`; case does not matter (RFC 5322 section 1.2.2).
    pub fn is(&self, name: &[u8]) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// The fields of a header block in order, up to the first blank line or the end.
pub fn fields(header: &[u8]) -> Fields<'_> {
    Fields { rest: header }
}

/// The values of those fields of a header block that are called `name`, in order: [`fields`] with hardly a look at the
/// others. Of no name there is none.
pub fn values<'a>(header: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = header;
    std::iter::from_fn(move || {
        loop {
            let first = line(rest);
            if trim_eol(first).is_empty() {
                rest = &[];
                return None;
            }
            let may_be = first.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
            let field = if may_be && !name.is_empty() { fields(rest).next().filter(|f| f.is(name)) } else { None };
            rest = rest.get(field.map_or(first.len(), |field| field.raw.len())..)?;
            if let Some(field) = field {
                return Some(field.value);
            }
        }
    })
}

/// See [`fields`].
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let first = line(self.rest);
        if trim_eol(first).is_empty() {
            self.rest = &[];
            return None;
        }
        let mut end = first.len();
        while let Some(more) = self.rest.get(end..).filter(|more| starts_folded(more)) {
            end += line(more).len();
        }
        let (raw, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        let (name, value_at) = match name_of(trim_eol(first)) {
            Some((name, colon)) => (name, colon + 1),
            None => (&[][..], 0),
        };
        Some(Field { name, value: trim_eol(raw.get(value_at..).unwrap_or_default()), raw })
    }
}

/// The field name of a header line, and where its colon is. `None`: no colon, or a folded line.
pub(super) fn name_of(line: &[u8]) -> Option<(&[u8], usize)> {
    if starts_folded(line) {
        return None;
    }
    let colon = memchr::memchr(b':', line)?;
    Some((trim_end(line.get(..colon)?), colon))
}

/// Whether a line continues the field before it (RFC 5322 section 2.2.3).
pub(super) fn starts_folded(line: &[u8]) -> bool {
    matches!(line.first(), Some(b' ' | b'\t'))
}

/// A field's value on one line: line ends gone and the tab after one a space, outer white space gone, bare CR gone, NUL
/// (which no IMAP string can carry) as `?`.
pub fn unfold(value: &[u8]) -> Vec<u8> {
    let mut flat = Vec::with_capacity(value.len());
    let mut line_began = false;
    for &byte in value {
        match byte {
            b'\r' => continue,
            b'\n' => {}
            b'\t' if line_began => flat.push(b' '),
            0 => flat.push(b'?'),
            _ => flat.push(byte),
        }
        line_began = byte == b'\n';
    }
    let kept = trim(&flat);
    if kept.len() == flat.len() { flat } else { kept.to_vec() }
}

/// The first line of `bytes`, its LF included.
fn line(bytes: &[u8]) -> &[u8] {
    match memchr::memchr(b'\n', bytes) {
        Some(at) => bytes.get(..=at).unwrap_or(bytes),
        None => bytes,
    }
}

/// Without the CRLF or LF at the end.
pub(super) fn trim_eol(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Without spaces and tabs at both ends.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    trim_end(bytes)
}

/// Without spaces and tabs at the end.
pub(super) fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs = Vec<(String, String)>;

    fn names_and_values(header: &[u8]) -> Pairs {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        fields(header).map(|field| (text(field.name), text(&unfold(field.value)))).collect()
    }

    #[test]
    fn fields_are_split_at_unfolded_lines_and_end_at_the_blank_one() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let table: [(&str, &[u8], Pairs); 9] = [
            (
                "more than one",
                b"A: 1\r\nAA: 2\r\na : 3\r\n 4\r\nA\r\n",
                vec![pair("A", "1"), pair("AA", "2"), pair("a", "3 4"), pair("", "A")],
            ),
            ("a name in a folded line", b"A: 1\r\n A: 2\r\n\r\nA: 3\r\n", vec![pair("A", "1 A: 2")]),
            ("plain", b"A: 1\r\nB: 2\r\n\r\nC: 3\r\n", vec![pair("A", "1"), pair("B", "2")]),
            ("folded", b"A: 1\r\n 2\r\n\t3\r\nB:4", vec![pair("A", "1 2 3"), pair("B", "4")]),
            ("space before the colon", b"Subject \t: x\r\n", vec![pair("Subject", "x")]),
            ("no colon", b"oops\r\nA: 1\r\n", vec![pair("", "oops"), pair("A", "1")]),
            ("folded line first", b" x\r\nA: 1\r\n", vec![pair("", "x"), pair("A", "1")]),
            ("bare LF", b"A: 1\n 2\nB: 3\n\nno", vec![pair("A", "1 2"), pair("B", "3")]),
            ("NUL and bare CR", b"A: a\0b\rc\r\n", vec![pair("A", "a?bc")]),
        ];
        for (name, header, expected) in &table {
            assert_eq!(&names_and_values(header), expected, "{name}");
        }
        for (name, header, _) in &table {
            for wanted in ["a", "SUBJECT", "b", "c"] {
                let all: Vec<&[u8]> =
                    fields(header).filter(|field| field.is(wanted.as_bytes())).map(|field| field.value).collect();
                assert_eq!(values(header, wanted.as_bytes()).collect::<Vec<_>>(), all, "{wanted} of {name}");
            }
            assert_eq!(values(header, b"").count(), 0, "{name}");
        }
        assert_eq!(names_and_values(b""), vec![]);
        assert_eq!(names_and_values(b"\r\nA: 1\r\n"), vec![]);
    }
}
