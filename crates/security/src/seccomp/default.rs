//! Docker's default profile as a table: what every container may call, and what comes with a capability, an architecture or a kernel.
//!
//! It is an allow list; what is not here fails with EPERM. It says the same as moby's `profiles/seccomp/default.json` (as of 2026).
//! Kept out for every container: kernel keyrings (`add_key`, `keyctl`, `request_key`: not namespaced), `io_uring_*` (its operations
//! pass no filter), `userfaultfd` (a tool of kernel exploits), `kexec_*`, `swapon`, `pivot_root`, `nfsservctl` and other relics.

use std::collections::BTreeSet;

use hull_oci::runtime as oci;

use super::Arch;
use super::docker::{Conditions, Kernel, Profile, Rule};
use crate::caps::Cap;

/// What every container may call, whatever its arguments.
#[rustfmt::skip]
const ALWAYS: &[&[&str]] = &[
    // Open files.
    &[
        "read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "pwrite64", "pwritev",
        "pwritev2", "lseek", "_llseek", "close", "close_range", "dup", "dup2", "dup3", "fcntl",
        "fcntl64", "ioctl", "flock", "sendfile", "sendfile64", "splice", "tee", "vmsplice",
        "copy_file_range", "readahead", "fadvise64", "fadvise64_64", "fallocate", "ftruncate",
        "ftruncate64", "sync", "syncfs", "fsync", "fdatasync", "sync_file_range", "getdents",
        "getdents64",
    ],
    // Paths.
    &[
        "open", "openat", "openat2", "creat", "truncate", "truncate64", "access", "faccessat",
        "faccessat2", "chdir", "fchdir", "getcwd", "mkdir", "mkdirat", "rmdir", "link", "linkat",
        "symlink", "symlinkat", "readlink", "readlinkat", "rename", "renameat", "renameat2", "unlink",
        "unlinkat", "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "chown32", "fchown",
        "fchown32", "fchownat", "lchown", "lchown32", "umask", "utime", "utimes", "utimensat",
        "utimensat_time64", "futimesat",
        // Device nodes need CAP_MKNOD besides, and the device cgroup decides whether they open.
        "mknod", "mknodat",
        // Only names a file; opening by handle is what walks out of a mount, and needs CAP_DAC_READ_SEARCH below.
        "name_to_handle_at",
    ],
    // What is known about files.
    &[
        "stat", "stat64", "lstat", "lstat64", "fstat", "fstat64", "fstatat64", "newfstatat", "statx",
        "statfs", "statfs64", "fstatfs", "fstatfs64", "getxattr", "lgetxattr", "fgetxattr",
        "getxattrat", "setxattr", "lsetxattr", "fsetxattr", "setxattrat", "listxattr", "llistxattr",
        "flistxattr", "listxattrat", "removexattr", "lremovexattr", "fremovexattr", "removexattrat",
        // The mount table by system call: what /proc/self/mountinfo already shows of the own mount namespace.
        "statmount", "listmount",
        // How much of a file is in the page cache; needs write access to the file, so tells nothing of others' files.
        "cachestat",
        // Watching one's own files.
        "inotify_init", "inotify_init1", "inotify_add_watch", "inotify_rm_watch",
        // Useless without a group from fanotify_init, which needs CAP_SYS_ADMIN below; a service may hand one over.
        "fanotify_mark",
    ],
    // Waiting, and asynchronous files.
    &[
        "select", "_newselect", "pselect6", "pselect6_time64", "poll", "ppoll", "ppoll_time64",
        "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_wait", "epoll_wait_old",
        "epoll_pwait", "epoll_pwait2", "eventfd", "eventfd2", "signalfd", "signalfd4",
        "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime",
        "timerfd_settime64", "io_setup", "io_destroy", "io_submit", "io_cancel", "io_getevents",
        "io_pgetevents", "io_pgetevents_time64",
    ],
    // Pipes and sockets (`socket` itself looks at the family, below).
    &[
        "pipe", "pipe2", "socketpair", "bind", "connect", "listen", "accept", "accept4", "shutdown",
        "getsockname", "getpeername", "getsockopt", "setsockopt", "send", "sendto", "sendmsg",
        "sendmmsg", "recv", "recvfrom", "recvmsg", "recvmmsg", "recvmmsg_time64",
        // The only way to sockets for 32-bit x86 programs before Linux 4.3. Its arguments lie behind a pointer, so the families
        // that `socket` refuses cannot be refused here.
        "socketcall",
    ],
    // System V and POSIX IPC: namespaced.
    &[
        "ipc", "msgctl", "msgget", "msgrcv", "msgsnd", "semctl", "semget", "semop", "semtimedop",
        "semtimedop_time64", "shmat", "shmctl", "shmdt", "shmget", "mq_getsetattr", "mq_notify",
        "mq_open", "mq_timedreceive", "mq_timedreceive_time64", "mq_timedsend", "mq_timedsend_time64",
        "mq_unlink",
    ],
    // Memory.
    &[
        "brk", "mmap", "mmap2", "munmap", "mremap", "mprotect", "madvise", "mincore", "msync",
        "mlock", "mlock2", "mlockall", "munlock", "munlockall", "memfd_create", "membarrier",
        "remap_file_pages", "pkey_alloc", "pkey_free", "pkey_mprotect",
        // Secret memory, shadow stacks and sealed mappings only take rights away, from the caller.
        "memfd_secret", "map_shadow_stack", "mseal",
    ],
    // Threads and scheduling. Raising a priority needs CAP_SYS_NICE besides.
    &[
        "futex", "futex_time64", "futex_wait", "futex_wake", "futex_waitv", "futex_requeue",
        "get_robust_list", "set_robust_list", "set_tid_address", "gettid", "rseq", "get_thread_area",
        "set_thread_area", "getcpu", "sched_getaffinity", "sched_getattr", "sched_getparam",
        "sched_get_priority_max", "sched_get_priority_min", "sched_getscheduler",
        "sched_rr_get_interval", "sched_rr_get_interval_time64", "sched_setaffinity", "sched_setattr",
        "sched_setparam", "sched_setscheduler", "sched_yield", "getpriority", "setpriority",
        "ioprio_get", "ioprio_set",
    ],
    // Processes (`clone` looks at its flags, below).
    &[
        "fork", "vfork", "execve", "execveat", "exit", "exit_group", "wait4", "waitid", "waitpid",
        "getpid", "getppid", "getpgid", "getpgrp", "setpgid", "getsid", "setsid", "getrlimit",
        "setrlimit", "ugetrlimit", "prlimit64", "getrusage", "times", "prctl", "uname", "sysinfo",
        "getrandom", "pidfd_open", "pidfd_send_signal",
        // Frees the memory of a process that is already being killed.
        "process_mrelease",
        // The kernel's own trampoline for return probes; calling it from elsewhere is a SIGILL. Without it a probed program dies.
        "uretprobe",
        // Which instructions the machine has.
        "riscv_hwprobe",
    ],
    // Sandboxes that a program builds for itself: they only take rights away.
    &[
        "seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self",
    ],
    // Signals.
    &[
        "kill", "tkill", "tgkill", "pause", "restart_syscall", "rt_sigaction", "rt_sigpending",
        "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
        "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sigaltstack", "sigprocmask", "sigreturn",
    ],
    // Users, groups and capabilities: the kernel's own checks hold.
    &[
        "getuid", "getuid32", "geteuid", "geteuid32", "getgid", "getgid32", "getegid", "getegid32",
        "getresuid", "getresuid32", "getresgid", "getresgid32", "getgroups", "getgroups32", "setuid",
        "setuid32", "setgid", "setgid32", "setreuid", "setreuid32", "setregid", "setregid32",
        "setresuid", "setresuid32", "setresgid", "setresgid32", "setfsuid", "setfsuid32", "setfsgid",
        "setfsgid32", "setgroups", "setgroups32", "capget", "capset",
    ],
    // Time. The adjtime calls also read; setting through them needs CAP_SYS_TIME.
    &[
        "time", "gettimeofday", "clock_getres", "clock_getres_time64", "clock_gettime",
        "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "nanosleep", "alarm",
        "getitimer", "setitimer", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime",
        "timer_gettime64", "timer_settime", "timer_settime64", "adjtimex", "clock_adjtime",
        "clock_adjtime64",
    ],
];

