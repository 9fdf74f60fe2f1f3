//! The compiler against the evaluator, against the kernel's rules for filters, and against the kernel itself.

use std::collections::BTreeSet;

use expect_test::{Expect, expect};
use hull_oci::runtime as oci;
use oci::{SeccompAction as Action, SeccompOp as Op};
use proptest::prelude::*;

use super::bpf::{self, SeccompData};
use super::syscalls::X32_BIT;
use super::{Arch, Kernel, compile, default_profile, evaluate, from_docker_json, syscalls};
use crate::caps::{Cap, DOCKER_DEFAULT};

const NEW_KERNEL: Kernel = Kernel {
    major: 6,
    minor: 12,
};

fn profile(action: Action, architectures: &[Arch], syscalls: Vec<oci::Syscall>) -> oci::Seccomp {
    oci::Seccomp {
        default_action: action,
        default_errno_ret: None,
        architectures: architectures.iter().map(|arch| arch.to_oci()).collect(),
        flags: Vec::new(),
        listener_path: None,
        listener_metadata: None,
        syscalls,
    }
}

fn rule(names: &[&str], action: Action, args: Vec<oci::SeccompArg>) -> oci::Syscall {
    let names = names.iter().map(|&name| name.to_owned()).collect();
    oci::Syscall {
        names,
        action,
        errno_ret: None,
        args,
    }
}

fn arg(index: u32, op: Op, value: u64, value_two: u64) -> oci::SeccompArg {
    oci::SeccompArg {
        index,
        value,
        value_two,
        op,
    }
}

fn call(arch: Arch, number: u32, args: [u64; 6]) -> SeccompData {
    SeccompData {
        nr: number,
        arch: arch.audit(),
        instruction_pointer: 0x1234_5678_9abc,
        args,
    }
}

fn named(arch: Arch, name: &str, args: &[u64]) -> SeccompData {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    call(
        arch,
        syscalls::number(arch, name).expect("a known call"),
        all,
    )
}

/// The filter's answer, which has to be the evaluator's too.
#[track_caller]
fn answer(profile: &oci::Seccomp, native: Arch, data: &SeccompData) -> u32 {
    let program = compile(profile, native).expect("a good profile");
    let (value, _) =
        bpf::run(&program.instructions, data).expect("a program that the kernel takes");
    assert_eq!(
        value,
        evaluate(profile, native, data).expect("a good profile"),
        "{data:x?}"
    );
    value
}

const ALLOW: u32 = 0x7fff_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const fn errno(number: u32) -> u32 {
    0x0005_0000 | number
}

