//! Image documents: Docker's and OCI's forms, hostile ones, chain IDs, compression.

use hull_oci::image::{
    Compression, Descriptor, Document, DocumentError, ImageConfig, Index, Manifest, chain_id,
    chain_ids, layer_compression, media_type as mt, sniff,
};
use hull_oci::{Digest, Platform};
use proptest::prelude::*;
use serde_json::{Value, json};

fn digest(n: u8) -> Digest {
    Digest::sha256_of(&[n])
}

/// A configuration as `docker build` of the classic builder leaves it: every member present, most null.
const DOCKER_CONFIG: &str = r#"{
  "architecture":"amd64","config":{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":false,
  "AttachStderr":false,"ExposedPorts":{"80/tcp":{},"53/udp":{}},"Tty":false,"OpenStdin":false,"StdinOnce":false,
  "Env":["PATH=/bin"],"Cmd":["nginx","-g","daemon off;"],"Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":5000000000,
  "Timeout":3000000000,"StartPeriod":1,"StartInterval":2,"Retries":3},"ArgsEscaped":true,"Image":"sha256:abc","Volumes":null,
  "WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":{"a":"b"},"StopSignal":"SIGQUIT"},
  "container":"c0ffee","container_config":{"Hostname":"c0ffee","Cmd":null},"created":"2024-01-02T03:04:05.123456789Z",
  "docker_version":"20.10.24","history":[{"created":"2024-01-02T03:04:05Z","created_by":"/bin/sh -c #(nop) ADD file:1 in / "},
  {"created":"2024-01-02T03:04:06Z","created_by":"/bin/sh -c #(nop)  CMD [\"nginx\"]","empty_layer":true}],
  "os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]},
  "variant":"v1","moby.buildkit.cache.v0":"ignored"}"#;

#[test]
fn docker_config_is_read() {
    let image: ImageConfig = serde_json::from_str(DOCKER_CONFIG).unwrap();
    let config = image.config.as_ref().unwrap();
    assert_eq!(
        config.exposed_ports.iter().collect::<Vec<_>>(),
        ["53/udp", "80/tcp"]
    );
    assert_eq!(
        config.cmd.as_deref().unwrap(),
        ["nginx", "-g", "daemon off;"]
    );
    assert_eq!(config.entrypoint, None);
    assert!(config.volumes.is_empty() && config.on_build.is_empty() && config.args_escaped);
    assert_eq!(config.stop_signal, "SIGQUIT");
    let probe = config.healthcheck.as_ref().unwrap();
    assert_eq!(
        (
            probe.interval,
            probe.start_period,
            probe.start_interval,
            probe.retries
        ),
        (5_000_000_000, 1, 2, 3)
    );
    assert_eq!(image.rootfs.diff_ids, [Digest::sha256_of(b"")]);
    assert!(!image.history[0].empty_layer && image.history[1].empty_layer);
    assert_eq!(image.created_at().unwrap().subsec_nanosecond(), 123_456_789);
    assert_eq!(image.platform().to_string(), "linux/amd64/v1");
    let again: ImageConfig = serde_json::from_value(serde_json::to_value(&image).unwrap()).unwrap();
    assert_eq!(again, image);
}

#[test]
fn what_is_written_names_nothing_absent() {
    let image: ImageConfig = serde_json::from_str(DOCKER_CONFIG).unwrap();
    let written = serde_json::to_value(&image).unwrap();
    fn no_nulls(value: &Value) -> bool {
        match value {
            Value::Null => false,
            Value::Object(map) => map
                .iter()
                .all(|(key, value)| key == "container_config" || no_nulls(value)),
            Value::Array(list) => list.iter().all(no_nulls),
            _ => true,
        }
    }
    assert!(no_nulls(&written), "{written}");
    assert_eq!(
        written["config"]["ExposedPorts"],
        json!({"53/udp": {}, "80/tcp": {}})
    );
    assert_eq!(
        serde_json::to_string(&ImageConfig::default()).unwrap(),
        r#"{"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":[]}}"#
    );
}

