//! Signatures by policy: keys and signatures made here, in cosign's forms, at a registry that only answers.

mod common;

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::server::{Answer, Asked, Served, Server};
use common::{Store, quick, reference, watched, words};
use hull_image::{Images, ImagesOptions, Kind, Policy, PullOptions};
use hull_testkit::TempRoot;
use hull_testkit::image::{Image as Fixture, Tar, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

/// A key pair and its public half in PEM.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Signer {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pair = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Signer(EcdsaKeyPair::from_pkcs8(algorithm, pair.as_ref(), &random).unwrap())
    }

    fn pem(&self) -> String {
        let mut der = vec![
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
            0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
        ];
        der.extend_from_slice(self.0.public_key().as_ref());
        let body = STANDARD.encode(der);
        format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n{}\n-----END PUBLIC KEY-----\n",
            &body[..64],
            &body[64..]
        )
    }

    fn sign(&self, message: &[u8]) -> String {
        STANDARD.encode(self.0.sign(&SystemRandom::new(), message).unwrap())
    }
}

fn small() -> Fixture {
    Fixture::new("small:1").layer(Tar::new().file("hello", 0o644, "hello").finish())
}

fn payload(name: &str, digest: &str) -> Vec<u8> {
    json!({"critical": {"identity": {"docker-reference": name}, "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature"}, "optional": null})
    .to_string()
    .into_bytes()
}

/// A repository with an image and objects beside it.
#[derive(Default)]
struct Repository {
    /// Manifests by tag or digest.
    manifests: BTreeMap<String, Vec<u8>>,
    blobs: BTreeMap<String, Vec<u8>>,
    /// Answers of the referrers API, by digest.
    referrers: BTreeMap<String, Value>,
}

impl Repository {
    fn put(&mut self, bytes: Vec<u8>) -> Value {
        let descriptor = json!({"digest": digest(&bytes), "size": bytes.len()});
        self.blobs.insert(digest(&bytes), bytes);
        descriptor
    }

