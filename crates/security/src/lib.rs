//! Seccomp profile to BPF, AppArmor, SELinux labels, capability sets and Docker's defaults.
#![forbid(unsafe_code)]
