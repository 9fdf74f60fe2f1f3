//! Looking at what runs: `stats` and `top`.

use std::sync::Arc;

use hull_api::container::TopResponse;
use hull_api::stats::ContainerStats;
use hull_shim::protocol::{Do, Done};

use crate::error::{Error, Result};
use crate::streams::ItemStream;
use crate::task::View;
use crate::world::{Handle, World};

/// `ps` columns that hold several words: the last one.
fn columns(line: &str, count: usize) -> Vec<String> {
    let mut words = line.split_whitespace();
    let mut fields: Vec<String> = words
        .by_ref()
        .take(count.saturating_sub(1))
        .map(str::to_owned)
        .collect();
    let rest: Vec<&str> = words.collect();
    if !rest.is_empty() {
        fields.push(rest.join(" "));
    }
    fields
}

pub(super) async fn top(world: &Arc<World>, view: &View, ps_args: &str) -> Result<TopResponse> {
    let _ = world;
    let args: Vec<&str> = if ps_args.trim().is_empty() {
        vec!["-ef"]
    } else {
        ps_args.split_whitespace().collect()
    };
    // moby's check: the PID column is needed to know the container's own lines.
    if args
        .iter()
        .any(|arg| arg.contains("pid") && arg.contains('=') && !arg.contains("pid=PID"))
    {
        return Err(Error::invalid(
            "specifying \"pid=FIELD\" is not allowed: the PID column is needed",
        ));
    }
    let shim = view
        .shim
        .as_ref()
        .ok_or_else(|| Error::conflict(format!("container {} is not running", view.record.id)))?;
    let pids = match shim.call(Do::Pids {}).await {
        Ok(Done::Pids { pids }) => pids,
        Ok(_) => {
            return Err(Error::internal(
                "the container's shim did not list processes",
            ));
        }
        Err(error) => return Err(Error::failed("list the container's processes", error)),
    };
    let list = pids
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",");
    // With -q the output is small; some options do not go together with it, then everything is read and sifted.
    let mut output = run_ps(&[&args[..], &["-q", &list]].concat()).await?;
    if !output.status.success() {
        output = run_ps(&args).await?;
    }
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Error::internal(format!(
            "ps: exit status {}: {}",
            output.status.code().unwrap_or(-1),
            said.trim()
        )));
    }
    parse_ps(&String::from_utf8_lossy(&output.stdout), &pids)
}

async fn run_ps(args: &[&str]) -> Result<std::process::Output> {
    tokio::process::Command::new("ps")
        .args(args)
        .output()
        .await
        .map_err(|cause| Error::failed("run ps", cause))
}

fn parse_ps(text: &str, pids: &[i32]) -> Result<TopResponse> {
    let mut lines = text.lines();
    let titles: Vec<String> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let at = titles
        .iter()
        .position(|title| title == "PID")
        .ok_or_else(|| Error::invalid("Couldn't find PID field in ps output"))?;
    let processes = lines
        .map(|line| columns(line, titles.len()))
        .filter(|fields| {
            fields
                .get(at)
                .and_then(|pid| pid.parse::<i32>().ok())
                .is_some_and(|pid| pids.contains(&pid))
        })
        .collect();
    Ok(TopResponse { titles, processes })
}

pub(super) fn stats(
    world: &Arc<World>,
    handle: &Handle,
    stream: bool,
    one_shot: bool,
) -> ItemStream<ContainerStats> {
    let _ = (world, handle, stream, one_shot);
    Box::pin(futures_util::stream::iter([Err(Error::missing(
        "container stats",
    ))]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ps_output_is_cut_into_columns() {
        let text = "UID  PID  PPID  C STIME TTY TIME CMD\nroot 7 1 0 10:00 ? 00:00:00 sh -c sleep 5\nroot 8 1 0 10:00 ? 00:00:00 other\n";
        let top = parse_ps(text, &[7]).unwrap();
        assert_eq!(top.titles.len(), 8);
        assert_eq!(top.processes.len(), 1);
        assert_eq!(top.processes[0][7], "sh -c sleep 5");
        assert!(parse_ps("CMD\nsh\n", &[7]).is_err());
    }
}
