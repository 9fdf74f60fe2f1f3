//! Any bytes as a container's log file: every step forward takes bytes, and an entry that is read is written and read as the same again.
#![no_main]

use hull_shim::logfile::{Decoded, Entry, Format, time_text};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for format in [Format::JsonFile, Format::Local] {
        let (mut rest, mut entry) = (bytes, Entry::default());
        loop {
            let count = match format.decode(rest, &mut entry) {
                Decoded::Incomplete => break,
                Decoded::Damaged(count) => count,
                Decoded::Entry(count) => {
                    written_and_read(format, &entry);
                    count
                }
            };
            assert!((1..=rest.len()).contains(&count), "{count} bytes");
            rest = &rest[count..];
        }
    }
});

fn written_and_read(format: Format, entry: &Entry) {
    let (mut text, mut again) = (Vec::new(), Entry::default());
    let time = time_text(entry.time);
    let attributes = entry.attributes.as_deref();
    format.encode(
        &mut text,
        entry.stream,
        (entry.time, &time),
        attributes,
        &entry.line,
    );
    assert_eq!(
        format.decode(&text, &mut again),
        Decoded::Entry(text.len()),
        "{entry:?}"
    );
    assert_eq!(
        (again.stream, again.time, &again.line),
        (entry.stream, entry.time, &entry.line)
    );
}
