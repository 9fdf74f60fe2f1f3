//! Any text as `--format`: refused, or carried out within its bounds.
#![no_main]

use std::sync::LazyLock;

use hull_cli::template::{Data, Mode, Template};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

static DATA: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "Id": "abc", "State": {"Running": true, "Pid": 42, "Health": null},
        "Config": {"Env": ["A=1", "B=2"], "Labels": {"b.c": "2", "a": "1"}}, "Size": 1.5,
    })
});

fuzz_target!(|text: &str| {
    if let Ok(template) = Template::parse("", text) {
        let _ = template.execute(Data::Json(&DATA), Mode::Strict);
    }
});
