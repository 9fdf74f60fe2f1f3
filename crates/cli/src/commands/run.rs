//! `hull run`: create, attach, wait, start, and carry the streams.

use super::create::{CreateFlags, Pull, body, create, with_help};
use super::wait::Waiting;
use crate::app::{Cli, stdout_is_terminal};
use crate::failure::{Failure, Outcome};
use crate::registry::Run as Command;
use crate::stream::attach::{self, End, Session, check_tty};
use crate::stream::signals::Caught;
use crate::stream::terminal;
use clap::Args;
use hull_client::{Client, Error, Hijacked, Query};
use serde_json::Value;

/// `hull run`: Create and run a new container from an image.
#[derive(Args, Debug)]
pub struct Run {
    #[command(flatten)]
    flags: CreateFlags,
    /// Run container in background and print container ID
    #[arg(short = 'd', long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Pull image before running ("always", "missing", "never") (default "missing")
    #[arg(long, value_name = "string")]
    pull: Option<String>,
    /// Proxy received signals to the process (default true)
    #[arg(long, default_value = "true")]
    sig_proxy: bool,
    args: Vec<String>,
}

impl Command for Run {
    async fn run(self, cli: &Cli) -> Outcome {
        let usage = |error: String| with_help(cli, "run", &error, 125);
        let pull = Pull::parse(self.pull.as_deref()).map_err(usage)?;
        let mut body =
            body(cli, &self.flags.container, &self.args[0], &self.args[1..]).map_err(usage)?;
        let tty = self.flags.container.tty;
        if self.detach {
            if !self.flags.container.attach.is_empty() {
                return Err(Failure::new(
                    "conflicting options: cannot specify both --attach and --detach",
                ));
            }
            for key in ["AttachStdin", "AttachStdout", "AttachStderr", "StdinOnce"] {
                body[key] = false.into();
            }
        } else {
            check_tty(body["AttachStdin"] == true, tty)?;
        }
        let id = create(cli, &self.flags, pull, &mut body)
            .await
            .map_err(|error| start_failure(cli, &error))?;
        let flag = |key: &str| body[key] == true;
        let session = Session {
            stdin: flag("AttachStdin"),
            tty,
            stdout: flag("AttachStdout"),
            stderr: flag("AttachStderr"),
            detach_keys: cli.detach_keys(self.detach_keys.as_deref()).to_owned(),
        };
        if !(session.stdin || session.stdout || session.stderr) {
            cli.line(&id)?;
            start(cli.client()?, &id, None)
                .await
                .map_err(|error| start_failure(cli, &error.into()))?;
            return Ok(0);
        }
        self.attached(cli, &id, &session).await
    }
}

impl Run {
    async fn attached(&self, cli: &Cli, id: &str, session: &Session) -> Outcome {
        let client = cli.client()?;
        // Signals that come from here on belong to the container.
        let caught = self.sig_proxy.then(Caught::new);
        let (hijacked, waiting) = tokio::join!(
            open(client, id, session),
            Waiting::begin(
                client,
                id,
                if self.flags.container.rm {
                    "removed"
                } else {
                    "next-exit"
                }
            )
        );
        let (hijacked, waiting) = (hijacked?, waiting?);
        if let Err(error) = start(client, id, None).await {
            drop(hijacked);
            if self.flags.container.rm {
                let _ = waiting.status().await;
            }
            return Err(start_failure(cli, &error.into()));
        }
        let helpers = async {
            let signals = async {
                if let Some(caught) = caught {
                    caught.forward(client, id).await;
                }
            };
            let sizes = async {
                if session.tty && stdout_is_terminal() {
                    terminal::follow_size(client, &format!("/containers/{id}")).await;
                }
            };
            tokio::join!(signals, sizes);
            std::future::pending::<()>().await;
        };
        let carried = carry(hijacked, session, waiting);
        tokio::select! {
            outcome = carried => outcome,
            () = helpers => Ok(0),
        }
    }
}

/// Carries the streams to their end, then asks for the exit code.
pub async fn carry(hijacked: Hijacked, session: &Session, waiting: Waiting) -> Outcome {
    let streams = attach::run(hijacked, session);
    let status = waiting.status();
    tokio::pin!(streams, status);
    tokio::select! {
        end = &mut streams => match end? {
            End::Detached => Ok(0),
            End::Finished => status.await,
        },
        status = &mut status => {
            // Output may still be on its way when the process has ended.
            if session.stdout || session.stderr {
                let _ = streams.await;
            }
            status
        }
    }
}

/// Attaches to the container before it starts.
pub async fn open(client: &Client, id: &str, session: &Session) -> Result<Hijacked, Error> {
    let query = Query::segments(&["containers", id, "attach"])
        .set_some("detachKeys", Some(&session.detach_keys))
        .flag("stderr", session.stderr)
        .flag("stdin", session.stdin)
        .flag("stdout", session.stdout)
        .flag("stream", true);
    client.hijack(query, None).await
}

/// Starts a container.
pub async fn start(
    client: &Client,
    id: &str,
    checkpoint: Option<(&str, &str)>,
) -> Result<u16, Error> {
    let query = Query::segments(&["containers", id, "start"])
        .set_some("checkpoint", checkpoint.map(|(name, _)| name))
        .set_some("checkpoint-dir", checkpoint.map(|(_, dir)| dir));
    client.post(query).await
}

/// Docker's exit codes for what did not start: 127 not found, 126 not executable, 125 the rest.
fn start_failure(cli: &Cli, failure: &Failure) -> Failure {
    let message = failure.told().unwrap_or_default();
    let has = |part: &str| message.contains(part);
    let status = if has("executable file not found") || has("no such file or directory") {
        127
    } else if has("permission denied") || has("is a directory") {
        126
    } else {
        125
    };
    with_help(cli, "run", &message, status)
}

/// Whether a body asks for a terminal, for those who inspect first.
pub fn flag(value: &Value, path: &[&str]) -> bool {
    path.iter().fold(value, |value, key| &value[*key]) == true
}
