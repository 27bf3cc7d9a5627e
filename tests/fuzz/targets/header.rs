//! Header values and body text for SEARCH: whatever stands there becomes text, the same text wherever it is cut.
//!
//! Input: five bytes of choices (charset; four lengths of pieces), then a header value or a body.

use portcullis::message::{
    Charset, Needle, Transfer, TransferDecoder, addresses, decode_header, decode_header_block, fields, parse_date,
    unfold,
};

const CHARSETS: [&str; 12] = [
    "utf-8",
    "us-ascii",
    "iso-8859-1",
    "iso-2022-jp",
    "shift_jis",
    "gb18030",
    "euc-kr",
    "utf-7",
    "utf-16",
    "big5",
    "iso-2022-kr",
    "koi8-r",
];

pub fn run(data: &[u8]) {
    let Some((&[choice, ref sizes @ ..], value)) = data.split_first_chunk::<5>() else { return };
    let text = decode_header(value);
    let block = decode_header_block(value);
    assert!(text.len() <= value.len() * 3 + 3 && block.len() <= value.len() * 6 + 3, "text grows");
    let flat = unfold(value);
    assert!(!flat.iter().any(|b| matches!(b, 0 | b'\r' | b'\n')) && flat.len() <= value.len());

    let mut length = 0;
    for field in fields(value) {
        assert!(!field.raw.is_empty());
        length += field.raw.len();
    }
    assert!(length <= value.len());

    let list = addresses(&flat, 10_000);
    super::mime::check_addresses(&list);
    for most in 0..4 {
        assert!(addresses(&flat, most).len() <= most);
    }
    if let Some(date) = parse_date(value) {
        let _ = (date.date_naive(), date.timestamp());
    }

    let label = CHARSETS[usize::from(choice) % CHARSETS.len()];
    let whole = Charset::new(label.as_bytes()).decode(value);
    let (mut charset, mut cut) = (Charset::new(label.as_bytes()), String::new());
    super::cut(value, sizes).iter().for_each(|piece| charset.feed(piece, &mut cut));
    charset.finish(&mut cut);
    assert_eq!(cut, whole, "a cut made a difference in {label}");

    for transfer in [Transfer::Identity, Transfer::Base64, Transfer::QuotedPrintable] {
        let decoded = |pieces: &[&[u8]]| {
            let (mut decoder, mut out) = (TransferDecoder::new(transfer), Vec::new());
            pieces.iter().for_each(|piece| decoder.feed(piece, &mut out));
            decoder.finish(&mut out);
            out
        };
        let whole = decoded(&[value]);
        assert!(whole.len() <= value.len());
        assert_eq!(decoded(&super::cut(value, sizes)), whole, "a cut made a difference");
    }

    let middle = text.floor_char_boundary(text.len() / 2);
    let (head, tail) = text.split_at(middle);
    let needle = Needle::new(tail);
    assert!(needle.is_in(&text) && needle.is_in(&text.to_uppercase()) | !text.is_ascii());
    let mut matcher = needle.matcher();
    matcher.feed(head);
    assert!(matcher.feed(tail));
}
