//! `hull context`: named ways to daemons.

use crate::app::{Cli, env, stdout_is_terminal};
use crate::contexts::{Context, DEFAULT, check_name, meta};
use crate::failure::{Failure, Failures, Outcome};
use crate::format::{FORMAT_HELP, Format, INSPECT_FORMAT_HELP, header, row};
use crate::opts::volume::absolute;
use crate::registry::Run;
use crate::template::Row;
use clap::Args;
use hull_client::{DEFAULT_SOCKET, Endpoint};
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;

/// The files of a context and what they hold.
type TlsFiles = Vec<(String, Vec<u8>)>;

/// The most that an imported archive may hold.
const IMPORT_MAX: u64 = 10 << 20;

/// `hull context create`: Create a context.
#[derive(Args, Debug)]
pub struct ContextCreate {
    /// Description of the context
    #[arg(long, value_name = "string")]
    description: Option<String>,
    /// set the docker endpoint (default [])
    #[arg(long, value_name = "stringToString", value_delimiter = ',')]
    docker: Option<Vec<String>>,
    /// create context from a named context
    #[arg(long, value_name = "string")]
    from: Option<String>,
    args: Vec<String>,
}

impl Run for ContextCreate {
    async fn run(self, cli: &Cli) -> Outcome {
        let name = &self.args[0];
        check_name(name)?;
        let store = cli.contexts();
        if store.get(name).is_ok() {
            return Err(Failure::new(format!("context {name:?} already exists")));
        }
        let description = self.description.as_deref().unwrap_or("");
        let (meta, tls) = match (&self.docker, &self.from) {
            (Some(fields), None) => {
                let (host, skip, tls) = endpoint(cli, fields).map_err(|error| {
                    Failure::new(format!("unable to create docker endpoint config: {error}"))
                })?;
                (meta(name, description, &host, skip), tls)
            }
            (_, from) => copy(
                cli,
                name,
                description,
                from.as_deref().unwrap_or(&cli.context_name()),
            )?,
        };
        store.put(name, &meta, &tls)?;
        cli.line(name)?;
        eprintln!("Successfully created context {name:?}");
        Ok(0)
    }
}

fn copy(
    cli: &Cli,
    name: &str,
    description: &str,
    from: &str,
) -> Result<(Value, TlsFiles), Failure> {
    let source = get(cli, from)?;
    let description = if description.is_empty() && from != DEFAULT {
        source.description()
    } else {
        description
    };
    Ok((
        meta(name, description, source.host(), source.skip_tls_verify()),
        read_tls(cli, from)?,
    ))
}

fn read_tls(cli: &Cli, name: &str) -> Result<TlsFiles, Failure> {
    cli.contexts()
        .tls_files(name)
        .into_iter()
        .map(|(file, path)| Ok((file, std::fs::read(path)?)))
        .collect()
}

/// One context, the default one made up from the environment.
fn get(cli: &Cli, name: &str) -> Result<Context, Failure> {
    if name != DEFAULT {
        return cli.contexts().get(name);
    }
    let host = cli
        .globals
        .host
        .first()
        .cloned()
        .or_else(|| env("DOCKER_HOST"))
        .unwrap_or_else(|| DEFAULT_SOCKET.into());
    Ok(Context {
        name: DEFAULT.into(),
        meta: meta(DEFAULT, "", &host, false),
    })
}

