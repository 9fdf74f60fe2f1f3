//! Image documents: descriptors, manifests, indexes and image configurations (image-spec 1.1 and Docker schema 2).
//!
//! Documents of untrusted origin are read by [`Document::parse`]; identities computed from layers are [`chain_ids`].

mod chain;
mod config;
mod document;
pub mod media_type;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use chain::{chain_id, chain_ids};
pub use config::{ContainerConfig, Healthcheck, History, ImageConfig, RootFs};
pub use document::{DOCUMENT_LEN_MAX, Document, DocumentError};
pub use media_type::{
    Compression, is_foreign, is_index, is_layer, is_manifest, layer_compression, sniff,
};

use crate::digest::Digest;
use crate::go;
use crate::platform::Platform;

/// A pointer to content: its type, digest and size (image-spec `descriptor.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default, deserialize_with = "go::null")]
    pub media_type: String,
    /// The content's digest.
    pub digest: Digest,
    /// The content's length in bytes.
    pub size: u64,
    /// Other places to fetch it from (foreign layers).
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub urls: Vec<String>,
    /// Free metadata.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// The content itself, base64.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub data: Option<String>,
    /// What it runs on; in indexes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The kind of artifact; in indexes and referrers.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor with the three mandatory members.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Descriptor {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: None,
            platform: None,
            artifact_type: None,
        }
    }

    /// The descriptor of `bytes`, by sha256.
    pub fn of(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Descriptor::new(media_type, Digest::sha256_of(bytes), bytes.len() as u64)
    }

    /// The descriptor of no configuration: `{}`, as artifacts use.
    pub fn empty_json() -> Self {
        Descriptor {
            data: Some("e30=".to_owned()),
            ..Descriptor::of(media_type::EMPTY_JSON, b"{}")
        }
    }
}

/// An image manifest: one configuration and its layers (image-spec `manifest.md`), or an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// This document's own media type; mandatory in Docker's form only.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub media_type: Option<String>,
    /// The kind of artifact, when it is no image.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub artifact_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "go::null")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one refers to (signatures, attestations).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free metadata.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// An OCI image manifest.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Whether the configuration is an image's, so that the manifest can be run.
    pub fn is_image(&self) -> bool {
        matches!(
            self.config.media_type.as_str(),
            media_type::OCI_CONFIG | media_type::DOCKER_CONFIG
        )
    }
}

/// An image index, or Docker's manifest list: one manifest per platform (image-spec `image-index.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// This document's own media type.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub media_type: Option<String>,
    /// The kind of artifact.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub artifact_type: Option<String>,
    /// The manifests.
    #[serde(default, deserialize_with = "go::null")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free metadata.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

impl Index {
    /// An OCI index.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Index {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.to_owned()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// The manifest that serves `wanted` best. Entries without a platform are taken only when nothing else is there;
    /// attestations (`unknown/unknown`) never.
    pub fn select(&self, wanted: &Platform) -> Option<&Descriptor> {
        let ranked = self
            .manifests
            .iter()
            .enumerate()
            .filter_map(|(at, descriptor)| {
                let rank = match &descriptor.platform {
                    Some(platform) => platform.rank(wanted)?,
                    None => usize::MAX,
                };
                Some((rank, at))
            });
        ranked.min().map(|(_, at)| &self.manifests[at])
    }
}
