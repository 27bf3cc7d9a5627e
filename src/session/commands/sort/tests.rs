#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

const KEYS: [SortKey; 9] = [
    SortKey::Arrival,
    SortKey::Cc,
    SortKey::Date,
    SortKey::DisplayFrom,
    SortKey::DisplayTo,
    SortKey::From,
    SortKey::Size,
    SortKey::Subject,
    SortKey::To,
];

fn text(text: &str) -> Key {
    Key::Text(message::collation_key(text, MOST_KEY).into())
}

#[test]
fn each_key_is_what_its_rfc_says() {
    let header = b"From: =?utf-8?q?=C3=84nne?= <ann@example.com>, bob@example.com\r\n\
        To: Zoe@Example.com\r\nCc: team: a@b, c@d;\r\nSubject: Re: [list] Hello\r\n\
        Date: Mon, 1 Jan 2001 01:00:00 +0200\r\n\r\n";
    let job = Job { number: 1, uid: 1, size: 7, date: 5 };
    let cases = [
        (SortKey::Arrival, Key::Number(5)),
        (SortKey::Size, Key::Number(7)),
        (SortKey::Date, Key::Number(978_303_600)),
        (SortKey::From, text("ann")),
        (SortKey::To, text("zoe")),
        (SortKey::Cc, text("team")),
        (SortKey::DisplayFrom, text("änne")),
        (SortKey::DisplayTo, text("zoe@example.com")),
        (SortKey::Subject, text("hello")),
    ];
    for (by, expected) in cases {
        assert_eq!(key(by, &job, header), expected, "{by:?}");
    }
    // Without the field: the empty text, which comes first; the internal date.
    for by in KEYS {
        let expected = match by {
            SortKey::Arrival | SortKey::Date => Key::Number(5),
            SortKey::Size => Key::Number(7),
            _ => text(""),
        };
        assert_eq!(key(by, &job, b""), expected, "{by:?}");
    }
    assert_eq!(key(SortKey::Date, &job, b"Date: never\r\n"), Key::Number(5));
    assert_eq!(key(SortKey::DisplayFrom, &job, b"From: <ann>\r\n"), text("ann@missing_domain"));
}

/// A message by few values, so that many are equal.
fn any_row() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(0..3_u8, KEYS.len())
}

proptest! {
    #[test]
    fn sorting_is_by_each_criterion_in_turn_and_then_by_number(
        rows in proptest::collection::vec(any_row(), 0..20),
        by in proptest::collection::vec((0..KEYS.len(), any::<bool>()), 1..4),
    ) {
        let by: Vec<SortBy> = by.into_iter().map(|(at, reverse)| SortBy { key: KEYS[at], reverse }).collect();
        let value = |row: &[u8], key: SortKey| row[KEYS.iter().position(|k| *k == key).unwrap()];
        let gathered = rows.iter().zip(1..).map(|(row, number)| {
            (number, by.iter().map(|by| Key::Text(vec![value(row, by.key)].into())).collect())
        });
        let keys = Keys { by: by.clone(), headers: Headers::new(Vec::new(), message::Limits::default()), rows: gathered.collect() };
        // The model: stable sorts, the least important criterion first.
        let mut model: Vec<u32> = (1..).take(rows.len()).collect();
        for by in by.iter().rev() {
            let of = |number: &u32| i32::from(value(&rows[*number as usize - 1], by.key));
            model.sort_by_key(|number| if by.reverse { -of(number) } else { of(number) });
        }
        prop_assert_eq!(keys.sorted(), model);
    }
}
