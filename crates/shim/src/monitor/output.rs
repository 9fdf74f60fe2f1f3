//! What a process writes: read, logged, and handed to the attached clients.

use super::{Monitor, Process, Role};
use crate::logfile::Stream;
use crate::streams::{CLIENT_BUFFER_BYTES_MAX, Reading};

/// Read at most from each output of a process that has ended, in bytes: as much as a pipe can hold (`fs.pipe-max-size`, pipe(7)),
/// so all that the process itself had written.
const DRAIN_BYTES_MAX: usize = 1 << 20;

impl Monitor {
    /// Output waits while an attached client or the log is behind, until the process has ended.
    pub(super) fn may_read_output(&self, exec: Option<&str>, process: &Process) -> bool {
        let log_behind = exec.is_none() && self.log.behind().is_some();
        process.ended.is_some()
            || !log_behind
                && !self.clients.iter().any(|client| {
                    client.is_attached_to(exec) && client.peer.backlog() > CLIENT_BUFFER_BYTES_MAX
                })
    }

    pub(super) fn output_ready(&mut self, exec: Option<&str>, index: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        if let Some(process) = self.process(exec)
            && index < process.streams.outputs.len()
        {
            let (stream, reading) = process.streams.read(index, &mut buffer);
            match reading {
                Reading::Bytes(count) => self.output(exec, stream, &buffer[..count]),
                Reading::Ended => self.output_ended(exec, stream),
                Reading::Nothing => {}
            }
        }
        self.buffer = buffer;
    }

    fn output(&mut self, exec: Option<&str>, stream: Stream, bytes: &[u8]) {
        if exec.is_none() {
            self.log.write(stream, bytes);
        }
        let terminal = self.process(exec).is_some_and(|process| process.terminal);
        let head = stream.frame_head(bytes.len());
        for client in &mut self.clients {
            let Role::Attached { attach, .. } = &client.role else {
                continue;
            };
            let wanted = match stream {
                Stream::Stdout => attach.stdout,
                Stream::Stderr => attach.stderr,
            };
            if attach.exec.as_deref() != exec || !wanted || client.peer.closing {
                continue;
            }
            if terminal {
                client.peer.send(&[bytes]);
            } else {
                client.peer.send(&[&head, bytes]);
            }
        }
    }

    fn output_ended(&mut self, exec: Option<&str>, stream: Stream) {
        if exec.is_none() {
            self.log.end(stream);
        }
    }

    /// Everything a process has written, once it has ended. A pipe that another process still holds open ends here,
    /// however fast that one writes.
    pub(super) fn drain(&mut self, exec: Option<&str>) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut left = DRAIN_BYTES_MAX;
        while let Some(process) = self.process(exec)
            && let Some(last) = process.streams.outputs.len().checked_sub(1)
        {
            let (stream, reading) = match left {
                0 => (process.streams.outputs[last].stream, Reading::Nothing),
                _ => process.streams.read(last, &mut buffer),
            };
            if !matches!(reading, Reading::Bytes(_)) {
                left = DRAIN_BYTES_MAX;
            }
            match reading {
                Reading::Bytes(count) => {
                    left = left.saturating_sub(count);
                    self.output(exec, stream, &buffer[..count]);
                }
                Reading::Ended => self.output_ended(exec, stream),
                Reading::Nothing => {
                    self.output_ended(exec, stream);
                    if let Some(process) = self.process(exec) {
                        process.streams.outputs.remove(last);
                    }
                }
            }
        }
        self.buffer = buffer;
        if let Some(process) = self.process(exec) {
            process.streams.input = None;
            process.streams.console = None;
        }
        for client in &mut self.clients {
            if client.is_attached_to(exec) {
                client.peer.closing = true;
            }
        }
    }
}
