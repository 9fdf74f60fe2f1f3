//! Any text as the name of an image: refused, or parsed to what prints and parses as the same again.
#![no_main]

use hull_oci::Reference;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for reference in [
        text.parse::<Reference>().ok(),
        Reference::parse_normalized(text).ok(),
    ]
    .into_iter()
    .flatten()
    {
        let printed = reference.to_string();
        assert_eq!(printed.parse::<Reference>().as_ref(), Ok(&reference));
        let familiar = reference.familiar();
        let again =
            Reference::parse_normalized(&familiar).expect("its familiar name can be parsed");
        assert_eq!(again, reference, "{familiar:?}");
    }
});
