//! Images: load, save, import, tag, remove, inspect, history.

use hull_testkit::image::{Image, busybox_layer};

use crate::engine::{BUSYBOX, Engine};

#[test]
fn an_image_is_listed_tagged_and_removed() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let image = Image::busybox(BUSYBOX);
    assert_eq!(
        engine.ok(&[
            "images",
            "--no-trunc",
            "--format",
            "{{.Repository}}:{{.Tag}} {{.ID}}"
        ]),
        format!("{BUSYBOX} {}", image.id())
    );
    engine.ok(&["tag", "busybox", "example.com/other/name:v1"]);
    assert_eq!(engine.ok(&["images", "-q"]).lines().count(), 2);
    let removed = engine.ok(&["rmi", "example.com/other/name:v1"]);
    assert_eq!(removed, "Untagged: example.com/other/name:v1");
    let id = engine.ok(&["create", BUSYBOX]);
    engine.fails(
        &["rmi", BUSYBOX],
        1,
        "conflict: unable to remove repository reference",
    );
    engine.ok(&["rm", &id]);
    let removed = engine.ok(&["rmi", BUSYBOX]);
    assert!(
        removed.starts_with("Untagged: busybox:latest\nDeleted: sha256:"),
        "{removed}"
    );
    engine.fails(&["rmi", BUSYBOX], 1, "No such image: busybox:latest");
    engine.fails(&["image", "inspect", "nothing"], 1, "o such image: nothing");
    engine.fails(&["tag", "nothing", "x"], 1, "No such image: nothing");
}

#[test]
fn layers_whiteouts_and_links_are_unpacked() {
    let Some(engine) = Engine::start_empty(&[]) else {
        return;
    };
    engine.load(&Image::layered("layered:1"));
    assert_eq!(
        engine.ok(&[
            "run",
            "--rm",
            "layered:1",
            "sh",
            "-c",
            "cat /data/new /data/kept; ls /data /opaque; stat -c %a:%u /data/new"
        ]),
        "21/data:\nkept\nnew\n\n/opaque:\nafter\n4755:1000"
    );
    assert_eq!(
        engine.ok(&["history", "-q", "layered:1"]).lines().count(),
        3
    );
}

#[test]
fn save_and_load_round_trip() {
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.load(&Image::layered("layered:1"));
    let tar = engine.root().join("saved.tar").display().to_string();
    let before = engine.inspect("layered:1", "{{.Id}} {{.RootFS.Layers}} {{.Config.Cmd}}");
    engine.ok(&["save", "-o", &tar, "layered:1", BUSYBOX]);
    engine.ok(&["rmi", "layered:1", BUSYBOX]);
    let loaded = engine.ok(&["load", "-i", &tar]);
    assert!(
        loaded.contains("Loaded image: layered:1")
            && loaded.contains("Loaded image: busybox:latest"),
        "{loaded}"
    );
    assert_eq!(
        engine.inspect("layered:1", "{{.Id}} {{.RootFS.Layers}} {{.Config.Cmd}}"),
        before
    );
    assert_eq!(
        engine.ok(&["run", "--rm", "layered:1", "cat", "/data/new"]),
        "2"
    );
}

#[test]
fn a_plain_tar_is_imported() {
    let Some(engine) = Engine::start_empty(&[]) else {
        return;
    };
    let tar = engine.root().file("rootfs.tar", busybox_layer());
    let id = engine.ok(&[
        "import",
        "-m",
        "note",
        "-c",
        "ENV A=1",
        "-c",
        "CMD [\"sh\", \"-c\", \"echo $A\"]",
        &tar.display().to_string(),
        "imported:1",
    ]);
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(engine.ok(&["run", "--rm", "imported:1"]), "1");
    assert_eq!(
        engine.inspect("imported:1", "{{.Comment}} {{.Os}}/{{.Architecture}}"),
        "note linux/amd64"
    );
    let used = engine.ok(&["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]);
    assert!(used.starts_with("Images 1"), "{used}");
    engine.ok(&["image", "prune", "-f", "-a"]);
    assert_eq!(engine.ok(&["images", "-q"]), "");
}

#[test]
fn a_repository_is_saved_with_all_its_tags() {
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.ok(&["tag", BUSYBOX, "repo:1"]);
    engine.ok(&["tag", BUSYBOX, "repo:2"]);
    let tar = engine.root().join("saved.tar").display().to_string();
    engine.ok(&["save", "-o", &tar, "repo"]);
    engine.ok(&["rmi", "repo:1", "repo:2", BUSYBOX]);
    engine.ok(&["load", "-i", &tar]);
    let names = engine.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let mut names: Vec<_> = names.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["repo:1", "repo:2"]);
    let output = engine.run(&["save", "-o", &tar, "nothing"]);
    assert_eq!(output.code(), 1, "{}", output.stderr);
}
