//! Any bytes as a bundle's `config.json`: refused with the field that is wrong, or planned; never a panic, and nothing is made.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use hull_oci::runtime::Spec;
use hull_runtime::plan::{self, PlanOptions};
use hull_runtime::{Error, HostFacts, validate};
use libfuzzer_sys::fuzz_target;

static FACTS: LazyLock<HostFacts> = LazyLock::new(|| HostFacts::probe().expect("the host's facts"));

fuzz_target!(|bytes: &[u8]| {
    let Ok(spec) = serde_json::from_slice::<Spec>(bytes) else {
        return;
    };
    // What was read can be written, and reads as the same again.
    let text = serde_json::to_vec(&spec).expect("a spec can be written");
    assert_eq!(
        serde_json::from_slice::<Spec>(&text).expect("its own writing can be read"),
        spec
    );
    match validate::spec(&spec) {
        Ok(()) => {}
        Err(Error::Invalid(problems)) => {
            assert!(!problems.is_empty());
            assert!(
                problems
                    .iter()
                    .all(|problem| !problem.field.is_empty() && !problem.reason.is_empty()),
                "{problems:?}"
            );
            return;
        }
        Err(other) => panic!("validation failed otherwise: {other}"),
    }
    let options = PlanOptions {
        id: "fuzz".to_owned(),
        bundle: PathBuf::from("/fuzz/bundle"),
        ..PlanOptions::default()
    };
    let _ = plan::plan(&spec, &FACTS, &options);
});