/// Host, `skip-tls-verify` and TLS files of `--docker host=..,ca=..`.
fn endpoint(cli: &Cli, fields: &[String]) -> Result<(String, bool, TlsFiles), Failure> {
    let (mut host, mut skip, mut tls) = (String::new(), false, Vec::new());
    for field in fields {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| Failure::new(format!("{field} must be formatted as key=value")))?;
        match key.trim() {
            "from" => {
                let source = get(cli, value)?;
                (host, skip, tls) = (
                    source.host().to_owned(),
                    source.skip_tls_verify(),
                    read_tls(cli, value)?,
                );
            }
            "host" => host = value.to_owned(),
            file @ ("ca" | "cert" | "key") => {
                let path = absolute(value);
                let bytes = std::fs::read(&path).map_err(|error| {
                    Failure::new(format!("open {path}: {}", crate::failure_text(&error)))
                })?;
                tls.push((format!("{file}.pem"), bytes));
            }
            "skip-tls-verify" => skip = crate::go::strconv::parse_bool(value)?,
            key => return Err(Failure::new(format!("unrecognized config key: {key}"))),
        }
    }
    Endpoint::parse(
        if host.is_empty() {
            DEFAULT_SOCKET
        } else {
            &host
        },
        None,
    )?;
    Ok((host, skip, tls))
}

/// `hull context update`: Update a context.
#[derive(Args, Debug)]
pub struct ContextUpdate {
    /// Description of the context
    #[arg(long, value_name = "string")]
    description: Option<String>,
    /// set the docker endpoint (default [])
    #[arg(long, value_name = "stringToString", value_delimiter = ',')]
    docker: Option<Vec<String>>,
    args: Vec<String>,
}

impl Run for ContextUpdate {
    async fn run(self, cli: &Cli) -> Outcome {
        let name = &self.args[0];
        check_name(name)?;
        let known = cli.contexts().get(name)?;
        let (mut host, mut skip, mut tls) = (
            known.host().to_owned(),
            known.skip_tls_verify(),
            read_tls(cli, name)?,
        );
        if let Some(fields) = &self.docker {
            (host, skip, tls) = endpoint(cli, fields).map_err(|error| {
                Failure::new(format!("unable to create docker endpoint config: {error}"))
            })?;
        }
        let description = self.description.as_deref().unwrap_or(known.description());
        cli.contexts()
            .put(name, &meta(name, description, &host, skip), &tls)?;
        cli.line(name)?;
        eprintln!("Successfully updated context {name:?}");
        Ok(0)
    }
}

/// `hull context use`: Set the current docker context.
#[derive(Args, Debug)]
pub struct ContextUse {
    args: Vec<String>,
}

impl Run for ContextUse {
    async fn run(self, cli: &Cli) -> Outcome {
        let name = &self.args[0];
        if name != DEFAULT {
            check_name(name)?;
            cli.contexts().get(name)?;
        }
        let wanted = if name == DEFAULT { "" } else { name };
        if cli.config.text("currentContext") != wanted {
            let mut config = cli.config.clone();
            config.set_text("currentContext", wanted);
            config.save()?;
        }
        cli.line(name)?;
        eprintln!("Current context is now {name:?}");
        if name != DEFAULT && env("DOCKER_HOST").is_some() {
            eprintln!(
                "Warning: DOCKER_HOST environment variable overrides the active context. To use {name:?}, either set the global --context flag, or unset DOCKER_HOST environment variable."
            );
        }
        Ok(0)
    }
}

/// `hull context show`: Print the name of the current context.
#[derive(Args, Debug)]
pub struct ContextShow {
    args: Vec<String>,
}

impl Run for ContextShow {
    async fn run(self, cli: &Cli) -> Outcome {
        cli.line(cli.context_name())?;
        Ok(0)
    }
}

/// `hull context ls`: List contexts.
#[derive(Args, Debug)]
pub struct ContextLs {
    /// Format output using a custom template
    #[arg(long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Only show context names
    #[arg(short = 'q', long)]
    quiet: bool,
    args: Vec<String>,
}