#[test]
fn old_configs_have_strings_for_lists() {
    let image: ImageConfig = serde_json::from_str(
        r#"{"config":{"Cmd":"sh","Entrypoint":[]},"rootfs":null,"history":null,"os":null}"#,
    )
    .unwrap();
    let config = image.config.unwrap();
    assert_eq!(config.cmd.unwrap(), ["sh"]);
    assert_eq!(config.entrypoint.unwrap(), [""; 0]);
}

#[test]
fn manifest_round_trip() {
    let mut layer = Descriptor::new(mt::OCI_LAYER_GZIP, digest(1), 7);
    layer.urls.push("https://example.com/l".into());
    layer.annotations.insert("k".into(), "v".into());
    let mut manifest = Manifest::new(Descriptor::empty_json(), vec![layer]);
    manifest.artifact_type = Some("application/x".into());
    manifest.subject = Some(Descriptor::new(mt::OCI_MANIFEST, digest(2), 9));
    let bytes = serde_json::to_vec(&manifest).unwrap();
    assert_eq!(
        Document::parse(&bytes, Some(mt::OCI_MANIFEST)).unwrap(),
        Document::Manifest(manifest.clone())
    );
    assert!(!manifest.is_image());
    assert_eq!(
        serde_json::to_value(&manifest).unwrap()["config"],
        json!({
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "size": 2, "data": "e30="
        })
    );
}

/// The whole chain of the refusal's sentences.
fn refused(value: &Value, sent: Option<&str>) -> String {
    let error = Document::parse(value.to_string().as_bytes(), sent).unwrap_err();
    match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[test]
fn documents_are_told_apart() {
    let descriptor = json!({"mediaType": mt::OCI_CONFIG, "digest": digest(0), "size": 1});
    let manifest = json!({"schemaVersion": 2, "config": descriptor, "layers": null});
    let index = json!({"schemaVersion": 2, "manifests": [descriptor]});
    let is_manifest = |sent| {
        matches!(
            Document::parse(manifest.to_string().as_bytes(), sent),
            Ok(Document::Manifest(_))
        )
    };
    let is_index = |sent| {
        matches!(
            Document::parse(index.to_string().as_bytes(), sent),
            Ok(Document::Index(_))
        )
    };
    assert!(
        is_manifest(None)
            && is_manifest(Some("application/json; charset=utf-8"))
            && is_manifest(Some(mt::OCI_MANIFEST))
    );
    assert!(
        is_index(None) && is_index(Some(mt::OCI_INDEX)) && is_index(Some(mt::DOCKER_MANIFEST_LIST))
    );
    assert!(!is_manifest(Some(mt::OCI_INDEX)) && !is_index(Some(mt::OCI_MANIFEST)));
}

#[test]
fn hostile_documents_are_refused() {
    let descriptor = json!({"mediaType": mt::OCI_CONFIG, "digest": digest(0), "size": 1});
    let both = json!({"schemaVersion": 2, "config": descriptor, "layers": [], "manifests": []});
    assert!(refused(&both, None).contains("ambiguous"));
    assert!(refused(&both, Some(mt::OCI_MANIFEST)).contains("ambiguous"));
    assert!(refused(&both, Some(mt::OCI_INDEX)).contains("ambiguous"));
    let lying = json!({"schemaVersion": 2, "mediaType": mt::OCI_INDEX, "manifests": []});
    assert!(refused(&lying, Some(mt::OCI_MANIFEST)).contains("but it was sent as"));
    assert!(
        refused(&json!({"schemaVersion": 1, "fsLayers": []}), None).contains("no longer supported")
    );
    assert!(
        refused(&json!({}), Some(mt::DOCKER_SCHEMA1_SIGNED))
            .contains("manifest.v1+prettyjws\" is no longer supported")
    );
    assert!(refused(&json!({"schemaVersion": 3}), None).contains("schema version 3"));
    assert!(refused(&json!({"manifests": []}), None).contains("schema version 0"));
    assert!(
        refused(&json!({"schemaVersion": 2}), Some("text/html"))
            .contains("unsupported manifest media type \"text/html\"")
    );
    let negative = json!({"schemaVersion": 2, "config": {"digest": digest(0), "size": -1}});
    assert!(refused(&negative, None).contains("invalid value: integer `-1`"));
    let traversal =
        json!({"schemaVersion": 2, "config": {"digest": "sha256:../../../etc/passwd", "size": 1}});
    assert!(refused(&traversal, None).contains("invalid checksum digest"));
    let large = vec![b' '; hull_oci::image::DOCUMENT_LEN_MAX + 1];
    assert!(matches!(
        Document::parse(&large, None),
        Err(DocumentError::TooLarge(_))
    ));
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(
        Document::parse(deep.as_bytes(), None),
        Err(DocumentError::Json(_))
    ));
}

