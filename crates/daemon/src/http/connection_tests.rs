//! Connections for real, over an in-memory socket, with a test's own routes.

use super::*;
use crate::http::answer::{empty, stream};
use crate::http::hijack::Hijack;
use futures_util::StreamExt;
use hull_engine::streams::AttachStream;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::sync::{Semaphore, mpsc};

/// Attach echoes its input until that ends, then says bye; `/stream` gives what the test sends; all else fails.
#[derive(Clone)]
struct Routes(Arc<tokio::sync::Mutex<Option<mpsc::Receiver<&'static str>>>>);

impl Dispatch for Routes {
    fn call(&self, request: Request<Body>) -> Pending {
        let this = self.clone();
        Box::pin(async move {
            match request.uri().path() {
                "/containers/a/attach" => {
                    let (ours, theirs) = duplex(1024);
                    tokio::spawn(async move {
                        let (mut read, mut write) = tokio::io::split(theirs);
                        tokio::io::copy(&mut read, &mut write).await.unwrap();
                        write.write_all(b"bye").await.unwrap();
                        write.shutdown().await.unwrap();
                    });
                    let (read, write) = tokio::io::split(ours);
                    let stream = AttachStream {
                        reader: Box::new(read),
                        writer: Box::new(write),
                        terminal: true,
                    };
                    Ok(Answer::Hijack(Hijack {
                        stream,
                        media_type: "application/x",
                        body: request.into_body(),
                        head_start: Duration::ZERO,
                    }))
                }
                "/stream" => {
                    let receiver = this.0.lock().await.take().unwrap();
                    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async {
                        receiver
                            .recv()
                            .await
                            .map(|piece| (Ok::<_, std::io::Error>(Bytes::from(piece)), receiver))
                    });
                    Answer::body("application/json", stream(pieces.boxed()))
                }
                "/empty" => Answer::body("text/plain", empty()),
                _ => Err(Failure::invalid("no")),
            }
        })
    }
}

fn connect() -> (
    DuplexStream,
    mpsc::Sender<&'static str>,
    watch::Sender<bool>,
) {
    let (client, server) = duplex(64 << 10);
    let (pieces, receiver) = mpsc::channel(8);
    let (stop, stopped) = watch::channel(false);
    let routes = Routes(Arc::new(tokio::sync::Mutex::new(Some(receiver))));
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    tokio::spawn(serve(routes, server, permit, stopped));
    (client, pieces, stop)
}

async fn until(client: &mut DuplexStream, end: &str) -> String {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).ends_with(end) {
        let mut byte = [0];
        assert_eq!(
            client.read(&mut byte).await.unwrap(),
            1,
            "closed after {:?}",
            String::from_utf8_lossy(&seen)
        );
        seen.push(byte[0]);
    }
    String::from_utf8(seen).unwrap()
}

async fn rest(client: &mut DuplexStream) -> String {
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn every_answer_has_dockers_headers() {
    let (mut client, _pieces, _stop) = connect();
    client
        .write_all(b"GET /nope HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let answer = rest(&mut client).await;
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{answer}"
    );
    assert!(
        answer.contains("Api-Version: 1.55\r\n") && answer.contains("Server: Docker/"),
        "{answer}"
    );
    assert!(answer.ends_with("{\"message\":\"no\"}\n"), "{answer}");
}

#[tokio::test]
async fn an_upgrade_switches_protocols_and_half_closes() {
    let (mut client, _pieces, _stop) = connect();
    let head = b"POST /containers/a/attach HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n";
    client.write_all(head).await.unwrap();
    let answer = until(&mut client, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{answer}");
    assert!(
        answer.contains("Upgrade: tcp\r\n") && answer.contains("Content-Type: application/x\r\n"),
        "{answer}"
    );
    client.write_all(b"hello").await.unwrap();
    assert_eq!(until(&mut client, "o").await, "hello");
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, "bye");
}

#[tokio::test]
async fn without_upgrade_the_stream_is_raw_too() {
    let (mut client, _pieces, _stop) = connect();
    client
        .write_all(b"POST /containers/a/attach HTTP/1.1\r\nHost: x\r\n\r\nearly")
        .await
        .unwrap();
    let answer = until(&mut client, "\r\n\r\n").await;
    assert_eq!(
        answer,
        "HTTP/1.1 200 OK\r\nContent-Type: application/x\r\n\r\n"
    );
    assert_eq!(until(&mut client, "y").await, "early");
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, "bye");
}

#[tokio::test]
async fn a_later_request_without_upgrade_gets_the_output_as_its_body() {
    let (mut client, _pieces, _stop) = connect();
    client
        .write_all(b"GET /empty HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    until(&mut client, "\r\n\r\n").await;
    let head = b"POST /containers/a/attach HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    client.write_all(head).await.unwrap();
    let answer = rest(&mut client).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n")
            && answer.contains("hi")
            && answer.contains("bye"),
        "{answer}"
    );
}

#[tokio::test]
async fn pieces_are_flushed_as_they_come_and_a_gone_client_ends_them() {
    let (mut client, pieces, _stop) = connect();
    client
        .write_all(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    until(&mut client, "\r\n\r\n").await;
    pieces.send("one").await.unwrap();
    until(&mut client, "one\r\n").await;
    pieces.send("two").await.unwrap();
    until(&mut client, "two\r\n").await;
    drop(client);
    tokio::time::timeout(Duration::from_secs(5), pieces.closed())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_stop_ends_idle_connections() {
    let (mut client, _pieces, stop) = connect();
    client
        .write_all(b"GET /empty HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    until(&mut client, "\r\n\r\n").await;
    stop.send(true).unwrap();
    assert_eq!(rest(&mut client).await, "");
}
