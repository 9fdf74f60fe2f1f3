//! Commands that send one request for each container: `pause`, `unpause`, `kill`, `stop`, `restart`, `rename`.

use super::each::each;
use crate::app::Cli;
use crate::failure::{Failure, Outcome};
use crate::registry::Run;
use crate::values;
use clap::Args;
use hull_client::Query;

/// `hull pause`: Pause all processes within one or more containers.
#[derive(Args, Debug)]
pub struct Pause {
    args: Vec<String>,
}

impl Run for Pause {
    async fn run(self, cli: &Cli) -> Outcome {
        post_each(cli, &self.args, "pause", |query| query).await
    }
}

/// `hull unpause`: Unpause all processes within one or more containers.
#[derive(Args, Debug)]
pub struct Unpause {
    args: Vec<String>,
}

impl Run for Unpause {
    async fn run(self, cli: &Cli) -> Outcome {
        post_each(cli, &self.args, "unpause", |query| query).await
    }
}

/// `hull kill`: Kill one or more running containers.
#[derive(Args, Debug)]
pub struct Kill {
    /// Signal to send to the container
    #[arg(short = 's', long, value_name = "string")]
    signal: Option<String>,
    args: Vec<String>,
}

impl Run for Kill {
    async fn run(self, cli: &Cli) -> Outcome {
        post_each(cli, &self.args, "kill", |query| {
            query.set_some("signal", self.signal.as_deref())
        })
        .await
    }
}

/// How a container is stopped.
#[derive(Args, Debug)]
pub struct StopFlags {
    /// Signal to send to the container
    #[arg(short = 's', long, value_name = "string")]
    signal: Option<String>,
    /// Seconds to wait before killing the container
    #[arg(short = 't', long, value_name = "int", value_parser = values::go_int)]
    timeout: Option<i64>,
    /// Seconds to wait before killing the container (deprecated)
    #[arg(long, value_name = "int", value_parser = values::go_int, hide = true)]
    time: Option<i64>,
}

impl StopFlags {
    fn apply(&self, query: Query) -> Query {
        let seconds = self
            .timeout
            .or(self.time)
            .map(|seconds| seconds.to_string());
        query
            .set_some("signal", self.signal.as_deref())
            .set_some("t", seconds)
    }

    fn note(&self, cli: &Cli) -> Result<(), Failure> {
        match self.time {
            Some(_) => cli.line("Flag --time has been deprecated, use --timeout instead"),
            None => Ok(()),
        }
    }
}

/// `hull stop`: Stop one or more running containers.
#[derive(Args, Debug)]
pub struct Stop {
    #[command(flatten)]
    flags: StopFlags,
    args: Vec<String>,
}

impl Run for Stop {
    async fn run(self, cli: &Cli) -> Outcome {
        self.flags.note(cli)?;
        post_each(cli, &self.args, "stop", |query| self.flags.apply(query)).await
    }
}

/// `hull restart`: Restart one or more containers.
#[derive(Args, Debug)]
pub struct Restart {
    #[command(flatten)]
    flags: StopFlags,
    args: Vec<String>,
}

impl Run for Restart {
    async fn run(self, cli: &Cli) -> Outcome {
        self.flags.note(cli)?;
        post_each(cli, &self.args, "restart", |query| self.flags.apply(query)).await
    }
}

/// `hull rename`: Rename a container.
#[derive(Args, Debug)]
pub struct Rename {
    args: Vec<String>,
}

impl Run for Rename {
    async fn run(self, cli: &Cli) -> Outcome {
        let (old, new) = (self.args[0].trim(), self.args[1].trim());
        if old.is_empty() || new.is_empty() {
            return Err(Failure::new(
                "Error: Neither old nor new names may be empty",
            ));
        }
        let renamed = cli
            .client()?
            .post(Query::segments(&["containers", old, "rename"]).set("name", new))
            .await;
        match renamed {
            Ok(_) => Ok(0),
            Err(error) => {
                eprintln!("{error}");
                Err(Failure::new(format!(
                    "Error: failed to rename container named {old}"
                )))
            }
        }
    }
}

async fn post_each(
    cli: &Cli,
    names: &[String],
    action: &str,
    fill: impl Fn(Query) -> Query,
) -> Outcome {
    let client = cli.client()?;
    each(cli, names, |name| {
        let query = fill(Query::segments(&["containers", name, action]));
        async move {
            client.post(query).await?;
            Ok(())
        }
    })
    .await
}