#[test]
fn index_selects_by_platform() {
    let entry = |n: u8, platform: Option<&str>| Descriptor {
        platform: platform.map(|text| Platform::parse(text).unwrap()),
        ..Descriptor::new(mt::OCI_MANIFEST, digest(n), 1)
    };
    let index = Index::new(vec![
        entry(0, None),
        entry(1, Some("unknown/unknown")),
        entry(2, Some("linux/386")),
        entry(3, Some("linux/amd64")),
        entry(4, Some("linux/arm/v6")),
    ]);
    let select = |wanted: &str| {
        index
            .select(&Platform::parse(wanted).unwrap())
            .map(|found| found.digest.clone())
    };
    assert_eq!(select("linux/amd64"), Some(digest(3)));
    assert_eq!(select("linux/386"), Some(digest(2)));
    assert_eq!(select("linux/arm64"), Some(digest(4)));
    assert_eq!(select("linux/s390x"), Some(digest(0)));
    assert_eq!(
        Index::new(vec![entry(1, Some("unknown/unknown"))]).select(&Platform::host()),
        None
    );
}

#[test]
fn chains() {
    let (a, b, c) = (digest(1), digest(2), digest(3));
    let ab = Digest::sha256_of(format!("{a} {b}").as_bytes());
    let abc = Digest::sha256_of(format!("{ab} {c}").as_bytes());
    assert_eq!(chain_id(&[]), None);
    assert_eq!(
        chain_ids(&[a.clone(), b.clone(), c.clone()]),
        [a.clone(), ab, abc.clone()]
    );
    assert_eq!(chain_id(&[a, b, c]), Some(abc));
}

#[test]
fn compressions() {
    for (media_type, compression) in [
        (mt::OCI_LAYER, Compression::None),
        (mt::OCI_LAYER_GZIP, Compression::Gzip),
        (mt::OCI_LAYER_ZSTD, Compression::Zstd),
        (mt::DOCKER_LAYER_GZIP, Compression::Gzip),
        (mt::DOCKER_LAYER_FOREIGN_GZIP, Compression::Gzip),
        (mt::DOCKER_LAYER_FOREIGN, Compression::None),
        (mt::OCI_LAYER_FOREIGN_ZSTD, Compression::Zstd),
    ] {
        assert_eq!(layer_compression(media_type), compression, "{media_type}");
        assert!(hull_oci::image::is_layer(media_type));
    }
    assert_eq!(sniff(&[0x1f, 0x8b, 8, 0]), Compression::Gzip);
    assert_eq!(sniff(&[0x28, 0xb5, 0x2f, 0xfd]), Compression::Zstd);
    assert_eq!(sniff(&[0x5e, 0x2a, 0x4d, 0x18, 0]), Compression::Zstd);
    assert_eq!(sniff(b"\xfd7zXZ\0"), Compression::Xz);
    assert_eq!(sniff(b"BZh9"), Compression::Bzip2);
    assert_eq!(sniff(b"etc/passwd"), Compression::None);
    assert_eq!(sniff(&[]), Compression::None);
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes: Vec<u8>, sent in prop::option::of("\\PC{0,40}")) {
        let _ = Document::parse(&bytes, sent.as_deref());
    }

    #[test]
    fn chain_ids_agree_with_chain_id(seeds in prop::collection::vec(any::<u8>(), 0..12)) {
        let diff_ids: Vec<Digest> = seeds.iter().map(|seed| digest(*seed)).collect();
        let chain = chain_ids(&diff_ids);
        prop_assert_eq!(chain.len(), diff_ids.len());
        for n in 0..=diff_ids.len() {
            prop_assert_eq!(chain_id(&diff_ids[..n]), n.checked_sub(1).map(|last| chain[last].clone()));
        }
    }
}
