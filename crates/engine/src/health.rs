//! Health checks: a task per running container that runs the probe as an exec and tells the container's task what it
//! thinks. Docker's rules: `start-period` forgives failures until the first success, `start-interval` is the pace meanwhile.

use std::sync::Arc;
use std::time::Duration;

use hull_api::container::HealthConfig;
use hull_api::exec::ExecConfig;
use hull_api::frames;
use hull_api::inspect::{Health, HealthcheckResult};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc::WeakSender;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::clock;
use crate::task::Message;
use crate::world::World;

/// Output of one probe that is kept, in bytes: Docker's number.
const OUTPUT_BYTES_MAX: usize = 4096;
/// Results that are kept: Docker's number.
const RESULTS_MAX: usize = 5;

const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_START_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_RETRIES: i64 = 3;

/// A running monitor; dropping it ends it.
pub(crate) struct Monitor(JoinHandle<()>);

impl Drop for Monitor {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The probe's command, when there is a check at all.
pub(crate) fn command(config: &HealthConfig, shell: &[String]) -> Option<Vec<String>> {
    let (kind, rest) = config.test.split_first()?;
    match kind.as_str() {
        "NONE" => None,
        "CMD-SHELL" => {
            let default = ["/bin/sh".to_owned(), "-c".to_owned()];
            let shell = if shell.is_empty() {
                &default[..]
            } else {
                shell
            };
            Some(shell.iter().chain(rest).cloned().collect())
        }
        "CMD" => Some(rest.to_vec()),
        _ => Some(config.test.clone()),
    }
}

fn or(nanos: i64, default: Duration) -> Duration {
    u64::try_from(nanos)
        .ok()
        .filter(|nanos| *nanos > 0)
        .map_or(default, Duration::from_nanos)
}

/// Starts watching a container that has a check.
pub(crate) fn watch(
    world: &Arc<World>,
    container: &str,
    config: &HealthConfig,
    shell: &[String],
    before: Option<Health>,
    task: WeakSender<Message>,
) -> Option<(Monitor, Health)> {
    let command = command(config, shell)?;
    let first = before.unwrap_or_else(|| Health {
        status: "starting".to_owned(),
        ..Health::default()
    });
    let probe = Probe {
        world: world.clone(),
        container: container.to_owned(),
        command,
        interval: or(config.interval, DEFAULT_INTERVAL),
        timeout: or(config.timeout, DEFAULT_TIMEOUT),
        start_period: or(config.start_period, Duration::ZERO),
        start_interval: or(config.start_interval, DEFAULT_START_INTERVAL),
        retries: if config.retries > 0 {
            config.retries
        } else {
            DEFAULT_RETRIES
        },
        started: Instant::now(),
        task,
    };
    let health = first.clone();
    Some((
        Monitor(tokio::spawn(async move { probe.run(health).await })),
        first,
    ))
}

struct Probe {
    world: Arc<World>,
    container: String,
    command: Vec<String>,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: i64,
    started: Instant,
    task: WeakSender<Message>,
}

impl Probe {
    async fn run(self, mut health: Health) {
        loop {
            let in_start_period =
                health.status == "starting" && self.started.elapsed() < self.start_period;
            tokio::time::sleep(if in_start_period {
                self.start_interval.min(self.interval)
            } else {
                self.interval
            })
            .await;
            let start = clock::now();
            let Some((exit_code, output)) = self.once().await else {
                return;
            };
            let result = HealthcheckResult {
                start,
                end: clock::now(),
                exit_code,
                output,
            };
            let forgiven =
                health.status == "starting" && self.started.elapsed() < self.start_period;
            judge(&mut health, result, self.retries, forgiven);
            let Some(task) = self.task.upgrade() else {
                return;
            };
            if task.send(Message::Health(health.clone())).await.is_err() {
                return;
            }
        }
    }

