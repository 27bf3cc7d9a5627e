#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::expect_used)]

use proptest::prelude::*;

use super::*;

/// `name|route|mailbox|host` for each address; `-` = NIL.
fn shown(value: &[u8]) -> Vec<String> {
    let part =
        |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or("-".into(), |b| String::from_utf8_lossy(b).into_owned());
    addresses(value, 100)
        .iter()
        .map(|a| format!("{}|{}|{}|{}", part(&a.name), part(&a.route), part(&a.mailbox), part(&a.host)))
        .collect()
}

#[test]
fn addresses_are_read_in_every_syntax() {
    let table: [(&str, &[&str]); 31] = [
        ("ann@example.com", &["-|-|ann|example.com"]),
        ("<ann@example.com>", &["-|-|ann|example.com"]),
        ("Ann Lee <ann@example.com>", &["Ann Lee|-|ann|example.com"]),
        ("\"Lee, Ann\" <ann@example.com>", &["Lee, Ann|-|ann|example.com"]),
        ("Ann \"Q\" Lee <a@b>", &["Ann Q Lee|-|a|b"]),
        ("John Q. Public <j@b>", &["John Q. Public|-|j|b"]),
        ("\"a \\\"b\\\" \\\\c\" <j@b>", &["a \"b\" \\c|-|j|b"]),
        ("ann@example.com (Ann Lee)", &["Ann Lee|-|ann|example.com"]),
        ("(work) ann (at) @ (the) example . com", &["the|-|ann|example.com"]),
        ("=?utf-8?q?Ann_L=C3=A9?= =?utf-8?q?e?= <a@b>", &["=?utf-8?q?Ann_L=C3=A9?= =?utf-8?q?e?=|-|a|b"]),
        ("\"ann lee\"@example.com", &["-|-|ann lee|example.com"]),
        ("a@b, c@d,\r\n\te@f", &["-|-|a|b", "-|-|c|d", "-|-|e|f"]),
        (",,a@b, ,c@d,", &["-|-|a|b", "-|-|c|d"]),
        ("<@x.org,@y.org:ann@example.com>", &["-|@x.org,@y.org|ann|example.com"]),
        ("Ann <@x.org:ann@example.com>", &["Ann|@x.org|ann|example.com"]),
        ("ann@[192.0.2.1]", &["-|-|ann|[192.0.2.1]"]),
        ("friends: a@b, C <c@d>;", &["-|-|friends|-", "-|-|a|b", "C|-|c|d", "-|-|-|-"]),
        ("undisclosed-recipients:;", &["-|-|undisclosed-recipients|-", "-|-|-|-"]),
        ("My Friends: a@b; , x@y", &["-|-|My Friends|-", "-|-|a|b", "-|-|-|-", "-|-|x|y"]),
        ("never closed: a@b", &["-|-|never closed|-", "-|-|a|b", "-|-|-|-"]),
        ("a@b; c@d", &["-|-|a|b", "-|-|c|d"]),
        ("ann@example.com <ann@example.com>", &["ann@example.com|-|ann|example.com"]),
        ("Ann <ann@example.com", &["Ann|-|ann|example.com"]),
        ("Ann <ann@example.com, Bob <bob@example.com>", &["Ann|-|ann|example.com", "Bob|-|bob|example.com"]),
        ("Ann (work <ann@example.com>", &["Ann work|-|ann|example.com"]),
        ("\"Ann <ann@example.com>", &["Ann|-|ann|example.com"]),
        ("root", &["-|-|root|MISSING_DOMAIN"]),
        ("Ann Lee", &["Ann Lee|-|MISSING_MAILBOX|MISSING_DOMAIN"]),
        ("\"Ann\"", &["Ann|-|MISSING_MAILBOX|MISSING_DOMAIN"]),
        ("Ann <>", &["Ann|-|MISSING_MAILBOX|MISSING_DOMAIN"]),
        ("", &[]),
    ];
    for (value, expected) in table {
        assert_eq!(shown(value.as_bytes()), expected, "{value}");
    }
}

#[test]
fn eight_bit_names_stay_raw() {
    let found = addresses(b"\xe9t\xe9 <a@b>", 10);
    assert_eq!(found[0].name.as_deref(), Some(&b"\xe9t\xe9"[..]));
}

#[test]
fn no_more_than_asked_for_are_returned() {
    let many = b"a@b,".repeat(50);
    assert_eq!(addresses(&many, 10).len(), 10);
    assert_eq!(addresses(b"g: a@b, c@d;", 2).len(), 2);
    assert!(addresses(&many, 0).is_empty());
}

#[test]
fn hostile_fields_take_linear_time() {
    let size = 200_000;
    for bytes in [&b"("[..], b"\"", b"[", b"<", b"@", b":", b"\\\"", b"(\"[", b"a ", b".", b"\\(", b"a<", b";:"] {
        let value = bytes.repeat(size / bytes.len());
        assert!(addresses(&value, 10_000).len() <= 10_000);
    }
}

proptest! {
    #[test]
    fn any_bytes_give_addresses_that_imap_can_show(
        value in proptest::collection::vec(prop_oneof![any::<u8>(), proptest::sample::select(&b"a<>@,:;()\"\\ .[]"[..])], 0..60)
    ) {
        let flat = crate::message::unfold(&value);
        let mut depth = 0_i32;
        for address in addresses(&flat, 1000) {
            match (&address.mailbox, &address.host) {
                (Some(_), None) => depth += 1,
                (None, None) => depth -= 1,
                (Some(_), Some(_)) => {}
                (None, Some(_)) => prop_assert!(false, "a host without a mailbox"),
            }
            prop_assert!((0..=1).contains(&depth), "groups do not nest");
        }
        prop_assert_eq!(depth, 0);
    }
}
