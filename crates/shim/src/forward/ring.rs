//! `mode=non-blocking`: what waits for the server, bounded; what finds no room is lost, so that the container never waits.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::feed::Chunk;
use super::options::Options;
use crate::logfile::parse_size;

/// Without `max-buffer-size`, in bytes: Docker's.
const LIMIT_BYTES: u64 = 1 << 20;

/// The option `max-buffer-size`, in bytes.
pub fn limit(options: &Options) -> u64 {
    options
        .get("max-buffer-size")
        .and_then(|value| parse_size(value).ok().flatten())
        .unwrap_or(LIMIT_BYTES)
}

/// A bounded queue of chunks.
pub struct Ring {
    limit_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Chunk>,
    bytes: u64,
    lost: u64,
    closed: bool,
}

impl Ring {
    /// One that holds up to `limit_bytes`, or a single chunk of any size.
    pub fn new(limit_bytes: u64) -> Self {
        Self {
            limit_bytes,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No thread panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds `chunk`, or drops it for want of room. A stream's end always has room.
    pub fn push(&self, chunk: Chunk) {
        let mut state = self.state();
        let length = chunk.bytes.len() as u64;
        if length > 0 && !state.chunks.is_empty() && state.bytes + length > self.limit_bytes {
            if state.lost == 0 {
                super::complain(&"the log server is too slow: messages are lost");
            }
            state.lost += length;
            return;
        }
        state.bytes += length;
        state.chunks.push_back(chunk);
        self.changed.notify_one();
    }

    /// The oldest chunk; waits for one. None: closed, and nothing is left.
    pub fn pop(&self) -> Option<Chunk> {
        let mut state = self.state();
        loop {
            if let Some(chunk) = state.chunks.pop_front() {
                state.bytes -= chunk.bytes.len() as u64;
                return Some(chunk);
            }
            if state.closed {
                return None;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing more will be pushed.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logfile::Stream;

    fn chunk(length: usize) -> Chunk {
        Chunk {
            stream: Stream::Stdout,
            time: jiff::Timestamp::UNIX_EPOCH,
            bytes: vec![b'x'; length],
        }
    }

    #[test]
    fn what_finds_no_room_is_lost_and_ends_are_not() {
        let ring = Ring::new(10);
        for length in [20, 1, 0] {
            ring.push(chunk(length));
        }
        ring.close();
        let lengths: Vec<usize> = std::iter::from_fn(|| ring.pop())
            .map(|chunk| chunk.bytes.len())
            .collect();
        assert_eq!(lengths, [20, 0]);
    }
}
