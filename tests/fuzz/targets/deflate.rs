//! COMPRESS=DEFLATE: a stream reads the same wherever it is cut and however often the session rests, gives no more than
//! there is room for, and what we send is read back as it was.
//!
//! Input: six bytes of choices (room for output; four lengths of pieces; whether the session rests), then the stream.

use bytes::BytesMut;
use portcullis::imap::compress::{Deflater, Inflater};

/// Most that is inflated of one input, in bytes: more would only take time.
const ENOUGH: usize = 1 << 20;

pub fn run(data: &[u8]) {
    let Some((&[room, rests, ref sizes @ ..], stream)) = data.split_first_chunk::<6>() else { return };
    let room = usize::from(room) * 16 + 1;
    let whole = inflated(&[stream], ENOUGH, false);
    assert_eq!(inflated(&super::cut(stream, sizes), room, rests & 1 != 0), whole, "a cut made a difference");

    let (mut deflater, mut packed) = (Deflater::default(), BytesMut::new());
    for piece in super::cut(stream, sizes) {
        deflater.deflate(piece, true, &mut packed).expect("anything can be compressed");
        if rests & 2 != 0 {
            deflater.rest();
        }
    }
    assert_eq!(inflated(&[&packed], room, false), (stream.to_vec(), false), "what we send reads otherwise");
}

/// What a stream gives up to a limit, and whether it broke.
fn inflated(pieces: &[&[u8]], room: usize, rests: bool) -> (Vec<u8>, bool) {
    let (mut inflater, mut out) = (Inflater::new(b""), BytesMut::new());
    for piece in pieces {
        inflater.input().extend_from_slice(piece);
        loop {
            let (before, most) = (out.len(), room.min(ENOUGH - out.len()));
            match inflater.inflate(&mut out, most) {
                Ok(count) => {
                    assert!(count <= most && out.len() == before + count);
                    if count == 0 {
                        break;
                    }
                }
                Err(_) => return (out.to_vec(), true),
            }
        }
        if rests {
            inflater.rest();
        }
    }
    (out.to_vec(), false)
}
