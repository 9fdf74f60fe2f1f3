//! `hull checkpoint create`, `ls`, `rm`.

use crate::app::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::{Format, header, row, text};
use crate::registry::Run;
use crate::template::Row;
use clap::Args;
use hull_client::Query;
use serde_json::{Value, json};

/// `hull checkpoint create`: Create a checkpoint from a running container.
#[derive(Args, Debug)]
pub struct CheckpointCreate {
    /// Use a custom checkpoint storage directory
    #[arg(long, value_name = "string")]
    checkpoint_dir: Option<String>,
    /// Leave the container running after checkpoint
    #[arg(long)]
    leave_running: bool,
    args: Vec<String>,
}

/// `hull checkpoint ls`: List checkpoints for a container.
#[derive(Args, Debug)]
pub struct CheckpointLs {
    /// Use a custom checkpoint storage directory
    #[arg(long, value_name = "string")]
    checkpoint_dir: Option<String>,
    args: Vec<String>,
}

/// `hull checkpoint rm`: Remove a checkpoint.
#[derive(Args, Debug)]
pub struct CheckpointRm {
    /// Use a custom checkpoint storage directory
    #[arg(long, value_name = "string")]
    checkpoint_dir: Option<String>,
    args: Vec<String>,
}

/// Docker's command line refuses these commands for a daemon without experimental features.
async fn gate(cli: &Cli) -> Result<(), Failure> {
    let headers = cli.client()?.ping().await?;
    if headers
        .get("Docker-Experimental")
        .is_some_and(|value| value == "true")
    {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{} is only supported on a Docker daemon with experimental features enabled",
        cli.command_path
    )))
}

impl Run for CheckpointCreate {
    async fn run(self, cli: &Cli) -> Outcome {
        gate(cli).await?;
        let (container, name) = (&self.args[0], &self.args[1]);
        let body = json!({
            "CheckpointID": name,
            "CheckpointDir": self.checkpoint_dir.unwrap_or_default(),
            "Exit": !self.leave_running,
        });
        let query = Query::segments(&["containers", container, "checkpoints"]);
        let body = Some(body.to_string().into());
        let client = cli.client()?;
        let mut answer = client
            .request(http::Method::POST, &query, body, http::HeaderMap::new())
            .await?;
        answer.bytes().await?;
        cli.line(name)?;
        Ok(0)
    }
}

impl Run for CheckpointLs {
    async fn run(self, cli: &Cli) -> Outcome {
        gate(cli).await?;
        let query = Query::segments(&["containers", &self.args[0], "checkpoints"])
            .set_some("dir", self.checkpoint_dir.as_deref());
        let list: Vec<Value> = cli.client()?.get(query).await?;
        let heads = header(&[("Name", "CHECKPOINT NAME")]);
        let rows: Vec<Row> = list
            .iter()
            .map(|one| {
                let name = text(one, "Name").into();
                row("*checkpoint.checkpointContext", [("Name", name)])
            })
            .collect();
        cli.out(Format::parse("table {{.Name}}")?.render(&heads, &rows)?)?;
        Ok(0)
    }
}

impl Run for CheckpointRm {
    async fn run(self, cli: &Cli) -> Outcome {
        gate(cli).await?;
        let (container, name) = (&self.args[0], &self.args[1]);
        let query = Query::segments(&["containers", container, "checkpoints", name])
            .set_some("dir", self.checkpoint_dir.as_deref());
        cli.client()?.delete(query).await?;
        Ok(0)
    }
}
