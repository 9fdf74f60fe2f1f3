//! `Manifests` of an image in the API's shape: what `images --tree` shows.

use hull_api::image::{
    ManifestAttestation, ManifestImage, ManifestSize, ManifestSummary, UnpackedSize,
};
use hull_image::{Image, ImageUser, ManifestInfo, ManifestKind};

use crate::Images;
use crate::error::Result;
use crate::images::{api_platform, descriptor};

impl Images {
    /// The manifests of `image`; `all` are the images that are here, `users` the containers.
    pub(crate) fn manifests(
        &self,
        image: &Image,
        all: &[Image],
        users: &[ImageUser],
    ) -> Result<Vec<ManifestSummary>> {
        let found = self.world.images.manifests(image, all)?;
        Ok(found.into_iter().map(|one| summary(one, users)).collect())
    }
}

fn summary(one: ManifestInfo, users: &[ImageUser]) -> ManifestSummary {
    let bytes = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let mut summary = ManifestSummary {
        id: one.descriptor.digest.to_string(),
        descriptor: descriptor(&one.descriptor),
        available: one.available,
        size: ManifestSize {
            content: bytes(one.content),
            total: bytes(one.content),
        },
        ..ManifestSummary::default()
    };
    summary.kind = match one.kind {
        ManifestKind::Image {
            platform,
            id,
            unpacked,
        } => {
            let users = users
                .iter()
                .filter(|user| Some(&user.image_id) == id.as_ref());
            summary.size.total = bytes(one.content.saturating_add(unpacked));
            summary.image_data = Some(ManifestImage {
                platform: api_platform(&platform),
                containers: users.map(|user| user.container_id.clone()).collect(),
                size: UnpackedSize {
                    unpacked: bytes(unpacked),
                },
            });
            "image"
        }
        ManifestKind::Attestation(of) => {
            summary.attestation_data = Some(ManifestAttestation { of: of.to_string() });
            "attestation"
        }
        ManifestKind::Unknown => "unknown",
    }
    .to_owned();
    summary
}
