//! The same cases in a virtual machine: a newer kernel than most hosts', cgroup v2 with every controller, and AppArmor.

use std::time::Duration;

use hull_testkit::vm::{self, Vm};

use crate::subject::subject;

/// For the case of `process.apparmorProfile`: allows everything but one file.
const PROFILE: &str = "profile hull-conformance flags=(attach_disconnected,mediate_deleted) {
  network, capability, file, mount, umount, pivot_root, signal, ptrace, unix, dbus,
  deny /secret r,
}
";

/// io.cost for the disk.
const IO_COST: &str =
    r#"echo "$(cat /sys/block/vda/dev) enable=1" > /sys/fs/cgroup/io.cost.qos || exit 1"#;

/// bfq for the disk, and a device for RDMA over a link, where the kernel has them.
const DEVICES: &str = "modprobe bfq && echo bfq > /sys/block/vda/queue/scheduler
modprobe rdma_rxe || exit 0
ip link add rdma-link type dummy && ip link set rdma-link up && rdma link add rxe0 type rxe netdev rdma-link
";

#[test]
fn in_a_virtual_machine_with_cgroup_v2() {
    if std::fs::read_to_string("/proc/sys/kernel/hostname")
        .is_ok_and(|name| name.trim() == "hull-vm")
    {
        // This is the inside already.
        return;
    }
    if let Some(reason) = vm::missing() {
        hull_testkit::skip!("no virtual machine: {reason}");
        return;
    }
    let name = subject()
        .program()
        .file_name()
        .expect("a program's name")
        .to_string_lossy()
        .into_owned();
    let tests = std::env::current_exe().expect("this program");
    let parser = hull_testkit::skips::program("apparmor_parser");
    let mut machine = Vm::new().map(|vm| vm.kernel_arguments("apparmor=1 security=apparmor"));
    if let Some(parser) = parser {
        machine = machine
            .and_then(|vm| vm.program("usr/sbin/apparmor_parser", parser))
            .and_then(|vm| vm.copy("etc/apparmor", "/etc/apparmor"))
            .and_then(|vm| {
                vm.copy(
                    "usr/share/apparmor-features",
                    "/usr/share/apparmor-features",
                )
            })
            .and_then(|vm| vm.content("etc/apparmor.d/hull-conformance", 0o644, PROFILE))
            .map(|vm| {
                vm.case(
                    "profile",
                    "apparmor_parser --skip-cache --replace /etc/apparmor.d/hull-conformance",
                )
            });
    }
    if let Some(rdma) = hull_testkit::skips::program("rdma") {
        machine = machine.and_then(|vm| vm.program("usr/sbin/rdma", rdma));
    }
    let report = machine
        .and_then(|vm| {
            vm.memory_mib(2048)
                .limits(Duration::from_secs(1500), 1400)
                .program(&format!("usr/bin/{name}"), subject().program())
        })
        .and_then(|vm| vm.program("usr/bin/conformance", tests))
        .map(|vm| {
            let suite = format!(
                "HULL_SKIP_LOG=/tmp/skips HULL_CONFORMANCE_RUNTIME=/usr/bin/{name} conformance"
            );
            // Weights of disks before bfq is there, and with the whole suite under it.
            let io_cost = format!("{IO_COST}\n{suite} weights_of_disks");
            vm.case("io-cost", &io_cost)
                .case("devices", DEVICES)
                .case("conformance", &format!("{suite} --test-threads 2"))
        })
        .and_then(Vm::run)
        .expect("run the virtual machine");
    report.case("io-cost").ok();
    report.case("devices").ok();
    let output = report.case("conformance").ok();
    assert!(output.contains("test result: ok."), "{output}");
    // Visible with --nocapture.
    println!(
        "in the virtual machine: {}",
        output
            .lines()
            .rfind(|line| line.starts_with("test result"))
            .unwrap_or_default()
    );
}
