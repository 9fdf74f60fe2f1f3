//! `hull wait`, and the waiting of `run`, `start` and `attach`.

use crate::app::Cli;
use crate::failure::{Failure, Failures, Outcome};
use crate::registry::Run;
use clap::Args;
use http::{HeaderMap, Method};
use hull_client::{Answer, Client, Error, Query};
use serde_json::Value;

/// `hull wait`: Block until one or more containers stop, then print their exit codes.
#[derive(Args, Debug)]
pub struct Wait {
    args: Vec<String>,
}

impl Run for Wait {
    async fn run(self, cli: &Cli) -> Outcome {
        let client = cli.client()?;
        let mut failures = Failures::default();
        for name in &self.args {
            let status = async {
                let waiting = Waiting::begin(client, name, "").await?;
                waiting.status().await
            };
            match status.await {
                Ok(status) => cli.line(status)?,
                Err(failure) => failures.push(failure),
            }
        }
        failures.outcome()
    }
}

/// A wait that the daemon has registered.
#[derive(Debug)]
pub struct Waiting(Answer);

impl Waiting {
    /// Registers; the daemon's headers say that it has.
    pub async fn begin(client: &Client, id: &str, condition: &str) -> Result<Waiting, Error> {
        let query =
            Query::segments(&["containers", id, "wait"]).set_some("condition", Some(condition));
        Ok(Waiting(
            client
                .request(Method::POST, &query, None, HeaderMap::new())
                .await?,
        ))
    }

    /// The exit code.
    pub async fn status(mut self) -> Outcome {
        let body = self.0.bytes().await?;
        let answer: Value = serde_json::from_slice(&body)
            .map_err(|error| Failure::new(format!("error waiting for container: {error}")))?;
        if let Some(message) = answer["Error"]["Message"]
            .as_str()
            .filter(|message| !message.is_empty())
        {
            return Err(Failure::with_status(
                125,
                format!("Error waiting for container: {message}"),
            ));
        }
        Ok(answer["StatusCode"].as_i64().unwrap_or(0) as i32)
    }
}
