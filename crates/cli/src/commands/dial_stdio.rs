//! `hull system dial-stdio`: a connection to the daemon on our stdin and stdout, for `ssh://` hosts.

use crate::app::Cli;
use crate::failure::{Failure, Outcome};
use crate::registry::Run;
use clap::Args;
use tokio::io::{AsyncWriteExt, copy, split, stdin, stdout};

/// `hull system dial-stdio`: Proxy the stdio stream to the daemon connection.
#[derive(Args, Debug)]
pub struct DialStdio {
    args: Vec<String>,
}

impl Run for DialStdio {
    async fn run(self, cli: &Cli) -> Outcome {
        let stream = cli.client()?.dial().await.map_err(|error| {
            Failure::new(format!("failed to open the raw stream connection: {error}"))
        })?;
        let (mut from_daemon, mut to_daemon) = split(stream);
        let upward = async {
            copy(&mut stdin(), &mut to_daemon).await?;
            to_daemon.shutdown().await?;
            std::io::Result::Ok(())
        };
        let downward = async {
            let mut out = stdout();
            copy(&mut from_daemon, &mut out).await?;
            out.flush().await
        };
        tokio::pin!(upward, downward);
        tokio::select! {
            // Stdin may never end: the daemon's end is the end.
            done = &mut downward => done?,
            done = &mut upward => {
                done?;
                downward.await?;
            }
        }
        Ok(0)
    }
}
