//! Any text as the value of `-p`, `--mount`, `-v`, `--network`, `--device`, `--gpus`, `--ulimit` and the rates: refused with a sentence, or read.
#![no_main]

use hull_cli::opts::{device, mount, network, port, volume};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let list = [text.to_owned()];
    let said = [
        port::parse(&list, &[]).err(),
        port::parse(&[], &list).err(),
        mount::parse(text).err(),
        volume::parse(text).err(),
        network::parse(text).err(),
        device::device(text).err(),
        device::gpus(text).err(),
        device::ulimit(text).err(),
        device::rate_bytes(text).err(),
        device::weight(text).err(),
    ];
    assert!(said.iter().flatten().all(|sentence| !sentence.is_empty()));
});
