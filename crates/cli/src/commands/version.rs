//! `hull version`.

use crate::app::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::INSPECT_FORMAT_HELP;
use crate::go::tabwriter;
use crate::go::time::ansic;
use crate::registry::Run;
use crate::template::{Data, Mode, Template};
use clap::Args;
use hull_api::build::Build;
use hull_client::API_VERSION_MAX;
use serde_json::{Value, json};

/// `hull version`: Show the Docker version information.
#[derive(Args, Debug)]
pub struct Version {
    /// Format output using a custom template
    #[arg(short = 'f', long, value_name = "string", help = INSPECT_FORMAT_HELP)]
    format: Option<String>,
    args: Vec<String>,
}

const CLIENT: &str = "{{with .Client -}}
Client:
 Version:\t{{.Version}}
 API version:\t{{.ApiVersion}}{{if ne .ApiVersion .DefaultAPIVersion}} (downgraded from {{.DefaultAPIVersion}}){{end}}
 Git commit:\t{{.GitCommit}}
 Built:\t{{.BuildTime}}
 OS/Arch:\t{{.Os}}/{{.Arch}}
 Context:\t{{.Context}}
{{- end}}";

/// What this program says of itself, as the API's client would.
pub fn client_version(cli: &Cli, api: Option<&str>) -> Value {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut client = json!({"Version": env!("CARGO_PKG_VERSION")});
    if let Some(api) = api {
        client["ApiVersion"] = api.into();
    }
    client["DefaultAPIVersion"] = API_VERSION_MAX.into();
    let build = Build::get();
    client["GitCommit"] = build.commit.into();
    client["Os"] = std::env::consts::OS.into();
    client["Arch"] = arch.into();
    client["BuildTime"] = ansic(&build.time).into();
    client["Context"] = cli.context_name().into();
    client
}

impl Run for Version {
    async fn run(self, cli: &Cli) -> Outcome {
        let format = match self.format.as_deref().unwrap_or("") {
            "json" => "{{json .}}",
            format => format,
        };
        let template = Template::parse("version", if format.is_empty() { CLIENT } else { format })
            .map_err(|error| {
                Failure::with_status(64, format!("template parsing error: {error}"))
            })?;
        let client = cli.client()?;
        let mut server = client.get::<Value>("/version").await;
        let components = server
            .as_mut()
            .ok()
            .and_then(|server| server["Components"].as_array_mut());
        for engine in components
            .into_iter()
            .flatten()
            .filter(|one| one["Name"] == "Engine")
        {
            if let Some(built) = engine["Details"]["BuildTime"].as_str().map(ansic) {
                engine["Details"]["BuildTime"] = built.into();
            }
        }
        let mut data =
            json!({"Client": client_version(cli, Some(client.version())), "Server": null});
        if let Ok(server) = &server {
            data["Server"] = server.clone();
        }
        let mut text = template.execute(Data::Json(&data), Mode::Lenient);
        if format.is_empty()
            && let (Ok(text), Ok(server)) = (&mut text, &server)
        {
            text.push_str(&server_text(server));
        }
        let failed = text.as_ref().err().cloned();
        cli.out(tabwriter::align(
            &format!("{}\n", text.unwrap_or_default()),
            20,
            1,
        ))?;
        server?;
        match failed {
            Some(error) => Err(Failure::new(error)),
            None => Ok(0),
        }
    }
}

fn server_text(server: &Value) -> String {
    let text = |value: &Value, key: &str| {
        value
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or("")
            .to_owned()
    };
    let mut out = String::from("\n\nServer:");
    let platform = text(&server["Platform"], "Name");
    if !platform.is_empty() {
        out.push_str(&format!(" {platform}"));
    }
    let mut components: Vec<Value> = server["Components"].as_array().cloned().unwrap_or_default();
    if !components
        .iter()
        .any(|component| component["Name"] == "Engine")
    {
        components.push(json!({"Name": "Engine", "Version": server["Version"], "Details": {
            "ApiVersion": server["ApiVersion"], "MinAPIVersion": server["MinAPIVersion"], "GitCommit": server["GitCommit"], "GoVersion": server["GoVersion"],
            "Os": server["Os"], "Arch": server["Arch"], "BuildTime": server["BuildTime"], "Experimental": server["Experimental"].as_bool().unwrap_or(false).to_string(),
        }}));
    }
    for component in &components {
        let details = &component["Details"];
        out.push_str(&format!(
            "\n {}:\n  Version:\t{}",
            text(component, "Name"),
            text(component, "Version")
        ));
        if component["Name"] == "Engine" {
            out.push_str(&format!(
                "\n  API version:\t{} (minimum version {})",
                text(details, "ApiVersion"),
                text(details, "MinAPIVersion")
            ));
            let built = ansic(&text(details, "BuildTime"));
            for (title, value) in [
                ("Go version", text(details, "GoVersion")),
                ("Git commit", text(details, "GitCommit")),
                ("Built", built),
            ] {
                out.push_str(&format!("\n  {title}:\t{value}"));
            }
            out.push_str(&format!(
                "\n  OS/Arch:\t{}/{}\n  Experimental:\t{}",
                text(details, "Os"),
                text(details, "Arch"),
                text(details, "Experimental")
            ));
            continue;
        }
        let mut keys: Vec<&String> = details
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key)
            .collect();
        keys.sort();
        for key in keys {
            out.push_str(&format!("\n  {key}:\t{}", text(details, key)));
        }
    }
    out
}
