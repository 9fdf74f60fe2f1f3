//! `process`: arguments, environment, user, limits, capabilities (config.md, "Process").

use serde_json::json;

use crate::subject::{Case, Flavor, cannot, is};

/// A line of /proc/self/status.
fn status_field(text: &str, field: &str) -> String {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field} in {text}"))
        .trim()
        .to_owned()
}

#[test]
fn arguments_environment_and_directory() {
    let case = Case::script("echo \"$0|$1|$A|$PWD\"; env | sort").edit(|spec| {
        spec["process"]["args"]
            .as_array_mut()
            .expect("args")
            .extend([json!("zero"), json!("one two")]);
        spec["process"]["env"] = json!(["PATH=/bin", "A=b=c", "EMPTY="]);
        spec["process"]["cwd"] = json!("/tmp");
    });
    let output = case.output();
    let mut lines = output.lines();
    assert_eq!(lines.next(), Some("zero|one two|b=c|/tmp"));
    let rest: Vec<&str> = lines.collect();
    for expected in ["A=b=c", "EMPTY=", "PATH=/bin"] {
        assert!(rest.contains(&expected), "{expected} in {rest:?}");
    }
}

#[test]
fn the_program_is_found_by_the_containers_path() {
    let case =
        Case::new(&["mine"]).edit(|spec| spec["process"]["env"] = json!(["PATH=/nowhere:/opt"]));
    std::fs::create_dir(case.bundle.rootfs("opt")).expect("make /opt");
    case.program("opt/mine", "#!/bin/sh\necho found\n");
    assert_eq!(case.output(), "found");
}

#[test]
fn users_and_groups() {
    let case = Case::script("id -u; id -g; id -G").edit(|spec| {
        spec["process"]["user"] = json!({"uid": 1000, "gid": 100, "additionalGids": [5, 2000]})
    });
    let output = case.output();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..2], ["1000", "100"]);
    let mut groups: Vec<&str> = lines[2].split(' ').collect();
    groups.sort_unstable();
    assert_eq!(groups, ["100", "2000", "5"]);
}

#[test]
fn umask() {
    let case = Case::script("umask").edit(|spec| spec["process"]["user"]["umask"] = json!(0o027));
    assert_eq!(case.output(), "0027");
}

#[test]
fn resource_limits() {
    let case = Case::script("ulimit -Sn; ulimit -Hn; ulimit -Sc").edit(|spec| {
        spec["process"]["rlimits"] = json!([
            {"type": "RLIMIT_NOFILE", "soft": 512, "hard": 1000},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        ]);
    });
    assert_eq!(case.output(), "512\n1000\n0");
}

#[test]
fn capabilities_are_the_five_sets() {
    // CAP_CHOWN 0, CAP_KILL 5, CAP_NET_RAW 13
    let case = Case::new(&["cat", "/proc/self/status"]).edit(|spec| {
        spec["process"]["capabilities"] = json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            "permitted": ["CAP_CHOWN", "CAP_KILL"],
            "effective": ["CAP_CHOWN", "CAP_KILL"],
            "inheritable": ["CAP_KILL"],
            "ambient": ["CAP_KILL"],
        });
        spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    let status = case.output();
    assert_eq!(status_field(&status, "CapBnd"), "0000000000002021");
    assert_eq!(status_field(&status, "CapInh"), "0000000000000020");
    assert_eq!(status_field(&status, "CapAmb"), "0000000000000020");
    // Over execve, an ordinary user keeps the ambient ones.
    assert_eq!(status_field(&status, "CapPrm"), "0000000000000020");
    assert_eq!(status_field(&status, "CapEff"), "0000000000000020");
}

