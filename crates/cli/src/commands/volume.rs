//! `hull volume`: create, ls, rm.

use super::each::each;
use super::ps::filters;
use crate::app::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::{FORMAT_HELP, Format, header, labels_text, row, text};
use crate::go::units::human_size;
use crate::registry::Run;
use crate::template::Row;
use crate::values;
use clap::Args;
use hull_client::Query;
use serde_json::{Map, Value, json};

/// `hull volume create`: Create a volume.
#[derive(Args, Debug)]
pub struct VolumeCreate {
    /// Specify volume driver name (default "local")
    #[arg(short = 'd', long, value_name = "string")]
    driver: Option<String>,
    /// Set metadata for a volume
    #[arg(long, value_name = "list", value_parser = values::label)]
    label: Vec<String>,
    /// Specify volume name
    #[arg(long, value_name = "string", hide = true)]
    name: Option<String>,
    /// Set driver specific options (default map[])
    #[arg(short = 'o', long, value_name = "map")]
    opt: Vec<String>,
    args: Vec<String>,
}

impl Run for VolumeCreate {
    async fn run(self, cli: &Cli) -> Outcome {
        if self.name.is_some() && !self.args.is_empty() {
            return Err(Failure::new(
                "conflicting options: cannot specify a volume name through both --name and as a positional arg",
            ));
        }
        let pairs = |list: &[String]| -> Map<String, Value> {
            list.iter()
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(k, v)| (k.to_owned(), v.into()))
                .collect()
        };
        let name = self
            .args
            .first()
            .or(self.name.as_ref())
            .map_or("", String::as_str);
        let body = json!({"Name": name, "Driver": self.driver.as_deref().unwrap_or("local"), "DriverOpts": pairs(&self.opt), "Labels": pairs(&self.label)});
        let volume: Value = cli.client()?.post_json("/volumes/create", &body).await?;
        cli.line(text(&volume, "Name"))?;
        Ok(0)
    }
}

/// `hull volume ls`: List volumes.
#[derive(Args, Debug)]
pub struct VolumeLs {
    /// Provide filter values (e.g. "dangling=true")
    #[arg(short = 'f', long, value_name = "filter", value_parser = values::filter)]
    filter: Vec<String>,
    /// Format output using a custom template
    #[arg(long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Only display volume names
    #[arg(short = 'q', long)]
    quiet: bool,
    args: Vec<String>,
}

impl Run for VolumeLs {
    async fn run(self, cli: &Cli) -> Outcome {
        let mut list: Value = cli
            .client()?
            .get(Query::new("/volumes").set_some("filters", filters(&self.filter)))
            .await?;
        let mut volumes: Vec<Value> = match list["Volumes"].take() {
            Value::Array(volumes) => volumes,
            _ => Vec::new(),
        };
        volumes.sort_by_key(|volume| super::port::natural(text(volume, "Name")));
        let source = match self.format.as_deref().unwrap_or("") {
            "" if !self.quiet && !cli.config.text("volumesFormat").is_empty() => {
                cli.config.text("volumesFormat")
            }
            "" | "table" if self.quiet => "{{.Name}}",
            "" | "table" => "table {{.Driver}}\t{{.Name}}",
            "raw" if self.quiet => "name: {{.Name}}",
            "raw" => "name: {{.Name}}\\ndriver: {{.Driver}}\\n",
            source => source,
        };
        let rows: Vec<Row> = volumes.iter().map(columns).collect();
        cli.out(Format::parse(source)?.render(&heads(), &rows)?)?;
        Ok(0)
    }
}

/// Titles of the columns.
pub fn heads() -> Row {
    header(&[
        ("ID", "ID"),
        ("Name", "VOLUME NAME"),
        ("Group", "GROUP"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Availability", "AVAILABILITY"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Status", "STATUS"),
    ])
}

/// The row of one volume; links and size are known only to `system df`.
pub fn columns(volume: &Value) -> Row {
    let labels = volume["Labels"].as_object();
    let usage = &volume["UsageData"];
    let known = |key: &str| usage[key].as_i64();
    let mut row = row(
        "*formatter.volumeContext",
        [
            ("Name", text(volume, "Name").into()),
            ("Driver", text(volume, "Driver").into()),
            ("Scope", text(volume, "Scope").into()),
            ("Mountpoint", text(volume, "Mountpoint").into()),
            ("Labels", labels_text(labels).into()),
            (
                "Links",
                known("RefCount")
                    .map_or("N/A".to_owned(), |count| count.to_string())
                    .into(),
            ),
            (
                "Size",
                known("Size")
                    .map_or("N/A".to_owned(), |size| human_size(size as f64))
                    .into(),
            ),
            ("Group", "N/A".into()),
            ("Availability", "N/A".into()),
            ("Status", "N/A".into()),
        ],
    );
    row.labels = Some(labels.cloned().unwrap_or_default());
    row
}

/// `hull volume rm`: Remove one or more volumes.
#[derive(Args, Debug)]
pub struct VolumeRm {
    /// Force the removal of one or more volumes
    #[arg(short = 'f', long)]
    force: bool,
    args: Vec<String>,
}

impl Run for VolumeRm {
    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client()?;
        each(cli, &self.args, |name| async move {
            client
                .delete(Query::segments(&["volumes", name]).flag("force", self.force))
                .await?;
            Ok(())
        })
        .await
    }
}
