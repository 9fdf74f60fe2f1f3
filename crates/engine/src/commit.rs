//! Commit: a container becomes an image, with what the request changes of its configuration.

use crate::error::Result;
use crate::images::{CommitOptions, Images, reference};
use crate::world::blocking;

impl Images {
    /// Makes an image of a container; returns its id.
    pub async fn commit(&self, options: CommitOptions) -> Result<String> {
        let handle = self.world.registry.find(&options.container)?;
        let view = handle.view();
        let record = view.record.clone();
        let name = match options.repo.as_str() {
            "" => None,
            repo => Some(reference(repo, &options.tag)?.with_default_tag()),
        };
        let mut config = options
            .config
            .clone()
            .unwrap_or_else(|| record.config.clone());
        crate::changes::apply(&mut config, &options.changes)?;
        let commit = hull_image::CommitOptions {
            snapshot_key: record.id.clone(),
            hidden: crate::rootfs::MADE_BY_US,
            parent: record.image_id.parse().ok(),
            reference: name,
            author: options.author,
            comment: options.comment,
            config: crate::changes::to_oci(&config),
            container: Some(record.id.clone()),
            created_by: std::iter::once(record.path.clone())
                .chain(record.args.iter().cloned())
                .collect::<Vec<_>>()
                .join(" "),
        };
        // Frozen meanwhile, so that the files are those of one moment.
        let freeze = options.pause && matches!(view.state.phase, crate::phase::Phase::Running(_));
        let frozen = match freeze {
            false => false,
            true => {
                match crate::containers::ask(&self.world, &record.id, crate::task::Message::Pause)
                    .await
                {
                    Ok(()) => true,
                    // It ended by itself in the meantime, which is as good; its task may learn of it a moment later.
                    Err(_) if ends_soon(&handle).await => false,
                    Err(error) => return Err(error),
                }
            }
        };
        let made = blocking(&self.world, move |world| {
            Ok(world.images.commit(&commit)?)
        })
        .await;
        if frozen {
            let thawed =
                crate::containers::ask(&self.world, &record.id, crate::task::Message::Unpause)
                    .await;
            if let Err(error) = thawed
                && !ends_soon(&handle).await
            {
                return Err(error);
            }
        }
        let id = made?.to_string();
        let mut attributes = record.event_attributes();
        attributes.insert("imageID".to_owned(), id.clone());
        attributes.insert("comment".to_owned(), String::new());
        self.world
            .events
            .publish("container", "commit", &record.id, attributes);
        Ok(id)
    }
}

/// Whether a container ends within the time that its task takes to learn that it has.
async fn ends_soon(handle: &crate::world::Handle) -> bool {
    const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);
    let mut view = handle.view.clone();
    let ended = view.wait_for(|view| view.removed || !view.state.phase.is_running());
    matches!(tokio::time::timeout(TIMEOUT, ended).await, Ok(Ok(_)))
}
