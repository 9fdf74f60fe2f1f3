//! Any bytes as the stream of attach, exec and logs: cut into frames that are written as the same bytes again, or refused.
#![no_main]

use hull_api::frames::{Decoder, HEADER_LEN, header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (mut decoder, mut taken) = (Decoder::default(), 0);
    // As a network cuts it: by the first byte.
    let piece = usize::from(*bytes.first().unwrap_or(&1)).max(1);
    'stream: for part in bytes.chunks(piece) {
        decoder.push(part);
        loop {
            match decoder.next_frame() {
                Ok(None) => break,
                Err(_) => break 'stream,
                Ok(Some(frame)) => {
                    let wire = &bytes[taken..];
                    let head = header(frame.kind, frame.payload.len() as u32);
                    // The three zeros of a header are not looked at.
                    assert_eq!((head[0], &head[4..]), (wire[0], &wire[4..HEADER_LEN]));
                    taken += HEADER_LEN + frame.payload.len();
                    assert_eq!(frame.payload, bytes[taken - frame.payload.len()..taken]);
                }
            }
        }
    }
});
