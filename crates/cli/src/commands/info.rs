//! `hull info`.

use super::version::client_version;
use crate::app::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::{INSPECT_FORMAT_HELP, number, text};
use crate::go::units::bytes_size;
use crate::registry::Run;
use crate::template::{Data, Mode, Template};
use clap::Args;
use serde_json::{Map, Value, json};
use std::fmt::{Display, Write as _};

/// `hull info`: Display system-wide information.
#[derive(Args, Debug)]
pub struct Info {
    /// Format output using a custom template
    #[arg(short = 'f', long, value_name = "string", help = INSPECT_FORMAT_HELP)]
    format: Option<String>,
    args: Vec<String>,
}

impl Run for Info {
    async fn run(self, cli: &Cli) -> Outcome {
        let mut client_info = client_version(cli, None);
        client_info["Debug"] = cli.globals.debug.into();
        client_info["Plugins"] = json!([]);
        client_info["Warnings"] = Value::Null;
        let answer = cli.client()?.get::<Value>("/info").await;
        if let Some(format) = self.format.as_deref().filter(|format| !format.is_empty()) {
            return formatted(cli, format, answer, client_info);
        }
        let version = text(&client_info, "Version");
        let context = text(&client_info, "Context");
        cli.out(format!(
            "Client:\n Version:    {version}\n Context:    {context}\n Debug Mode: {}\n\nServer:\n",
            cli.globals.debug
        ))?;
        let info = answer?;
        let user = text(
            &cli.config.auth(crate::config::HUB).unwrap_or_default(),
            "username",
        )
        .to_owned();
        cli.out(server(&info, &user, cli.globals.debug))?;
        for warning in strings(&info, "Warnings") {
            eprintln!("{warning}");
        }
        Ok(0)
    }
}

fn formatted(
    cli: &Cli,
    format: &str,
    answer: Result<Value, hull_client::Error>,
    client_info: Value,
) -> Outcome {
    let format = if format == "json" {
        "{{json .}}"
    } else {
        format
    };
    let template = Template::parse("", format)
        .map_err(|error| Failure::with_status(64, format!("template parsing error: {error}")))?;
    let only_client = template.uses_field("ClientInfo") && !format.contains("json .}}");
    let (mut data, failed) = match answer {
        Ok(info) => (info, None),
        Err(error) if only_client => (json!({}), Some(error).filter(|error| !error.is_connect())),
        Err(error) => (json!({}), Some(error)),
    };
    data["ClientInfo"] = client_info;
    let shown = template
        .execute(Data::Json(&data), Mode::Lenient)
        .map_err(|error| Failure::new(error.to_string()))?;
    cli.line(shown)?;
    failed.map_or(Ok(0), |error| Err(error.into()))
}

