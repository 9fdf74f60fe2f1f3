//! Named undo steps: every acquiring step pushes one; success disarms them, failure runs them in reverse.

use crate::Result;

type Step<'a> = Box<dyn FnOnce() -> Result<()> + 'a>;

/// A stack of undo steps.
#[derive(Default)]
pub(crate) struct Undo<'a> {
    steps: Vec<(&'static str, Step<'a>)>,
}

impl<'a> Undo<'a> {
    /// Registers the undo of something that was just made.
    pub(crate) fn push(&mut self, name: &'static str, step: impl FnOnce() -> Result<()> + 'a) {
        self.steps.push((name, Box::new(step)));
    }

    /// Everything worked: nothing is undone.
    pub(crate) fn disarm(&mut self) {
        self.steps.clear();
    }

    /// Runs the steps in reverse, all of them, and says which failed.
    pub(crate) fn unwind(&mut self) -> Vec<String> {
        let steps = std::mem::take(&mut self.steps);
        let run = steps.into_iter().rev();
        run.filter_map(|(name, step)| step().err().map(|e| format!("{name}: {e}")))
            .collect()
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        for failure in self.unwind() {
            tracing::warn!("undo failed: {failure}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn steps_run_in_reverse_and_failures_do_not_stop_them() {
        let seen = RefCell::new(Vec::new());
        let mut undo = Undo::default();
        undo.push("a", || {
            seen.borrow_mut().push("a");
            Ok(())
        });
        undo.push("b", || {
            seen.borrow_mut().push("b");
            Err(crate::Error::NotFound("b".into()))
        });
        assert_eq!(undo.unwind().len(), 1);
        assert_eq!(*seen.borrow(), ["b", "a"]);
    }
}
