//! Images: list, inspect, history, removal, prune, and registry inspection.
#![expect(
    missing_docs,
    reason = "fields are the Engine API's own; its description documents them"
)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::container::ContainerConfig;
use crate::inspect::DriverData;
use crate::json::{self, is_zero};

/// One element of `GET /images/json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageSummary {
    pub containers: i64,
    /// Seconds since 1970.
    pub created: i64,
    pub id: String,
    #[serde(
        deserialize_with = "json::nullable",
        serialize_with = "json::null_if_empty"
    )]
    pub labels: BTreeMap<String, String>,
    pub parent_id: String,
    pub repo_digests: Vec<String>,
    pub repo_tags: Vec<String>,
    /// Bytes shared with other images; -1 is not computed.
    pub shared_size: i64,
    pub size: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// Only when asked for, from API 1.47.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<ManifestSummary>,
}

/// One manifest of an image, in the lists and in `inspect`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManifestSummary {
    /// The manifest's digest.
    #[serde(rename = "ID")]
    pub id: String,
    pub descriptor: Descriptor,
    /// Whether config and layers are all here.
    pub available: bool,
    pub size: ManifestSize,
    /// `image`, `attestation` or `unknown`.
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_data: Option<ManifestImage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attestation_data: Option<ManifestAttestation>,
}

/// Bytes that a manifest takes here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManifestSize {
    /// Of its blobs.
    pub content: i64,
    /// Of its blobs and of its files, unpacked.
    pub total: i64,
}

/// A manifest that is an image's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManifestImage {
    pub platform: Platform,
    /// Ids of those that use it.
    pub containers: Vec<String>,
    pub size: UnpackedSize,
}

/// Bytes of an image's files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UnpackedSize {
    pub unpacked: i64,
}

/// A manifest that says something about another.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ManifestAttestation {
    /// The other's digest.
    #[serde(rename = "For")]
    pub of: String,
}

/// `GET /images/{name}/json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageInspect {
    pub id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub parent: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub comment: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub created: String,
    /// Docker's record of the container that it was committed from: up to API 1.44.
    pub container: String,
    /// That container's configuration: up to API 1.44.
    pub container_config: ContainerConfig,
    #[serde(skip_serializing_if = "is_zero")]
    pub docker_version: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub author: String,
    /// Shown without its empty members from API 1.50.
    pub config: Option<ContainerConfig>,
    pub architecture: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub variant: String,
    pub os: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub os_version: String,
    pub size: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph_driver: Option<DriverData>,
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    pub metadata: ImageMetadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<Descriptor>,
    /// Only when asked for, from API 1.48.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<ManifestSummary>,
}

/// Layers of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RootFs {
    #[serde(rename = "Type")]
    pub kind: String,
    /// Diff ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
}

/// What this daemon knows of an image beside its content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageMetadata {
    /// RFC 3339; `0001-01-01T00:00:00Z` for never.
    pub last_tag_time: String,
}

/// One element of `GET /images/{name}/history`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HistoryItem {
    pub comment: String,
    /// Seconds since 1970.
    pub created: i64,
    pub created_by: String,
    pub id: String,
    pub size: i64,
    #[serde(
        deserialize_with = "json::nullable",
        serialize_with = "json::null_if_empty"
    )]
    pub tags: Vec<String>,
}

/// One element of the answer of image removal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageDeleteItem {
    #[serde(skip_serializing_if = "is_zero")]
    pub untagged: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub deleted: String,
}

/// Answer of `POST /images/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImagesPruneReport {
    #[serde(
        deserialize_with = "json::nullable",
        serialize_with = "json::null_if_empty"
    )]
    pub images_deleted: Vec<ImageDeleteItem>,
    pub space_reclaimed: u64,
}

/// One element of `GET /images/search`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SearchResult {
    pub star_count: i64,
    pub is_official: bool,
    pub name: String,
    pub is_automated: bool,
    pub description: String,
}

/// An OCI descriptor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(skip_serializing_if = "is_zero")]
    pub media_type: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub digest: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub size: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(skip_serializing_if = "is_zero")]
    pub artifact_type: String,
}

/// An OCI platform.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
    #[serde(rename = "os.version", skip_serializing_if = "is_zero")]
    pub os_version: String,
    #[serde(rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub variant: String,
}

/// `GET /distribution/{name}/json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DistributionInspect {
    pub descriptor: Descriptor,
    pub platforms: Vec<Platform>,
}
