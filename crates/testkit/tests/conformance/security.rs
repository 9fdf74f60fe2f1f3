//! Seccomp's effects, and the known ways out of a container.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::subject::{Case, Flavor, cannot, is};

fn filtered(script: &str, rules: Value) -> Case {
    Case::script(script).edit(|spec| {
        spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
    })
}

#[test]
fn seccomp_errno() {
    let case = filtered(
        "mkdir /dir 2>&1; true",
        json!([{"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]),
    );
    assert!(case.output().contains("No space left on device"));
}

#[test]
fn seccomp_errno_is_eperm_unless_said() {
    let case = filtered(
        "mkdir /dir 2>&1; true",
        json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]),
    );
    assert!(case.output().contains("Operation not permitted"));
}

#[test]
fn seccomp_looks_at_arguments() {
    // Mode 0700 is refused, 0711 is not.
    let rule = |index: u32| json!({"index": index, "value": 0o700, "op": "SCMP_CMP_EQ"});
    let case = filtered(
        "umask 0; mkdir -m 0700 /a 2>&1; mkdir -m 0711 /b && echo made",
        json!([
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [rule(1)]},
            {"names": ["mkdirat"], "action": "SCMP_ACT_ERRNO", "args": [rule(2)]},
            {"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "args": [rule(1)]},
            {"names": ["fchmodat"], "action": "SCMP_ACT_ERRNO", "args": [rule(2)]},
        ]),
    );
    let output = case.output();
    assert!(
        output.contains("not permitted") && output.ends_with("made"),
        "{output}"
    );
}

#[test]
fn seccomp_kills() {
    let case = filtered(
        "mkdir /dir; echo survived",
        json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]),
    );
    let output = case.run();
    assert!(
        output.stdout.contains("survived"),
        "the shell goes on: {output:?}"
    );
    assert!(!case.bundle.rootfs("dir").exists());
    let own = Case::new(&["mkdir", "/dir"])
        .edit(|spec| spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}]}));
    assert_eq!(own.run().code(), 128 + 31, "SIGSYS");
}

#[test]
fn seccomp_allow_lists() {
    // Denying by default is what engines do; the default here says ENOSYS so that the shell's own calls fall back.
    let case = Case::script("echo fine; mkdir /dir").edit(|spec| {
        spec["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [{"names": DOCKER_LIKE, "action": "SCMP_ACT_ALLOW"}],
        });
    });
    let output = case.run();
    assert_eq!(output.stdout, "fine\n", "{output:?}");
    assert!(
        output.stderr.contains("Operation not permitted"),
        "{output:?}"
    );
}

/// What busybox's shell and runtimes themselves need between the filter and the end.
const DOCKER_LIKE: &[&str] = &[
    "read",
    "write",
    "open",
    "openat",
    "close",
    "stat",
    "lstat",
    "fstat",
    "newfstatat",
    "statx",
    "poll",
    "lseek",
    "mmap",
    "mprotect",
    "munmap",
    "brk",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sigaltstack",
    "ioctl",
    "readv",
    "writev",
    "access",
    "faccessat2",
    "pipe",
    "pipe2",
    "dup",
    "dup2",
    "dup3",
    "getpid",
    "getppid",
    "gettid",
    "clone",
    "vfork",
    "fork",
    "execve",
    "exit",
    "exit_group",
    "wait4",
    "kill",
    "tgkill",
    "uname",
    "fcntl",
    "getcwd",
    "chdir",
    "fchdir",
    "readlink",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "setuid",
    "setgid",
    "setgroups",
    "capset",
    "capget",
    "prctl",
    "arch_prctl",
    "set_tid_address",
    "set_robust_list",
    "rseq",
    "futex",
    "fstatfs",
    "statfs",
    "getdents64",
    "close_range",
    "openat2",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "nanosleep",
    "clock_nanosleep",
    "sched_yield",
    "sched_getaffinity",
    "madvise",
    "getrandom",
    "pread64",
    "clone3",
    "setsid",
    "umask",
    "getdents",
    "setresuid",
    "setresgid",
    "getgroups",
    "rt_sigtimedwait",
    "clock_gettime",
    "prlimit64",
];

#[test]
fn seccomp_holds_for_exec() {
    let case = Case::idle().edit(|spec| {
        spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]});
    });
    case.up();
    let output = case.exec(&[], &["mkdir", "/dir"]);
    assert_ne!(output.code(), 0);
    assert!(
        output.stderr.contains("Operation not permitted"),
        "{output:?}"
    );
}

#[test]
fn seccomp_without_no_new_privileges() {
    // Without no_new_privs the filter is loaded while CAP_SYS_ADMIN is still there.
    let case = filtered(
        "mkdir /dir 2>&1; grep Seccomp: /proc/self/status",
        json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]),
    )
    .edit(|spec| spec["process"]["noNewPrivileges"] = json!(false));
    let output = case.output();
    assert!(
        output.contains("not permitted") && output.ends_with('2'),
        "{output}"
    );
}

/// CVE-2024-21626: a working directory that is a leaked descriptor of the host.
#[test]
fn a_working_directory_does_not_lead_outside() {
    // From outside, the way up does not end at the container's root. Ending there, or not starting, are both fine.
    let script = "cd -P . && stat -c %d:%i ../../../../../../../../../../.. /";
    for descriptor in 3..16 {
        let case = Case::script(script)
            .edit(|spec| spec["process"]["cwd"] = json!(format!("/proc/self/fd/{descriptor}")));
        let output = case.run();
        let roots: Vec<&str> = output.stdout.lines().collect();
        assert!(
            roots.is_empty() || roots[0] == roots[1],
            "descriptor {descriptor} leads outside: {output:?}"
        );
    }
}

