//! What the hub says about a file before it sends it.
//!
//! For a large file the hub answers `HEAD …/resolve/…` with a redirect to its content network, and that redirect bears
//! `x-linked-etag` (the SHA-256) and `x-linked-size`. Mirrors and renamed repositories first redirect elsewhere, so redirects
//! are followed until those headers appear. A plain `etag` counts only on the hub itself: content networks have validators
//! of their own, which look like a SHA-256 and are none. Where headers say too little, the repository's file list does.

use super::{Client, client::Answer};
use crate::{digest::Sha256Digest, fetch::OriginError};
use reqwest::{
    Method, Response, Url,
    header::{CONTENT_LENGTH, ETAG, HeaderMap},
};
use serde::Deserialize;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

const REDIRECTS_MAX: usize = 8;
/// Largest list of a repository's folder that is read.
const LIST_BYTES_MAX: usize = 4 << 20;
/// Attempts at a hub that says it has a problem of its own.
const ATTEMPTS: u32 = 3;

/// What the hub says it has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offered {
    pub(super) bytes: Option<u64>,
    pub(super) sha256: Option<Sha256Digest>,
}

impl Client {
    /// Asks what the hub has. An answer is not yet a promise that it will send it.
    pub(super) async fn ask(&self) -> Result<Offered, OriginError> {
        let mut offered = self.ask_headers().await?;
        if (offered.bytes.is_none() || offered.sha256.is_none())
            && let Some(listed) = self.ask_list().await
        {
            offered.bytes = offered.bytes.or(listed.bytes);
            offered.sha256 = offered.sha256.or(listed.sha256);
        }
        Ok(offered)
    }

    async fn ask_headers(&self) -> Result<Offered, OriginError> {
        let mut offered = Offered::default();
        let mut url = self.file_url();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.head(url).await?;
            offered = self.read_headers(&response, offered);
            let status = response.status();
            if status.is_success() || (offered.sha256.is_some() && offered.bytes.is_some()) {
                return Ok(offered);
            }
            if !status.is_redirection() {
                // Content networks may refuse HEAD for links that are signed for GET: what is known so far is enough.
                let foreign = !self.is_hub(response.url());
                return if foreign { Ok(offered) } else { Err(self.status(&Answer { response })) };
            }
            url = self.next_hop(&response)?;
        }
        Err(self.malformed("it redirects without end"))
    }

    /// One HEAD, again only if the hub itself says that it is in trouble. An unreachable hub is left at once.
    async fn head(&self, url: Url) -> Result<Response, OriginError> {
        let mut attempt = 1;
        loop {
            let response = self.send(Method::HEAD, url.clone(), HeaderMap::new()).await?;
            let in_trouble = response.status().is_server_error() || response.status().as_u16() == 429;
            if !in_trouble || attempt == ATTEMPTS {
                return Ok(response);
            }
            tokio::time::sleep(Duration::from_millis(500) * attempt).await;
            attempt += 1;
        }
    }

    fn read_headers(&self, response: &Response, mut offered: Offered) -> Offered {
        let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let digest = |text: &str| text.trim_start_matches("W/").trim_matches('"').parse::<Sha256Digest>().ok();
        offered.sha256 = offered.sha256.or_else(|| text("x-linked-etag").and_then(digest));
        offered.bytes = offered.bytes.or_else(|| text("x-linked-size").and_then(|size| size.parse().ok()));
        if response.status().is_success() {
            offered.bytes = offered.bytes.or_else(|| text(CONTENT_LENGTH.as_str()).and_then(|size| size.parse().ok()));
            if self.is_hub(response.url()) {
                offered.sha256 = offered.sha256.or_else(|| text(ETAG.as_str()).and_then(digest));
            }
        }
        offered
    }

    /// The file in the list of its folder. It only adds to what headers said, so a failure here is no failure.
    async fn ask_list(&self) -> Option<Offered> {
        #[derive(Deserialize)]
        struct Listed {
            path: String,
            size: Option<u64>,
            lfs: Option<Lfs>,
        }
        #[derive(Deserialize)]
        struct Lfs {
            oid: String,
            size: Option<u64>,
        }
        let folder = self.file.file.rsplit_once('/').map(|(folder, _)| format!("/{folder}")).unwrap_or_default();
        let path = format!("api/models/{}/tree/{}{folder}", self.file.repo, self.file.revision);
        let deadline = Instant::now() + self.answer_within;
        let mut response = self.send(Method::GET, self.url(&path), HeaderMap::new()).await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        let mut body = Vec::new();
        while let Some(chunk) = timeout_at(deadline, response.chunk()).await.ok()?.ok()? {
            if body.len() + chunk.len() > LIST_BYTES_MAX {
                return None;
            }
            body.extend_from_slice(&chunk);
        }
        let list: Vec<Listed> = serde_json::from_slice(&body).ok()?;
        let listed = list.into_iter().find(|listed| listed.path == self.file.file)?;
        let lfs = listed.lfs?;
        let sha256 = lfs.oid.trim_start_matches("sha256:").parse().ok();
        Some(Offered { bytes: lfs.size.or(listed.size), sha256 })
    }
}