/// What comes with a capability, because the kernel would refuse it without: an allowed call that always fails is attack surface.
#[rustfmt::skip]
const WITH_CAPABILITY: &[(Cap, &[&str])] = &[
    // Opens files of the whole file system by number ("shocker", 2014).
    (Cap::DacReadSearch, &["open_by_handle_at"]),
    (
        Cap::SysAdmin,
        &[
            // Namespaces with any flags.
            "clone", "clone3", "setns", "unshare",
            // Mounts, by the old interface and the new.
            "mount", "umount", "umount2", "fsconfig", "fsmount", "fsopen", "fspick", "move_mount",
            "open_tree", "mount_setattr", "quotactl", "quotactl_fd",
            // Names of the machine; the UTS namespace bounds them.
            "sethostname", "setdomainname",
            // Security modules, by the interface of Linux 6.8.
            "lsm_get_self_attr", "lsm_set_self_attr", "lsm_list_modules",
            // Watching and measuring the whole system; newer kernels ask for CAP_BPF, CAP_PERFMON and CAP_SYSLOG below.
            "bpf", "perf_event_open", "syslog", "fanotify_init", "lookup_dcookie",
        ],
    ),
    (Cap::SysBoot, &["reboot"]),
    (Cap::SysChroot, &["chroot"]),
    (
        Cap::SysModule,
        &["delete_module", "init_module", "finit_module"],
    ),
    (Cap::SysPacct, &["acct"]),
    (
        Cap::SysPtrace,
        &[
            "kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev",
            "ptrace",
        ],
    ),
    // Ports of the machine.
    (Cap::SysRawio, &["iopl", "ioperm"]),
    (
        Cap::SysTime,
        &["settimeofday", "stime", "clock_settime", "clock_settime64"],
    ),
    (Cap::SysTtyConfig, &["vhangup"]),
    // NUMA placement; the last is Linux 5.17's.
    (
        Cap::SysNice,
        &[
            "get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node",
        ],
    ),
    (Cap::Syslog, &["syslog"]),
    (Cap::Bpf, &["bpf"]),
    (Cap::Perfmon, &["perf_event_open"]),
];

