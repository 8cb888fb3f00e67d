//! What a token costs on its way through the gateway: `cargo bench --profile release -p gateway --bench token_path`.
//!
//! Everything runs on one thread, the pool in memory and the reader of the stream included, so the time per token is an
//! upper bound of the gateway's own CPU time. `one by one` sends a token when the one before was read: a wake-up and two
//! system calls each, as in a real answer. `all at once` is the same without waiting.

use client::{AskError, Model};
use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};
use gateway::{Answer, Asker, Gateway, GatewayConfig};
use protocol::{
    ids::{NodeId, TaskId},
    task::{Finish, Frame, Task, Usage},
};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

const TOKENS: usize = 50_000;
const REQUESTS: usize = 2_000;
const BODY: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"Tell me of the sea."}]}"#;

type Frames = mpsc::UnboundedReceiver<Frame>;

/// Answers with the frames that it was given.
#[derive(Default)]
struct Given(Mutex<Option<Frames>>);

impl Asker for Given {
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, AskError>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn ask<'a>(&'a self, _: &'a str, _: Task) -> BoxFuture<'a, Result<Answer, AskError>> {
        let frames = self.0.lock().expect("one thread").take().expect("frames are given before a request");
        let frames = stream::unfold(frames, |mut frames| async { Some((Ok(frames.recv().await?), frames)) }).boxed();
        let answer = Answer { task: TaskId([1; 16]), model: "m".to_owned(), node: NodeId([2; 32]), frames };
        async { Ok(answer) }.boxed()
    }

    fn is_connected(&self) -> bool {
        true
    }
}

impl Given {
    fn frames(&self) -> mpsc::UnboundedSender<Frame> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.0.lock().expect("one thread") = Some(receiver);
        sender
    }
}

struct Reader {
    stream: TcpStream,
    seen: Vec<u8>,
}

impl Reader {
    async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the gateway listens");
        stream.set_nodelay(true).expect("a TCP socket");
        Self { stream, seen: Vec::new() }
    }

    async fn ask(&mut self) {
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{BODY}",
            BODY.len()
        );
        self.stream.write_all(request.as_bytes()).await.expect("the gateway reads");
    }

    /// Reads until the stream bears `text`, and forgets what came before.
    async fn until(&mut self, text: &[u8]) {
        loop {
            if let Some(at) = self.seen.windows(text.len()).position(|window| window == text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let keep = self.seen.len().saturating_sub(text.len());
            self.seen.drain(..keep);
            assert_ne!(self.stream.read_buf(&mut self.seen).await.expect("the gateway answers"), 0);
        }
    }
}

fn token() -> Frame {
    Frame::Tokens { ids: vec![17], text: " water".to_owned(), log_probs: vec![-0.5] }
}

fn done() -> Frame {
    Frame::Done { finish: Finish::Stop, usage: Usage::default() }
}

async fn all_at_once(given: &Given, reader: &mut Reader) -> Duration {
    let frames = given.frames();
    let all = std::iter::repeat_with(token).take(TOKENS);
    for frame in [Frame::Started { prompt_tokens: 1 }].into_iter().chain(all).chain([done()]) {
        frames.send(frame).expect("the gateway will read");
    }
    let begun = Instant::now();
    reader.ask().await;
    reader.until(b"[DONE]\n\n\r\n0\r\n\r\n").await;
    begun.elapsed()
}

async fn one_by_one(given: &Given, reader: &mut Reader) -> Duration {
    let frames = given.frames();
    frames.send(Frame::Started { prompt_tokens: 1 }).expect("the gateway will read");
    reader.ask().await;
    reader.until(b"\"role\"").await;
    let begun = Instant::now();
    for _ in 0..TOKENS {
        frames.send(token()).expect("the gateway reads");
        reader.until(b" water").await;
    }
    let elapsed = begun.elapsed();
    frames.send(done()).expect("the gateway reads");
    reader.until(b"[DONE]\n\n\r\n0\r\n\r\n").await;
    elapsed
}

/// From sending a request to reading its first token, which the pool has at once.
async fn first_tokens(given: &Given, reader: &mut Reader) -> Vec<Duration> {
    let mut times = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let frames = given.frames();
        for frame in [Frame::Started { prompt_tokens: 1 }, token(), done()] {
            frames.send(frame).expect("the gateway will read");
        }
        let begun = Instant::now();
        reader.ask().await;
        reader.until(b" water").await;
        times.push(begun.elapsed());
        reader.until(b"\r\n0\r\n\r\n").await;
    }
    times.sort_unstable();
    times
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let given = Arc::new(Given::default());
    let gateway = Gateway::bind(GatewayConfig::loopback(0), given.clone()).await.expect("a free port");
    let address = gateway.local_addr();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(gateway.serve(shutdown.clone()));
    let mut reader = Reader::open(address).await;

    let per_token = |time: Duration| time.as_secs_f64() * 1e6 / TOKENS as f64;
    println!("all at once   {:6.2} µs a token", per_token(all_at_once(&given, &mut reader).await));
    println!("one by one    {:6.2} µs a token", per_token(one_by_one(&given, &mut reader).await));
    let times = first_tokens(&given, &mut reader).await;
    println!("first token   {:6.1} µs p50, {:.1} µs p99", micros(&times, 50), micros(&times, 99));

    drop(reader);
    shutdown.cancel();
    serving.await.expect("it does not panic").expect("it ends well");
}

fn micros(sorted: &[Duration], percent: usize) -> f64 {
    sorted[sorted.len() * percent / 100].as_secs_f64() * 1e6
}
