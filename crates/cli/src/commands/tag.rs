//! `hull tag`.

use super::pull::parse;
use crate::app::Cli;
use crate::failure::{Failure, Outcome};
use crate::registry::Run;
use clap::Args;
use hull_client::Query;

/// `hull tag`: Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE.
#[derive(Args, Debug)]
pub struct Tag {
    args: Vec<String>,
}

impl Run for Tag {
    async fn run(self, cli: &Cli) -> Outcome {
        let (source, target) = (&self.args[0], &self.args[1]);
        if let Err(error) = hull_oci::reference::Reference::parse_normalized(source)
            && !hull_oci::reference::is_identifier(source)
            && !source.starts_with("sha256:")
        {
            return Err(Failure::new(format!(
                "Error parsing reference: {source:?} is not a valid repository/tag: {error}"
            )));
        }
        let reference = parse(target).map_err(|error| {
            Failure::new(format!(
                "Error parsing reference: {target:?} is not a valid repository/tag: {error}"
            ))
        })?;
        if reference.digest.is_some() {
            return Err(Failure::new(
                "refusing to create a tag with a digest reference",
            ));
        }
        let reference = reference.with_default_tag();
        let query = Query::segments(&["images", source, "tag"])
            .set("repo", reference.familiar_name())
            .set_some("tag", reference.tag.as_deref());
        cli.client()?.post(query).await?;
        Ok(0)
    }
}
