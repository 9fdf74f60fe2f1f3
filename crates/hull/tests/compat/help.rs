//! Completeness of Hull's own command line: whatever docker's help names, command by command and flag by flag, Hull's help names too.

use std::collections::BTreeSet;

use hull_testkit::binary;
use hull_testkit::docker::DockerCli;

use crate::engine::Engine;

/// Commands that Hull does not have yet: building and swarm come with their own issues, plugins are listed and inspected only.
const NOT_YET: &[&str] = &[
    "build",
    "builder",
    "config",
    "image build",
    "node",
    "plugin create",
    "plugin disable",
    "plugin enable",
    "plugin install",
    "plugin push",
    "plugin rm",
    "plugin set",
    "plugin upgrade",
    "secret",
    "service",
    "stack",
    "swarm",
    "trust",
    "volume update",
];

/// Flags of docker's that Hull does not have: descriptions in its completions cannot be left out.
const NO_USE: &[(&str, &str)] = &[
    ("completion bash", "--no-descriptions"),
    ("completion fish", "--no-descriptions"),
    ("completion powershell", "--no-descriptions"),
    ("completion zsh", "--no-descriptions"),
];

/// How deep commands are nested.
const DEPTH_MAX: usize = 3;

/// The commands that a help lists, without those of docker's plugins (which it marks with a star).
fn commands(help: &str) -> Vec<String> {
    let mut listed = Vec::new();
    let mut inside = false;
    for line in help.lines() {
        if line.ends_with("Commands:") {
            inside = true;
        } else if line.trim().is_empty() {
            inside = false;
        } else if inside && let Some(word) = line.split_whitespace().next() {
            listed.push(word.to_owned());
        }
    }
    listed.retain(|word| !word.ends_with('*'));
    listed
}

/// The long flags that a help lists.
fn flags(help: &str) -> BTreeSet<String> {
    let flag = |line: &str| {
        let rest = line.trim_start();
        let rest = match rest.as_bytes() {
            [b'-', short, b',', ..] if short.is_ascii_alphanumeric() => rest[3..].trim_start(),
            _ => rest,
        };
        let name = rest.strip_prefix("--")?.split_whitespace().next()?;
        Some(format!("--{name}"))
    };
    help.lines().filter_map(flag).collect()
}

#[test]
fn hull_has_what_dockers_help_names() {
    let Some(engine) = Engine::start_empty(&[]) else {
        return;
    };
    let host = format!("unix://{}", engine.root().join("e.sock").display());
    let Some(docker) = DockerCli::new(&host) else {
        hull_testkit::skip!("no docker command line is installed");
        return;
    };
    let hull = DockerCli::with_program(binary::hull(), &host);
    let mut todo = vec![Vec::<String>::new()];
    let (mut compared, mut missing) = (0, Vec::new());
    while let Some(path) = todo.pop() {
        let words = path.join(" ");
        if NOT_YET.contains(&words.as_str()) {
            continue;
        }
        let args = || path.iter().map(String::as_str).chain(["--help"]);
        let (theirs, ours) = (docker.run(args()), hull.run(args()));
        if !theirs.status.success() {
            continue;
        }
        compared += 1;
        if !ours.status.success() {
            missing.push(format!("command {words}: {}", ours.stderr.trim()));
            continue;
        }
        for flag in flags(&theirs.stdout).difference(&flags(&ours.stdout)) {
            if !NO_USE.contains(&(words.as_str(), flag)) {
                missing.push(format!("flag {flag} of {words:?}"));
            }
        }
        if path.len() < DEPTH_MAX {
            let below = commands(&theirs.stdout)
                .into_iter()
                .map(|word| [path.clone(), vec![word]].concat());
            todo.extend(below);
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
    assert!(compared > 90, "only {compared} commands were compared");
}

#[test]
fn helps_are_read() {
    let help = "Usage:  x\n\nManagement Commands:\n  buildx*     Docker Buildx\n  container   Manage\n\nOptions:\n  -f, --filter filter   Filter\n      --no-trunc        Do not\n";
    assert_eq!(commands(help), ["container"]);
    assert_eq!(
        flags(help).into_iter().collect::<Vec<_>>(),
        ["--filter", "--no-trunc"]
    );
}
