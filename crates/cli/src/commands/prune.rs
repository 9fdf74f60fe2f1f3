//! `prune` of containers, images, networks, volumes, and of all at once.

use super::ps::filters;
use crate::app::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::{number, text};
use crate::go::units::human_size;
use crate::registry::Run;
use crate::values;
use clap::Args;
use hull_client::{Error, Query};
use serde_json::{Value, json};

/// Flags that all prunes share.
#[derive(Args, Debug, Clone)]
pub struct PruneFlags {
    /// Do not prompt for confirmation
    #[arg(short = 'f', long)]
    force: bool,
}

/// `hull container prune`: Remove all stopped containers.
#[derive(Args, Debug)]
pub struct ContainerPrune {
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter", value_parser = values::filter)]
    filter: Vec<String>,
    #[command(flatten)]
    flags: PruneFlags,
    args: Vec<String>,
}

impl Run for ContainerPrune {
    async fn run(self, cli: &Cli) -> Outcome {
        confirm(cli, &self.flags, "all stopped containers")?;
        told(cli, containers(cli, &self.filter).await?)
    }
}

/// `hull image prune`: Remove unused images.
#[derive(Args, Debug)]
pub struct ImagePrune {
    /// Remove all unused images, not just dangling ones
    #[arg(short = 'a', long)]
    all: bool,
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter", value_parser = values::filter)]
    filter: Vec<String>,
    #[command(flatten)]
    flags: PruneFlags,
    args: Vec<String>,
}

impl Run for ImagePrune {
    async fn run(self, cli: &Cli) -> Outcome {
        let what = if self.all {
            "all images without at least one container associated to them"
        } else {
            "all dangling images"
        };
        confirm(cli, &self.flags, what)?;
        told(cli, images(cli, &self.filter, self.all).await?)
    }
}

/// `hull volume prune`: Remove unused local volumes.
#[derive(Args, Debug)]
pub struct VolumePrune {
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short = 'a', long)]
    all: bool,
    /// Provide filter values (e.g. "label=<label>")
    #[arg(long, value_name = "filter", value_parser = values::filter)]
    filter: Vec<String>,
    #[command(flatten)]
    flags: PruneFlags,
    args: Vec<String>,
}

impl Run for VolumePrune {
    async fn run(self, cli: &Cli) -> Outcome {
        let mut filter = self.filter.clone();
        if self.all {
            if filter.iter().any(|pair| pair.starts_with("all=")) {
                return Err(Failure::new(
                    "conflicting options: cannot specify both --all and --filter all=1",
                ));
            }
            filter.push("all=true".into());
        }
        let kind = if self.all { "local" } else { "anonymous local" };
        let what = format!(
            "{}{} volumes not used by at least one container",
            if self.all { "all " } else { "" },
            kind
        );
        confirm(cli, &self.flags, &what)?;
        told(cli, volumes(cli, &filter).await?)
    }
}

/// `hull network prune`: Remove all unused networks.
#[derive(Args, Debug)]
pub struct NetworkPrune {
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter", value_parser = values::filter)]
    filter: Vec<String>,
    #[command(flatten)]
    flags: PruneFlags,
    args: Vec<String>,
}

impl Run for NetworkPrune {
    async fn run(self, cli: &Cli) -> Outcome {
        confirm(
            cli,
            &self.flags,
            "all custom networks not used by at least one container",
        )?;
        let (_, output) = networks(cli, &self.filter).await?;
        if !output.is_empty() {
            cli.line(output)?;
        }
        Ok(0)
    }
}

/// `hull system prune`: Remove unused data.
#[derive(Args, Debug)]
pub struct SystemPrune {
    /// Remove all unused images not just dangling ones
    #[arg(short = 'a', long)]
    all: bool,
    /// Provide filter values (e.g. "label=<key>=<value>")
    #[arg(long, value_name = "filter", value_parser = values::filter)]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short = 'f', long)]
    force: bool,
    /// Prune anonymous volumes
    #[arg(long)]
    volumes: bool,
    args: Vec<String>,
}

impl Run for SystemPrune {
    async fn run(self, cli: &Cli) -> Outcome {
        if self.volumes && self.filter.iter().any(|pair| pair.starts_with("until=")) {
            return Err(Failure::new(
                "ERROR: The \"until\" filter is not supported with \"--volumes\"",
            ));
        }
        if !self.force && !cli.confirm(&self.question())? {
            return Err(Failure::Silent(0));
        }
        let mut sums = vec![
            containers(cli, &self.filter).await?,
            networks(cli, &self.filter).await?,
        ];
        if self.volumes {
            sums.push(volumes(cli, &self.filter).await?);
        }
        sums.push(images(cli, &self.filter, self.all).await?);
        sums.push(build_cache(cli, &self.filter, self.all).await?);
        for (_, output) in sums.iter().filter(|(_, output)| !output.is_empty()) {
            cli.line(output)?;
        }
        let total: i64 = sums.iter().map(|(size, _)| size).sum();
        cli.line(format!(
            "Total reclaimed space: {}",
            human_size(total as f64)
        ))?;
        Ok(0)
    }
}

