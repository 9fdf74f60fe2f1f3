//! Does one thing to many objects at once and tells of each, as `docker rm a b c` does.

use crate::app::Cli;
use crate::failure::{Failure, Failures, Outcome};
use futures_util::StreamExt;

/// How many requests run at the same time.
const PARALLEL_MAX: usize = 50;

/// Runs `act` for every name; prints the names that went well, in order, and fails with all the errors.
pub async fn each<'n, F: Future<Output = Result<(), Failure>>>(
    cli: &Cli,
    names: &'n [String],
    act: impl Fn(&'n str) -> F,
) -> Outcome {
    let mut failures = Failures::default();
    let mut results = futures_util::stream::iter(names.iter().map(|name| {
        let act = act(name);
        async move { (name, act.await) }
    }))
    .buffered(PARALLEL_MAX);
    while let Some((name, result)) = results.next().await {
        match result {
            Ok(()) => cli.line(name)?,
            Err(failure) => failures.push(failure),
        }
    }
    failures.outcome()
}
