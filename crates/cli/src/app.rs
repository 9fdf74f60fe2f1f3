//! What every command has at hand: global flags, configuration, the client, the runtime, the terminal.

use crate::config::Config;
use crate::contexts::{self, Store};
use crate::failure::Failure;
use crate::opts::volume::absolute;
use clap::Args;
use hull_client::{Client, DEFAULT_SOCKET, Endpoint, TlsFiles};
use std::cell::OnceCell;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Flags before the command.
#[derive(Args, Debug, Clone, Default)]
pub struct Globals {
    /// Location of client config files
    #[arg(long, value_name = "string")]
    pub config: Option<String>,
    /// Name of the context to use to connect to the daemon (overrides DOCKER_HOST env var and default context set with "docker context use")
    #[arg(short = 'c', long, value_name = "string")]
    pub context: Option<String>,
    /// Enable debug mode
    #[arg(short = 'D', long)]
    pub debug: bool,
    /// Daemon socket to connect to
    #[arg(short = 'H', long, value_name = "list")]
    pub host: Vec<String>,
    /// Set the logging level ("debug", "info", "warn", "error", "fatal") (default "info")
    #[arg(short = 'l', long, value_name = "string")]
    pub log_level: Option<String>,
    /// Do not start a daemon when none answers on the default socket
    #[arg(long)]
    pub no_autostart: bool,
    /// Use TLS; implied by --tlsverify
    #[arg(long)]
    pub tls: bool,
    /// Trust certs signed only by this CA
    #[arg(long, value_name = "string")]
    pub tlscacert: Option<String>,
    /// Path to TLS certificate file
    #[arg(long, value_name = "string")]
    pub tlscert: Option<String>,
    /// Path to TLS key file
    #[arg(long, value_name = "string")]
    pub tlskey: Option<String>,
    /// Use TLS and verify the remote
    #[arg(long)]
    pub tlsverify: bool,
    /// Print version information and quit
    #[arg(short = 'v', long)]
    pub version: bool,
    /// The command and its arguments.
    pub words: Vec<String>,
}

/// The daemon that commands speak to, and how it was chosen.
#[derive(Clone, Debug)]
pub struct Target {
    /// The context's name.
    pub context: String,
    /// As the user writes it.
    pub host: String,
    /// Parsed.
    pub endpoint: Endpoint,
    /// Nobody named a daemon: ours may be started.
    pub is_default: bool,
}

/// State of one run of the command line.
#[derive(Debug)]
pub struct Cli {
    /// Our name in messages: `hull`, or `docker` when called so.
    pub bin: String,
    /// The command as it was called: `hull container ls`.
    pub command_path: String,
    /// Flags before the command.
    pub globals: Globals,
    /// The configuration file.
    pub config: Config,
    target: OnceCell<Target>,
    client: OnceCell<Client>,
}

impl Cli {
    /// Reads the configuration; the daemon is not looked for yet.
    pub fn new(bin: &str, globals: Globals) -> Cli {
        let dir = config_dir(&globals);
        Cli {
            bin: bin.to_owned(),
            command_path: String::new(),
            globals,
            config: Config::load(dir),
            target: OnceCell::new(),
            client: OnceCell::new(),
        }
    }

    /// The contexts.
    pub fn contexts(&self) -> Store {
        Store::new(self.config.dir())
    }

    /// Name of the context in use.
    pub fn context_name(&self) -> String {
        if let Some(name) = &self.globals.context {
            return name.clone();
        }
        if !self.globals.host.is_empty() || env("DOCKER_HOST").is_some() {
            return contexts::DEFAULT.into();
        }
        if let Some(name) = env("DOCKER_CONTEXT") {
            return name;
        }
        match self.config.text("currentContext") {
            "" => contexts::DEFAULT.into(),
            name => name.to_owned(),
        }
    }

    /// The daemon to speak to.
    pub fn target(&self) -> Result<&Target, Failure> {
        if let Some(target) = self.target.get() {
            return Ok(target);
        }
        let target = self.find_target()?;
        Ok(self.target.get_or_init(|| target))
    }

