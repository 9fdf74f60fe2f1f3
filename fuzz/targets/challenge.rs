//! Any text as a registry's `WWW-Authenticate`: its challenges, whose number and size the header bounds.
#![no_main]

use hull_oci::distribution::AuthChallenge;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let challenges = AuthChallenge::parse_header(text);
    assert!(challenges.len() <= text.len());
    for challenge in &challenges {
        for (key, value) in &challenge.params {
            assert!(key.len() + value.len() <= text.len(), "{key:?}={value:?}");
        }
    }
});
