//! Resources: memory, CPU, pids, block I/O, ulimits; what the kernel was told, and what it does.

use crate::engine::{BUSYBOX, Engine, Kind, kind};

/// A cgroup v1 file of the container, from inside, or a v2 one.
fn limit(engine: &Engine, args: &[&str], v1: &str, v2: &str) -> String {
    let script = format!("cat /sys/fs/cgroup/{v1} 2>/dev/null || cat /sys/fs/cgroup/{v2}");
    let mut all = vec!["run", "--rm"];
    all.extend(args);
    all.extend([BUSYBOX, "sh", "-c", &script]);
    engine.ok(&all)
}

#[test]
fn limits_reach_the_kernel() {
    let Some(engine) = Engine::start() else {
        return;
    };
    assert_eq!(
        limit(
            &engine,
            &["-m", "64m"],
            "memory/memory.limit_in_bytes",
            "memory.max"
        ),
        "67108864"
    );
    assert_eq!(
        limit(
            &engine,
            &["-m", "64m", "--memory-reservation", "32m"],
            "memory/memory.soft_limit_in_bytes",
            "memory.low"
        ),
        "33554432"
    );
    let quota = limit(
        &engine,
        &["--cpus", "0.5"],
        "cpu/cpu.cfs_quota_us",
        "cpu.max",
    );
    assert!(quota.starts_with("50000"), "{quota}");
    assert_eq!(
        limit(
            &engine,
            &["--cpuset-cpus", "0"],
            "cpuset/cpuset.cpus",
            "cpuset.cpus"
        ),
        "0"
    );
    assert_eq!(
        limit(
            &engine,
            &["--pids-limit", "50"],
            "pids/pids.max",
            "pids.max"
        ),
        "50"
    );
    let shares = limit(
        &engine,
        &["--cpu-shares", "512"],
        "cpu/cpu.shares",
        "cpu.weight",
    );
    assert!(["512", "20", "59"].contains(&shares.as_str()), "{shares}");
    assert_eq!(
        engine.ok(&[
            "run",
            "--rm",
            "--ulimit",
            "nofile=100:200",
            BUSYBOX,
            "sh",
            "-c",
            "ulimit -Sn; ulimit -Hn"
        ]),
        "100\n200"
    );
    let shm = engine.ok(&[
        "run",
        "--rm",
        "--shm-size",
        "16m",
        BUSYBOX,
        "df",
        "-k",
        "/dev/shm",
    ]);
    assert!(shm.contains(" 16384 "), "{shm}");
    assert_eq!(
        engine.ok(&[
            "run",
            "--rm",
            "--sysctl",
            "net.ipv4.ip_forward=0",
            BUSYBOX,
            "cat",
            "/proc/sys/net/ipv4/ip_forward"
        ]),
        "0"
    );
    assert_eq!(
        engine.ok(&[
            "run",
            "--rm",
            "--oom-score-adj",
            "500",
            BUSYBOX,
            "cat",
            "/proc/self/oom_score_adj"
        ]),
        "500"
    );
}

#[test]
fn too_much_memory_is_an_oom_kill() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let id = engine.ok(&[
        "run",
        "-d",
        "-m",
        "16m",
        "--memory-swap",
        "16m",
        BUSYBOX,
        "sh",
        "-c",
        "tail /dev/zero; exit $?",
    ]);
    engine.ok(&["wait", &id]);
    assert_eq!(
        engine.inspect(&id, "{{.State.OOMKilled}} {{.State.ExitCode}}"),
        "true 137"
    );
}

#[test]
fn an_oom_kill_is_told_while_the_container_lives() {
    let Some(mut engine) = Engine::start() else {
        return;
    };
    let limits = ["-m", "16m", "--memory-swap", "16m", "--name", "hungry"];
    let run = [&["run", "-d"][..], &limits, &[BUSYBOX, "sleep", "1000"]].concat();
    engine.ok(&run);
    assert_eq!(engine.inspect("hungry", "{{.State.OOMKilled}}"), "false");
    let killed = engine.run(&["exec", "hungry", "tail", "/dev/zero"]);
    assert_eq!(killed.code(), 137, "{}", killed.stderr);
    let now = || {
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        time.expect("a time").as_secs_f64().to_string()
    };
    let events = |engine: &Engine| {
        let until = now();
        let wanted = [
            "--filter",
            "event=oom",
            "--format",
            "{{.Actor.Attributes.name}} {{.Action}}",
        ];
        engine.ok(&[&["events", "--since", "0", "--until", &until][..], &wanted].concat())
    };
    let told = hull_testkit::process::eventually(std::time::Duration::from_secs(10), || {
        events(&engine).starts_with("hungry oom")
    });
    assert!(told, "{}", events(&engine));
    assert_eq!(engine.inspect("hungry", "{{.State.Running}}"), "true");
    if kind() == Kind::Docker {
        // 20.10 notes the end only.
        return;
    }
    engine.await_inspect("hungry", "{{.State.OOMKilled}}", "true");
    engine.kill_daemon();
    engine.start_daemon();
    let state = "{{.State.OOMKilled}} {{.State.Running}}";
    assert_eq!(engine.inspect("hungry", state), "true true");
    engine.ok(&["stop", "-t", "0", "hungry"]);
    assert_eq!(engine.inspect("hungry", state), "true false");
    engine.ok(&["start", "hungry"]);
    assert_eq!(engine.inspect("hungry", state), "false true");
}

#[test]
fn too_many_processes_are_refused() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let output = engine.run(&[
        "run",
        "--rm",
        "--pids-limit",
        "10",
        BUSYBOX,
        "sh",
        "-c",
        "i=0; while [ $i -lt 30 ]; do sleep 5 & i=$((i+1)); done; wait",
    ]);
    assert!(output.stderr.contains("can't fork"), "{}", output.stderr);
}

#[test]
fn nonsense_limits_are_refused() {
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.fails(
        &["run", "-m", "1m", BUSYBOX],
        125,
        "Minimum memory limit allowed is 6MB",
    );
    engine.fails(
        &["run", "--cpus", "1000", BUSYBOX],
        125,
        "ange of CPUs is from 0.01 to",
    );
    engine.fails(
        &["run", "-m", "64m", "--memory-swap", "32m", BUSYBOX],
        125,
        "Minimum memoryswap limit should be larger than memory limit",
    );
    engine.fails(&["run", "-m", "nonsense", BUSYBOX], 125, "invalid size");
    assert_eq!(engine.ok(&["ps", "-aq"]), "");
}
