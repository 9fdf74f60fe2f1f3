//! OCI runtime: spec to plan to init; rootfs, cgroups, exec, hooks, checkpoint.
#![forbid(unsafe_code)]
