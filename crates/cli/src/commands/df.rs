//! `hull system df`.

use super::volume;
use crate::app::Cli;
use crate::failure::Outcome;
use crate::format::{FORMAT_HELP, Format, container, header, image, number, row, text};
use crate::go::units::human_size;
use crate::registry::Run;
use crate::template::{Row, Template};
use clap::Args;
use serde_json::{Value, json};

/// `hull system df`: Show docker disk usage.
#[derive(Args, Debug)]
pub struct SystemDf {
    /// Format output using a custom template
    #[arg(long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Show detailed information on space usage
    #[arg(short = 'v', long)]
    verbose: bool,
    args: Vec<String>,
}

/// What lies on the disk, as the daemon lists it.
struct Usage {
    images: Vec<Value>,
    layers_size: i64,
    containers: Vec<Value>,
    volumes: Vec<Value>,
    cache: Vec<Value>,
}

impl Usage {
    fn from(mut answer: Value) -> Usage {
        let mut take = |key: &str| match answer[key].take() {
            Value::Array(list) => list,
            _ => Vec::new(),
        };
        let (images, containers, volumes, cache) = (
            take("Images"),
            take("Containers"),
            take("Volumes"),
            take("BuildCache"),
        );
        Usage {
            layers_size: number(&answer, "LayersSize"),
            images,
            containers,
            volumes,
            cache,
        }
    }
}

fn is_active(container: &Value) -> bool {
    matches!(
        text(container, "State"),
        "running" | "paused" | "restarting"
    )
}

fn percent(part: i64, whole: i64) -> String {
    let size = human_size(part as f64);
    if whole > 0 {
        format!("{size} ({}%)", part * 100 / whole)
    } else {
        size
    }
}

fn line(kind: &str, total: usize, active: usize, size: i64, reclaimable: i64) -> Row {
    row(
        "*formatter.diskUsageContext",
        [
            ("Type", kind.into()),
            ("TotalCount", total.to_string().into()),
            ("Active", active.to_string().into()),
            ("Size", human_size(size as f64).into()),
            ("Reclaimable", percent(reclaimable, size).into()),
        ],
    )
}

impl Usage {
    fn lines(&self) -> Vec<Row> {
        let used = |list: &[Value], test: &dyn Fn(&Value) -> bool| {
            list.iter().filter(|item| test(item)).count()
        };
        let held: i64 = self
            .images
            .iter()
            .filter(|image| {
                number(image, "Containers") != 0
                    && number(image, "Size") != -1
                    && number(image, "SharedSize") != -1
            })
            .map(|image| number(image, "Size") - number(image, "SharedSize"))
            .sum();
        let size: i64 = self
            .containers
            .iter()
            .map(|container| number(container, "SizeRw"))
            .sum();
        let idle: i64 = self
            .containers
            .iter()
            .filter(|container| !is_active(container))
            .map(|container| number(container, "SizeRw"))
            .sum();
        let volume_size = |volume: &&Value| number(&volume["UsageData"], "Size").max(0);
        let in_use = |volume: &Value| number(&volume["UsageData"], "RefCount") > 0;
        let volumes: i64 = self.volumes.iter().map(|volume| volume_size(&volume)).sum();
        let unused: i64 = self
            .volumes
            .iter()
            .filter(|volume| number(&volume["UsageData"], "RefCount") == 0)
            .map(|volume| volume_size(&volume))
            .sum();
        let cache_size = |test: &dyn Fn(&Value) -> bool| {
            self.cache
                .iter()
                .filter(|item| item["Shared"] != true && test(item))
                .map(|item| number(item, "Size"))
                .sum::<i64>()
        };
        let cache = cache_size(&|_| true);
        let cache_used = cache_size(&|item| item["InUse"] == true);
        let mut lines = vec![
            line(
                "Images",
                self.images.len(),
                used(&self.images, &|image| number(image, "Containers") > 0),
                self.layers_size,
                self.layers_size - held,
            ),
            line(
                "Containers",
                self.containers.len(),
                used(&self.containers, &is_active),
                size,
                idle,
            ),
            line(
                "Local Volumes",
                self.volumes.len(),
                used(&self.volumes, &in_use),
                volumes,
                unused,
            ),
            line(
                "Build Cache",
                self.cache.len(),
                used(&self.cache, &|item| item["InUse"] == true),
                cache,
                cache - cache_used,
            ),
        ];
        lines[3].fields.insert(
            "Reclaimable".into(),
            human_size((cache - cache_used) as f64).into(),
        );
        lines
    }