#[test]
fn an_exec_working_directory_does_not_lead_outside() {
    let case = Case::idle();
    case.up();
    let script = "cd -P . && stat -c %d:%i ../../../../../../../../../../.. /";
    for descriptor in 3..16 {
        let output = case.exec(
            &["--cwd", &format!("/proc/self/fd/{descriptor}")],
            &["/bin/sh", "-c", script],
        );
        let roots: Vec<&str> = output.stdout.lines().collect();
        assert!(
            roots.is_empty() || roots[0] == roots[1],
            "descriptor {descriptor} leads outside: {output:?}"
        );
    }
}

/// CVE-2019-5736: the runtime's own program, reached through /proc, must not be writable from inside.
#[test]
fn the_runtime_cannot_be_overwritten_through_proc() {
    let case = Case::idle();
    // A "program" that is the runtime itself, as an image would have it.
    symlink("/proc/self/exe", case.bundle.rootfs("bin/self")).expect("make a link");
    case.up();
    let _ = case.exec(&[], &["/bin/self"]);
    let script = "for pid in /proc/[0-9]*; do target=$(readlink $pid/exe); case $target in /bin/busybox) ;; *) echo \"$target\"; (exec 3>> $pid/exe) 2>/dev/null && echo WRITABLE;; esac; done; true";
    let output = case.exec(&[], &["sh", "-c", script]);
    assert!(!output.ok().contains("WRITABLE"), "{output:?}");
}

/// CVE-2019-19921, CVE-2023-27561: /proc and /sys must not be mounted through links of the image.
#[test]
fn proc_as_a_link_is_refused() {
    for name in ["proc", "sys"] {
        let case = Case::new(&["true"]);
        fs::remove_dir(case.bundle.rootfs(name)).expect("remove the mount point");
        fs::create_dir(case.bundle.rootfs("other")).expect("make a directory");
        symlink("/other", case.bundle.rootfs(name)).expect("make a link");
        assert_ne!(case.run().code(), 0, "/{name} was mounted through a link");
    }
}

/// CVE-2019-16884: something mounted over /proc would let labels be written to a file of the image's choice.
#[test]
fn nothing_but_proc_is_mounted_on_proc() {
    cannot!(is(&[Flavor::Crun]), "crun 1.8 mounts it");
    let case = Case::new(&["true"]);
    let source = case.root.folder("fake");
    let case = case.mount(
        json!({"destination": "/proc", "type": "bind", "source": source, "options": ["bind"]}),
    );
    assert_ne!(case.run().code(), 0);
    let case = Case::new(&["true"]);
    let source = case.root.folder("fake");
    let case = case.mount(json!({"destination": "/proc/self/attr", "type": "bind", "source": source, "options": ["bind"]}));
    assert_ne!(case.run().code(), 0);
    cannot!(
        is(&[Flavor::Runc, Flavor::Crun]),
        "runc 1.1 looks at bind mounts only"
    );
    let case = Case::new(&["true"])
        .mount(json!({"destination": "/proc/self/attr", "type": "tmpfs", "source": "tmpfs"}));
    assert_ne!(case.run().code(), 0);
}

/// CVE-2025-31133: a /dev/null of the image's making must not be what masks are made of.
#[test]
fn masks_are_not_made_of_the_images_null() {
    cannot!(
        is(&[Flavor::Runc, Flavor::Crun]),
        "Debian 12's runc and crun are older than the fix"
    );
    let case = Case::script("cat /secret; ls -l /dev/null").edit(|spec| {
        spec["linux"]["maskedPaths"] = json!(["/secret"]);
        // Without /dev of the runtime's making, the image's own is used.
        spec["mounts"]
            .as_array_mut()
            .expect("mounts")
            .retain(|mount| {
                !mount["destination"]
                    .as_str()
                    .is_some_and(|path| path.starts_with("/dev"))
            });
    });
    case.file("secret", "hidden");
    case.file("leak", "leak");
    symlink("/leak", case.bundle.rootfs("dev/null")).expect("make a link");
    let output = case.run();
    assert!(
        !output.stdout.contains("leak\n") && !output.stdout.contains("hidden"),
        "{output:?}"
    );
}

#[test]
fn suid_programs_gain_nothing_without_new_privileges() {
    let case = Case::script("/bin/suid id -u")
        .edit(|spec| spec["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    let script = "cp \"$0/busybox\" \"$0/suid\" && chmod 4755 \"$0/suid\"";
    let status = std::process::Command::new("/bin/busybox")
        .args(["sh", "-c", script])
        .arg(case.bundle.rootfs("bin"))
        .status();
    assert!(status.expect("run busybox").success());
    assert_ne!(case.run().stdout.trim(), "0");
}

#[test]
fn the_host_is_not_seen() {
    let case = Case::script("ls /; ls /proc | grep -c '^[0-9]'; ip link | grep -c '^[0-9]'");
    let output = case.output();
    assert!(
        !output.contains("boot") && !output.contains("srv"),
        "{output}"
    );
    let counts: Vec<u32> = output
        .lines()
        .rev()
        .take(2)
        .map(|line| line.parse().expect("a number"))
        .collect();
    assert!(counts[1] <= 5, "processes of the host are seen: {output}");
}
