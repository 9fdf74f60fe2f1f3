//! Reading a manifest or an index of untrusted origin.

use serde::Deserialize;

use super::{Index, Manifest, media_type};

/// Longest manifest or index read, in bytes: what registries accept (distribution-spec, "Pushing Manifests").
pub const DOCUMENT_LEN_MAX: usize = 4 << 20;

/// A manifest or an index, told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one lives at a time, and is taken apart at once"
)]
pub enum Document {
    /// One image or artifact.
    Manifest(Manifest),
    /// Several.
    Index(Index),
}

/// Why bytes are neither manifest nor index.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Longer than [`DOCUMENT_LEN_MAX`].
    #[error("manifest of {0} bytes is larger than the limit of {DOCUMENT_LEN_MAX} bytes")]
    TooLarge(usize),
    /// No JSON, or members of a wrong type.
    #[error("manifest is not valid")]
    Json(#[source] serde_json::Error),
    /// Docker schema 1, which has no digests to trust.
    #[error(
        "media type {0:?} is no longer supported, please rebuild the image as \"application/vnd.docker.distribution.manifest.v2+json\" or \"application/vnd.oci.image.manifest.v1+json\""
    )]
    Schema1(String),
    /// A media type that is no manifest's.
    #[error("unsupported manifest media type {0:?}")]
    MediaType(String),
    /// The transport and the document name different media types.
    #[error("manifest says that its media type is {inside:?}, but it was sent as {sent:?}")]
    MediaTypeMismatch {
        /// The document's own `mediaType`.
        inside: String,
        /// The `Content-Type`, or the descriptor's media type.
        sent: String,
    },
    /// A document that can be read both as manifest and as index (CVE-2021-41190).
    #[error("manifest is ambiguous: it has {0:?}, which its media type forbids")]
    Ambiguous(&'static str),
    /// `schemaVersion` is not 2.
    #[error("unsupported manifest schema version {0}")]
    SchemaVersion(u64),
}

/// The members that tell documents apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    #[serde(default)]
    schema_version: Option<u64>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    layers: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(default, rename = "fsLayers")]
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Reads `bytes`, which were sent as `sent` (a `Content-Type` or a descriptor's media type, if there was one;
    /// parameters are ignored, and `text/plain`, `application/json` and `application/octet-stream` tell nothing).
    pub fn parse(bytes: &[u8], sent: Option<&str>) -> Result<Self, DocumentError> {
        if bytes.len() > DOCUMENT_LEN_MAX {
            return Err(DocumentError::TooLarge(bytes.len()));
        }
        let sent = sent
            .map(|sent| sent.split(';').next().unwrap_or_default().trim())
            .filter(|sent| {
                !matches!(
                    *sent,
                    "" | "text/plain" | "application/json" | media_type::OCTET_STREAM
                )
            });
        if let Some(old @ (media_type::DOCKER_SCHEMA1 | media_type::DOCKER_SCHEMA1_SIGNED)) = sent {
            return Err(DocumentError::Schema1(old.to_owned()));
        }
        let probe: Probe = serde_json::from_slice(bytes).map_err(DocumentError::Json)?;
        if probe.schema_version == Some(1) || probe.fs_layers.is_some() {
            return Err(DocumentError::Schema1(
                media_type::DOCKER_SCHEMA1.to_owned(),
            ));
        }
        let inside = probe
            .media_type
            .as_deref()
            .filter(|inside| !inside.is_empty());
        if let (Some(inside), Some(sent)) = (inside, sent)
            && inside != sent
        {
            return Err(DocumentError::MediaTypeMismatch {
                inside: shorten(inside),
                sent: shorten(sent),
            });
        }
        match probe.schema_version {
            Some(2) => {}
            other => return Err(DocumentError::SchemaVersion(other.unwrap_or_default())),
        }
        let is_index = match inside.or(sent) {
            Some(kind) if media_type::is_index(kind) => true,
            Some(kind) if media_type::is_manifest(kind) => false,
            Some(kind) => return Err(DocumentError::MediaType(shorten(kind))),
            None => probe.manifests.is_some(),
        };
        if is_index {
            Self::index(bytes, &probe)
        } else {
            Self::manifest(bytes, &probe)
        }
    }

    fn index(bytes: &[u8], probe: &Probe) -> Result<Self, DocumentError> {
        if probe.config.is_some() {
            return Err(DocumentError::Ambiguous("config"));
        }
        if probe.layers.is_some() {
            return Err(DocumentError::Ambiguous("layers"));
        }
        serde_json::from_slice(bytes)
            .map(Document::Index)
            .map_err(DocumentError::Json)
    }

    fn manifest(bytes: &[u8], probe: &Probe) -> Result<Self, DocumentError> {
        if probe.manifests.is_some() {
            return Err(DocumentError::Ambiguous("manifests"));
        }
        serde_json::from_slice(bytes)
            .map(Document::Manifest)
            .map_err(DocumentError::Json)
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(128).collect()
}
