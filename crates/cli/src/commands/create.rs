//! `hull create`, and the creation that `hull run` shares with it.

use super::container_config;
use super::container_flags::ContainerFlags;
use super::pull::pull_for_create;
use crate::app::Cli;
use crate::failure::{Failure, Outcome};
use crate::registry::Run;
use crate::stream::terminal;
use clap::Args;
use hull_client::{Error, Query};
use hull_oci::reference::{self, Reference};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;

/// Where the image comes from, and the container's name.
#[derive(Args, Debug, Default)]
pub struct CreateFlags {
    /// Skip image verification (default true)
    #[arg(long, default_value = "true")]
    pub disable_content_trust: bool,
    /// Assign a name to the container
    #[arg(long, value_name = "string")]
    pub name: Option<String>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    pub platform: Option<String>,
    /// Suppress the pull output
    #[arg(short = 'q', long)]
    pub quiet: bool,
    /// Bind mount Docker API socket and required auth
    #[arg(long)]
    pub use_api_socket: bool,
    /// How the container is to be.
    #[command(flatten)]
    pub container: ContainerFlags,
}

/// `hull create`: Create a new container.
#[derive(Args, Debug)]
pub struct Create {
    #[command(flatten)]
    flags: CreateFlags,
    /// Pull image before creating ("always", "|missing", "never") (default "missing")
    #[arg(long, value_name = "string")]
    pull: Option<String>,
    args: Vec<String>,
}

impl Run for Create {
    async fn run(self, cli: &Cli) -> Outcome {
        let pull = Pull::parse(self.pull.as_deref())
            .map_err(|error| with_help(cli, "create", &error, 125))?;
        let (image, command) = (&self.args[0], &self.args[1..]);
        let mut body = body(cli, &self.flags.container, image, command)
            .map_err(|error| with_help(cli, "create", &error, 125))?;
        let id = create(cli, &self.flags, pull, &mut body).await?;
        cli.line(id)?;
        Ok(0)
    }
}

/// When the image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// Before creation.
    Always,
    /// When it is not there.
    Missing,
    /// Not at all.
    Never,
}

impl Pull {
    /// Reads `--pull`.
    pub fn parse(text: Option<&str>) -> Result<Pull, String> {
        match text.unwrap_or("") {
            "always" => Ok(Pull::Always),
            "missing" | "" => Ok(Pull::Missing),
            "never" => Ok(Pull::Never),
            other => Err(format!(
                "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
            )),
        }
    }
}

/// `docker: what went wrong`, and where help is.
pub fn with_help(cli: &Cli, command: &str, message: &str, status: i32) -> Failure {
    let bin = &cli.bin;
    Failure::with_status(
        status,
        format!("{bin}: {message}\n\nRun '{bin} {command} --help' for more information"),
    )
}

/// The body of the create request.
pub fn body(
    cli: &Cli,
    flags: &ContainerFlags,
    image: &str,
    command: &[String],
) -> Result<Value, String> {
    let host = cli
        .target()
        .map(|target| target.host.clone())
        .unwrap_or_default();
    container_config::build(
        flags,
        image,
        command,
        cli.config.proxy_env(&host, &flags.env),
    )
}

/// Creates the container, pulling its image where that is asked for; prints warnings, writes the id file.
pub async fn create(
    cli: &Cli,
    flags: &CreateFlags,
    pull: Pull,
    body: &mut Value,
) -> Result<String, Failure> {
    let mut id_file = IdFile::open(flags.container.cidfile.as_deref())?;
    let image = body["Image"].as_str().unwrap_or("").to_owned();
    let named = parse_any(&image)?;
    if flags.use_api_socket {
        bind_api_socket(cli, body)?;
    }
    if pull == Pull::Always {
        pull_for_create(cli, &image, flags.platform.as_deref(), flags.quiet).await?;
    }
    let (height, width) = terminal::size();
    body["HostConfig"]["ConsoleSize"] = json!([height, width]);
    let query = Query::new("/containers/create")
        .set_some("name", flags.name.as_deref())
        .set_some("platform", flags.platform.as_deref());
    let client = cli.client()?;
    let answer = match client.post_json::<Value>(query.clone(), body).await {
        Err(error @ Error::Connect { .. }) => {
            super::autostart::start(cli, error).await?;
            client.post_json::<Value>(query.clone(), body).await
        }
        answer => answer,
    };
    let answer = match (answer, named) {
        (Err(error), Some(named)) if error.is_not_found() && pull == Pull::Missing => {
            if !flags.quiet {
                eprintln!(
                    "Unable to find image '{}' locally",
                    named.with_default_tag().familiar()
                );
            }
            pull_for_create(cli, &image, flags.platform.as_deref(), flags.quiet).await?;
            client.post_json::<Value>(query, body).await?
        }
        (answer, _) => answer?,
    };
    let id = answer["Id"].as_str().unwrap_or("").to_owned();
    let warnings = answer["Warnings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned);
    for warning in warnings.chain(loopback_dns(&flags.container)) {
        eprintln!("WARNING: {warning}");
    }
    id_file.write(&id)?;
    Ok(id)
}

/// A reference, or `None` for an image id.
fn parse_any(image: &str) -> Result<Option<Reference>, Failure> {
    if reference::is_identifier(image)
        || image
            .strip_prefix("sha256:")
            .is_some_and(reference::is_identifier)
    {
        return Ok(None);
    }
    Reference::parse_normalized(image)
        .map(Some)
        .map_err(|error| Failure::new(error.to_string()))
}

fn loopback_dns(flags: &ContainerFlags) -> Option<String> {
    let address = flags.dns.iter().find(|text| {
        text.parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
    })?;
    Some(format!("Localhost DNS ({address}) may fail in containers."))
}

fn bind_api_socket(cli: &Cli, body: &mut Value) -> Result<(), Failure> {
    let host = &cli.target()?.host;
    let socket = host.strip_prefix("unix://").ok_or_else(|| {
        Failure::new(format!("flag --use-api-socket can only be used with unix sockets: docker endpoint {host} incompatible"))
    })?;
    let mount = json!({"Type": "bind", "Source": socket, "Target": "/var/run/docker.sock", "BindOptions": {}});
    match body["HostConfig"]
        .get_mut("Mounts")
        .and_then(Value::as_array_mut)
    {
        Some(mounts) => mounts.push(mount),
        None => body["HostConfig"]["Mounts"] = json!([mount]),
    }
    Ok(())
}

/// The file of `--cidfile`, removed again when no container came to be.
struct IdFile(Option<(String, File, bool)>);

impl IdFile {
    fn open(path: Option<&str>) -> Result<IdFile, Failure> {
        let Some(path) = path.filter(|path| !path.is_empty()) else {
            return Ok(IdFile(None));
        };
        if std::fs::metadata(path).is_ok() {
            return Err(Failure::new(format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            )));
        }
        let file = File::create(path).map_err(|error| {
            Failure::new(format!(
                "failed to create the container ID file: open {path}: {}",
                crate::failure_text(&error)
            ))
        })?;
        Ok(IdFile(Some((path.to_owned(), file, false))))
    }

    fn write(&mut self, id: &str) -> Result<(), Failure> {
        if let Some((_, file, written)) = &mut self.0 {
            file.write_all(id.as_bytes()).map_err(|error| {
                Failure::new(format!(
                    "failed to write the container ID to the file: {error}"
                ))
            })?;
            *written = true;
        }
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if let Some((path, _, false)) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}
