//! The default AppArmor profile, loaded and enforced by a real kernel: in a virtual machine where this one has no AppArmor.

use std::process::Command;

use hull_security::apparmor;
use hull_testkit::vm::{self, Vm};

/// Runs a shell script under the default profile, which the shell asks for itself before it executes another.
fn confined(script: &str) -> (bool, String) {
    let label = apparmor::exec_label(apparmor::DEFAULT_PROFILE);
    let outer = format!("echo '{label}' > /proc/self/attr/apparmor/exec && exec sh -c \"$0\" 2>&1");
    let output = Command::new("sh")
        .args(["-c", &outer, script])
        .output()
        .expect("run sh");
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

/// What runs in the machine.
fn inside() {
    assert!(apparmor::is_enabled());
    assert!(!apparmor::is_loaded(apparmor::DEFAULT_PROFILE).expect("list profiles"));
    assert!(apparmor::ensure_default_profile().expect("load the profile"));
    assert!(apparmor::is_loaded(apparmor::DEFAULT_PROFILE).expect("list profiles"));
    assert!(apparmor::ensure_default_profile().expect("a second time"));

    let (ok, said) = confined("cat /proc/self/attr/current; echo x > /tmp/file && cat /tmp/file");
    assert!(
        ok && said.starts_with("docker-default (enforce)") && said.ends_with("x\n"),
        "{said}"
    );
    for denied in [
        "mount -t tmpfs tmpfs /mnt",
        "echo h > /proc/sysrq-trigger",
        "echo 1 > /proc/sys/vm/drop_caches",
        "cat /sys/kernel/security/apparmor/profiles",
        "echo 1 > /sys/kernel/mm/ksm/run",
    ] {
        let (ok, said) = confined(denied);
        assert!(
            !ok && said.to_lowercase().contains("permission denied"),
            "{denied}: {said}"
        );
    }
    let (ok, said) = confined(
        "sleep 100 & kill $! && cat /sys/kernel/mm/transparent_hugepage/enabled > /dev/null && echo 1000 > /proc/sys/kernel/shmmni",
    );
    assert!(ok, "{said}");
    let error = apparmor::load("broken", "profile broken {").expect_err("a syntax error");
    assert!(
        error
            .to_string()
            .contains("could not load the profile broken"),
        "{error}"
    );
}

#[test]
fn the_default_profile_is_loaded_and_enforced() {
    if std::fs::read_to_string("/proc/sys/kernel/hostname")
        .is_ok_and(|name| name.trim() == "hull-vm")
    {
        return inside();
    }
    if let Some(reason) = vm::missing() {
        hull_testkit::skip!("no virtual machine: {reason}");
        return;
    }
    let Some(parser) = hull_testkit::skips::program("apparmor_parser") else {
        hull_testkit::skip!("apparmor_parser is not installed");
        return;
    };
    let this = std::env::current_exe().expect("this program");
    let report = Vm::new()
        .map(|vm| vm.kernel_arguments("apparmor=1 security=apparmor"))
        .and_then(|vm| vm.program("usr/sbin/apparmor_parser", parser))
        .and_then(|vm| vm.copy("etc/apparmor", "/etc/apparmor"))
        .and_then(|vm| vm.copy("etc/apparmor.d", "/etc/apparmor.d"))
        .and_then(|vm| {
            vm.copy(
                "usr/share/apparmor-features",
                "/usr/share/apparmor-features",
            )
        })
        .and_then(|vm| vm.program("usr/bin/inside", this))
        .map(|vm| vm.case("enforced", "mkdir -p /mnt; inside --nocapture"))
        .and_then(Vm::run)
        .expect("run the virtual machine");
    report.case("enforced").ok();
}