    /// A manifest with one layer, at `name` or at its digest only; gives its descriptor.
    fn artifact(
        &mut self,
        name: Option<&str>,
        kind: &str,
        layer: Vec<u8>,
        annotations: Value,
    ) -> Value {
        let config = self.put(b"{}".to_vec());
        let mut layer = self.put(layer);
        layer["mediaType"] = kind.into();
        layer["annotations"] = annotations;
        let mut config = config;
        config["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
        let manifest =
            json!({"schemaVersion": 2, "mediaType": OCI, "config": config, "layers": [layer]})
                .to_string()
                .into_bytes();
        let own = digest(&manifest);
        let descriptor =
            json!({"mediaType": OCI, "digest": own, "size": manifest.len(), "artifactType": kind});
        self.manifests.insert(own, manifest.clone());
        if let Some(name) = name {
            self.manifests.insert(name.to_owned(), manifest);
        }
        descriptor
    }

    fn answer(&self, image: &Served, asked: &Asked) -> Answer {
        let last = asked.path.rsplit('/').next().unwrap_or_default();
        if asked.path.contains("/referrers/") {
            return match self.referrers.get(last) {
                Some(list) => Answer::ok(list.to_string()),
                None => Answer::error(404, "NOT_FOUND", "no such page"),
            };
        }
        if asked.path.contains("/manifests/sha256-") && !self.manifests.contains_key(last) {
            return Answer::error(404, "MANIFEST_UNKNOWN", "manifest unknown");
        }
        let own = match asked.path.contains("/manifests/") {
            true => self.manifests.get(last),
            false => self.blobs.get(last),
        };
        match own {
            Some(bytes) => {
                let parsed: Value = serde_json::from_slice(bytes).unwrap_or_default();
                let kind = parsed["mediaType"].as_str().unwrap_or(OCI).to_owned();
                Answer::ok(bytes.clone()).header("content-type", &kind)
            }
            None => image.answer(asked),
        }
    }
}

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const SIMPLE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// A store that pulls by this policy.
fn store(files: &TempRoot, policy: &Value) -> Store {
    let path = files.file("policy.json", policy.to_string());
    let store = Store::with(quick());
    let options = ImagesOptions {
        registries: quick(),
        policy: Some(Policy::read(&path).unwrap()),
        ..ImagesOptions::new(
            store.db.clone(),
            store.content.clone(),
            store.snapshotter.clone(),
        )
    };
    Store {
        images: Images::new(options).unwrap(),
        ..store
    }
}

/// Pulls by a policy that wants a signature of `key` on the repository; gives the lines or the error.
async fn judged(repository: Repository, key: &Signer) -> Result<Vec<String>, String> {
    let image = Served::new(&small());
    let server = Server::start(move |asked| repository.answer(&image, asked)).await;
    let files = TempRoot::new("image");
    let key = files.file("key.pub", key.pem());
    let policy = json!({"default": [{"type": "reject"}], "transports": {"docker": {server.host.clone():
        [{"type": "sigstoreSigned", "keyPath": key, "signedIdentity": {"type": "exactRepository", "dockerRepository": "signed.example/team/small"}}]}}});
    let store = store(&files, &policy);
    let name = reference(&format!("{}/team/small:1", server.host));
    let (outcome, lines) = watched(async |sink| {
        store
            .images
            .pull(&name, &PullOptions::default(), &sink)
            .await
    })
    .await;
    match outcome {
        Ok(_) => Ok(words(&lines)),
        Err(error) => {
            assert_eq!(error.kind(), Kind::Forbidden, "{error}");
            assert!(store.images.list().unwrap().is_empty());
            assert!(
                !server
                    .asked()
                    .iter()
                    .any(|asked| asked.path.contains("/blobs/") && asked.path.ends_with(&layer()))
            );
            Err(error.to_string())
        }
    }
}

/// The image's only layer.
fn layer() -> String {
    Served::new(&small()).largest_layer()
}

fn manifest() -> String {
    small().manifest_digest()
}

fn tagged(signer: &Signer, name: &str, of: &str) -> Repository {
    let mut repository = Repository::default();
    let payload = payload(name, of);
    let annotations = json!({"dev.cosignproject.cosign/signature": signer.sign(&payload)});
    let tag = format!("{}.sig", manifest().replace(':', "-"));
    repository.artifact(Some(&tag), SIMPLE, payload, annotations);
    repository
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_at_cosigns_tag() {
    let (signer, other) = (Signer::new(), Signer::new());
    const NAME: &str = "signed.example/team/small";
    let said = judged(tagged(&signer, NAME, &manifest()), &signer)
        .await
        .unwrap();
    assert!(
        said.iter()
            .any(|line| line.starts_with("Signature: verified with ") && line.ends_with("key.pub")),
        "{said:?}"
    );
    let another = digest(b"another");
    for (repository, key, why) in [
        (
            Repository::default(),
            &signer,
            "a signature was required, but no signature exists",
        ),
        (
            tagged(&other, NAME, &manifest()),
            &signer,
            "no signature is by a key of the policy",
        ),
        (
            tagged(&signer, NAME, &another),
            &signer,
            "the signature is for another digest",
        ),
        (
            tagged(&signer, "signed.example/team/big", &manifest()),
            &signer,
            "the signature is for another name",
        ),
    ] {
        let error = judged(repository, key).await.unwrap_err();
        assert!(
            error.ends_with(why) && error.contains("is refused by the signature policy"),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_that_refer_to_the_image() {
    let signer = Signer::new();
    let statement = |hex: &str| {
        json!({"_type": "https://in-toto.io/Statement/v1", "subject": [{"digest": {"sha256": hex}}],
            "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {}})
        .to_string()
    };
    let bundle = |hex: &str, break_it: bool| {
        let (kind, payload) = ("application/vnd.in-toto+json", statement(hex));
        let message = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
        let shown = if break_it {
            payload.replace("predicate", "Predicate")
        } else {
            payload
        };
        json!({"mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": "x"}},
            "dsseEnvelope": {"payload": STANDARD.encode(shown), "payloadType": kind, "signatures": [{"sig": signer.sign(message.as_bytes())}]}})
        .to_string()
        .into_bytes()
    };
    let own = manifest();
    let hex = own.strip_prefix("sha256:").unwrap();
    let index = |entry: Value| json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]});
    for by_tag in [false, true] {
        let with = |bytes: Vec<u8>| {
            let mut repository = Repository::default();
            let entry = repository.artifact(None, BUNDLE, bytes, json!({}));
            match by_tag {
                // The referrers tag schema, of registries without the API.
                true => repository
                    .manifests
                    .insert(own.replace(':', "-"), index(entry).to_string().into_bytes())
                    .map(|_| ()),
                false => repository
                    .referrers
                    .insert(own.clone(), index(entry))
                    .map(|_| ()),
            };
            repository
        };
        judged(with(bundle(hex, false)), &signer).await.unwrap();
        let error = judged(with(bundle(hex, true)), &signer).await.unwrap_err();
        assert!(
            error.ends_with("no signature is by a key of the policy"),
            "{error}"
        );
        let error = judged(with(bundle(&"a".repeat(64), false)), &signer)
            .await
            .unwrap_err();
        assert!(
            error.ends_with("the signature is for another digest"),
            "{error}"
        );
        let error = judged(with(b"no bundle".to_vec()), &signer)
            .await
            .unwrap_err();
        assert!(error.ends_with("no signature exists"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rejected_is_not_even_asked_for() {
    let image = Served::new(&small());
    let server = Server::start(move |asked| image.answer(asked)).await;
    let files = TempRoot::new("image");
    let repository = format!("{}/team/small", server.host);
    let policy = json!({"default": [{"type": "reject"}], "transports": {"docker": {repository.clone(): [{"type": "insecureAcceptAnything"}]}}});
    let store = store(&files, &policy);
    let none = hull_image::ProgressSink::none();
    let pull = async |name: &str| {
        store
            .images
            .pull(&reference(name), &PullOptions::default(), &none)
            .await
    };
    let error = pull(&format!("{}/other/small:1", server.host))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("images of this scope are rejected"),
        "{error}"
    );
    assert!(server.asked().is_empty());
    pull(&format!("{repository}:1")).await.unwrap();
}
