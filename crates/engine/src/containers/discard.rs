//! Limits that this kernel cannot hold: left out with Docker's warnings, as moby's `verifyPlatformContainerResources` does it.

use std::path::Path;

use hull_api::host::Resources;

/// What the kernel has of the block I/O and memory controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kernel {
    /// A limit on memory and swap together (cgroup v1: `swapaccount=1`).
    pub(super) swap: bool,
    pub(super) swappiness: bool,
    pub(super) oom_kill_disable: bool,
    pub(super) blkio_weight: bool,
}

impl Kernel {
    /// This one. On cgroup v1 a file in the hierarchy's root says whether a limit is there; in v2 the root has none of them.
    pub(super) fn running(cgroup2: bool) -> Kernel {
        if cgroup2 {
            return Kernel {
                swap: true,
                swappiness: false,
                oom_kill_disable: false,
                blkio_weight: true,
            };
        }
        let has = |file: &str| Path::new("/sys/fs/cgroup").join(file).exists();
        Kernel {
            swap: has("memory/memory.memsw.limit_in_bytes"),
            swappiness: has("memory/memory.swappiness"),
            oom_kill_disable: has("memory/memory.oom_control"),
            blkio_weight: has("blkio/blkio.weight") || has("blkio/blkio.bfq.weight"),
        }
    }
}

/// Takes out what the kernel lacks; a warning for each.
pub(super) fn limits(kernel: &Kernel, resources: &mut Resources) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut lacks = |what: &str| warnings.push(format!("Your kernel does not support {what}"));
    if resources.memory > 0 && resources.memory_swap != -1 && !kernel.swap {
        resources.memory_swap = -1;
        lacks("swap limit capabilities or the cgroup is not mounted. Memory limited without swap.");
    }
    if resources.memory_swappiness.is_some_and(|value| value != -1) && !kernel.swappiness {
        resources.memory_swappiness = None;
        lacks(
            "memory swappiness capabilities, or the cgroup is not mounted. Memory swappiness discarded.",
        );
    }
    if resources.oom_kill_disable == Some(true) && !kernel.oom_kill_disable {
        resources.oom_kill_disable = None;
        lacks("OomKillDisable. OomKillDisable discarded.");
    }
    if resources.blkio_weight > 0 && !kernel.blkio_weight {
        resources.blkio_weight = 0;
        lacks("Block I/O weight or the cgroup is not mounted. Weight discarded.");
    }
    let weighed = |path: &str| kernel.blkio_weight && schedules_by_weight(path);
    let asked = resources.blkio_weight_device.len();
    resources
        .blkio_weight_device
        .retain(|device| weighed(&device.path));
    if resources.blkio_weight_device.len() < asked {
        lacks("Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.");
    }
    warnings
}

/// Whether the device's scheduler is BFQ: no other one takes a weight for each device, and the kernel says so with EOPNOTSUPP.
fn schedules_by_weight(path: &str) -> bool {
    let Ok((major, minor)) = crate::spec::block_device_numbers(path) else {
        return false;
    };
    let scheduler = format!("/sys/dev/block/{major}:{minor}/queue/scheduler");
    std::fs::read_to_string(scheduler).is_ok_and(|text| text.contains("[bfq]"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use hull_api::host::WeightDevice;

    fn asked() -> Resources {
        Resources {
            memory: 64 << 20,
            memory_swap: 128 << 20,
            memory_swappiness: Some(10),
            oom_kill_disable: Some(true),
            blkio_weight: 300,
            blkio_weight_device: vec![WeightDevice {
                path: "/no/such/device".to_owned(),
                weight: 200,
            }],
            ..Resources::default()
        }
    }

    #[test]
    fn what_is_lacking_is_named_and_left_out() {
        let none = Kernel {
            swap: false,
            swappiness: false,
            oom_kill_disable: false,
            blkio_weight: false,
        };
        let mut resources = asked();
        expect![[r#"
            Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.
            Your kernel does not support memory swappiness capabilities, or the cgroup is not mounted. Memory swappiness discarded.
            Your kernel does not support OomKillDisable. OomKillDisable discarded.
            Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.
            Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded."#]]
        .assert_eq(&limits(&none, &mut resources).join("\n"));
        assert_eq!(resources.memory, 64 << 20);
        assert_eq!(resources.memory_swap, -1);
        assert_eq!(resources.blkio_weight, 0);
        assert!(limits(&none, &mut resources).is_empty());
    }

    #[test]
    fn what_is_there_is_kept() {
        let all = Kernel {
            swap: true,
            swappiness: true,
            oom_kill_disable: true,
            blkio_weight: true,
        };
        let mut resources = asked();
        resources.blkio_weight_device.clear();
        let before = resources.clone();
        assert!(limits(&all, &mut resources).is_empty());
        assert_eq!(resources, before);
    }
}
