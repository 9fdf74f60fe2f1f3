//! `hull inspect` and the `inspect` of each noun.

use crate::app::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::INSPECT_FORMAT_HELP;
use crate::go::json::{compact_raw, reindent};
use crate::registry::Run;
use crate::template::{Data, Mode, Template};
use clap::Args;
use hull_client::{Client, Error, Query};
use serde_json::Value;

/// How inspected objects are shown.
enum View {
    Indented,
    Compact,
    Template(Template),
}

impl View {
    fn parse(format: Option<&str>) -> Result<View, Failure> {
        match format.unwrap_or("") {
            "" => Ok(View::Indented),
            "json" => Ok(View::Compact),
            text => match Template::parse("", text) {
                Ok(template) => Ok(View::Template(template)),
                Err(error) => Err(Failure::with_status(
                    64,
                    format!("template parsing error: {error}"),
                )),
            },
        }
    }
}

/// Shows every object that `get` finds as raw JSON; errors come after the output.
pub async fn show<F: Future<Output = Result<String, Failure>>>(
    cli: &Cli,
    format: Option<&str>,
    names: &[String],
    get: impl Fn(String) -> F,
) -> Outcome {
    let view = View::parse(format)?;
    let (mut objects, mut lines, mut errors) = (Vec::new(), String::new(), Vec::new());
    for name in names {
        let raw = match get(name.clone()).await {
            Ok(raw) => raw,
            Err(failure) => {
                errors.push(failure.to_string());
                continue;
            }
        };
        let View::Template(template) = &view else {
            objects.push(raw);
            continue;
        };
        let value: Value = serde_json::from_str(&raw)
            .map_err(|error| Failure::new(format!("unable to read inspect data: {error}")))?;
        match template.execute(Data::Json(&value), Mode::Strict) {
            Ok(line) => {
                lines.push_str(&line);
                lines.push('\n');
            }
            Err(error) => errors.push(format!("template parsing error: {error}")),
        }
    }
    match view {
        View::Template(_) => cli.out(if lines.is_empty() { "\n" } else { &lines })?,
        View::Indented => cli.line(reindent(&format!("[{}]", objects.join(",")), "    "))?,
        View::Compact => cli.line(compact_raw(&format!("[{}]", objects.join(","))))?,
    }
    if errors.is_empty() {
        Ok(0)
    } else {
        Err(Failure::new(errors.join("\n")))
    }
}

/// `hull inspect`: Return low-level information on Docker objects.
#[derive(Args, Debug)]
pub struct Inspect {
    /// Format output using a custom template
    #[arg(short = 'f', long, value_name = "string", help = INSPECT_FORMAT_HELP)]
    format: Option<String>,
    /// Display total file sizes if the type is container
    #[arg(short = 's', long)]
    size: bool,
    /// Only inspect objects of the given type
    #[arg(long = "type", value_name = "string")]
    kind: Option<String>,
    args: Vec<String>,
}

const TYPES: [&str; 10] = [
    "config",
    "container",
    "image",
    "network",
    "node",
    "plugin",
    "secret",
    "service",
    "task",
    "volume",
];
/// Looked for in this order where no type is given.
const SEARCHED: [&str; 5] = ["container", "image", "network", "volume", "plugin"];

impl Run for Inspect {
    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client()?;
        let kind = self.kind.as_deref().unwrap_or("");
        if !kind.is_empty() && !TYPES.contains(&kind) {
            return Err(Failure::new(format!(
                "unknown type: {kind:?}: must be one of \"{}\"",
                TYPES.join("\", \"")
            )));
        }
        show(cli, self.format.as_deref(), &self.args, |name| {
            let (kind, size) = (kind, self.size);
            async move {
                if !kind.is_empty() {
                    return Ok(get(client, kind, &name, size).await?);
                }
                for kind in SEARCHED {
                    match get(client, kind, &name, size).await {
                        Err(error) if skippable(&error) => {}
                        found => {
                            if size && kind != "container" {
                                eprintln!("WARNING: --size ignored for {kind}");
                            }
                            return Ok(found?);
                        }
                    }
                }
                Err(Failure::new(format!("Error: No such object: {name}")))
            }
        })
        .await
    }
}

fn skippable(error: &Error) -> bool {
    let text = error.to_string();
    error.is_not_found()
        || text.contains("not supported")
        || text.contains("invalid reference format")
}