impl Run for ContextLs {
    async fn run(self, cli: &Cli) -> Outcome {
        let current = cli.context_name();
        let mut list = cli.contexts().list();
        list.push(get(cli, DEFAULT)?);
        let mut missing = None;
        if !list.iter().any(|context| context.name == current) {
            missing = get(cli, &current).err().map(|error| error.to_string());
            list.push(Context {
                name: current.clone(),
                meta: json!({}),
            });
        }
        list.sort_by_key(|context| super::port::natural(&context.name));
        let source = match self.format.as_deref().unwrap_or("") {
            "" | "table" if self.quiet => "{{.Name}}",
            "" | "table" => {
                "table {{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}"
            }
            source => source,
        };
        let rows: Vec<Row> = list
            .iter()
            .map(|context| columns(context, context.name == current, missing.as_deref()))
            .collect();
        let heads = header(&[
            ("Name", "NAME"),
            ("Description", "DESCRIPTION"),
            ("DockerEndpoint", "DOCKER ENDPOINT"),
            ("Error", "ERROR"),
        ]);
        cli.out(Format::parse(source)?.render(&heads, &rows)?)?;
        if env("DOCKER_HOST").is_some() {
            eprintln!(
                "Warning: DOCKER_HOST environment variable overrides the active context. To use a context, either set the global --context flag, or unset DOCKER_HOST environment variable."
            );
        }
        Ok(0)
    }
}

fn columns(context: &Context, current: bool, missing: Option<&str>) -> Row {
    let description = if context.name == DEFAULT {
        "Current DOCKER_HOST based configuration"
    } else {
        context.description()
    };
    let error = if current && context.host().is_empty() && context.name != DEFAULT {
        missing.unwrap_or("")
    } else {
        ""
    };
    row(
        "*formatter.clientContextContext",
        [
            ("Current", current.into()),
            ("Name", context.name.as_str().into()),
            ("Description", description.into()),
            ("DockerEndpoint", context.host().into()),
            ("Error", crate::format::ellipsis(error, 45).into()),
        ],
    )
}

/// `hull context inspect`: Display detailed information on one or more contexts.
#[derive(Args, Debug)]
pub struct ContextInspect {
    /// Format output using a custom template
    #[arg(short = 'f', long, value_name = "string", help = INSPECT_FORMAT_HELP)]
    format: Option<String>,
    args: Vec<String>,
}

impl Run for ContextInspect {
    async fn run(self, cli: &Cli) -> Outcome {
        let names = if self.args.is_empty() {
            vec![cli.context_name()]
        } else {
            self.args
        };
        super::inspect::show(cli, self.format.as_deref(), &names, |name| async move {
            let mut shown = get(cli, &name)?.meta;
            let files: Vec<String> = cli
                .contexts()
                .tls_files(&name)
                .into_iter()
                .map(|(file, _)| file)
                .collect();
            shown["TLSMaterial"] = if files.is_empty() {
                json!({})
            } else {
                json!({"docker": files})
            };
            let (meta, tls) = match name.as_str() {
                DEFAULT => ("<IN MEMORY>".into(), "<IN MEMORY>".into()),
                name => (
                    cli.contexts().meta_dir(name).to_string_lossy().into_owned(),
                    cli.contexts().tls_dir(name).to_string_lossy().into_owned(),
                ),
            };
            shown["Storage"] = json!({"MetadataPath": meta, "TLSPath": tls});
            Ok(crate::go::json::compact_escaped(&shown))
        })
        .await
    }
}

/// `hull context rm`: Remove one or more contexts.
#[derive(Args, Debug)]
pub struct ContextRm {
    /// Force the removal of a context in use
    #[arg(short = 'f', long)]
    force: bool,
    args: Vec<String>,
}

impl Run for ContextRm {
    async fn run(self, cli: &Cli) -> Outcome {
        let current = cli.context_name();
        let mut failures = Failures::default();
        for name in &self.args {
            match self.remove(cli, name, &current) {
                Ok(()) => cli.line(name)?,
                Err(failure) => failures.push(failure),
            }
        }
        failures.outcome()
    }
}

