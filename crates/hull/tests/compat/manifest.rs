//! `manifest`: the same lists made by docker's command line and by Hull's, on a real registry, without a daemon.

use std::process::Command;
use std::time::Duration;

use hull_testkit::image::{Image, Tar};
use hull_testkit::process::{self, Output};
use hull_testkit::registry::{Registry, RegistryOptions};
use hull_testkit::{TempRoot, binary, skips};

fn image(content: &str) -> Image {
    Image::new("m:1").layer(Tar::new().file("hello", 0o644, content).finish())
}

/// Runs a command line with a configuration of its own.
fn run(program: &std::path::Path, config: &TempRoot, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command
        .arg("manifest")
        .args(args)
        .env("DOCKER_CONFIG", config.path())
        .env("DOCKER_CLI_EXPERIMENTAL", "enabled");
    process::run(&mut command, Duration::from_secs(60)).expect("run a command line")
}

#[test]
fn lists_are_made_annotated_inspected_and_pushed_as_docker_does() {
    let Some(docker) = skips::program("docker") else {
        hull_testkit::skip!("no docker command line is installed");
        return;
    };
    let Some(registry) = Registry::start(RegistryOptions::default()) else {
        hull_testkit::skip!("docker-registry is not installed");
        return;
    };
    let (Some(one), Some(two)) = (
        registry.push(&image("1"), "team/m:one"),
        registry.push(&image("2"), "other/m:two"),
    ) else {
        hull_testkit::skip!("skopeo is not installed");
        return;
    };
    let list = format!("{}/team/m:all", registry.host());
    let missing = format!("{}/team/m:none", registry.host());
    let steps: &[&[&str]] = &[
        &["inspect", "--insecure", &missing],
        &["create", "--insecure", &list, &one, &two],
        &["create", "--insecure", &list, &one],
        &[
            "annotate",
            &list,
            &two,
            "--arch",
            "arm64",
            "--variant",
            "v8",
        ],
        &["annotate", &list, &two, "--arch", "abacus"],
        &["annotate", &list, &missing, "--arch", "arm64"],
        &["inspect", &list],
        &["inspect", "--verbose", &list],
        &["inspect", &list, &two],
        &["inspect", "--verbose", &list, &one],
        &["push", "--insecure", "--purge", &list],
        &["push", "--insecure", &list],
        &["inspect", "--insecure", &list],
        &["inspect", "--insecure", "--verbose", &one],
        &["rm", &list],
    ];
    let (theirs, ours) = (TempRoot::new("manifest"), TempRoot::new("manifest"));
    for step in steps {
        let (docker, hull) = (
            run(&docker, &theirs, step),
            run(binary::hull(), &ours, step),
        );
        assert_eq!(
            (hull.code(), comparable(&hull.stdout)),
            (docker.code(), comparable(&docker.stdout)),
            "{step:?}\nhull: {}\ndocker: {}",
            hull.stderr,
            docker.stderr
        );
    }
    // Either goes on with what the other began.
    run(&docker, &ours, &["create", "--insecure", &list, &one]).ok();
    let shown = run(binary::hull(), &ours, &["inspect", &list]);
    assert!(shown.stdout.contains("\"manifests\""), "{}", shown.stderr);
}

/// The same whatever the order of an object's keys and the indentation.
fn comparable(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}