/// The raw JSON of an object.
pub async fn get(client: &Client, kind: &str, name: &str, size: bool) -> Result<String, Error> {
    if name.trim().is_empty() {
        let noun = if kind == "image" { "image" } else { kind };
        return Err(Error::Api {
            status: 404,
            message: format!("No such {noun}: {name}"),
        });
    }
    let query = match kind {
        "container" => Query::segments(&["containers", name, "json"]).flag("size", size),
        "image" => Query::segments(&["images", name, "json"]),
        "plugin" => Query::segments(&["plugins", name, "json"]),
        kind => Query::segments(&[&format!("{kind}s"), name]),
    };
    client.get_raw(query).await
}

/// `hull container inspect`: Display detailed information on one or more containers.
#[derive(Args, Debug)]
pub struct ContainerInspect {
    /// Format output using a custom template
    #[arg(short = 'f', long, value_name = "string", help = INSPECT_FORMAT_HELP)]
    format: Option<String>,
    /// Display total file sizes
    #[arg(short = 's', long)]
    size: bool,
    args: Vec<String>,
}

impl Run for ContainerInspect {
    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client()?;
        let size = self.size;
        show(cli, self.format.as_deref(), &self.args, |name| async move {
            Ok(get(client, "container", &name, size).await?)
        })
        .await
    }
}

/// `hull image inspect`: Display detailed information on one or more images.
#[derive(Args, Debug)]
pub struct ImageInspect {
    /// Format output using a custom template
    #[arg(short = 'f', long, value_name = "string", help = INSPECT_FORMAT_HELP)]
    format: Option<String>,
    /// Inspect a specific platform of the multi-platform image.
    #[arg(long, value_name = "string", help = IMAGE_PLATFORM_HELP)]
    platform: Option<String>,
    args: Vec<String>,
}

const IMAGE_PLATFORM_HELP: &str = "Inspect a specific platform of the multi-platform image.
If the image or the server is not multi-platform capable, the command will error out if the platform does not match.
'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)";

impl Run for ImageInspect {
    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client()?;
        let platform = self.platform.as_deref().map(platform_json).transpose()?;
        show(cli, self.format.as_deref(), &self.args, |name| {
            let query = Query::segments(&["images", &name, "json"])
                .set_some("platform", platform.as_deref());
            async move { Ok(client.get_raw(query).await?) }
        })
        .await
    }
}

/// `linux/arm64` as the API's JSON.
pub fn platform_json(text: &str) -> Result<String, Failure> {
    let platform = hull_oci::platform::Platform::parse(text)
        .map_err(|error| Failure::new(format!("invalid platform: {error}")))?;
    serde_json::to_string(&platform).map_err(|error| Failure::new(error.to_string()))
}

/// `hull volume inspect`: Display detailed information on one or more volumes.
#[derive(Args, Debug)]
pub struct VolumeInspect {
    /// Format output using a custom template
    #[arg(short = 'f', long, value_name = "string", help = INSPECT_FORMAT_HELP)]
    format: Option<String>,
    args: Vec<String>,
}

impl Run for VolumeInspect {
    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client()?;
        show(cli, self.format.as_deref(), &self.args, |name| async move {
            Ok(get(client, "volume", &name, false).await?)
        })
        .await
    }
}

/// `hull network inspect`: Display detailed information on one or more networks.
#[derive(Args, Debug)]
pub struct NetworkInspect {
    /// Format output using a custom template
    #[arg(short = 'f', long, value_name = "string", help = INSPECT_FORMAT_HELP)]
    format: Option<String>,
    /// Verbose output for diagnostics
    #[arg(short = 'v', long)]
    verbose: bool,
    args: Vec<String>,
}

impl Run for NetworkInspect {
    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client()?;
        let verbose = self.verbose;
        show(cli, self.format.as_deref(), &self.args, |name| {
            let query = Query::segments(&["networks", &name])
                .set_some("verbose", verbose.then_some("true"));
            async move { Ok(client.get_raw(query).await?) }
        })
        .await
    }
}

/// `hull plugin inspect`: Display detailed information on one or more plugins.
#[derive(Args, Debug)]
pub struct PluginInspect {
    /// Format output using a custom template
    #[arg(short = 'f', long, value_name = "string", help = INSPECT_FORMAT_HELP)]
    format: Option<String>,
    args: Vec<String>,
}

impl Run for PluginInspect {
    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client()?;
        show(cli, self.format.as_deref(), &self.args, |name| async move {
            Ok(get(client, "plugin", &name, false).await?)
        })
        .await
    }
}
