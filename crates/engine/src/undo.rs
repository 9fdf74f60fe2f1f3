//! The undo stack of a sequence: every acquiring step pushes its named undo; success disarms; failure unwinds in reverse
//! and reports every error.

use std::future::Future;
use std::pin::Pin;

use crate::error::{Error, Result};

type Step = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// What has been acquired so far, as the way back.
///
/// Dropped without [`Undo::unwind`] (the process is ending), nothing runs: boot sweeps.
#[derive(Default)]
pub(crate) struct Undo {
    steps: Vec<(&'static str, Step)>,
}

impl Undo {
    pub(crate) fn new() -> Undo {
        Undo::default()
    }

    /// Notes how to undo what was just acquired. The future runs only when unwinding.
    pub(crate) fn push(
        &mut self,
        name: &'static str,
        undo: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        self.steps.push((name, Box::pin(undo)));
    }

    /// The sequence has succeeded: everything stays.
    pub(crate) fn disarm(mut self) {
        self.steps.clear();
    }

    /// Undoes everything in reverse and returns `cause`, with what could not be undone added to it.
    pub(crate) async fn unwind(mut self, cause: Error) -> Error {
        let mut cause = cause;
        while let Some((name, step)) = self.steps.pop() {
            if let Err(error) = step.await {
                cause.message =
                    format!("{}; then, undoing {name}: {}", cause.message, error.message);
            }
        }
        cause
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[tokio::test]
    async fn unwinds_in_reverse_and_reports_all() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut undo = Undo::new();
        for name in ["first", "second", "third"] {
            let seen = seen.clone();
            undo.push(name, async move {
                seen.lock().unwrap().push(name);
                if name == "second" {
                    Err(Error::internal("stuck"))
                } else {
                    Ok(())
                }
            });
        }
        let error = undo.unwind(Error::conflict("no")).await;
        assert_eq!(*seen.lock().unwrap(), ["third", "second", "first"]);
        assert_eq!(error, Error::conflict("no; then, undoing second: stuck"));
    }
}