    /// Runs the probe; `None` when the container is gone.
    async fn once(&self) -> Option<(i64, String)> {
        let config = ExecConfig {
            cmd: self.command.clone(),
            attach_stdout: true,
            attach_stderr: true,
            ..ExecConfig::default()
        };
        let execs = crate::execs::Execs {
            world: self.world.clone(),
        };
        let handle = self.world.registry.find(&self.container).ok()?;
        let exec = execs.create_for(&handle, config, true).await.ok()?;
        let running = async {
            let stream = execs.start_attached(&exec).await;
            let mut output = Vec::new();
            match stream {
                Ok(mut stream) => {
                    let mut decoder = frames::Decoder::default();
                    let mut buffer = vec![0u8; 4096];
                    while let Ok(count @ 1..) = stream.reader.read(&mut buffer).await {
                        decoder.push(&buffer[..count]);
                        while let Ok(Some(frame)) = decoder.next_frame() {
                            let room = OUTPUT_BYTES_MAX.saturating_sub(output.len());
                            output
                                .extend_from_slice(&frame.payload[..frame.payload.len().min(room)]);
                        }
                    }
                }
                Err(error) => output.extend_from_slice(error.message.as_bytes()),
            }
            let code = execs.wait(&exec).await;
            (code, String::from_utf8_lossy(&output).into_owned())
        };
        match tokio::time::timeout(self.timeout, running).await {
            Ok((code, output)) => Some((code, output)),
            Err(_) => {
                execs.kill(&exec).await;
                Some((
                    -1,
                    format!(
                        "Health check exceeded timeout ({})",
                        go_duration(self.timeout)
                    ),
                ))
            }
        }
    }
}

/// `30s`, `1m0s`, `500ms`: Go's form, for whole milliseconds.
fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (minutes, seconds) = (duration.as_secs() / 60, duration.as_secs() % 60);
    let fraction = match millis % 1000 {
        0 => String::new(),
        rest => format!(".{}", format!("{rest:03}").trim_end_matches('0')),
    };
    match minutes {
        0 => format!("{seconds}{fraction}s"),
        _ => format!("{minutes}m{seconds}{fraction}s"),
    }
}

/// Docker's `handleProbeResult`: pure.
fn judge(health: &mut Health, result: HealthcheckResult, retries: i64, forgiven: bool) {
    if result.exit_code == 0 {
        health.failing_streak = 0;
        health.status = "healthy".to_owned();
    } else if !forgiven {
        health.failing_streak += 1;
        if health.failing_streak >= retries {
            health.status = "unhealthy".to_owned();
        }
    }
    health.log.push(result);
    let surplus = health.log.len().saturating_sub(RESULTS_MAX);
    health.log.drain(..surplus);
}

impl crate::task::Task {
    /// Starts the monitor of a container that has a check and runs.
    pub(crate) fn watch_health(&mut self) {
        let (world, record) = (self.world().clone(), self.record().clone());
        let Some(config) = record
            .config
            .healthcheck
            .as_ref()
            .filter(|_| self.is_live())
        else {
            return;
        };
        let queue = self.queue_weak();
        if let Some((monitor, health)) = watch(
            &world,
            &record.id,
            config,
            &record.config.shell,
            None,
            queue,
        ) {
            self.set_monitor(monitor, health);
        }
    }

    /// The monitor's new opinion; an event when the status changes.
    pub(crate) fn on_health(&mut self, health: Health) {
        if !self.is_live() {
            return;
        }
        let changed = self.health_status() != health.status;
        let status = health.status.clone();
        self.set_health(health);
        if changed {
            self.emit_health(&status);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(exit_code: i64) -> HealthcheckResult {
        HealthcheckResult {
            exit_code,
            ..HealthcheckResult::default()
        }
    }

    #[test]
    fn failures_count_after_the_start_period_only() {
        let mut health = Health {
            status: "starting".into(),
            ..Health::default()
        };
        judge(&mut health, result(1), 2, true);
        assert_eq!(
            (health.status.as_str(), health.failing_streak),
            ("starting", 0)
        );
        judge(&mut health, result(1), 2, false);
        assert_eq!(
            (health.status.as_str(), health.failing_streak),
            ("starting", 1)
        );
        judge(&mut health, result(1), 2, false);
        assert_eq!(
            (health.status.as_str(), health.failing_streak),
            ("unhealthy", 2)
        );
        judge(&mut health, result(0), 2, false);
        assert_eq!(
            (health.status.as_str(), health.failing_streak),
            ("healthy", 0)
        );
        for _ in 0..9 {
            judge(&mut health, result(0), 2, false);
        }
        assert_eq!(health.log.len(), RESULTS_MAX);
    }

    #[test]
    fn commands() {
        let config = |test: &[&str]| HealthConfig {
            test: test.iter().map(|word| (*word).to_owned()).collect(),
            ..HealthConfig::default()
        };
        assert_eq!(command(&config(&["NONE"]), &[]), None);
        assert_eq!(command(&config(&[]), &[]), None);
        assert_eq!(
            command(&config(&["CMD", "a", "b"]), &[]).unwrap(),
            ["a", "b"]
        );
        assert_eq!(
            command(&config(&["CMD-SHELL", "a b"]), &[]).unwrap(),
            ["/bin/sh", "-c", "a b"]
        );
    }

    #[test]
    fn durations_in_gos_form() {
        assert_eq!(go_duration(Duration::from_millis(500)), "500ms");
        assert_eq!(go_duration(Duration::from_millis(1500)), "1.5s");
        assert_eq!(go_duration(Duration::from_secs(60)), "1m0s");
    }
}
