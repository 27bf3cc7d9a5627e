//! Message IDs as THREAD compares them (RFC 5256 section 3, RFC 5322 section 3.6.4). One pass, no way back.

/// The message IDs of a Message-ID, References or In-Reply-To field, in order, `most` of them at most: without angle
/// brackets, white space, quotes and comments, so that IDs that mean the same are the same. Letter case matters.
pub fn message_ids(value: &[u8], most: usize) -> Vec<Vec<u8>> {
    let mut ids = Vec::new();
    let mut rest = value;
    while ids.len() < most
        && let Some(start) = memchr::memchr(b'<', rest)
    {
        let Some(inside) = rest.get(start + 1..) else { break };
        let (id, after) = message_id(inside);
        ids.extend(id);
        rest = after;
    }
    ids
}

/// What stands between `<` and `>`, and what follows. None if it is no ID; a `<` within begins another try.
fn message_id(inside: &[u8]) -> (Option<Vec<u8>>, &[u8]) {
    let mut id = Vec::new();
    let mut at_sign = None;
    let mut quoted = false;
    let mut bytes = inside.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => id.extend(bytes.next().map(|(_, byte)| *byte)),
            _ if quoted => id.push(*byte),
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'<' => return (None, inside.get(at..).unwrap_or_default()),
            b'>' => {
                let whole = at_sign.is_some_and(|at| at > 0 && at + 1 < id.len());
                return (whole.then_some(id), inside.get(at + 1..).unwrap_or_default());
            }
            byte => {
                if *byte == b'@' {
                    at_sign = Some(id.len());
                }
                id.push(*byte);
            }
        }
    }
    (None, &[])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_are_found_whatever_stands_around_them_and_however_they_are_quoted() {
        let table: [(&str, &[&str]); 13] = [
            ("<a@b>", &["a@b"]),
            (" <a@b>\r\n <c@d>\t<e@f>", &["a@b", "c@d", "e@f"]),
            ("<\"01KF8JCEOCBS0045PS\"@xxx.yyy.com>", &["01KF8JCEOCBS0045PS@xxx.yyy.com"]),
            ("<\"a\\\"b\"@c>", &["a\"b@c"]),
            ("<a@b><c@d>", &["a@b", "c@d"]),
            ("Your message of today <a@b> and then", &["a@b"]),
            ("<a@\r\n b>", &["a@b"]),
            ("<a@[1.2.3.4]>", &["a@[1.2.3.4]"]),
            ("<no-at-sign> <@b> <a@> <>", &[]),
            ("<a@b", &[]),
            ("<broken <a@b>", &["a@b"]),
            ("<A@b> <a@b>", &["A@b", "a@b"]),
            ("", &[]),
        ];
        for (value, expected) in table {
            let ids: Vec<String> =
                message_ids(value.as_bytes(), 10).into_iter().map(|id| String::from_utf8(id).unwrap()).collect();
            assert_eq!(ids, expected, "{value}");
        }
        assert_eq!(message_ids(b"<a@b> <c@d> <e@f>", 2).len(), 2);
    }

    proptest! {
        #[test]
        fn any_value_is_survived(value in "[<>@\"\\\\ a]{0,40}") {
            for id in message_ids(value.as_bytes(), 5) {
                prop_assert!(id.contains(&b'@'));
            }
        }
    }
}