impl ContextRm {
    fn remove(&self, cli: &Cli, name: &str, current: &str) -> Result<(), Failure> {
        if name == DEFAULT {
            return Err(Failure::new("context \"default\" cannot be removed"));
        }
        if name == current {
            if !self.force {
                return Err(Failure::new(format!(
                    "context {name:?} is in use, set -f flag to force remove"
                )));
            }
            let mut config = cli.config.clone();
            config.set_text("currentContext", "");
            config.save()?;
        }
        match cli.contexts().remove(name) {
            Err(_) if !cli.contexts().meta_dir(name).exists() && self.force => Ok(()),
            Err(_) if !cli.contexts().meta_dir(name).exists() => {
                Err(Failure::new(format!("context {name:?} does not exist")))
            }
            other => other,
        }
    }
}

/// `hull context export`: Export a context to a tar archive.
#[derive(Args, Debug)]
pub struct ContextExport {
    args: Vec<String>,
}

impl Run for ContextExport {
    async fn run(self, cli: &Cli) -> Outcome {
        let name = &self.args[0];
        let context = get(cli, name)?;
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |path: &str, bytes: &[u8]| {
            let mut head = tar::Header::new_gnu();
            head.set_size(bytes.len() as u64);
            head.set_mode(0o644);
            tar.append_data(&mut head, path, bytes)
        };
        add("meta.json", context.meta.to_string().as_bytes())?;
        for (file, bytes) in read_tls(cli, name)? {
            add(&format!("tls/docker/{file}"), &bytes)?;
        }
        let archive = tar.into_inner()?;
        let target = self
            .args
            .get(1)
            .cloned()
            .unwrap_or_else(|| format!("{name}.dockercontext"));
        if target == "-" {
            if stdout_is_terminal() {
                return Err(Failure::new(
                    "cowardly refusing to export to a terminal, specify a file path",
                ));
            }
            cli.out_bytes(&archive)?;
            return Ok(0);
        }
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&target);
        opened
            .and_then(|mut file| file.write_all(&archive))
            .map_err(|error| {
                Failure::new(format!("open {target}: {}", crate::failure_text(&error)))
            })?;
        eprintln!("Written file {target:?}");
        Ok(0)
    }
}

/// `hull context import`: Import a context from a tar file.
#[derive(Args, Debug)]
pub struct ContextImport {
    args: Vec<String>,
}

impl Run for ContextImport {
    async fn run(self, cli: &Cli) -> Outcome {
        let (name, source) = (&self.args[0], self.args[1].as_str());
        check_name(name)?;
        if cli.contexts().get(name).is_ok() {
            return Err(Failure::new(format!("context {name:?} already exists")));
        }
        let input: Box<dyn Read> = match source {
            "-" => Box::new(std::io::stdin()),
            path => Box::new(std::fs::File::open(path).map_err(|error| {
                Failure::new(format!("open {path}: {}", crate::failure_text(&error)))
            })?),
        };
        let (mut found, mut tls) = (None, Vec::new());
        for entry in tar::Archive::new(input.take(IMPORT_MAX)).entries()? {
            let mut entry = entry?;
            let path = entry.path()?.to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            match path.as_str() {
                "meta.json" => {
                    entry.read_to_end(&mut bytes)?;
                    found = Some(
                        serde_json::from_slice::<Value>(&bytes)
                            .map_err(|error| Failure::new(format!("meta.json: {error}")))?,
                    );
                }
                _ => {
                    if let Some(file @ ("ca.pem" | "cert.pem" | "key.pem")) =
                        path.strip_prefix("tls/docker/")
                    {
                        entry.read_to_end(&mut bytes)?;
                        tls.push((file.to_owned(), bytes));
                    }
                }
            }
        }
        let mut meta = found.ok_or_else(|| Failure::new("invalid context: no metadata found"))?;
        meta["Name"] = name.as_str().into();
        cli.contexts().put(name, &meta, &tls)?;
        cli.line(name)?;
        eprintln!("Successfully imported context {name:?}");
        Ok(0)
    }
}
