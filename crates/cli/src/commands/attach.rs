//! `hull attach`.

use super::run::{flag, open};
use super::wait::Waiting;
use crate::app::{Cli, stdout_is_terminal};
use crate::failure::{Failure, Outcome};
use crate::registry::Run;
use crate::stream::attach::{self, End, Session, check_tty};
use crate::stream::signals::Caught;
use crate::stream::terminal;
use clap::Args;
use hull_client::{Client, Query};
use serde_json::Value;

/// `hull attach`: Attach local standard input, output, and error streams to a running container.
#[derive(Args, Debug)]
pub struct Attach {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,
    /// Proxy all received signals to the process (default true)
    #[arg(long, default_value = "true")]
    sig_proxy: bool,
    args: Vec<String>,
}

impl Run for Attach {
    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client()?;
        let name = &self.args[0];
        let container = running(client, name).await?;
        let waiting = Waiting::begin(client, name, "").await?;
        let tty = flag(&container, &["Config", "Tty"]);
        check_tty(!self.no_stdin, tty)?;
        let session = Session {
            stdin: !self.no_stdin && flag(&container, &["Config", "OpenStdin"]),
            tty,
            stdout: true,
            stderr: true,
            detach_keys: cli.detach_keys(self.detach_keys.as_deref()).to_owned(),
        };
        let caught = (self.sig_proxy && !tty).then(Caught::new);
        let hijacked = open(client, name, &session).await?;
        // It may have stopped in between: then nobody would ever end the stream.
        running(client, name).await?;
        let path = format!("/containers/{}", container["Id"].as_str().unwrap_or(name));
        let helpers = async {
            if let Some(caught) = caught {
                caught.forward(client, name).await;
            } else if tty && stdout_is_terminal() {
                // A second size makes a shell draw its prompt again.
                let (height, width) = terminal::size();
                terminal::resize(client, &path, (height + 1, width + 1)).await;
                terminal::follow_size(client, &path).await;
            }
            std::future::pending::<()>().await;
        };
        let end = tokio::select! {
            end = attach::run(hijacked, &session) => end?,
            () = helpers => End::Finished,
        };
        match end {
            End::Detached => Err(Failure::new("read escape sequence")),
            End::Finished => waiting.status().await,
        }
    }
}

async fn running(client: &Client, name: &str) -> Result<Value, Failure> {
    let container: Value = client
        .get(Query::segments(&["containers", name, "json"]))
        .await?;
    if !flag(&container, &["State", "Running"]) {
        return Err(Failure::new(
            "You cannot attach to a stopped container, start it first",
        ));
    }
    if flag(&container, &["State", "Paused"]) {
        return Err(Failure::new(
            "You cannot attach to a paused container, unpause it first",
        ));
    }
    if flag(&container, &["State", "Restarting"]) {
        return Err(Failure::new(
            "You cannot attach to a restarting container, wait until it is running",
        ));
    }
    Ok(container)
}