    fn find_target(&self) -> Result<Target, Failure> {
        if self.globals.context.is_some() && !self.globals.host.is_empty() {
            return Err(Failure::new(
                "conflicting options: cannot specify both --host and --context",
            ));
        }
        let context = self.context_name();
        if context == contexts::DEFAULT {
            return self.default_target();
        }
        let unable = |error: Failure| {
            Failure::new(format!(
                "Failed to initialize: unable to resolve docker endpoint: {error}"
            ))
        };
        let store = self.contexts();
        let record = store.get(&context).map_err(unable)?;
        let files = store.tls_files(&context);
        let file = |name: &str| {
            files
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, path)| path.clone())
        };
        let tls = (!files.is_empty() || record.skip_tls_verify()).then(|| TlsFiles {
            ca: file("ca.pem"),
            cert: file("cert.pem"),
            key: file("key.pem"),
            verify: !record.skip_tls_verify(),
        });
        let host = if record.host().is_empty() {
            DEFAULT_SOCKET.to_owned()
        } else {
            record.host().to_owned()
        };
        let endpoint = Endpoint::parse(&host, tls)?;
        Ok(Target {
            context,
            host,
            endpoint,
            is_default: false,
        })
    }

    fn default_target(&self) -> Result<Target, Failure> {
        let host = match self.globals.host.as_slice() {
            [] => env("DOCKER_HOST"),
            [host] => Some(host.clone()),
            _ => {
                return Err(Failure::new(
                    "Failed to initialize: unable to resolve docker endpoint: Specify only one -H",
                ));
            }
        };
        let is_default = host.is_none();
        let unable = |why: String| {
            Failure::new(format!(
                "Failed to initialize: unable to resolve docker endpoint: {why}"
            ))
        };
        let tls = self.tls();
        if tls
            .as_ref()
            .is_some_and(|files| files.verify && files.ca.is_none())
        {
            let dir =
                env("DOCKER_CERT_PATH").map_or_else(|| self.config.dir().to_owned(), PathBuf::from);
            return Err(unable(format!(
                "open {}: no such file or directory",
                dir.join("ca.pem").display()
            )));
        }
        let host = host.unwrap_or_else(|| DEFAULT_SOCKET.to_owned());
        let endpoint = Endpoint::parse(&host, tls)
            .map_err(|_| unable(format!("invalid bind address format: {host}")))?;
        Ok(Target {
            context: contexts::DEFAULT.into(),
            host,
            endpoint,
            is_default,
        })
    }

    fn tls(&self) -> Option<TlsFiles> {
        let verify = self.globals.tlsverify || env("DOCKER_TLS_VERIFY").is_some();
        if !verify && !self.globals.tls && env("DOCKER_TLS").is_none() {
            return None;
        }
        let dir =
            env("DOCKER_CERT_PATH").map_or_else(|| self.config.dir().to_owned(), PathBuf::from);
        let pick = |given: &Option<String>, name: &str| match given {
            Some(path) => Some(PathBuf::from(path)),
            None => Some(dir.join(name)).filter(|path| path.exists()),
        };
        let g = &self.globals;
        Some(TlsFiles {
            ca: pick(&g.tlscacert, "ca.pem"),
            cert: pick(&g.tlscert, "cert.pem"),
            key: pick(&g.tlskey, "key.pem"),
            verify,
        })
    }

    /// The client of that daemon.
    pub fn client(&self) -> Result<&Client, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let target = self.target()?;
        let client = Client::new(
            target.endpoint.clone(),
            &target.host,
            env("DOCKER_API_VERSION"),
            &self.config.headers(),
        );
        Ok(self.client.get_or_init(|| client))
    }

    /// Writes to stdout.
    pub fn out(&self, text: impl AsRef<str>) -> Result<(), Failure> {
        self.out_bytes(text.as_ref().as_bytes())
    }

    /// Writes a line to stdout.
    pub fn line(&self, text: impl std::fmt::Display) -> Result<(), Failure> {
        self.out(format!("{text}\n"))
    }

    /// Writes bytes to stdout, flushed.
    pub fn out_bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(bytes)?;
        Ok(stdout.flush()?)
    }

    /// Asks on stdout and reads an answer that begins with `y`; no terminal and no answer is no.
    pub fn confirm(&self, question: &str) -> Result<bool, Failure> {
        self.out(format!("{question} [y/N] "))?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        Ok(answer.trim().eq_ignore_ascii_case("y"))
    }

    /// Detach keys: the flag's, or the configuration's.
    pub fn detach_keys<'a>(&'a self, flag: Option<&'a str>) -> &'a str {
        flag.filter(|keys| !keys.is_empty())
            .unwrap_or_else(|| self.config.text("detachKeys"))
    }
}

/// An environment variable that is set and not empty.
pub fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn config_dir(globals: &Globals) -> PathBuf {
    if let Some(dir) = globals.config.clone().or_else(|| env("DOCKER_CONFIG")) {
        return PathBuf::from(absolute(&dir));
    }
    let home = env("HOME").unwrap_or_else(|| "/".into());
    Path::new(&home).join(".docker")
}

/// Whether stdin is a terminal.
pub fn stdin_is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// Whether stdout is a terminal.
pub fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}
