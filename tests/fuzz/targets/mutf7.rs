//! Modified UTF-7 and LIST's patterns. Input: a name on the wire; as UTF-8 also a name to be written, and, cut at its
//! first NUL, a pattern and a name.

use portcullis::imap::{
    mailbox::{MailboxName, Pattern},
    mutf7,
};

pub fn run(data: &[u8]) {
    if let Ok(name) = mutf7::decode(data) {
        assert_eq!(mutf7::encode(&name).as_bytes(), data, "one name, one spelling");
    }
    if let Ok(name) = MailboxName::decode(data) {
        assert!(name.as_str().len() <= MailboxName::MAX_BYTES);
        let wire = mutf7::encode(name.as_str());
        assert_eq!(MailboxName::decode(wire.as_bytes()), Ok(name));
    }
    let Ok(text) = str::from_utf8(data) else { return };
    let wire = mutf7::encode(text);
    assert!(wire.bytes().all(|b| matches!(b, b' '..=b'~')));
    assert_eq!(mutf7::decode(wire.as_bytes()).as_deref(), Ok(text));

    let Some((pattern, name)) = text.split_once('\0').filter(|_| text.len() <= 64) else { return };
    // INBOX has its own rule.
    if !text.to_ascii_lowercase().contains('i') {
        let plain: Vec<char> = pattern.chars().collect();
        let name_: Vec<char> = name.chars().collect();
        assert_eq!(Pattern::new("", pattern).matches(name), fits(&plain, &name_));
    }
}

/// RFC 3501 section 6.3.8, word by word; slow.
fn fits(pattern: &[char], name: &[char]) -> bool {
    // Row by row: which ends of the name are reached.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for wanted in pattern {
        let mut next = vec![false; name.len() + 1];
        for from in (0..=name.len()).filter(|at| reached[*at]) {
            match wanted {
                '*' => next[from..].fill(true),
                '%' => {
                    let level = name[from..].iter().take_while(|c| **c != '/').count();
                    next[from..=from + level].fill(true);
                }
                letter if name.get(from) == Some(letter) => next[from + 1] = true,
                _ => {}
            }
        }
        reached = next;
    }
    reached[name.len()]
}