impl SystemPrune {
    fn question(&self) -> String {
        let mut what = vec![
            "all stopped containers",
            "all networks not used by at least one container",
        ];
        if self.volumes {
            what.push("all anonymous volumes not used by at least one container");
        }
        what.push(if self.all {
            "all images without at least one container associated to them"
        } else {
            "all dangling images"
        });
        what.push(if self.all {
            "all build cache"
        } else {
            "unused build cache"
        });
        let mut out = String::from("WARNING! This will remove:");
        what.iter()
            .for_each(|item| out.push_str(&format!("\n  - {item}")));
        out.push('\n');
        if !self.filter.is_empty() {
            out.push_str("\n  Items to be pruned will be filtered with:");
            self.filter
                .iter()
                .for_each(|pair| out.push_str(&format!("\n  - {pair}")));
            out.push('\n');
        }
        out + "\nAre you sure you want to continue?"
    }
}

fn confirm(cli: &Cli, flags: &PruneFlags, what: &str) -> Result<(), Failure> {
    if flags.force
        || cli.confirm(&format!(
            "WARNING! This will remove {what}.\nAre you sure you want to continue?"
        ))?
    {
        return Ok(());
    }
    // Docker's client ends without a word and with success when the user says no.
    Err(Failure::Silent(0))
}

fn told(cli: &Cli, (size, output): (i64, String)) -> Outcome {
    if !output.is_empty() {
        cli.line(output)?;
    }
    cli.line(format!(
        "Total reclaimed space: {}",
        human_size(size as f64)
    ))?;
    Ok(0)
}

async fn prune(cli: &Cli, path: &str, filter: &[String]) -> Result<Value, Error> {
    let client = match cli.client() {
        Ok(client) => client,
        Err(failure) => return Err(Error::Host(failure.to_string())),
    };
    client
        .post_json(
            Query::new(path).set_some("filters", filters(filter)),
            &json!(null),
        )
        .await
}

fn listed(title: &str, answer: &Value, key: &str) -> String {
    let names: Vec<&str> = answer[key]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if names.is_empty() {
        String::new()
    } else {
        format!("{title}\n{}\n", names.join("\n"))
    }
}

async fn containers(cli: &Cli, filter: &[String]) -> Result<(i64, String), Failure> {
    let answer = prune(cli, "/containers/prune", filter).await?;
    Ok((
        number(&answer, "SpaceReclaimed"),
        listed("Deleted Containers:", &answer, "ContainersDeleted"),
    ))
}

async fn networks(cli: &Cli, filter: &[String]) -> Result<(i64, String), Failure> {
    let answer = prune(cli, "/networks/prune", filter).await?;
    Ok((0, listed("Deleted Networks:", &answer, "NetworksDeleted")))
}

async fn volumes(cli: &Cli, filter: &[String]) -> Result<(i64, String), Failure> {
    let answer = prune(cli, "/volumes/prune", filter).await?;
    Ok((
        number(&answer, "SpaceReclaimed"),
        listed("Deleted Volumes:", &answer, "VolumesDeleted"),
    ))
}

async fn images(cli: &Cli, filter: &[String], all: bool) -> Result<(i64, String), Failure> {
    let mut filter = filter.to_vec();
    filter.push(format!("dangling={}", !all));
    let answer = prune(cli, "/images/prune", &filter).await?;
    let deleted = answer["ImagesDeleted"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if deleted.is_empty() {
        return Ok((number(&answer, "SpaceReclaimed"), String::new()));
    }
    let mut output = String::from("Deleted Images:\n");
    for item in deleted {
        match text(item, "Untagged") {
            "" => output.push_str(&format!("deleted: {}\n", text(item, "Deleted"))),
            name => output.push_str(&format!("untagged: {name}\n")),
        }
    }
    Ok((number(&answer, "SpaceReclaimed"), output))
}

/// A daemon that builds nothing has no cache to prune.
async fn build_cache(cli: &Cli, filter: &[String], all: bool) -> Result<(i64, String), Failure> {
    let query = Query::new("/build/prune")
        .flag("all", all)
        .set_some("filters", filters(filter));
    match cli.client()?.post_json::<Value>(query, &json!(null)).await {
        Ok(answer) => Ok((
            number(&answer, "SpaceReclaimed"),
            listed("Deleted build cache objects:", &answer, "CachesDeleted"),
        )),
        Err(error) if matches!(error.status(), Some(404 | 501)) => Ok((0, String::new())),
        Err(error) => Err(error.into()),
    }
}
