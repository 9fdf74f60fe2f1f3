//! `hull rmi`.

use super::inspect::platform_json;
use crate::app::Cli;
use crate::failure::{Failure, Outcome};
use crate::registry::Run;
use clap::Args;
use hull_client::Query;
use serde_json::Value;

/// `hull rmi`: Remove one or more images.
#[derive(Args, Debug)]
pub struct Rmi {
    /// Force removal of the image
    #[arg(short = 'f', long)]
    force: bool,
    /// Do not delete untagged parents
    #[arg(long)]
    no_prune: bool,
    /// Remove only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")
    #[arg(long, value_name = "strings")]
    platform: Vec<String>,
    args: Vec<String>,
}

impl Run for Rmi {
    async fn run(self, cli: &Cli) -> Outcome {
        let platforms: Vec<String> = self
            .platform
            .iter()
            .flat_map(|list| list.split(','))
            .map(platform_json)
            .collect::<Result<_, _>>()?;
        let (mut errors, mut fatal) = (Vec::new(), false);
        for name in &self.args {
            let mut query = Query::segments(&["images", name]).flag("force", self.force);
            if self.no_prune {
                query = query.set("noprune", "1");
            }
            for platform in &platforms {
                query = query.set("platforms", platform);
            }
            let removed = match cli.client()?.delete(query).await {
                Ok(body) => serde_json::from_slice::<Vec<Value>>(&body)
                    .map_err(|error| Failure::new(error.to_string()))?,
                Err(error) => {
                    fatal |= !error.is_not_found();
                    errors.push(error.to_string());
                    continue;
                }
            };
            for item in &removed {
                match item["Deleted"].as_str().filter(|id| !id.is_empty()) {
                    Some(id) => cli.line(format!("Deleted: {id}"))?,
                    None => cli.line(format!(
                        "Untagged: {}",
                        item["Untagged"].as_str().unwrap_or("")
                    ))?,
                }
            }
        }
        if errors.is_empty() {
            return Ok(0);
        }
        let message = errors.join("\n");
        if self.force && !fatal {
            eprintln!("{message}");
            return Ok(0);
        }
        Err(Failure::new(message))
    }
}
