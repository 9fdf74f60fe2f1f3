//! Any text as the file of `--security-opt seccomp=`: read or refused; what is read compiles to a good filter or is refused.
#![no_main]

use std::collections::BTreeSet;

use hull_security::Cap;
use hull_security::seccomp::bpf;
use hull_security::seccomp::{self, Arch, Kernel};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let caps: BTreeSet<Cap> = hull_security::caps::DOCKER_DEFAULT.into_iter().collect();
    let kernel = Kernel {
        major: 6,
        minor: 12,
    };
    let Ok(Some(profile)) = seccomp::from_docker_json(text, &caps, kernel) else {
        return;
    };
    if let Ok(program) = seccomp::compile(&profile, Arch::X86_64) {
        bpf::check(&program.instructions).expect("a program that the kernel takes");
    }
});
