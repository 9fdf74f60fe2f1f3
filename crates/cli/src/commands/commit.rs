//! `hull commit`.

use super::pull::parse;
use crate::app::Cli;
use crate::failure::{Failure, Outcome};
use crate::registry::Run;
use clap::Args;
use hull_client::Query;
use serde_json::{Value, json};

/// `hull commit`: Create a new image from a container's changes.
#[derive(Args, Debug)]
pub struct Commit {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short = 'a', long, value_name = "string")]
    author: Option<String>,
    /// Apply Dockerfile instruction to the created image
    #[arg(short = 'c', long, value_name = "list")]
    change: Vec<String>,
    /// Commit message
    #[arg(short = 'm', long, value_name = "string")]
    message: Option<String>,
    /// Pause container during commit (default true)
    #[arg(short = 'p', long, default_value = "true")]
    pause: bool,
    args: Vec<String>,
}

impl Run for Commit {
    async fn run(self, cli: &Cli) -> Outcome {
        let mut query = Query::new("/commit").set("container", &self.args[0]);
        if let Some(name) = self.args.get(1).filter(|name| !name.is_empty()) {
            let reference = parse(name)?.with_default_tag();
            if reference.digest.is_some() {
                return Err(Failure::new(
                    "refusing to create a tag with a digest reference",
                ));
            }
            query = query
                .set("repo", reference.familiar_name())
                .set_some("tag", reference.tag.as_deref());
        }
        query = query
            .set("comment", self.message.as_deref().unwrap_or(""))
            .set("author", self.author.as_deref().unwrap_or(""));
        for change in &self.change {
            query = query.set("changes", change);
        }
        if !self.pause {
            query = query.set("pause", "0");
        }
        let answer: Value = cli.client()?.post_json(query, &json!(null)).await?;
        cli.line(answer["Id"].as_str().unwrap_or(""))?;
        Ok(0)
    }
}
