//! The signature policy: which images may be pulled, in the form of containers-policy.json(5). Pure, but for reading the
//! policy's own files.
//!
//! Known are `insecureAcceptAnything`, `reject` and `sigstoreSigned` with ECDSA P-256 keys; a policy with anything else is
//! refused when it is read, not when it would matter.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hull_oci::{Digest, Reference};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;

use crate::{Error, Result};

/// The transport whose scopes count here: images of registries.
const TRANSPORT: &str = "docker";
/// SubjectPublicKeyInfo of a P-256 key up to its uncompressed point (RFC 5480, section 2).
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const P256_POINT_LEN: usize = 65;

/// A policy that was read and checked.
#[derive(Debug, Clone)]
pub struct Policy {
    path: PathBuf,
    default: Vec<Requirement>,
    scopes: BTreeMap<String, Vec<Requirement>>,
}

/// What an image must fulfil.
#[derive(Debug, Clone)]
pub(crate) enum Requirement {
    /// Nothing.
    Accept,
    /// It never does.
    Reject,
    /// A signature by one of the keys.
    Signed { keys: Vec<Key>, identity: Identity },
}

/// A public key and where it came from.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub from: String,
    point: Vec<u8>,
}

/// How the name in a signature must fit the name that is pulled.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase", deny_unknown_fields)]
pub(crate) enum Identity {
    #[serde(rename = "matchExact")]
    Exact,
    #[serde(rename = "matchRepoDigestOrExact")]
    RepoDigestOrExact,
    #[serde(rename = "matchRepository")]
    Repository,
    #[serde(rename = "exactReference")]
    ExactReference { docker_reference: String },
    #[serde(rename = "exactRepository")]
    ExactRepository { docker_repository: String },
    #[serde(rename = "remapIdentity")]
    Remap {
        prefix: String,
        signed_prefix: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    default: Vec<RequirementFile>,
    #[serde(default)]
    transports: BTreeMap<String, BTreeMap<String, Vec<RequirementFile>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RequirementFile {
    #[serde(rename = "type")]
    kind: String,
    key_path: Option<PathBuf>,
    #[serde(default)]
    key_paths: Vec<PathBuf>,
    key_data: Option<String>,
    #[serde(default)]
    key_datas: Vec<String>,
    signed_identity: Option<Identity>,
    // Known to containers-policy.json(5), and refused by name.
    fulcio: Option<serde_json::Value>,
    pki: Option<serde_json::Value>,
    rekor_public_key_path: Option<serde_json::Value>,
    rekor_public_key_paths: Option<serde_json::Value>,
    rekor_public_key_data: Option<serde_json::Value>,
    rekor_public_key_datas: Option<serde_json::Value>,
}

impl RequirementFile {
    /// The first member that would need certificates of an authority or Rekor's log, and what it asks for.
    fn unsupported(&self) -> Option<(&'static str, &'static str)> {
        let rekor = "Rekor's log";
        [
            (&self.fulcio, "fulcio", "certificates of Fulcio"),
            (&self.pki, "pki", "certificates"),
            (&self.rekor_public_key_path, "rekorPublicKeyPath", rekor),
            (&self.rekor_public_key_paths, "rekorPublicKeyPaths", rekor),
            (&self.rekor_public_key_data, "rekorPublicKeyData", rekor),
            (&self.rekor_public_key_datas, "rekorPublicKeyDatas", rekor),
        ]
        .into_iter()
        .find_map(|(value, name, what)| value.is_some().then_some((name, what)))
    }
}

impl Policy {
    /// Reads a policy and its keys.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the file and what in it is wrong or not known here.
    pub fn read(path: &Path) -> Result<Policy> {
        let wrong = |why: String| {
            Error::Invalid(format!(
                "invalid signature policy {}: {why}",
                path.display()
            ))
        };
        let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let file: PolicyFile =
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let all = |list: Vec<RequirementFile>, scope: &str| {
            if list.is_empty() {
                return Err(wrong(format!("no requirement for {scope:?}")));
            }
            list.into_iter()
                .map(|one| requirement(one).map_err(|why| wrong(format!("{scope:?}: {why}"))))
                .collect::<Result<Vec<_>>>()
        };
        let default = all(file.default, "default")?;
        let mut scopes = BTreeMap::new();
        for (transport, list) in file.transports {
            if transport != TRANSPORT {
                continue;
            }
            for (scope, requirements) in list {
                let requirements = all(requirements, &scope)?;
                scopes.insert(scope, requirements);
            }
        }
        Ok(Policy {
            path: path.to_owned(),
            default,
            scopes,
        })
    }

    /// The file, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The requirements of the narrowest scope: the reference, its repository, what lies above, the host, a pattern of
    /// hosts, all of the transport, everything.
    pub(crate) fn requirements(&self, reference: &Reference) -> &[Requirement] {
        let name = reference.name();
        let mut candidates = vec![reference.to_string(), name.clone()];
        let mut above = name.as_str();
        while let Some((rest, _)) = above.rsplit_once('/') {
            candidates.push(rest.to_owned());
            above = rest;
        }
        let host = above.split(':').next().unwrap_or(above);
        let mut labels = host;
        while let Some((_, rest)) = labels.split_once('.') {
            candidates.push(format!("*.{rest}"));
            labels = rest;
        }
        candidates.push(String::new());
        candidates
            .iter()
            .find_map(|scope| self.scopes.get(scope))
            .unwrap_or(&self.default)
    }
}

fn requirement(file: RequirementFile) -> std::result::Result<Requirement, String> {
    let keyed = file.key_path.is_some()
        || file.key_data.is_some()
        || !file.key_paths.is_empty()
        || !file.key_datas.is_empty();
    match file.kind.as_str() {
        "insecureAcceptAnything" | "reject" if keyed || file.signed_identity.is_some() => {
            Err(format!("{} takes no keys and no identity", file.kind))
        }
        "insecureAcceptAnything" => Ok(Requirement::Accept),
        "reject" => Ok(Requirement::Reject),
        "sigstoreSigned" => {
            if let Some((name, what)) = file.unsupported() {
                return Err(format!(
                    "{name} ({what}) is not supported; use keyPath or keyData"
                ));
            }
            let mut keys = Vec::new();
            for path in file.key_path.iter().chain(&file.key_paths) {
                let pem = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
                keys.push(Key::parse(&path.display().to_string(), &pem)?);
            }
            for data in file.key_data.iter().chain(&file.key_datas) {
                let pem = STANDARD
                    .decode(data)
                    .map_err(|error| format!("keyData: {error}"))?;
                keys.push(Key::parse("keyData", &pem)?);
            }
            if keys.is_empty() {
                return Err("sigstoreSigned needs keyPath or keyData: certificates of Fulcio and Rekor's log are not supported".to_owned());
            }
            let identity = file.signed_identity.unwrap_or(Identity::RepoDigestOrExact);
            Ok(Requirement::Signed { keys, identity })
        }
        "signedBy" => Err("signedBy (OpenPGP) is not supported; use sigstoreSigned".to_owned()),
        other => Err(format!("unknown policy requirement type {other:?}")),
    }
}

impl Key {
    /// A public key in PEM.
    fn parse(from: &str, pem: &[u8]) -> std::result::Result<Key, String> {
        let info = SubjectPublicKeyInfoDer::from_pem_slice(pem)
            .map_err(|error| format!("{from}: no public key in PEM: {error}"))?;
        let point = info
            .as_ref()
            .strip_prefix(&P256_PREFIX[..])
            .filter(|point| point.len() == P256_POINT_LEN && point[0] == 4)
            .ok_or_else(|| format!("{from}: not an ECDSA P-256 key, the only kind supported"))?;
        Ok(Key {
            from: from.to_owned(),
            point: point.to_vec(),
        })
    }

    /// Whether the key has signed the message: ECDSA over SHA-256, in ASN.1.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.point)
            .verify(message, signature)
            .is_ok()
    }
}

impl Identity {
    /// Whether the name in a signature fits what is pulled.
    pub(crate) fn fits(&self, signed: &str, pulled: &Reference) -> bool {
        let Ok(signed) = Reference::parse_normalized(signed) else {
            return false;
        };
        let exact =
            |pulled: &Reference| !pulled.is_name_only() && signed.to_string() == pulled.to_string();
        let by_digest = |pulled: &Reference| match pulled.digest {
            Some(_) => signed.name() == pulled.name(),
            None => exact(pulled),
        };
        match self {
            Identity::Exact => exact(pulled),
            Identity::RepoDigestOrExact => by_digest(pulled),
            Identity::Repository => signed.name() == pulled.name(),
            Identity::ExactReference { docker_reference } => {
                Reference::parse_normalized(docker_reference).is_ok_and(|wanted| exact(&wanted))
            }
            Identity::ExactRepository { docker_repository } => {
                Reference::parse_normalized(docker_repository)
                    .is_ok_and(|wanted| wanted.name() == signed.name())
            }
            Identity::Remap {
                prefix,
                signed_prefix,
            } => {
                let whole = pulled.to_string();
                match whole.strip_prefix(prefix.as_str()) {
                    Some(rest) if rest.is_empty() || rest.starts_with(['/', ':', '@']) => {
                        Reference::parse_normalized(&format!("{signed_prefix}{rest}"))
                            .is_ok_and(|pulled| by_digest(&pulled))
                    }
                    Some(_) | None => by_digest(pulled),
                }
            }
        }
    }
}

/// A signature as it was found: what was signed, and what that says.
#[derive(Debug, Clone)]
pub(crate) struct Signature {
    /// The bytes that are signed.
    pub message: Vec<u8>,
    /// The signature over them.
    pub signature: Vec<u8>,
    /// The manifest digests that they speak of.
    pub digests: Vec<Digest>,
    /// The name that they give the image, where their form has one.
    pub identity: Option<String>,
}

/// `application/vnd.dev.cosign.simplesigning.v1+json` (containers/image, `docs/containers-signature.5.md`).
#[derive(Deserialize)]
struct SimpleSigning {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    identity: SignedName,
    image: SignedImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SignedName {
    docker_reference: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct SignedImage {
    docker_manifest_digest: Digest,
}

/// `application/vnd.dev.sigstore.bundle.v0.3+json` (sigstore's protobuf-specs), as far as keys need it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

/// in-toto's statement.
#[derive(Deserialize)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: BTreeMap<String, String>,
}

impl Signature {
    /// cosign's first form: a payload, and its signature in an annotation.
    pub(crate) fn simple(payload: &[u8], annotation: &str) -> Option<Signature> {
        let said: SimpleSigning = serde_json::from_slice(payload).ok()?;
        // "atomic container signature" is the same payload's name under OpenPGP.
        if said.critical.kind != "cosign container image signature" {
            return None;
        }
        Some(Signature {
            message: payload.to_vec(),
            signature: STANDARD.decode(annotation.trim()).ok()?,
            digests: vec![said.critical.image.docker_manifest_digest],
            identity: Some(said.critical.identity.docker_reference),
        })
    }

