//! `hull update`.

use super::container_config::restart_policy;
use crate::app::Cli;
use crate::failure::{Failure, Failures, Outcome};
use crate::registry::Run;
use crate::values;
use clap::Args;
use hull_client::Query;
use serde_json::{Value, json};

/// `hull update`: Update configuration of one or more containers.
#[derive(Args, Debug)]
pub struct Update {
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)
    #[arg(long, value_name = "uint16", value_parser = values::uint16)]
    blkio_weight: Option<u64>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int", value_parser = values::go_int)]
    cpu_period: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int", value_parser = values::go_int)]
    cpu_quota: Option<i64>,
    /// Limit the CPU real-time period in microseconds
    #[arg(long, value_name = "int", value_parser = values::go_int)]
    cpu_rt_period: Option<i64>,
    /// Limit the CPU real-time runtime in microseconds
    #[arg(long, value_name = "int", value_parser = values::go_int)]
    cpu_rt_runtime: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short = 'c', long, value_name = "int", value_parser = values::go_int)]
    cpu_shares: Option<i64>,
    /// Number of CPUs
    #[arg(long, value_name = "decimal", value_parser = values::cpus)]
    cpus: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_mems: Option<String>,
    /// Kernel memory limit (deprecated)
    #[arg(long, value_name = "bytes", value_parser = values::bytes, hide = true)]
    kernel_memory: Option<i64>,
    /// Memory limit
    #[arg(short = 'm', long, value_name = "bytes", value_parser = values::bytes)]
    memory: Option<i64>,
    /// Memory soft limit
    #[arg(long, value_name = "bytes", value_parser = values::bytes)]
    memory_reservation: Option<i64>,
    /// Swap limit equal to memory plus swap: -1 to enable unlimited swap
    #[arg(long, value_name = "bytes", value_parser = values::swap_bytes)]
    memory_swap: Option<i64>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "int", value_parser = values::go_int)]
    pids_limit: Option<i64>,
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "string")]
    restart: Option<String>,
    args: Vec<String>,
}

impl Update {
    /// The body: Docker sends zero for what is not to change.
    fn body(&self) -> Result<Value, Failure> {
        let numbers = [
            ("BlkioWeight", self.blkio_weight.map(|weight| weight as i64)),
            ("CpuPeriod", self.cpu_period),
            ("CpuQuota", self.cpu_quota),
            ("CpuRealtimePeriod", self.cpu_rt_period),
            ("CpuRealtimeRuntime", self.cpu_rt_runtime),
            ("CpuShares", self.cpu_shares),
            ("NanoCpus", self.cpus),
            ("KernelMemory", self.kernel_memory),
            ("Memory", self.memory),
            ("MemoryReservation", self.memory_reservation),
            ("MemorySwap", self.memory_swap),
        ];
        let texts = [
            ("CpusetCpus", &self.cpuset_cpus),
            ("CpusetMems", &self.cpuset_mems),
        ];
        let given = numbers.iter().any(|(_, value)| value.is_some())
            || texts.iter().any(|(_, value)| value.is_some())
            || self.pids_limit.is_some()
            || self.restart.is_some();
        if !given {
            return Err(Failure::new(
                "you must provide one or more flags when using this command",
            ));
        }
        let mut body = json!({"RestartPolicy": {"Name": "", "MaximumRetryCount": 0}});
        for (key, value) in numbers {
            body[key] = value.unwrap_or(0).into();
        }
        for (key, value) in texts {
            body[key] = value.as_deref().unwrap_or("").into();
        }
        if let Some(limit) = self.pids_limit.filter(|&limit| limit != 0) {
            body["PidsLimit"] = limit.into();
        }
        if let Some(policy) = self.restart.as_deref().filter(|policy| !policy.is_empty()) {
            body["RestartPolicy"] = restart_policy(policy)?;
        }
        Ok(body)
    }
}

impl Run for Update {
    async fn run(self, cli: &Cli) -> Outcome {
        let body = self.body()?;
        let (mut failures, mut warnings) = (Failures::default(), Vec::new());
        for name in &self.args {
            match cli
                .client()?
                .post_json::<Value>(Query::segments(&["containers", name, "update"]), &body)
                .await
            {
                Ok(answer) => {
                    cli.line(name)?;
                    warnings.extend(
                        answer["Warnings"]
                            .as_array()
                            .into_iter()
                            .flatten()
                            .filter_map(Value::as_str)
                            .map(str::to_owned),
                    );
                }
                Err(error) => failures.push(error),
            }
        }
        if !warnings.is_empty() {
            cli.line(warnings.join("\n"))?;
        }
        failures.outcome()
    }
}