#[test]
fn program_of_a_small_profile() {
    let profile = profile(
        Action::Errno,
        &[],
        vec![
            rule(&["read", "write", "no_such_call"], Action::Allow, vec![]),
            rule(&["personality"], Action::Allow, vec![arg(0, Op::Eq, 8, 0)]),
        ],
    );
    let program = compile(&profile, Arch::Aarch64).expect("a good profile");
    let mut text = String::new();
    for (at, one) in program.instructions.iter().enumerate() {
        text += &match one.code {
            bpf::LOAD => format!("{at:2} load [{}]\n", one.k),
            bpf::AND => format!("{at:2} and {:#x}\n", one.k),
            bpf::JUMP => format!("{at:2} jump {}\n", at + 1 + one.k as usize),
            bpf::RETURN => format!("{at:2} return {:#010x}\n", one.k),
            code => {
                let name = [
                    (bpf::JUMP_EQ, "=="),
                    (bpf::JUMP_GT, ">"),
                    (bpf::JUMP_GE, ">="),
                ];
                let name = name
                    .iter()
                    .find(|(known, _)| *known == code)
                    .map_or("?", |(_, name)| name);
                let to = |skip: u8| at + 1 + usize::from(skip);
                format!(
                    "{at:2} if {name} {:#x} then {} else {}\n",
                    one.k,
                    to(one.jt),
                    to(one.jf)
                )
            }
        };
    }
    expect![[r#"
         0 load [4]
         1 if == 0xc00000b7 then 2 else 14
         2 load [0]
         3 if >= 0x41 then 5 else 4
         4 if >= 0x3f then 11 else 12
         5 if >= 0x5c then 6 else 12
         6 if >= 0x5d then 13 else 7
         7 load [20]
         8 if == 0x0 then 9 else 12
         9 load [16]
        10 if == 0x8 then 11 else 12
        11 return 0x7fff0000
        12 return 0x00050001
        13 return 0x00050026
        14 return 0x80000000
    "#]]
    .assert_eq(&text);
    assert_eq!(program.as_bytes().len(), 15 * 8);
    assert_eq!(program.as_bytes()[..8], [0x20, 0, 0, 0, 4, 0, 0, 0]);
}

#[test]
fn dockers_default() {
    let caps: BTreeSet<Cap> = DOCKER_DEFAULT.into_iter().collect();
    let profile = default_profile(&caps, NEW_KERNEL);
    let ask = |data: &SeccompData| answer(&profile, Arch::X86_64, data);
    for arch in [Arch::X86_64, Arch::X86, Arch::X32] {
        for name in ["openat", "execve", "ptrace", "statmount", "futex"] {
            assert_eq!(ask(&named(arch, name, &[])), ALLOW, "{name} on {arch:?}");
        }
        for name in [
            "unshare",
            "setns",
            "mount",
            "keyctl",
            "io_uring_setup",
            "userfaultfd",
            "bpf",
            "kexec_load",
        ] {
            assert_eq!(ask(&named(arch, name, &[])), errno(1), "{name} on {arch:?}");
        }
        assert_eq!(ask(&named(arch, "clone3", &[])), errno(38));
        assert_eq!(ask(&named(arch, "clone", &[0x0120_0011])), ALLOW);
        assert_eq!(ask(&named(arch, "clone", &[0x1000_0011])), errno(1));
        for (family, expected) in [
            (1, ALLOW),
            (2, ALLOW),
            (38, errno(1)),
            (39, ALLOW),
            (40, errno(1)),
            (41, ALLOW),
        ] {
            assert_eq!(
                ask(&named(arch, "socket", &[family])),
                expected,
                "family {family} on {arch:?}"
            );
        }
        assert_eq!(ask(&named(arch, "personality", &[0xffff_ffff])), ALLOW);
        assert_eq!(ask(&named(arch, "personality", &[4])), errno(1));
        let bit = if arch == Arch::X32 { X32_BIT } else { 0 };
        assert_eq!(
            ask(&call(arch, 4000 | bit, [0; 6])),
            errno(38),
            "a call newer than the profile"
        );
    }
    assert_eq!(
        ask(&named(Arch::X86_64, "clone", &[0x1_0000_0011])),
        ALLOW,
        "flags are 32 bits wide"
    );
    assert_eq!(ask(&call(Arch::X86_64, u32::MAX, [0; 6])), errno(38));
    assert_eq!(
        ask(&named(Arch::Aarch64, "read", &[])),
        KILL_PROCESS,
        "another machine's architecture"
    );
}

#[test]
fn capabilities_open_what_they_need() {
    let with = |cap: Cap, name: &str| {
        let caps: BTreeSet<Cap> = DOCKER_DEFAULT.into_iter().chain([cap]).collect();
        answer(
            &default_profile(&caps, NEW_KERNEL),
            Arch::X86_64,
            &named(Arch::X86_64, name, &[0x1000_0011]),
        )
    };
    for (cap, name) in [
        (Cap::SysAdmin, "mount"),
        (Cap::SysAdmin, "clone"),
        (Cap::SysAdmin, "clone3"),
        (Cap::SysPtrace, "kcmp"),
        (Cap::DacReadSearch, "open_by_handle_at"),
        (Cap::SysTime, "settimeofday"),
        (Cap::Bpf, "bpf"),
        (Cap::Perfmon, "perf_event_open"),
    ] {
        assert_eq!(with(cap, name), ALLOW, "{name} with {cap}");
        assert_ne!(with(Cap::Lease, name), ALLOW, "{name} without {cap}");
    }
    let old = default_profile(&BTreeSet::new(), Kernel { major: 4, minor: 7 });
    assert_eq!(
        answer(&old, Arch::X86_64, &named(Arch::X86_64, "ptrace", &[])),
        errno(1)
    );
}

/// The size decides what loading costs, the depth what every system call costs: a change of either should be seen.
#[test]
fn size_and_depth_of_dockers_default() {
    let caps: BTreeSet<Cap> = DOCKER_DEFAULT.into_iter().collect();
    let program =
        compile(&default_profile(&caps, NEW_KERNEL), Arch::X86_64).expect("our own profile");
    let steps = |arch: Arch| {
        let all = syscalls::all(arch).map(|(_, number)| {
            bpf::run(&program.instructions, &call(arch, number, [u64::MAX; 6]))
                .expect("runs")
                .1
        });
        all.max().unwrap_or(0)
    };
    let text = format!(
        "{} instructions; at most {} run on x86_64, {} on x86",
        program.instructions.len(),
        steps(Arch::X86_64),
        steps(Arch::X86)
    );
    expect!["354 instructions; at most 21 run on x86_64, 22 on x86"].assert_eq(&text);
}

#[test]
fn rules_of_one_call() {
    let two_conditions = vec![arg(0, Op::Eq, 1, 0), arg(1, Op::Gt, u64::from(u32::MAX), 0)];
    let same_argument = vec![arg(0, Op::Eq, 7, 0), arg(0, Op::Eq, 8, 0)];
    let all = profile(
        Action::Errno,
        &[Arch::X86],
        vec![
            rule(&["kill"], Action::Allow, two_conditions),
            rule(&["kill"], Action::Trap, vec![arg(0, Op::Ge, 1, 0)]),
            rule(&["dup"], Action::Allow, same_argument),
            rule(&["read"], Action::Log, vec![arg(0, Op::Eq, 1, 0)]),
            rule(&["read"], Action::Allow, vec![]),
            rule(&["read"], Action::KillProcess, vec![]),
            rule(&["close"], Action::Errno, vec![]),
            rule(&["socket"], Action::Allow, vec![]),
        ],
    );
    let ask =
        |name: &str, args: &[u64]| answer(&all, Arch::X86_64, &named(Arch::X86_64, name, args));
    let trap = 0x0003_0000;
    assert_eq!(ask("kill", &[1, 1 << 32]), ALLOW);
    assert_eq!(ask("kill", &[1, 5]), trap);
    assert_eq!(ask("kill", &[0, 1 << 32]), errno(1));
    assert_eq!(
        (ask("dup", &[7]), ask("dup", &[8]), ask("dup", &[9])),
        (ALLOW, ALLOW, errno(1))
    );
    assert_eq!(
        ask("read", &[1]),
        ALLOW,
        "a rule without arguments beats those with, and the first of them wins"
    );
    assert_eq!(ask("close", &[]), errno(1));
    let multiplexed = |operation| {
        answer(
            &all,
            Arch::X86_64,
            &call(Arch::X86, 102, [operation, 0, 0, 0, 0, 0]),
        )
    };
    assert_eq!(
        (multiplexed(1), multiplexed(2)),
        (ALLOW, errno(1)),
        "socket through socketcall"
    );
    let semop = profile(
        Action::Errno,
        &[Arch::X86],
        vec![rule(&["read", "semop"], Action::Allow, vec![])],
    );
    let ipc = |number, operation| {
        let data = call(Arch::X86, number, [operation, 0, 0, 0, 0, 0]);
        answer(&semop, Arch::X86_64, &data)
    };
    assert_eq!(
        (ipc(117, 1), ipc(117, 2), ipc(118, 1)),
        (ALLOW, errno(1), errno(38)),
        "a name inside ipc makes ipc known, and what comes after it newer"
    );
}

fn refusal(profile: &oci::Seccomp, expected: Expect) {
    expected.assert_eq(
        &compile(profile, Arch::X86_64)
            .expect_err("a bad profile")
            .to_string(),
    );
}

#[test]
fn refusals_name_the_field() {
    let bad = |syscall: oci::Syscall| {
        profile(
            Action::Allow,
            &[],
            vec![rule(&["read"], Action::Allow, vec![]), syscall],
        )
    };
    refusal(
        &bad(rule(
            &["read"],
            Action::Trap,
            vec![arg(0, Op::Eq, 0, 0), arg(6, Op::Eq, 0, 0)],
        )),
        expect!["linux.seccomp.syscalls[1].args[1].index: 6 is not an argument's index (0 to 5)"],
    );
    refusal(
        &bad(rule(&[""], Action::Trap, vec![])),
        expect!["linux.seccomp.syscalls[1].names: empty string is not a valid syscall"],
    );
    refusal(
        &bad(oci::Syscall {
            errno_ret: Some(5000),
            ..rule(&["read"], Action::Errno, vec![])
        }),
        expect!["linux.seccomp.syscalls[1].errnoRet: 5000 is more than 4095"],
    );
    refusal(
        &bad(rule(&["write"], Action::Notify, vec![])),
        expect!["linux.seccomp.syscalls[1]: SCMP_ACT_NOTIFY cannot be used for the write syscall"],
    );
    refusal(
        &profile(Action::Notify, &[], vec![]),
        expect!["linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be used as default action"],
    );
    let many = (0..2000)
        .map(|n| rule(&["read"], Action::Trap, vec![arg(0, Op::Eq, n, 0)]))
        .collect();
    let error = compile(&profile(Action::Allow, &[], many), Arch::X86_64).expect_err("too long");
    assert!(
        error
            .to_string()
            .ends_with("instructions, and the kernel takes at most 4096"),
        "{error}"
    );
}

#[test]
fn dockers_files() {
    let caps: BTreeSet<Cap> = DOCKER_DEFAULT.into_iter().collect();
    let read = |text: &str| from_docker_json(text, &caps, NEW_KERNEL);
    let text = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
                    {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": null}],
        "syscalls": [
            {"name": "read", "action": "SCMP_ACT_ALLOW", "args": null},
            {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 7, "args": [{"index": 1, "value": 9, "valueTwo": 0, "op": "SCMP_CMP_EQ"}], "comment": "no"},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_CHROOT"], "minKernel": "4.8"}, "excludes": {}},
            {"names": ["close"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "6.0"}},
            {"names": ["dup"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64"]}, "excludes": {"caps": ["CAP_BPF"]}}
        ]}"#;
    let profile = read(text)
        .expect("a good file")
        .expect("which says something");
    let names: Vec<&str> = profile
        .syscalls
        .iter()
        .flat_map(|syscall| &syscall.names)
        .map(String::as_str)
        .collect();
    if Arch::native() == Some(Arch::X86_64) {
        assert_eq!(names, ["read", "kill", "chroot", "dup"]);
        assert_eq!(
            profile.architectures,
            [oci::Arch::X86_64, oci::Arch::X86, oci::Arch::X32]
        );
    }
    assert_eq!(
        answer(
            &profile,
            Arch::X86_64,
            &named(Arch::X86_64, "kill", &[1, 9])
        ),
        errno(7)
    );
    assert_eq!(
        answer(
            &profile,
            Arch::X86_64,
            &named(Arch::X86_64, "kill", &[1, 8])
        ),
        errno(5)
    );

    assert!(read("{}").expect("an empty profile").is_none());
    let refused = |text: &str, expected: Expect| {
        expected.assert_eq(&read(text).expect_err("a bad file").to_string())
    };
    refused(
        "[",
        expect!["Decoding seccomp profile failed: EOF while parsing a list at line 1 column 1"],
    );
    refused(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "archMap": [{"architecture": "SCMP_ARCH_X86_64"}]}"#,
        expect![
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'"
        ],
    );
    refused(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "names": ["b"], "action": "SCMP_ACT_ALLOW"}]}"#,
        expect![
            "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'"
        ],
    );
    refused(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["b"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "four"}}]}"#,
        expect![[r#"invalid kernel version: "four": it should be two numbers, such as "4.8""#]],
    );
    assert!(read(r#"{"defaultAction": "SCMP_ACT_NONSENSE"}"#).is_err());
}

/// The kernel takes the program, and programs run under it: `unshare` fails, `true` does not.
#[test]
fn the_kernel_takes_it() {
    let caps: BTreeSet<Cap> = DOCKER_DEFAULT.into_iter().collect();
    let native = Arch::native().expect("tests run on a known architecture");
    let program =
        compile(&default_profile(&caps, Kernel::running()), native).expect("our own profile");
    // A filter is its thread's and its children's: this thread ends with it.
    let (unshare, fine) = std::thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).expect("prctl");
        hull_sys::seccomp::set_filter(&program.instructions, program.flags)
            .expect("install the filter");
        let run = |words: &[&str]| {
            std::process::Command::new(words[0])
                .args(&words[1..])
                .output()
                .expect("start a program")
        };
        (
            run(&["unshare", "--user", "true"]),
            run(&["sh", "-c", "echo fine | cat"]),
        )
    })
    .join()
    .expect("the thread under the filter");
    assert_eq!(String::from_utf8_lossy(&fine.stdout), "fine\n");
    assert!(!unshare.status.success());
    assert!(
        String::from_utf8_lossy(&unshare.stderr).contains("Operation not permitted"),
        "{unshare:?}"
    );
}