    /// A bundle with a DSSE envelope around an in-toto statement.
    pub(crate) fn bundle(bytes: &[u8]) -> Vec<Signature> {
        let parsed: Option<Bundle> = serde_json::from_slice(bytes).ok();
        let Some(envelope) = parsed.and_then(|bundle| bundle.dsse_envelope) else {
            return Vec::new();
        };
        let Ok(payload) = STANDARD.decode(&envelope.payload) else {
            return Vec::new();
        };
        let statement: Option<Statement> = Some(&envelope.payload_type)
            .filter(|kind| *kind == "application/vnd.in-toto+json")
            .and_then(|_| serde_json::from_slice(&payload).ok())
            .filter(|statement: &Statement| {
                statement.kind.starts_with("https://in-toto.io/Statement/")
            });
        let Some(statement) = statement else {
            return Vec::new();
        };
        let digests: Vec<Digest> = statement
            .subject
            .iter()
            .flat_map(|subject| &subject.digest)
            .filter_map(|(algorithm, hex)| format!("{algorithm}:{hex}").parse().ok())
            .collect();
        let message = envelope_message(&envelope.payload_type, &payload);
        envelope
            .signatures
            .iter()
            .filter_map(|one| STANDARD.decode(&one.sig).ok())
            .map(|signature| Signature {
                message: message.clone(),
                signature,
                digests: digests.clone(),
                identity: None,
            })
            .collect()
    }
}

/// What a DSSE envelope signs (its "pre-authentication encoding").
fn envelope_message(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(text: &str) -> Reference {
        Reference::parse_normalized(text).unwrap()
    }

    #[test]
    fn the_narrowest_scope_counts() {
        let scope = |name: &str| (name.to_owned(), vec![Requirement::Reject]);
        let policy = |names: &[&str]| Policy {
            path: PathBuf::new(),
            default: vec![Requirement::Accept],
            scopes: names.iter().map(|name| scope(name)).collect(),
        };
        let rejected = |names: &[&str], pulled: &str| {
            matches!(
                policy(names).requirements(&reference(pulled)),
                [Requirement::Reject]
            )
        };
        for scope in [
            "r.example.com:5/a/b/c:1",
            "r.example.com:5/a/b/c",
            "r.example.com:5/a/b",
            "r.example.com:5/a",
            "r.example.com:5",
            "*.example.com",
            "*.com",
            "",
        ] {
            assert!(rejected(&[scope], "r.example.com:5/a/b/c:1"), "{scope}");
        }
        for scope in [
            "r.example.com:5/a/b/c:2",
            "r.example.com",
            "r.example.com:5/a/b/",
            "*.r.example.com",
        ] {
            assert!(!rejected(&[scope], "r.example.com:5/a/b/c:1"), "{scope}");
        }
        assert!(rejected(&["docker.io/library/x"], "x:1"));
    }

    #[test]
    fn names_in_signatures() {
        let fits = |identity: &Identity, signed: &str, pulled: &str| {
            identity.fits(signed, &reference(pulled))
        };
        let digest = format!("r.io/a@sha256:{}", "a".repeat(64));
        assert!(fits(&Identity::Repository, "r.io/a", "r.io/a:1"));
        assert!(!fits(&Identity::Repository, "r.io/b", "r.io/a:1"));
        assert!(fits(&Identity::Exact, "r.io/a:1", "r.io/a:1"));
        assert!(!fits(&Identity::Exact, "r.io/a", "r.io/a:1"));
        assert!(fits(&Identity::RepoDigestOrExact, "r.io/a:9", &digest));
        assert!(!fits(&Identity::RepoDigestOrExact, "r.io/a:9", "r.io/a:1"));
        let remap = Identity::Remap {
            prefix: "mirror.io/x".to_owned(),
            signed_prefix: "r.io".to_owned(),
        };
        assert!(fits(&remap, "r.io/a:1", "mirror.io/x/a:1"));
        assert!(!fits(&remap, "r.io/a:1", "mirror.io/xy/a:1"));
        let exact = Identity::ExactRepository {
            docker_repository: "r.io/own".to_owned(),
        };
        assert!(fits(&exact, "r.io/own:3", "other.io/z:1"));
    }

    #[test]
    fn what_is_not_known_is_refused_when_read() {
        let dir = hull_testkit::TempRoot::new("image");
        for (text, why) in [
            ("{}", "missing field `default`"),
            (r#"{"default":[]}"#, "no requirement"),
            (r#"{"default":[{"type":"signedBy"}]}"#, "OpenPGP"),
            (
                r#"{"default":[{"type":"any"}]}"#,
                "unknown policy requirement type \"any\"",
            ),
            (
                r#"{"default":[{"type":"sigstoreSigned"}]}"#,
                "needs keyPath",
            ),
            (
                r#"{"default":[{"type":"sigstoreSigned","keyPath":"/nowhere"}]}"#,
                "/nowhere",
            ),
            (
                r#"{"default":[{"type":"sigstoreSigned","keyData":"eA=="}]}"#,
                "no public key",
            ),
            (
                r#"{"default":[{"type":"reject","keyPath":"/k"}]}"#,
                "takes no keys",
            ),
            (
                r#"{"default":[{"type":"sigstoreSigned","fulcio":{}}]}"#,
                "fulcio (certificates of Fulcio) is not supported",
            ),
            (
                r#"{"default":[{"type":"sigstoreSigned","keyPath":"/k","rekorPublicKeyPath":"/r"}]}"#,
                "rekorPublicKeyPath (Rekor's log) is not supported",
            ),
            (
                r#"{"default":[{"type":"sigstoreSigned","nonsense":{}}]}"#,
                "unknown field `nonsense`",
            ),
        ] {
            let path = dir.file("policy.json", text);
            let error = Policy::read(&path).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
