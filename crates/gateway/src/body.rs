//! Reads a request's body, bounded in size, in time and over all requests, and wipes it once it is parsed.

use crate::{error::ApiError, parameters::Parameters, routes::Shared};
use axum::{
    body::BodyDataStream,
    extract::Request,
    http::{HeaderMap, StatusCode, header},
};
use futures_util::StreamExt;
use std::sync::Arc;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// The parameters of a `POST`.
pub(crate) async fn read_parameters(shared: &Shared, request: Request) -> Result<Parameters, ApiError> {
    check_type(request.headers())?;
    let announced = content_length(request.headers());
    let stream = request.into_body().into_data_stream();
    match timeout(shared.limits.body_timeout, read(shared, stream, announced)).await {
        Ok(body) => Parameters::parse(&body?),
        Err(_) => {
            let seconds = shared.limits.body_timeout.as_secs_f32();
            let message = format!("The body did not arrive within {seconds} s");
            Err(ApiError::request(StatusCode::REQUEST_TIMEOUT, message).code("request_timeout").close())
        }
    }
}

/// A page in a browser cannot send this type across origins without asking first: that is half of the protection of a
/// keyless gateway.
fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let refuse = |message| {
        Err(ApiError::request(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).code("unsupported_media_type").close())
    };
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return refuse("The body is JSON: send `content-type: application/json`");
    }
    match headers.get(header::CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            refuse("Bodies are read as they are: send no `content-encoding`")
        }
        _ => Ok(()),
    }
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn read(
    shared: &Shared,
    mut stream: BodyDataStream,
    announced: Option<usize>,
) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    let limits = &shared.limits;
    if announced.is_some_and(|bytes| bytes > limits.body_bytes_max) {
        return Err(too_large(shared, stream, 0).await);
    }
    // Room is made for what has come, not for what is announced: an announcement costs its sender nothing.
    let mut body = Zeroizing::new(Vec::new());
    let mut held = None;
    while let Some(piece) = stream.next().await {
        let Ok(piece) = piece else {
            return Err(ApiError::invalid("The body broke off").code("incomplete_body").close());
        };
        if body.len() + piece.len() > limits.body_bytes_max {
            return Err(too_large(shared, stream, body.len() + piece.len()).await);
        }
        // Bytes are held as they come: who only announces many keeps nobody else from sending some.
        let bytes = u32::try_from(piece.len()).unwrap_or(u32::MAX);
        match Arc::clone(&shared.body_bytes).try_acquire_many_owned(bytes) {
            Ok(permit) => match &mut held {
                None => held = Some(permit),
                Some(held) => held.merge(permit),
            },
            Err(_) => {
                let message = "Too many request bodies are being read on this gateway";
                return Err(ApiError::overloaded(message, 1000).close());
            }
        }
        append(&mut body, &piece);
    }
    Ok(body)
}

/// Appends, and wipes what growing leaves behind.
fn append(body: &mut Zeroizing<Vec<u8>>, piece: &[u8]) {
    let needed = body.len() + piece.len();
    if needed > body.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(needed.next_power_of_two()));
        larger.extend_from_slice(body);
        *body = larger;
    }
    body.extend_from_slice(piece);
}

/// Most clients read an answer only when their request is sent: the rest is thrown away first, up to a bound.
async fn too_large(shared: &Shared, mut stream: BodyDataStream, mut bytes: usize) -> ApiError {
    let limits = &shared.limits;
    let message = format!("The body is larger than {} bytes", limits.body_bytes_max);
    let error = ApiError::request(StatusCode::PAYLOAD_TOO_LARGE, message).code("request_too_large");
    while let Some(piece) = stream.next().await {
        bytes += piece.map_or(usize::MAX / 2, |piece| piece.len());
        if bytes > limits.body_discard_bytes_max {
            return error.close();
        }
    }
    error
}
