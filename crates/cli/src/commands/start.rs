//! `hull start`, with or without attaching.

use super::run::{carry, flag, open, start};
use super::wait::Waiting;
use crate::app::{Cli, stdout_is_terminal};
use crate::failure::{Failure, Outcome};
use crate::registry::Run;
use crate::stream::attach::Session;
use crate::stream::signals::Caught;
use crate::stream::terminal;
use clap::Args;
use hull_client::Query;
use serde_json::Value;

/// `hull start`: Start one or more stopped containers.
#[derive(Args, Debug)]
pub struct Start {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short = 'a', long)]
    attach: bool,
    /// Restore from this checkpoint
    #[arg(long, value_name = "string")]
    checkpoint: Option<String>,
    /// Use a custom checkpoint storage directory
    #[arg(long, value_name = "string")]
    checkpoint_dir: Option<String>,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Attach container's STDIN
    #[arg(short = 'i', long)]
    interactive: bool,
    args: Vec<String>,
}

impl Run for Start {
    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client()?;
        if self.attach || self.interactive {
            return self.attached(cli).await;
        }
        let mut failed: Vec<&str> = Vec::new();
        if self.checkpoint.is_some() && self.args.len() > 1 {
            return Err(Failure::new(
                "you cannot restore multiple containers at once",
            ));
        }
        for name in &self.args {
            match start(client, name, self.checkpoint()).await {
                Ok(_) => cli.line(name)?,
                Err(error) => {
                    eprintln!("{error}");
                    failed.push(name);
                }
            }
        }
        if failed.is_empty() {
            return Ok(0);
        }
        Err(Failure::new(format!(
            "Error: failed to start containers: {}",
            failed.join(", ")
        )))
    }
}

impl Start {
    fn checkpoint(&self) -> Option<(&str, &str)> {
        Some((
            self.checkpoint.as_deref()?,
            self.checkpoint_dir.as_deref().unwrap_or(""),
        ))
    }

    async fn attached(&self, cli: &Cli) -> Outcome {
        let [name] = self.args.as_slice() else {
            return Err(Failure::new(
                "you cannot start and attach multiple containers at once",
            ));
        };
        let client = cli.client()?;
        let container: Value = client
            .get(Query::segments(&["containers", name, "json"]))
            .await?;
        let id = container["Id"].as_str().unwrap_or(name).to_owned();
        let session = Session {
            stdin: self.interactive && flag(&container, &["Config", "OpenStdin"]),
            tty: flag(&container, &["Config", "Tty"]),
            stdout: true,
            stderr: true,
            detach_keys: cli.detach_keys(self.detach_keys.as_deref()).to_owned(),
        };
        let caught = (!session.tty).then(Caught::new);
        let hijacked = open(client, &id, &session).await?;
        let removed = flag(&container, &["HostConfig", "AutoRemove"]);
        let waiting =
            Waiting::begin(client, &id, if removed { "removed" } else { "next-exit" }).await?;
        if let Err(error) = start(client, &id, self.checkpoint()).await {
            drop(hijacked);
            if removed {
                let _ = waiting.status().await;
            }
            return Err(error.into());
        }
        let carried = carry(hijacked, &session, waiting);
        let helpers = async {
            if let Some(caught) = caught {
                caught.forward(client, &id).await;
            } else if stdout_is_terminal() {
                terminal::follow_size(client, &format!("/containers/{id}")).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            outcome = carried => outcome,
            () = helpers => Ok(0),
        }
    }
}
