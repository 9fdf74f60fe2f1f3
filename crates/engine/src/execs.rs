//! The execs service: further processes in running containers. They die with their container's shim and are kept in
//! memory only.

use hull_api::exec::{ExecConfig, ExecInspect, ExecStartConfig};

use crate::error::{Error, Result};
use crate::streams::AttachStream;

/// The execs service. A cheap clone.
#[derive(Clone)]
pub struct Execs {}

impl Execs {
    /// Makes an exec and returns its id.
    pub async fn create(&self, container: &str, config: ExecConfig) -> Result<String> {
        let _ = (container, config);
        Err(Error::missing("exec create"))
    }

    /// Starts it. `None` when detached. Where the program cannot be started an attached caller reads the sentence from the
    /// stream (Docker has switched protocols by then) and inspect has the exit code, 126 or 127.
    pub async fn start(&self, id: &str, config: ExecStartConfig) -> Result<Option<AttachStream>> {
        let _ = (id, config);
        Err(Error::missing("exec start"))
    }

    /// Everything about one exec.
    pub async fn inspect(&self, id: &str) -> Result<ExecInspect> {
        let _ = id;
        Err(Error::missing("exec inspect"))
    }

    /// Sets the terminal's size, in characters.
    pub async fn resize(&self, id: &str, height: u16, width: u16) -> Result<()> {
        let _ = (id, height, width);
        Err(Error::missing("exec resize"))
    }
}