const NAMES: [&str; 12] = [
    "read",
    "write",
    "clone",
    "socket",
    "bind",
    "semop",
    "socketcall",
    "ipc",
    "openat",
    "mmap2",
    "set_tls",
    "nonsense",
];

fn any_action() -> impl Strategy<Value = Action> {
    proptest::sample::select(vec![
        Action::Allow,
        Action::Errno,
        Action::Trap,
        Action::KillProcess,
        Action::Log,
        Action::Trace,
    ])
}

/// Values around the borders that 32-bit halves make.
fn any_value() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..4_u64,
        Just(u64::from(u32::MAX)),
        Just(1 << 32),
        Just((1 << 32) + 1),
        Just(u64::MAX),
        any::<u64>()
    ]
}

prop_compose! {
    fn any_arg()(index in 0..3_u32, op in proptest::sample::select(Op::ALL.to_vec()), value in any_value(), value_two in any_value()) -> oci::SeccompArg {
        arg(index, op, value, value_two)
    }
}

prop_compose! {
    fn any_rule()(names in proptest::collection::vec(proptest::sample::select(NAMES.to_vec()), 1..4), action in any_action(),
                  errno_ret in proptest::option::of(0..4096_u32), args in proptest::collection::vec(any_arg(), 0..4)) -> oci::Syscall {
        oci::Syscall { errno_ret, ..rule(&names, action, args) }
    }
}

