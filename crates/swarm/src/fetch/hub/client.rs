//! Requests to a hub. Redirects are followed here, one by one: the facts about a file stand in the headers of the hub's own
//! redirect, and the token goes to the hub and nowhere else.

use crate::{
    fetch::{Context, OriginError, Token},
    origin::HubFile,
};
use reqwest::{
    Method, Response, StatusCode, Url,
    header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION},
    redirect::Policy,
};
use std::{error::Error, time::Duration};
use tokio::time::timeout;

/// Redirects from the hub to the bytes. Two are usual.
const REDIRECTS_MAX: usize = 8;

/// Asks for one file of one hub.
pub(super) struct Client {
    http: reqwest::Client,
    pub(super) endpoint: Url,
    pub(super) file: HubFile,
    token: Option<Token>,
    licence: String,
    pub(super) answer_within: Duration,
}

/// The last answer of a chain of redirects.
pub(super) struct Answer {
    pub(super) response: Response,
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn header(&self, name: HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }
}

impl Client {
    pub(super) fn new(context: &Context<'_>, file: &HubFile) -> Result<Self, OriginError> {
        let hub = &context.settings.hub;
        let bad = || OriginError::BadEndpoint { endpoint: hub.endpoint.chars().take(200).collect() };
        let endpoint = Url::parse(hub.endpoint.trim_end_matches('/')).map_err(|_| bad())?;
        if !matches!(endpoint.scheme(), "http" | "https") || endpoint.host_str().is_none() {
            return Err(bad());
        }
        let patience = &context.settings.patience;
        // reqwest is built without a TLS provider; ring is the one that the transport links. Already set is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("darkbloom/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .connect_timeout(patience.connect);
        if is_loopback(&endpoint) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| {
            let host = endpoint.host_str().unwrap_or_default().to_owned();
            OriginError::Unreachable { host, why: format!("cannot set up TLS: {}", cause(&error)) }
        })?;
        let licence = &context.entry.licence;
        let licence = match &licence.url {
            Some(url) => format!("{} ({url})", licence.id),
            None => licence.id.clone(),
        };
        let (file, token) = (file.clone(), hub.token.clone());
        Ok(Self { http, endpoint, file, token, licence, answer_within: patience.answer })
    }

    /// The URL of a path on this hub.
    pub(super) fn url(&self, path: &str) -> Url {
        let text = format!("{}/{path}", self.endpoint.as_str().trim_end_matches('/'));
        Url::parse(&text).expect("an endpoint that is a URL, and a path of plain names")
    }

    pub(super) fn file_url(&self) -> Url {
        let HubFile { repo, revision, file } = &self.file;
        self.url(&format!("{repo}/resolve/{revision}/{file}"))
    }

    /// Requests the file, wherever its bytes are, and returns the first answer that is no redirect.
    pub(super) async fn request(&self, method: Method, headers: HeaderMap) -> Result<Answer, OriginError> {
        let mut url = self.file_url();
        for _ in 0..=REDIRECTS_MAX {
            let response = self.send(method.clone(), url.clone(), headers.clone()).await?;
            if !response.status().is_redirection() {
                return Ok(Answer { response });
            }
            url = self.next_hop(&response)?;
        }
        Err(self.malformed("it redirects without end"))
    }

    /// One request, no redirects.
    pub(super) async fn send(&self, method: Method, url: Url, headers: HeaderMap) -> Result<Response, OriginError> {
        let mut request = self.http.request(method, url.clone()).headers(headers);
        // Ranges are of the file as it is, not of a compressed form.
        request = request.header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(Token(token)) = &self.token
            && self.is_hub(&url)
        {
            let mut bearer = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| self.malformed("`HF_TOKEN` is not a token"))?;
            bearer.set_sensitive(true);
            request = request.header(AUTHORIZATION, bearer);
        }
        let host = host_of(&url);
        match timeout(self.answer_within, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(OriginError::Unreachable { host, why: cause(&error) }),
            Err(_) => {
                let why = format!("no answer within {} s", self.answer_within.as_secs_f32());
                Err(OriginError::Unreachable { host, why })
            }
        }
    }

    /// Where a redirect leads. Never from https to http: that would take the transfer out of TLS.
    pub(super) fn next_hop(&self, response: &Response) -> Result<Url, OriginError> {
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let next = location.and_then(|location| response.url().join(location).ok());
        match next {
            Some(next) if next.scheme() == "https" || next.scheme() == response.url().scheme() => Ok(next),
            _ => Err(self.malformed("it redirects to no usable place")),
        }
    }

    /// Whether a URL is on the configured hub itself.
    pub(super) fn is_hub(&self, url: &Url) -> bool {
        url.origin() == self.endpoint.origin()
    }

    pub(super) fn malformed(&self, why: &str) -> OriginError {
        OriginError::Malformed { host: host_of(&self.endpoint), why: why.to_owned() }
    }

    /// The meaning of an answer that is no success.
    pub(super) fn status(&self, answer: &Answer) -> OriginError {
        self.status_of(&answer.response)
    }

    pub(super) fn status_of(&self, response: &Response) -> OriginError {
        let host = host_of(response.url());
        match response.status().as_u16() {
            status @ (401 | 403) if self.is_hub(response.url()) => OriginError::Refused {
                host,
                status,
                with_token: self.token.is_some(),
                licence: self.licence.clone(),
                page: self.url(&self.file.repo).to_string(),
            },
            status @ (404 | 410) => OriginError::NotFound { host, status },
            status => OriginError::Status { host, status },
        }
    }
}

fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// A proxy of the environment leads outside; a hub on this machine is not there.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The innermost reason of an HTTP error: "connection refused" rather than "error sending request".
pub(super) fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string().chars().take(300).collect()
}
