//! The PROXY header: every beginning of a good one is a beginning, and what follows it changes nothing.

use portcullis::serve::proxy::{Header, MAX_HEADER, parse};

pub fn run(data: &[u8]) {
    let followed = [data, b"\x16\x03\x01"].concat();
    match parse(data) {
        Header::Incomplete => assert!(data.len() < MAX_HEADER, "waits for more than it takes"),
        Header::Invalid(why) => {
            let _ = why.to_string();
            assert!(matches!(parse(&followed), Header::Invalid(_)), "more bytes mended it");
        }
        Header::Parsed(parsed) => {
            assert!(parsed.consumed <= data.len() && parsed.consumed <= MAX_HEADER);
            assert_eq!(parse(&data[..parsed.consumed]), Header::Parsed(parsed.clone()));
            assert_eq!(parse(&followed), Header::Parsed(parsed.clone()));
            for end in 0..parsed.consumed {
                assert_eq!(parse(&data[..end]), Header::Incomplete, "cut at {end}");
            }
        }
    }
}
