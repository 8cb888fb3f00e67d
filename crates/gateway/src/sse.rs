//! Server-sent events: each frame of an answer as one chunk in OpenAI's shape, as soon as it is there.
//!
//! The token path is short on purpose. Everything of a chunk that does not change is built once; a frame costs one
//! buffer, one JSON escape and no task switch, and hyper writes it out when no further one is ready.

use crate::{
    answer::{Heading, UsageBody, ended_early, finish_reason, out_of_order},
    asker::Answer,
    error::ApiError,
    metrics::Metrics,
    routes::{Arrival, Place},
};
use axum::{
    body::{Body, Bytes},
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use client::AskError;
use futures_util::{Stream, StreamExt, future::BoxFuture};
use protocol::task::{Finish, Frame, Usage};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");
const DONE: &[u8] = b"data: [DONE]\n\n";

/// What distinguishes chat chunks from those of a completion: the members of a choice that bear its text.
#[derive(Debug)]
pub(crate) struct ChunkStyle {
    pub(crate) id_prefix: &'static str,
    pub(crate) object: &'static str,
    /// A choice before the first text, if there is one.
    pub(crate) opening: Option<&'static str>,
    /// Around the text.
    pub(crate) text: (&'static str, &'static str),
    /// A choice after the last text.
    pub(crate) closing: &'static str,
}

/// An answer as events. Dropping it cancels the task.
pub(crate) struct Events {
    phase: Phase,
    style: &'static ChunkStyle,
    include_usage: bool,
    keep_alive: Pin<Box<Sleep>>,
    keep_alive_interval: Duration,
    last_sent: Instant,
    /// When the request arrived; `None` once a first text went out.
    awaiting_text: Option<Arrival>,
    metrics: Arc<Metrics>,
    _place: Place,
}

enum Phase {
    /// No frame yet, and the headers are already out.
    Beginning(BoxFuture<'static, Result<Answer, AskError>>),
    /// The worker began; nothing was said of it yet.
    Begun(Answer),
    Answering(Answer, Chunks),
    Ended,
}

impl Events {
    /// Events of an answer that begins when `beginning` is done. An error before that, if it comes within the
    /// keep-alive interval, is returned, so that it keeps its HTTP status; later ones become events.
    pub(crate) async fn begin(
        mut beginning: BoxFuture<'static, Result<Answer, AskError>>,
        style: &'static ChunkStyle,
        include_usage: bool,
        keep_alive_interval: Duration,
        (arrival, metrics, place): (Arrival, Arc<Metrics>, Place),
    ) -> Result<Self, AskError> {
        let phase = match tokio::time::timeout(keep_alive_interval, &mut beginning).await {
            Ok(answer) => Phase::Begun(answer?),
            Err(_) => Phase::Beginning(beginning),
        };
        Ok(Self {
            phase,
            style,
            include_usage,
            keep_alive: Box::pin(sleep(keep_alive_interval)),
            keep_alive_interval,
            last_sent: Instant::now(),
            awaiting_text: Some(arrival),
            metrics,
            _place: place,
        })
    }

    /// The next event, unless it has to wait. Keep-alive comments are not its business.
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            match &mut self.phase {
                Phase::Ended => return Poll::Ready(None),
                Phase::Beginning(beginning) => match std::task::ready!(beginning.as_mut().poll(context)) {
                    Ok(answer) => self.phase = Phase::Begun(answer),
                    Err(error) => return Poll::Ready(Some(self.fail(error))),
                },
                Phase::Begun(_) => {
                    let Phase::Begun(answer) = std::mem::replace(&mut self.phase, Phase::Ended) else { continue };
                    let chunks = Chunks::new(self.style, &answer, self.include_usage);
                    let opening = chunks.opening();
                    self.phase = Phase::Answering(answer, chunks);
                    if let Some(opening) = opening {
                        return Poll::Ready(Some(opening));
                    }
                }
                Phase::Answering(answer, chunks) => {
                    let event = match std::task::ready!(answer.frames.poll_next_unpin(context)) {
                        Some(Ok(frame)) => match &frame {
                            // A stop string or a character is undecided: nothing to say yet.
                            Frame::Tokens { text, .. } if text.is_empty() => continue,
                            Frame::Tokens { text, .. } => {
                                if let Some(arrival) = self.awaiting_text.take() {
                                    self.metrics.observe_first_token(arrival.0.elapsed());
                                }
                                return Poll::Ready(Some(chunks.text(text)));
                            }
                            Frame::Done { finish, usage } => {
                                self.metrics.count_usage(*usage);
                                Ok(chunks.ending(*finish, *usage))
                            }
                            Frame::Failed { error } => Err(AskError::Task(error.clone())),
                            Frame::Started { .. } | Frame::Embedding { .. } | Frame::Scores { .. } => {
                                Err(out_of_order())
                            }
                        },
                        Some(Err(error)) => Err(error),
                        None => Err(ended_early()),
                    };
                    let event = event.unwrap_or_else(|error| self.fail(error));
                    self.phase = Phase::Ended;
                    return Poll::Ready(Some(event));
                }
            }
        }
    }

    /// The error as an event, which the official clients raise; no `[DONE]` follows.
    fn fail(&mut self, error: AskError) -> Bytes {
        self.phase = Phase::Ended;
        self.metrics.streams_failed.inc();
        let mut event = b"data: ".to_vec();
        event.extend_from_slice(&ApiError::from(error).envelope());
        event.extend_from_slice(b"\n\n");
        event.into()
    }

    /// A comment if nothing was sent for an interval. The timer is not moved for every event, only when it fires.
    fn poll_keep_alive(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            std::task::ready!(self.keep_alive.as_mut().poll(context));
            let now = Instant::now();
            let due = self.last_sent + self.keep_alive_interval;
            let is_due = due <= now;
            self.keep_alive.as_mut().reset(if is_due { now + self.keep_alive_interval } else { due });
            if is_due {
                return Poll::Ready(());
            }
        }
    }
}

