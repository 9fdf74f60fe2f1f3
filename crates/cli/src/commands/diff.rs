//! `hull diff`.

use crate::app::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::{number, text};
use crate::registry::Run;
use clap::Args;
use hull_client::Query;
use serde_json::Value;

/// `hull diff`: Inspect changes to files or directories on a container's filesystem.
#[derive(Args, Debug)]
pub struct Diff {
    args: Vec<String>,
}

impl Run for Diff {
    async fn run(self, cli: &Cli) -> Outcome {
        if self.args[0].is_empty() {
            return Err(Failure::new("Container name cannot be empty"));
        }
        let changes: Option<Vec<Value>> = cli
            .client()?
            .get(Query::segments(&["containers", &self.args[0], "changes"]))
            .await?;
        let lines = changes.iter().flatten().map(|change| {
            let kind = match number(change, "Kind") {
                0 => "C",
                1 => "A",
                2 => "D",
                _ => "",
            };
            format!("{kind} {}\n", text(change, "Path"))
        });
        cli.out(lines.collect::<String>())?;
        Ok(0)
    }
}