prop_compose! {
    fn any_profile()(action in any_action(), architectures in proptest::collection::vec(proptest::sample::select(Arch::ALL.to_vec()), 0..4),
                     rules in proptest::collection::vec(any_rule(), 0..12)) -> oci::Seccomp {
        profile(action, &architectures, rules)
    }
}

prop_compose! {
    fn any_call()(arch in proptest::sample::select(Arch::ALL.to_vec()), name in proptest::sample::select(NAMES.to_vec()), near in -1..2_i32,
                  number in proptest::option::weighted(0.2, any::<u32>()), args in proptest::array::uniform6(any_value())) -> SeccompData {
        let named = syscalls::number(arch, name).unwrap_or(400).saturating_add_signed(near);
        call(arch, number.unwrap_or(named), args)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn programs_say_what_profiles_say(profile in any_profile(), native in proptest::sample::select(vec![Arch::X86_64, Arch::Aarch64]),
                                      calls in proptest::collection::vec(any_call(), 20)) {
        let program = compile(&profile, native).expect("a good profile");
        for data in calls {
            let (value, _) = bpf::run(&program.instructions, &data).expect("a program that the kernel takes");
            prop_assert_eq!(value, evaluate(&profile, native, &data).expect("a good profile"), "{:x?} on {:?}", data, native);
        }
    }
}