impl Stream for Events {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let event = match self.poll_event(context) {
            Poll::Ready(event) => event,
            Poll::Pending => {
                std::task::ready!(self.poll_keep_alive(context));
                Some(KEEP_ALIVE)
            }
        };
        self.last_sent = Instant::now();
        Poll::Ready(event.map(Ok))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if !matches!(self.phase, Phase::Ended) {
            self.metrics.streams_cancelled.inc();
        }
    }
}

impl IntoResponse for Events {
    fn into_response(self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            // Tells nginx not to collect events.
            (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
        ];
        (headers, Body::from_stream(self)).into_response()
    }
}

/// The parts of a chunk that are the same for every frame of an answer.
struct Chunks {
    style: &'static ChunkStyle,
    /// From `data: ` into the choice.
    head: Vec<u8>,
    /// After the choice's last member to the end of the event.
    tail: &'static str,
    /// `head` up to where the text begins.
    before_text: Vec<u8>,
    include_usage: bool,
}

impl Chunks {
    fn new(style: &'static ChunkStyle, answer: &Answer, include_usage: bool) -> Self {
        let mut head = b"data: ".to_vec();
        let heading = Heading::new(style.id_prefix, style.object, answer);
        serde_json::to_writer(&mut head, &heading).expect("a heading is strings and numbers");
        assert_eq!(head.pop(), Some(b'}'), "a heading is an object, and the chunk goes on in it");
        let mut before_text = head.clone();
        before_text.extend_from_slice(b",\"choices\":[{\"index\":0,");
        before_text.extend_from_slice(style.text.0.as_bytes());
        let tail = if include_usage { "}],\"usage\":null}\n\n" } else { "}]}\n\n" };
        Self { style, head, tail, before_text, include_usage }
    }

    fn opening(&self) -> Option<Bytes> {
        let mut event = Vec::with_capacity(self.head.len() + 128);
        self.choice(&mut event, self.style.opening?, None);
        Some(event.into())
    }

    fn text(&self, text: &str) -> Bytes {
        const AFTER: &str = ",\"logprobs\":null,\"finish_reason\":null";
        let mut event = Vec::with_capacity(self.before_text.len() + text.len() + text.len() / 8 + 80);
        event.extend_from_slice(&self.before_text);
        serde_json::to_writer(&mut event, text).expect("a string is always JSON");
        for part in [self.style.text.1, AFTER, self.tail] {
            event.extend_from_slice(part.as_bytes());
        }
        event.into()
    }

    fn ending(&self, finish: Finish, usage: Usage) -> Bytes {
        let mut event = Vec::with_capacity(2 * self.head.len() + 256);
        self.choice(&mut event, self.style.closing, Some(finish_reason(finish)));
        if self.include_usage {
            event.extend_from_slice(&self.head);
            event.extend_from_slice(b",\"choices\":[],\"usage\":");
            serde_json::to_writer(&mut event, &UsageBody::from(usage)).expect("usage is numbers");
            event.extend_from_slice(b"}\n\n");
        }
        event.extend_from_slice(DONE);
        event.into()
    }

    fn choice(&self, event: &mut Vec<u8>, members: &str, finish: Option<&str>) {
        event.extend_from_slice(&self.head);
        event.extend_from_slice(b",\"choices\":[{\"index\":0,");
        event.extend_from_slice(members.as_bytes());
        event.extend_from_slice(b",\"logprobs\":null,\"finish_reason\":");
        serde_json::to_writer(&mut *event, &finish).expect("a word is always JSON");
        event.extend_from_slice(self.tail.as_bytes());
    }
}
