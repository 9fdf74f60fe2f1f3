//! Any bytes as a registry's manifest, index or image configuration: refused, or read to what is written and read as the same again.
#![no_main]

use hull_oci::{ImageConfig, Index, Manifest};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn read<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(bytes) else {
        return;
    };
    let text = serde_json::to_vec(&value).expect("it can be written");
    let again = serde_json::from_slice::<T>(&text).expect("its own writing can be read");
    assert_eq!(again, value);
}

fuzz_target!(|bytes: &[u8]| {
    read::<Manifest>(bytes);
    read::<Index>(bytes);
    read::<ImageConfig>(bytes);
});
