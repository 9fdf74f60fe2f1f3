//! The only unsafe code: clone3, the mount API, pidfd, seccomp(2), bpf(2), fd passing, pty.