/// What exists on some architectures only, by the names that Docker's profiles have for them.
const WITH_ARCHITECTURE: &[(&[&str], &[&str])] = &[
    (&["ppc64le"], &["sync_file_range2", "swapcontext"]),
    // Cache maintenance and thread-local storage of 32-bit ARM, and its argument orders.
    (
        &["arm", "arm64"],
        &[
            "arm_fadvise64_64",
            "arm_sync_file_range",
            "sync_file_range2",
            "breakpoint",
            "cacheflush",
            "set_tls",
        ],
    ),
    // Thread-local storage.
    (&["amd64", "x32"], &["arch_prctl"]),
    // Segments of 16-bit programs (Wine).
    (&["amd64", "x32", "x86"], &["modify_ldt"]),
    (
        &["s390", "s390x"],
        &[
            "s390_pci_mmio_read",
            "s390_pci_mmio_write",
            "s390_runtime_instr",
        ],
    ),
    (&["riscv64"], &["riscv_flush_icache"]),
];

/// Tracing of one's own processes. Before Linux 4.8 a tracer could walk around a filter: it ran before the tracer's changes.
const TRACING: (Kernel, &[&str]) = (
    Kernel { major: 4, minor: 8 },
    &["ptrace", "process_vm_readv", "process_vm_writev"],
);

/// `CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET`.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;
/// The kernel's crypto sockets: a container has no use for them that a library does not serve, and they were a way to root (2026).
const AF_ALG: u64 = 38;
/// Sockets to the hypervisor and to other guests: not namespaced.
const AF_VSOCK: u64 = 40;
/// Execution domains that change nothing of the kernel's protections: Linux and UNAME26 and their 32-bit forms, and the question.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Docker's default profile for a container whose bounding set is `caps`, on a running kernel, for this program's architecture.
pub fn default_profile(caps: &BTreeSet<Cap>, kernel: Kernel) -> oci::Seccomp {
    let native = Arch::native().unwrap_or(Arch::X86_64);
    table().resolve(caps, kernel, native)
}

/// The table in the form that Docker's profile files are read into.
pub(super) fn table() -> Profile {
    let mut rules = vec![Rule::allow(ALWAYS.concat())];
    rules.push(Rule::allow(TRACING.1.to_vec()).including(Conditions {
        min_kernel: Some(TRACING.0),
        ..Conditions::default()
    }));
    for (op, family) in [
        (oci::SeccompOp::Lt, AF_ALG),
        (oci::SeccompOp::Eq, AF_ALG + 1),
        (oci::SeccompOp::Gt, AF_VSOCK),
    ] {
        rules.push(Rule::allow(vec!["socket"]).on_argument(0, op, family, 0));
    }
    for persona in PERSONALITIES {
        rules.push(Rule::allow(vec!["personality"]).on_argument(0, oci::SeccompOp::Eq, persona, 0));
    }
    for (arches, names) in WITH_ARCHITECTURE {
        rules.push(Rule::allow(names.to_vec()).including(Conditions::arches(arches)));
    }
    for (cap, names) in WITH_CAPABILITY {
        rules.push(Rule::allow(names.to_vec()).including(Conditions::cap(*cap)));
    }
    // Without CAP_SYS_ADMIN: processes and threads, but no namespaces (CVE-2022-0185 and others start with a user namespace).
    let s390 = ["s390", "s390x"];
    let without = |arches: &[&str]| Conditions {
        caps: vec![Cap::SysAdmin.name().to_owned()],
        ..Conditions::arches(arches)
    };
    rules.push(
        Rule::allow(vec!["clone"])
            .on_argument(0, oci::SeccompOp::MaskedEq, CLONE_NAMESPACES, 0)
            .excluding(without(&s390)),
    );
    // The flags are the second argument there.
    rules.push(
        Rule::allow(vec!["clone"])
            .on_argument(1, oci::SeccompOp::MaskedEq, CLONE_NAMESPACES, 0)
            .including(Conditions::arches(&s390))
            .excluding(without(&[])),
    );
    // clone3 has its flags behind a pointer. ENOSYS makes the C library fall back to clone, whose flags can be seen.
    rules.push(Rule::errno(vec!["clone3"], 38).excluding(without(&[])));
    Profile::docker(rules)
}
