//! `hull exec`.

use crate::app::{Cli, stdin_is_terminal};
use crate::failure::{Failure, Outcome};
use crate::opts::kvfile;
use crate::registry::Run;
use crate::stream::attach::{self, End, Session, check_tty};
use crate::stream::terminal;
use crate::values;
use bytes::Bytes;
use clap::Args;
use hull_client::{Error, Query};
use serde_json::{Value, json};

/// `hull exec`: Execute a command in a running container.
#[derive(Args, Debug)]
pub struct Exec {
    /// Detached mode: run command in the background
    #[arg(short = 'd', long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Set environment variables
    #[arg(short = 'e', long, value_name = "list", value_parser = values::env)]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    env_file: Vec<String>,
    /// Keep STDIN open even if not attached
    #[arg(short = 'i', long)]
    interactive: bool,
    /// Give extended privileges to the command
    #[arg(long)]
    privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short = 't', long)]
    tty: bool,
    /// Username or UID (format: "<name|uid>[:<group|gid>]")
    #[arg(short = 'u', long, value_name = "string")]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short = 'w', long, value_name = "string")]
    workdir: Option<String>,
    args: Vec<String>,
}

impl Run for Exec {
    async fn run(self, cli: &Cli) -> Outcome {
        let (name, command) = (&self.args[0], &self.args[1..]);
        let mut env = kvfile::read(&self.env_file, |key| std::env::var(key).ok())?;
        env.extend(self.env.iter().cloned());
        let client = cli.client()?;
        let attached = !self.detach;
        if attached && let Err(refused) = check_tty(self.interactive, self.tty) {
            // That the container does not exist matters more.
            client
                .get_raw(Query::segments(&["containers", name, "json"]))
                .await?;
            return Err(refused);
        }
        let size = self
            .tty
            .then(terminal::size)
            .map(|(height, width)| json!([height, width]));
        let keys = cli.detach_keys(self.detach_keys.as_deref());
        let config = json!({
            "User": self.user.as_deref().unwrap_or(""),
            "Privileged": self.privileged,
            "Tty": self.tty,
            "ConsoleSize": size,
            "AttachStdin": attached && self.interactive,
            "AttachStderr": attached,
            "AttachStdout": attached,
            "DetachKeys": keys,
            "Env": if env.is_empty() { Value::Null } else { json!(env) },
            "WorkingDir": self.workdir.as_deref().unwrap_or(""),
            "Cmd": command,
        });
        let created: Value = client
            .post_json(Query::segments(&["containers", name, "exec"]), &config)
            .await?;
        let id = created["Id"]
            .as_str()
            .filter(|id| !id.is_empty())
            .ok_or_else(|| Failure::new("exec ID empty"))?;
        let start = json!({"Detach": self.detach, "Tty": self.tty, "ConsoleSize": size});
        let body = Bytes::from(start.to_string());
        let path = Query::segments(&["exec", id, "start"]);
        if self.detach {
            let mut answer = client
                .request(
                    http::Method::POST,
                    &path,
                    Some(body),
                    http::HeaderMap::new(),
                )
                .await?;
            answer.bytes().await?;
            return Ok(0);
        }
        let session = Session {
            stdin: self.interactive,
            tty: self.tty,
            stdout: true,
            stderr: true,
            detach_keys: keys.to_owned(),
        };
        let hijacked = client.hijack(path, Some(body)).await?;
        let sizes = async {
            if self.tty && stdin_is_terminal() {
                terminal::follow_size(client, &format!("/exec/{id}")).await;
            }
            std::future::pending::<()>().await;
        };
        let end = tokio::select! {
            end = attach::run(hijacked, &session) => end?,
            () = sizes => End::Finished,
        };
        if end == End::Detached {
            return Err(Failure::new("read escape sequence"));
        }
        match client
            .get::<Value>(Query::segments(&["exec", id, "json"]))
            .await
        {
            Ok(exec) => Ok(exec["ExitCode"].as_i64().unwrap_or(0) as i32),
            Err(Error::Connect { .. }) => Ok(255),
            Err(error) => Err(error.into()),
        }
    }
}