    fn tables(mut self) -> Result<String, crate::failure::Failure> {
        let cache: i64 = self.cache.iter().map(|item| number(item, "Size")).sum();
        // The rows of containers show what is their own.
        self.containers
            .iter_mut()
            .for_each(|container| container["SizeRootFs"] = 0.into());
        let table = |format: &str, heads: &Row, rows: &[Row]| {
            Format::parse(format).and_then(|format| format.render(heads, rows))
        };
        let images: Vec<Row> = self
            .images
            .iter()
            .filter_map(|one| image::rows(one, true, false, false).into_iter().next())
            .collect();
        let containers: Vec<Row> = self
            .containers
            .iter()
            .map(|one| container::columns(one, true))
            .collect();
        let volumes: Vec<Row> = self.volumes.iter().map(volume::columns).collect();
        let mut out = String::from("Images space usage:\n\n");
        out += &table(
            "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
            &image::heads(),
            &images,
        )?;
        out += "\nContainers space usage:\n\n";
        out += &table(
            "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
            &container::heads(),
            &containers,
        )?;
        out += "\nLocal Volumes space usage:\n\n";
        out += &table(
            "table {{.Name}}\t{{.Links}}\t{{.Size}}",
            &volume::heads(),
            &volumes,
        )?;
        out += &format!("\nBuild cache usage: {}\n\n", human_size(cache as f64));
        let heads = header(&[
            ("ID", "CACHE ID"),
            ("CacheType", "CACHE TYPE"),
            ("Size", "SIZE"),
            ("CreatedSince", "CREATED"),
            ("LastUsedSince", "LAST USED"),
            ("UsageCount", "USAGE"),
            ("Shared", "SHARED"),
        ]);
        let caches: Vec<Row> = self.cache.iter().map(cache_row).collect();
        out += &table(
            "table {{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
            &heads,
            &caches,
        )?;
        Ok(out)
    }
}

fn cache_row(item: &Value) -> Row {
    let ago = |key: &str| match crate::go::time::parse_rfc3339(text(item, key)) {
        Some(stamp) => format!(
            "{} ago",
            crate::go::units::human_duration(crate::go::time::since(stamp.as_second()))
        ),
        None => String::new(),
    };
    let mut id = text(item, "ID")
        .get(..12)
        .unwrap_or(text(item, "ID"))
        .to_owned();
    if item["InUse"] == true {
        id.push('*');
    }
    row(
        "*formatter.buildCacheContext",
        [
            ("ID", id.into()),
            ("CacheType", text(item, "Type").into()),
            ("Size", human_size(number(item, "Size") as f64).into()),
            ("CreatedSince", ago("CreatedAt").into()),
            ("LastUsedSince", ago("LastUsedAt").into()),
            ("UsageCount", number(item, "UsageCount").to_string().into()),
            ("Shared", (item["Shared"] == true).to_string().into()),
        ],
    )
}

impl Run for SystemDf {
    async fn run(self, cli: &Cli) -> Outcome {
        let usage = Usage::from(cli.client()?.get("/system/df").await?);
        let source = match self.format.as_deref().unwrap_or("") {
            "" => "table",
            source => source,
        };
        if self.verbose {
            return verbose(cli, usage, source);
        }
        let source = match source {
            "table" => "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
            "raw" => {
                "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n"
            }
            source => source,
        };
        let heads = header(&[
            ("Type", "TYPE"),
            ("TotalCount", "TOTAL"),
            ("Active", "ACTIVE"),
            ("Size", "SIZE"),
            ("Reclaimable", "RECLAIMABLE"),
        ]);
        cli.out(Format::parse(source)?.render(&heads, &usage.lines())?)?;
        Ok(0)
    }
}

fn verbose(cli: &Cli, usage: Usage, source: &str) -> Outcome {
    if source == "table" {
        cli.out(usage.tables()?)?;
        return Ok(0);
    }
    let rows = |rows: Vec<Row>| {
        rows.into_iter()
            .map(|row| {
                let mut fields = row.fields;
                fields.sort_keys();
                Value::Object(fields)
            })
            .collect::<Value>()
    };
    let data = json!({
        "Images": rows(usage.images.iter().flat_map(|one| image::rows(one, false, false, false)).collect()),
        "Containers": rows(usage.containers.iter().map(|one| container::columns(one, false)).collect()),
        "Volumes": rows(usage.volumes.iter().map(volume::columns).collect()),
        "BuildCache": rows(usage.cache.iter().map(cache_row).collect()),
    });
    let source = if source == "json" {
        "{{json .}}"
    } else {
        source
    };
    let template =
        Template::parse("", source).map_err(|error| format!("template parsing error: {error}"))?;
    cli.out(template.execute(
        crate::template::Data::Json(&data),
        crate::template::Mode::Lenient,
    )?)?;
    Ok(0)
}