fn strings<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v str> {
    value
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn joined(value: &Value, key: &str) -> String {
    strings(value, key).collect::<Vec<_>>().join(" ")
}

/// The lines of a server's description.
struct Lines(String);

impl Lines {
    fn put(&mut self, title: &str, value: impl Display) {
        let _ = writeln!(self.0, "{title} {value}");
    }

    fn some(&mut self, title: &str, value: &str) {
        if !value.is_empty() {
            self.put(title, value);
        }
    }

    fn head(&mut self, title: &str) {
        self.0.push_str(title);
        self.0.push('\n');
    }
}

fn server(info: &Value, user: &str, debug: bool) -> String {
    let mut out = Lines(String::new());
    for (title, key) in [
        (" Containers:", "Containers"),
        ("  Running:", "ContainersRunning"),
        ("  Paused:", "ContainersPaused"),
        ("  Stopped:", "ContainersStopped"),
        (" Images:", "Images"),
    ] {
        out.put(title, number(info, key));
    }
    out.some(" Server Version:", text(info, "ServerVersion"));
    out.some(" Storage Driver:", text(info, "Driver"));
    for pair in info["DriverStatus"].as_array().into_iter().flatten() {
        out.put(
            &format!("  {}:", pair[0].as_str().unwrap_or("")),
            pair[1].as_str().unwrap_or(""),
        );
    }
    for (title, key) in [
        (" Logging Driver:", "LoggingDriver"),
        (" Cgroup Driver:", "CgroupDriver"),
        (" Cgroup Version:", "CgroupVersion"),
    ] {
        out.some(title, text(info, key));
    }
    let plugins = &info["Plugins"];
    out.head(" Plugins:");
    out.put("  Volume:", joined(plugins, "Volume"));
    out.put("  Network:", joined(plugins, "Network"));
    out.some("  Authorization:", &joined(plugins, "Authorization"));
    out.put("  Log:", joined(plugins, "Log"));
    list(&mut out, info, "CDISpecDirs", " CDI spec directories:");
    if let Some(devices) = info["DiscoveredDevices"]
        .as_array()
        .filter(|devices| !devices.is_empty())
    {
        out.head(" Discovered Devices:");
        for device in devices {
            out.put(
                &format!("  {}:", text(device, "Source")),
                text(device, "ID"),
            );
        }
    }
    out.put(" Swarm:", text(&info["Swarm"], "LocalNodeState"));
    runtimes(&mut out, info);
    for (title, key) in [
        (" Kernel Version:", "KernelVersion"),
        (" Operating System:", "OperatingSystem"),
        (" OSType:", "OSType"),
        (" Architecture:", "Architecture"),
    ] {
        out.some(title, text(info, key));
    }
    out.put(" CPUs:", number(info, "NCPU"));
    out.put(
        " Total Memory:",
        bytes_size(number(info, "MemTotal") as f64),
    );
    out.some(" Name:", text(info, "Name"));
    out.some(" ID:", text(info, "ID"));
    out.put(" Docker Root Dir:", text(info, "DockerRootDir"));
    out.put(" Debug Mode:", info["Debug"] == true);
    if info["Debug"] == true || debug {
        for (title, key) in [
            ("  File Descriptors:", "NFd"),
            ("  Goroutines:", "NGoroutines"),
        ] {
            out.put(title, number(info, key));
        }
        out.put("  System Time:", text(info, "SystemTime"));
        out.put("  EventsListeners:", number(info, "NEventsListener"));
    }
    for (title, key) in [
        (" HTTP Proxy:", "HttpProxy"),
        (" HTTPS Proxy:", "HttpsProxy"),
        (" No Proxy:", "NoProxy"),
    ] {
        out.some(title, text(info, key));
    }
    out.some(" Username:", user);
    list(&mut out, info, "Labels", " Labels:");
    out.put(" Experimental:", info["ExperimentalBuild"] == true);
    registries(&mut out, &info["RegistryConfig"]);
    out.put(" Live Restore Enabled:", info["LiveRestoreEnabled"] == true);
    out.some(" Product License:", text(info, "ProductLicense"));
    if let Some(pools) = info["DefaultAddressPools"]
        .as_array()
        .filter(|pools| !pools.is_empty())
    {
        out.head(" Default Address Pools:");
        for pool in pools {
            out.put(
                "   Base:",
                format!("{}, Size: {}", text(pool, "Base"), number(pool, "Size")),
            );
        }
    }
    out.head("");
    out.0
}

fn list(out: &mut Lines, info: &Value, key: &str, title: &str) {
    let mut items = strings(info, key).peekable();
    if items.peek().is_some() {
        out.head(title);
        items.for_each(|item| out.head(&format!("  {item}")));
    }
}

fn runtimes(out: &mut Lines, info: &Value) {
    if let Some(runtimes) = info["Runtimes"]
        .as_object()
        .filter(|runtimes| !runtimes.is_empty())
    {
        let mut names: Vec<&str> = runtimes.keys().map(String::as_str).collect();
        names.sort_unstable();
        out.put(" Runtimes:", names.join(" "));
        out.put(" Default Runtime:", text(info, "DefaultRuntime"));
    }
    if text(info, "OSType") != "linux" {
        return;
    }
    out.put(" Init Binary:", text(info, "InitBinary"));
    for (title, key) in [
        (" containerd version:", "ContainerdCommit"),
        (" runc version:", "RuncCommit"),
        (" init version:", "InitCommit"),
    ] {
        out.put(title, text(&info[key], "ID"));
    }
    let mut options = strings(info, "SecurityOptions").peekable();
    if options.peek().is_none() {
        return;
    }
    out.head(" Security Options:");
    for option in options {
        let fields: Map<String, Value> = option
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.into()))
            .collect();
        out.head(&format!(
            "  {}",
            fields.get("name").and_then(Value::as_str).unwrap_or(option)
        ));
        if let Some(profile) = fields.get("profile").and_then(Value::as_str) {
            out.put("   Profile:", profile);
        }
    }
}

fn registries(out: &mut Lines, config: &Value) {
    let indexes = config["IndexConfigs"].as_object();
    let ranges: Vec<&str> = strings(config, "InsecureRegistryCIDRs").collect();
    if indexes.is_some_and(|indexes| !indexes.is_empty()) || !ranges.is_empty() {
        out.head(" Insecure Registries:");
        for index in indexes
            .into_iter()
            .flatten()
            .map(|(_, index)| index)
            .filter(|index| index["Secure"] != true)
        {
            out.head(&format!("  {}", text(index, "Name")));
        }
        ranges
            .iter()
            .for_each(|range| out.head(&format!("  {range}")));
    }
    list(out, config, "Mirrors", " Registry Mirrors:");
}
