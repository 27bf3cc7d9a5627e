//! The audit log as a chain: each row carries the SHA-256 over the hash before it and its own content, so that a row that
//! was changed, removed, put in or moved shows. Used by `audit` (writing) and `verify` (reading). Pure.
//!
//! What is hashed: the 32 bytes of the hash before (nothing for the first row), then the row's number and its columns in
//! the order of `event::COLUMNS`, each as one letter and a value: `n` for NULL, `i` and the decimal digits and `;` for a
//! number, `t` and the length in bytes and `:` and the bytes for a text. Kept as 64 hexadecimal digits.
//!
//! A chain without a key shows what was done to a part of it. Who can rewrite the whole database can make a whole new
//! chain: against that, keep the number and hash that `portcullis audit verify` prints in another place.

use aws_lc_rs::digest::{SHA256, digest};

use super::event::Value;

/// The hash that a first row follows: none.
pub(super) const NOTHING: &str = "";

/// The hash of a row that follows the row with the hash `before`.
pub(super) fn link(before: &str, number: i64, values: &[Value]) -> String {
    let mut content = Vec::with_capacity(512);
    content.extend(bytes_of(before));
    put_number(&mut content, number);
    for value in values {
        match value {
            Value::Number(None) | Value::Text(None) => content.push(b'n'),
            Value::Number(Some(number)) => put_number(&mut content, *number),
            Value::Text(Some(text)) => {
                content.push(b't');
                content.extend(text.len().to_string().bytes());
                content.push(b':');
                content.extend(text.bytes());
            }
        }
    }
    hex(digest(&SHA256, &content).as_ref())
}

fn put_number(content: &mut Vec<u8>, number: i64) {
    content.push(b'i');
    content.extend(number.to_string().bytes());
    content.push(b';');
}

/// The bytes that hexadecimal digits stand for. What is no such text gives bytes that no row of ours has a hash of.
fn bytes_of(hash: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = hash.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect::<Option<Vec<u8>>>().unwrap_or_else(|| hash.as_bytes().to_vec())
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().map_or('0', char::from);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn text(text: &'static str) -> Value {
        Value::Text(Some(text.into()))
    }

    /// Made by `printf 'i1;i5;t5:loginn' | sha256sum`, and the second with the first's 32 bytes before it.
    #[test]
    fn the_hash_is_the_documented_one() {
        let first = link(NOTHING, 1, &[Value::Number(Some(5)), text("login"), Value::Text(None)]);
        assert_eq!(first, "fc2ab6358dc28f85f670a560e2f2a59576e18ce7fe14faf392474f61a2188f42");
        assert_eq!(link(&first, 2, &[]), "bed6edcda66be16b23a2b54fa6ef0057eac902f1fb4d2866466cd74dc422a20f");
    }

    #[test]
    fn no_two_contents_look_alike() {
        let contents = [
            vec![text("ab"), text("c")],
            vec![text("a"), text("bc")],
            vec![text(""), Value::Text(None)],
            vec![Value::Text(None), text("")],
            vec![Value::Number(Some(1)), Value::Text(None)],
            vec![text("1"), Value::Text(None)],
            vec![text("t1:a")],
            vec![text("i1;")],
        ];
        let hashes: std::collections::BTreeSet<String> =
            contents.iter().map(|values| link(NOTHING, 1, values)).collect();
        assert_eq!(hashes.len(), contents.len());
        assert_ne!(link(NOTHING, 1, &contents[0]), link(NOTHING, 2, &contents[0]), "the number counts");
        assert_ne!(
            link(NOTHING, 1, &contents[0]),
            link(&"0".repeat(64), 1, &contents[0]),
            "what comes before counts"
        );
    }
}
