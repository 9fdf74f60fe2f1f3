//! `hull login` and `hull logout`.

use crate::app::{Cli, stdin_is_terminal};
use crate::config::HUB;
use crate::failure::{Failure, Outcome};
use crate::registry::Run;
use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::{Value, json};
use std::io::{BufRead, Read};

/// `hull login`: Authenticate to a registry.
#[derive(Args, Debug)]
pub struct Login {
    /// Password or Personal Access Token (PAT)
    #[arg(short = 'p', long, value_name = "string")]
    password: Option<String>,
    /// Take the Password or Personal Access Token (PAT) from stdin
    #[arg(long)]
    password_stdin: bool,
    /// Username
    #[arg(short = 'u', long, value_name = "string")]
    username: Option<String>,
    args: Vec<String>,
}

impl Run for Login {
    async fn run(self, cli: &Cli) -> Outcome {
        let (user, password) = self.given()?;
        let server = match self.args.first().map(String::as_str) {
            None | Some("" | "docker.io") => HUB,
            Some(server) => server,
        };
        if user.is_none()
            && password.is_none()
            && let Some(status) = stored(cli, server).await?
        {
            cli.line(status)?;
            return Ok(0);
        }
        let (user, password) = ask(cli, user, password)?;
        let auth = json!({"username": user, "password": password, "serveraddress": server});
        let answer: Value = cli.client()?.post_json("/auth", &auth).await?;
        let token = answer["IdentityToken"].as_str().unwrap_or("");
        let mut config = cli.config.clone();
        let clear = config
            .store_auth(server, &user, &password, token)
            .map_err(|error| Failure::new(format!("Error saving credentials: {error}")))?;
        if clear {
            let path = cli.config.dir().join("config.json");
            eprintln!(
                "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. See\nhttps://docs.docker.com/go/credential-store/\n",
                path.display()
            );
        }
        let status = answer["Status"].as_str().unwrap_or("");
        if !status.is_empty() {
            cli.line(status)?;
        }
        Ok(0)
    }
}

impl Login {
    fn given(&self) -> Result<(Option<String>, Option<String>), Failure> {
        if self.password.is_some() && self.password_stdin {
            return Err(Failure::new(
                "conflicting options: cannot specify both --password and --password-stdin",
            ));
        }
        if self.password.is_some() {
            eprintln!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        }
        if !self.password_stdin {
            return Ok((self.username.clone(), self.password.clone()));
        }
        if self.username.as_deref().unwrap_or("").is_empty() {
            return Err(Failure::new(
                "the --password-stdin option requires --username to be set",
            ));
        }
        let mut text = String::new();
        std::io::stdin().take(1 << 20).read_to_string(&mut text)?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        Ok((
            self.username.clone(),
            Some(text.strip_suffix('\r').unwrap_or(text).to_owned()),
        ))
    }
}

/// Tries the credentials that we have; `None` when there are none or the registry refuses them.
async fn stored(cli: &Cli, server: &str) -> Result<Option<String>, Failure> {
    let auth = cli.config.auth(server)?;
    let Some(user) = auth["username"].as_str().filter(|user| !user.is_empty()) else {
        return Ok(None);
    };
    if auth["password"].as_str().unwrap_or("").is_empty() {
        return Ok(None);
    }
    eprintln!("Authenticating with existing credentials... [Username: {user}]\n");
    match cli.client()?.post_json::<Value>("/auth", &auth).await {
        Ok(answer) => Ok(Some(answer["Status"].as_str().unwrap_or("").to_owned())),
        Err(error) if error.status() == Some(401) => {
            eprintln!("Stored credentials invalid or expired");
            Ok(None)
        }
        Err(error) if error.is_connect() => Err(error.into()),
        Err(error) => {
            eprintln!("Login did not succeed, error: {error}");
            Ok(None)
        }
    }
}

fn ask(
    cli: &Cli,
    user: Option<String>,
    password: Option<String>,
) -> Result<(String, String), Failure> {
    let missing =
        user.as_deref().unwrap_or("").is_empty() || password.as_deref().unwrap_or("").is_empty();
    if missing && !stdin_is_terminal() {
        return Err(Failure::new(
            "Error: Cannot perform an interactive login from a non TTY device",
        ));
    }
    let user = match user.filter(|user| !user.is_empty()) {
        Some(user) => user,
        None => {
            cli.out("Username: ")?;
            read_line()?
        }
    };
    if user.is_empty() {
        return Err(Failure::new("Error: Non-null Username Required"));
    }
    let password = match password.filter(|password| !password.is_empty()) {
        Some(password) => password,
        None => {
            cli.out("Password: ")?;
            let password = unseen(read_line)?;
            cli.out("\n")?;
            password
        }
    };
    if password.is_empty() {
        return Err(Failure::new("Error: Password Required"));
    }
    Ok((user, password))
}

fn read_line() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

/// Reads with the terminal's echo off.
fn unseen(read: impl FnOnce() -> Result<String, Failure>) -> Result<String, Failure> {
    let stdin = rustix::stdio::stdin();
    let saved = tcgetattr(stdin).ok();
    if let Some(saved) = &saved {
        let mut silent = saved.clone();
        silent.local_modes -= LocalModes::ECHO;
        let _ = tcsetattr(stdin, OptionalActions::Now, &silent);
    }
    let result = read();
    if let Some(saved) = &saved {
        let _ = tcsetattr(stdin, OptionalActions::Now, saved);
    }
    result
}

/// `hull logout`: Log out from a registry.
#[derive(Args, Debug)]
pub struct Logout {
    args: Vec<String>,
}

impl Run for Logout {
    async fn run(self, cli: &Cli) -> Outcome {
        let server = self.args.first().map_or(HUB, String::as_str);
        let host = if server == HUB {
            server
        } else {
            server
                .trim_start_matches("https://")
                .trim_start_matches("http://")
                .split('/')
                .next()
                .unwrap_or(server)
        };
        cli.line(format!("Removing login credentials for {host}"))?;
        let mut config = cli.config.clone();
        let mut names = vec![server.to_owned()];
        if server != HUB {
            names.extend([
                host.to_owned(),
                format!("http://{host}"),
                format!("https://{host}"),
            ]);
        }
        names.dedup();
        for name in names {
            if config.has_auth(&name)
                && let Err(error) = config.erase_auth(&name)
            {
                eprintln!("WARNING: could not erase credentials:\n{name}: {error}");
            }
        }
        Ok(0)
    }
}
