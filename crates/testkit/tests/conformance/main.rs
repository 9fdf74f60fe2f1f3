//! Hull's conformance suite for OCI runtimes: what the runtime specification and runc's command line promise, tried on real containers.
//!
//! The subject is `hull runtime`, or the runtime whose path `HULL_CONFORMANCE_RUNTIME` gives. Run it also with runc and crun from Debian:
//! a case that they fail, too, is more likely wrong itself. Where one of them lacks a field, the case says so and skips.
//!
//!     HULL_CONFORMANCE_RUNTIME=/usr/sbin/runc cargo test -p hull-testkit --test conformance
//!
//! It needs root and busybox, and works with cgroup v1 and v2; the case in `vm` runs all others in a virtual machine with v2.
#![forbid(unsafe_code)]

mod cgroups;
mod devices;
mod errors;
mod exec;
mod fields;
mod hooks;
mod lifecycle;
mod mounts;
mod namespaces;
mod process;
mod security;
mod selinux;
mod subject;
mod systemd;
mod terminal;
mod vm;
