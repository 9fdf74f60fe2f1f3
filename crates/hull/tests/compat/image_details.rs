//! `image inspect` and `history`, member by member. The golden file is what Debian's dockerd 20.10 answers:
//! `HULL_COMPAT_ENGINE=docker UPDATE_EXPECT=1` writes it anew, and with either engine the answers must be equal to it.

use std::process::Command;
use std::time::Duration;

use expect_test::expect_file;
use hull_testkit::image::{Image, Tar};
use hull_testkit::process;
use serde_json::{Map, Value, json};

use crate::engine::{BUSYBOX, Engine};

/// The API of dockerd 20.10.
const VERSION: &str = "1.41";

/// Every member of an image's configuration that Docker shows, and history in all its forms.
fn rich() -> Image {
    let layer = |name: &str| {
        Tar::new()
            .folder("data", 0o755)
            .file(&format!("data/{name}"), 0o644, name.repeat(1000))
            .hardlink(&format!("data/{name}-again"), &format!("data/{name}"))
            .finish()
    };
    Image::new("registry.example/team/rich:v1")
        .layer(layer("one"))
        .layer(layer("two"))
        .config(json!({
            "User": "1000:100", "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Env": ["PATH=/bin", "EMPTY="],
            "Entrypoint": ["/bin/entry", "--flag"], "Cmd": ["serve"], "Volumes": {"/data": {}}, "WorkingDir": "/data",
            "Labels": {"b": "2", "a": "1"}, "OnBuild": ["RUN true"], "StopSignal": "SIGUSR1", "Shell": ["/bin/sh", "-c"],
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 30_000_000_000_u64, "Timeout": 1_000_000_000, "Retries": 3},
            "Hostname": "made", "Domainname": "here", "AttachStdout": true, "Image": "sha256:00", "ArgsEscaped": true,
        }))
        .member("author", json!("A. U. Thor <author@example.com>"))
        .member("created", json!("2024-02-29T12:34:56.123456789Z"))
        .member("docker_version", json!("18.09.1"))
        .member("container", json!("4711"))
        .member("container_config", json!({"Cmd": ["/bin/sh", "-c", "#(nop) CMD"], "Labels": {"in": "container"}}))
        .member("os.version", json!("5.10"))
        .member("variant", json!("v3"))
        .member("history", json!([
            {"created": "2024-01-01T00:00:00Z", "created_by": "/bin/sh -c #(nop) ADD file:1 in / ", "comment": "first"},
            {"created": "2024-01-02T00:00:00Z", "created_by": "/bin/sh -c #(nop)  ENV A=1", "empty_layer": true},
            {"created": "2024-01-03T00:00:00Z", "created_by": "RUN /bin/sh -c make", "author": "somebody"},
            {"created": "2024-01-04T00:00:00Z", "created_by": "CMD [\"serve\"]", "comment": "buildkit.dockerfile.v0", "empty_layer": true},
        ]))
}

fn images() -> Vec<Image> {
    let one = || Tar::new().file("only", 0o644, "x".repeat(77)).finish();
    vec![
        Image::layered("layered:1"),
        rich(),
        Image::new("without/history:1")
            .layer(one())
            .member("history", json!([])),
        Image::new("without/config:1")
            .layer(one())
            .member("config", Value::Null),
        Image::new("bare:1").config(json!({"Cmd": ["none"]})),
        Image::new("commented:1")
            .layer(one())
            .member("comment", json!("of the image")),
        Image::new("armed:1")
            .layer(one())
            .member("architecture", json!("arm64"))
            .member("variant", json!("v8")),
    ]
}

/// Masks what is an engine's own: paths, times of this run.
fn masked(mut value: Value, made_here: bool) -> Value {
    let mut mask = |pointer: &str| {
        if let Some(member) = value.pointer_mut(pointer) {
            *member = json!("*");
        }
    };
    mask("/GraphDriver/Data");
    mask("/Metadata/LastTagTime");
    if made_here {
        for pointer in [
            "/Id",
            "/Created",
            "/Container",
            "/DockerVersion",
            "/RootFS/Layers",
            "/Config/Hostname",
            "/ContainerConfig",
            // Docker writes the container's into the image; they are no part of an image's, and the API shows none from 1.50 on.
            "/Config/AttachStdout",
            "/Config/AttachStderr",
            "/Config/Image",
        ] {
            mask(pointer);
        }
    }
    sorted(value)
}

/// With the members of objects in order: theirs has no meaning.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members
                .into_iter()
                .map(|(name, value)| (name, sorted(value)))
                .collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(members.into_iter().collect())
        }
        Value::Array(values) => values.into_iter().map(sorted).collect(),
        other => other,
    }
}

#[test]
fn inspect_and_history_are_dockers() {
    let Some(curl) = hull_testkit::skips::program("curl") else {
        hull_testkit::skip!("curl is not installed");
        return;
    };
    let Some(engine) = Engine::start() else {
        return;
    };
    let mut names = Vec::new();
    for image in images() {
        engine.load(&image);
        names.push((image.reference.clone(), false));
    }
    engine.ok(&["tag", "layered:1", "registry.example:5000/other/name:2"]);
    let tar = engine
        .root()
        .file("tree.tar", Tar::new().file("f", 0o600, "imported").finish());
    engine.ok(&[
        "import",
        "-m",
        "note",
        "-c",
        "ENV A=1",
        "-c",
        "EXPOSE 80",
        &tar.display().to_string(),
        "imported:1",
    ]);
    engine.ok(&[
        "create",
        "--name",
        "box",
        "--network",
        "none",
        BUSYBOX,
        "true",
    ]);
    engine.ok(&[
        "commit",
        "-m",
        "said",
        "-a",
        "me",
        "-c",
        "LABEL l=1",
        "box",
        "committed:1",
    ]);
    names.extend([
        ("imported:1".to_owned(), true),
        ("committed:1".to_owned(), true),
    ]);
    let mut all = Map::new();
    for (name, made_here) in names {
        let ask = |what: &str| -> Value {
            let mut command = Command::new(&curl);
            command
                .args(["-sS", "--fail", "--unix-socket"])
                .arg(engine.root().join("e.sock"))
                .arg(format!("http://engine/v{VERSION}/images/{name}/{what}"));
            let answer = process::run(&mut command, Duration::from_secs(30)).expect("curl");
            serde_json::from_str(answer.ok()).expect("JSON")
        };
        let mut history = ask("history");
        if let Some(newest) = history.get_mut(0).filter(|_| made_here) {
            // Of this run.
            newest["Created"] = json!("*");
            newest["Id"] = json!("*");
        }
        let told = json!({"inspect": masked(ask("json"), made_here), "history": sorted(history)});
        all.insert(name, told);
    }
    let shown = serde_json::to_string_pretty(&Value::Object(all)).expect("JSON");
    expect_file!["./golden/images.json"].assert_eq(&format!("{shown}\n"));
}
