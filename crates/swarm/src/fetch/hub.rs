//! A hub as an origin: ask what it has, then transfer by ranges, going on where an earlier attempt or run stopped.

mod client;
mod metadata;

use super::{Context, Filled, OriginError, error::Stop, sink::Sink};
use crate::{
    origin::{HubFile, Origin},
    progress::Phase,
    store::{Part, PartState},
};
use client::{Answer, Client};
use reqwest::{
    Method, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE},
};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// An attempt that brought at least this much was no idle one.
const ATTEMPT_BYTES_MIN: u64 = 1 << 20;

/// How one attempt at transferring ended.
enum Attempt {
    /// All bytes are here.
    Whole(Part),
    /// Not all; what is here is kept, and another attempt may bring the rest.
    Again(Part, OriginError),
    /// No use in another attempt.
    Never(Stop),
}

/// Fills the part of the context's entry with a file of the hub.
pub(super) async fn fill(context: &Context<'_>, file: &HubFile, origin: &Origin) -> Result<Filled, Stop> {
    let client = Client::new(context, file)?;
    context.progress.phase(Phase::Asking, 0, None);
    let offered = client.ask().await?;
    let size = context.entry.size;
    let bytes_total = match (offered.bytes, &context.learned) {
        (Some(bytes), Some(learned)) if learned.bytes != bytes => {
            return Err(OriginError::WrongSize { offered: bytes, expected: learned.bytes }.into());
        }
        (Some(bytes), _) if size.accepts(bytes) => bytes,
        (Some(offered), _) => return Err(OriginError::WrongSize { offered, expected: size.bytes() }.into()),
        (None, Some(learned)) => learned.bytes,
        (None, None) if context.expected().is_some() => size.bytes(),
        (None, None) => return Err(client.malformed("it does not say how large the file is").into()),
    };
    match (&context.learned, offered.sha256) {
        (Some(learned), Some(offered)) if learned.sha256 != offered => {
            return Err(OriginError::Changed { learned: learned.sha256, offered }.into());
        }
        (None, None) if context.expected().is_none() => return Err(OriginError::NoPublishedHash.into()),
        _ => {}
    }

    let fresh = PartState { origin: origin.to_string(), etag: None, sha256: offered.sha256, bytes_total };
    let same_file = fresh.clone();
    let part = context
        .open_part(bytes_total, move |kept| {
            // The prefix may be another origin's: the hash decides in the end. Only a known contradiction is dropped now.
            let contradicts = matches!((kept.sha256, same_file.sha256), (Some(kept), Some(offered)) if kept != offered);
            kept.bytes_total == same_file.bytes_total && !contradicts
        })
        .await?;
    if part.resumed_bytes() > 0 {
        tracing::info!(
            model = context.entry.name,
            bytes = part.resumed_bytes(),
            bytes_total,
            "going on where it stopped"
        );
    }
    let part = transfer(context, &client, part, fresh).await?;
    Ok(Filled { part, published: offered.sha256 })
}

/// Attempts until the part is whole, or attempts bring nothing more.
async fn transfer(context: &Context<'_>, client: &Client, mut part: Part, state: PartState) -> Result<Part, Stop> {
    let patience = &context.settings.patience;
    let mut idle = 0;
    loop {
        if part.is_whole() {
            return Ok(part);
        }
        let before = part.bytes();
        context.progress.phase(Phase::Downloading, before, Some(part.bytes_total()));
        match attempt(context, client, part, &state).await {
            Attempt::Whole(part) => return Ok(part),
            Attempt::Never(stop) => return Err(stop),
            Attempt::Again(kept, reason) => {
                part = kept;
                idle = if part.bytes() >= before.saturating_add(ATTEMPT_BYTES_MIN) { 0 } else { idle + 1 };
                if idle >= patience.attempts_idle_max {
                    return Err(reason.into());
                }
                tracing::debug!(%reason, idle, "trying again");
                let pause = patience.retry_pause.saturating_mul(1 << idle.min(4));
                tokio::time::sleep(pause).await;
            }
        }
    }
}

