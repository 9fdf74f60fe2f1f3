//! `hull rm`.

use crate::app::Cli;
use crate::failure::{Failure, Failures, Outcome};
use crate::registry::Run;
use clap::Args;
use futures_util::StreamExt;
use hull_client::Query;

/// `hull rm`: Remove one or more containers.
#[derive(Args, Debug)]
pub struct Rm {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short = 'f', long)]
    force: bool,
    /// Remove the specified link
    #[arg(short = 'l', long)]
    link: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(short = 'v', long)]
    volumes: bool,
    args: Vec<String>,
}

impl Run for Rm {
    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client()?;
        let flags = &self;
        let remove = |name: &String| {
            let name = name.trim_matches('/').to_owned();
            async move {
                if name.is_empty() {
                    return Err(Failure::new("container name cannot be empty"));
                }
                let query = Query::segments(&["containers", &name])
                    .flag("v", flags.volumes)
                    .flag("link", flags.link)
                    .flag("force", flags.force);
                client.delete(query).await?;
                Ok(())
            }
        };
        let mut failures = Failures::default();
        let mut results = futures_util::stream::iter(self.args.iter().map(remove)).buffered(50);
        let mut names = self.args.iter();
        while let (Some(result), Some(name)) = (results.next().await, names.next()) {
            match result {
                Ok(()) => cli.line(name)?,
                Err(Failure::Client(error)) if self.force && error.is_not_found() => {
                    eprintln!("{error}")
                }
                Err(failure) => failures.push(failure),
            }
        }
        failures.outcome()
    }
}