#[test]
fn roots_capabilities_are_bounded() {
    let case = Case::new(&["cat", "/proc/self/status"]).edit(|spec| {
        let caps = json!(["CAP_CHOWN", "CAP_KILL"]);
        spec["process"]["capabilities"] =
            json!({"bounding": caps, "permitted": caps, "effective": caps});
    });
    let status = case.output();
    for set in ["CapBnd", "CapPrm", "CapEff"] {
        assert_eq!(status_field(&status, set), "0000000000000021", "{set}");
    }
    assert_eq!(status_field(&status, "CapAmb"), "0000000000000000");
}

#[test]
fn no_capabilities_at_all() {
    let case = Case::new(&["cat", "/proc/self/status"])
        .edit(|spec| spec["process"]["capabilities"] = json!({}));
    let status = case.output();
    for set in ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert_eq!(status_field(&status, set), "0000000000000000", "{set}");
    }
}

#[test]
fn no_new_privileges() {
    for (wanted, shown) in [(true, "1"), (false, "0")] {
        let case = Case::new(&["cat", "/proc/self/status"])
            .edit(|spec| spec["process"]["noNewPrivileges"] = json!(wanted));
        assert_eq!(status_field(&case.output(), "NoNewPrivs"), shown);
    }
}

#[test]
fn oom_score() {
    let case = Case::new(&["cat", "/proc/self/oom_score_adj"])
        .edit(|spec| spec["process"]["oomScoreAdj"] = json!(500));
    assert_eq!(case.output(), "500");
}

#[test]
fn no_descriptors_leak_in() {
    let case = Case::script("ls -l /proc/self/fd | sed -n 's/.* \\([0-9]*\\) -> /\\1 /p'");
    let output = case.output();
    for line in output.lines() {
        // The one by which ls reads the directory is there or not, as ls pleases.
        let own = line
            .split_once(' ')
            .is_some_and(|(_, target)| target.starts_with("/proc/"));
        assert!(
            ["0 ", "1 ", "2 "]
                .iter()
                .any(|number| line.starts_with(number))
                || own,
            "{output}"
        );
    }
}

#[test]
fn descriptors_are_passed_on_request() {
    let case = Case::script("cat <&3");
    let note = case.root.file("note", "through");
    let mut words = vec![
        "-c".to_owned(),
        format!("exec 3< {}; exec \"$@\"", note.display()),
        "sh".to_owned(),
    ];
    let command = case.runtime([
        "run",
        "--preserve-fds",
        "1",
        "--bundle",
        &case.bundle.path().to_string_lossy(),
        &case.id,
    ]);
    words.push(command.get_program().to_string_lossy().into_owned());
    words.extend(
        command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned()),
    );
    let output = hull_testkit::process::run(
        std::process::Command::new("sh").args(words),
        std::time::Duration::from_secs(60),
    );
    assert_eq!(output.expect("run").ok(), "through");
}

#[test]
fn standard_input_is_passed() {
    let case = Case::new(&["cat"]);
    let mut command = case.runtime([
        "run",
        "--bundle",
        &case.bundle.path().to_string_lossy(),
        &case.id,
    ]);
    let output = hull_testkit::process::run_with_input(
        &mut command,
        b"through and through",
        std::time::Duration::from_secs(60),
    );
    assert_eq!(output.expect("run").ok(), "through and through");
}

#[test]
fn the_program_is_process_one_of_its_own_session() {
    let case = Case::script("cut -d' ' -f1,5,6 /proc/self/stat | head -1; echo $$");
    let output = case.output();
    assert_eq!(output.lines().last(), Some("1"));
}

#[test]
fn scheduler_and_io_priority() {
    cannot!(
        is(&[Flavor::Runc, Flavor::Crun]),
        "Debian 12's runc and crun are older than process.scheduler"
    );
    // Fields 19 and 41 of proc_pid_stat(5) are the nice value and the policy; SCHED_BATCH is 3.
    let case = Case::script("cut -d' ' -f19,41 /proc/1/stat; ionice -p 1").edit(|spec| {
        spec["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
        spec["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    });
    assert_eq!(case.output(), "5 3\nbest-effort: prio 6");
}