async fn attempt(context: &Context<'_>, client: &Client, mut part: Part, state: &PartState) -> Attempt {
    let noted = part.state().filter(|noted| noted.origin == state.origin);
    let known_etag = noted.and_then(|noted| noted.etag);
    let mut headers = HeaderMap::new();
    if part.bytes() > 0 {
        let range = HeaderValue::try_from(format!("bytes={}-", part.bytes())).expect("digits are a header value");
        headers.insert(RANGE, range);
        // RFC 9110, 13.1.5: with a strong validator the server sends the rest of the same file, or all of the new one.
        if let Some(etag) = known_etag.as_deref().filter(|etag| is_strong(etag)).and_then(|etag| etag.parse().ok()) {
            headers.insert(IF_RANGE, etag);
        }
    }
    let answer = match client.request(Method::GET, headers).await {
        Ok(answer) => answer,
        Err(reason @ OriginError::Unreachable { .. }) => return Attempt::Again(part, reason),
        Err(reason) => return Attempt::Never(reason.into()),
    };
    let etag = answer.header(ETAG).filter(|etag| is_strong(etag) && etag.len() <= 512).map(str::to_owned);
    let goes_on = match answer.status() {
        StatusCode::PARTIAL_CONTENT => {
            let right_range = content_range_is(&answer, part.bytes(), part.bytes_total());
            let other_file = matches!((&known_etag, &etag), (Some(known), Some(etag)) if known != etag);
            right_range && !other_file
        }
        StatusCode::OK => {
            if let Err(error) = part.restart() {
                return Attempt::Never(error.into());
            }
            true
        }
        StatusCode::RANGE_NOT_SATISFIABLE => false,
        StatusCode::TOO_MANY_REQUESTS => return Attempt::Again(part, client.status(&answer)),
        status if status.is_server_error() => return Attempt::Again(part, client.status(&answer)),
        _ => return Attempt::Never(client.status(&answer).into()),
    };
    if !goes_on {
        // The rest would not fit what is here: begin again. A server that keeps doing so is an idle one.
        let why = client.malformed("it sends another part of the file, or another file, than asked for");
        return match part.restart() {
            Ok(()) => Attempt::Again(part, why),
            Err(error) => Attempt::Never(error.into()),
        };
    }
    let left = part.bytes_total() - part.bytes();
    if let Some(announced) = answer.header(CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok())
        && announced != left
    {
        let offered = part.bytes().saturating_add(announced);
        return Attempt::Never(OriginError::WrongSize { offered, expected: part.bytes_total() }.into());
    }
    if let Err(error) = part.note(&PartState { etag, ..state.clone() }) {
        return Attempt::Never(error.into());
    }
    receive(context, answer, part).await
}

/// Takes the body of an answer into the part.
async fn receive(context: &Context<'_>, answer: Answer, part: Part) -> Attempt {
    let patience = &context.settings.patience;
    let (bytes_total, mut bytes_done) = (part.bytes_total(), part.bytes());
    context.progress.phase(Phase::Downloading, bytes_done, Some(bytes_total));
    let sink = Sink::start(part, context.progress.clone());
    let mut response = answer.response;
    let mut pace = Pace::new(patience.stall, patience.bytes_min);
    let mut broken = None;
    loop {
        let reason = match timeout(patience.stall, response.chunk()).await {
            Ok(Ok(Some(chunk))) => {
                let count = chunk.len() as u64;
                bytes_done = bytes_done.saturating_add(count);
                if !sink.send(chunk).await {
                    break;
                }
                if pace.keeps_up(Instant::now(), count) {
                    continue;
                }
                OriginError::Stalled { bytes_done, bytes_total }
            }
            Ok(Ok(None)) => break,
            Ok(Err(error)) => OriginError::Broken { bytes_done, bytes_total, why: client::cause(&error) },
            Err(_) => OriginError::Stalled { bytes_done, bytes_total },
        };
        broken = Some(reason);
        break;
    }
    let (part, written) = sink.finish().await;
    match written {
        Err(error) => {
            if matches!(error, crate::store::PartError::TooLong { .. }) {
                // Who sends more than was announced may have sent anything before.
                part.discard();
            }
            Attempt::Never(error.into())
        }
        Ok(()) if part.is_whole() => Attempt::Whole(part),
        Ok(()) => {
            let why = || "the connection was closed".to_owned();
            Attempt::Again(part, broken.unwrap_or_else(|| OriginError::Broken { bytes_done, bytes_total, why: why() }))
        }
    }
}

/// A validator that promises the same bytes, not only the same meaning.
fn is_strong(etag: &str) -> bool {
    etag.starts_with('"') && etag.len() > 2
}

/// Whether a partial answer is the rest of the file from `start` on: `bytes start-end/total`.
fn content_range_is(answer: &Answer, start: u64, total: u64) -> bool {
    answer.header(CONTENT_RANGE) == Some(&format!("bytes {start}-{}/{total}", total - 1))
}

/// Notices a sender that drips: each window must bring a minimum.
struct Pace {
    window: Duration,
    bytes_min: u64,
    since: Option<Instant>,
    bytes: u64,
}

impl Pace {
    fn new(window: Duration, bytes_min: u64) -> Self {
        Self { window, bytes_min, since: None, bytes: 0 }
    }

    fn keeps_up(&mut self, now: Instant, count: u64) -> bool {
        let since = *self.since.get_or_insert(now);
        self.bytes = self.bytes.saturating_add(count);
        if now.duration_since(since) < self.window {
            return true;
        }
        let enough = self.bytes >= self.bytes_min;
        (self.since, self.bytes) = (Some(now), 0);
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dripping_sender_is_noticed() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pace = Pace::new(Duration::from_secs(10), 100);
        assert!(pace.keeps_up(at(0), 1));
        assert!(pace.keeps_up(at(9), 1));
        assert!(!pace.keeps_up(at(10), 1), "3 bytes in 10 s");
        assert!(pace.keeps_up(at(15), 99));
        assert!(pace.keeps_up(at(20), 1), "100 bytes in 10 s");
    }

    #[test]
    fn only_strong_validators_count() {
        assert!(is_strong("\"abc\""));
        assert!(!is_strong("W/\"abc\"") && !is_strong("\"\"") && !is_strong("abc"));
    }
}
