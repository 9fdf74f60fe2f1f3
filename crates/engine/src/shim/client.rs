//! One control connection to a shim: requests are answered by number, events go to the container's task.

use std::collections::BTreeMap;

use hull_shim::protocol::{self, Decoder, Do, Done, Event, Failure, FromShim, Request, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

/// Requests that wait for their turn on the connection.
const CALLS_QUEUED_MAX: usize = 64;

/// What a shim tells without being asked.
#[derive(Debug)]
pub(crate) enum ShimEvent {
    /// An event of the protocol.
    Said(Event),
    /// The connection ended.
    Gone,
}

/// Why a call has no answer of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// The shim says no.
    #[error("{}", .0.message)]
    Refused(Failure),
    /// The shim is gone.
    #[error("the container's shim is gone")]
    Gone,
    /// The answer is not of the kind that the request has.
    #[error("the container's shim answered something else than what was asked")]
    Unexpected,
}

type Answer = oneshot::Sender<Result<Done, CallError>>;

/// A cheap clone; the connection closes when all clones are gone.
#[derive(Debug, Clone)]
pub(crate) struct ShimClient {
    calls: mpsc::Sender<(Do, Answer)>,
}

impl ShimClient {
    /// Whether its container has ended, or it is gone itself: who has seen the container run a moment ago was too late.
    pub(crate) async fn has_ended(&self) -> bool {
        match self.call(Do::State {}).await {
            Ok(Done::State(state)) => state.status == Status::Exited,
            Ok(_) => false,
            Err(error) => error == CallError::Gone,
        }
    }

    /// Takes over a control connection, the first line of which is still to be sent.
    pub(crate) fn new(stream: UnixStream, events: mpsc::Sender<ShimEvent>) -> ShimClient {
        let (calls, queue) = mpsc::channel(CALLS_QUEUED_MAX);
        tokio::spawn(
            Connection {
                stream,
                waiting: BTreeMap::new(),
                next: 1,
                events,
            }
            .run(queue),
        );
        ShimClient { calls }
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn call(&self, action: Do) -> Result<Done, CallError> {
        let (sender, receiver) = oneshot::channel();
        self.calls
            .send((action, sender))
            .await
            .map_err(|_| CallError::Gone)?;
        receiver.await.map_err(|_| CallError::Gone)?
    }

    /// Asks for something that has nothing to say but that it is done.
    pub(crate) async fn command(&self, action: Do) -> Result<(), CallError> {
        match self.call(action).await? {
            Done::Empty {} => Ok(()),
            Done::Created { .. }
            | Done::Started { .. }
            | Done::Restored { .. }
            | Done::ExecStarted { .. }
            | Done::State(_)
            | Done::Pids { .. } => Err(CallError::Unexpected),
        }
    }
}

struct Connection {
    stream: UnixStream,
    waiting: BTreeMap<u64, Answer>,
    next: u64,
    events: mpsc::Sender<ShimEvent>,
}

impl Connection {
    async fn run(mut self, mut queue: mpsc::Receiver<(Do, Answer)>) {
        if self
            .stream
            .write_all(&protocol::encode(&protocol::Hello::Control {}))
            .await
            .is_err()
        {
            let _ = self.events.send(ShimEvent::Gone).await;
            return;
        }
        let mut decoder = Decoder::default();
        let mut buffer = vec![0u8; 16 << 10];
        loop {
            tokio::select! {
                read = self.stream.read(&mut buffer) => {
                    let Ok(count @ 1..) = read else { break };
                    if !self.heard(&mut decoder, &buffer[..count]).await {
                        break;
                    }
                }
                call = queue.recv() => {
                    let Some((action, answer)) = call else { return };
                    let n = self.next;
                    self.next += 1;
                    self.waiting.insert(n, answer);
                    if self.stream.write_all(&protocol::encode(&Request { n, action })).await.is_err() {
                        break;
                    }
                }
            }
        }
        // The answers' senders are dropped with `self`: every caller hears that the shim is gone.
        self.waiting.clear();
        let _ = self.events.send(ShimEvent::Gone).await;
    }

    /// Whether to go on.
    async fn heard(&mut self, decoder: &mut Decoder, bytes: &[u8]) -> bool {
        if let Err(error) = decoder.feed(bytes) {
            tracing::error!(%error, "shim");
            return false;
        }
        loop {
            match decoder.next_value::<FromShim>() {
                Ok(Some(FromShim::Ok { n, ok })) => self.answer(n, Ok(ok)),
                Ok(Some(FromShim::Failed { n, error })) => {
                    self.answer(n, Err(CallError::Refused(error)))
                }
                Ok(Some(FromShim::Event { event })) => {
                    if self.events.send(ShimEvent::Said(event)).await.is_err() {
                        return false;
                    }
                }
                Ok(None) => return true,
                Err(error) => {
                    tracing::error!(%error, "shim");
                    return false;
                }
            }
        }
    }

    fn answer(&mut self, n: u64, answer: Result<Done, CallError>) {
        if let Some(waiting) = self.waiting.remove(&n) {
            let _ = waiting.send(answer);
        }
    }
}
