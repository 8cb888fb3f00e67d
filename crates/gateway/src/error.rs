//! Every refusal in OpenAI's envelope: `{"error":{"message","type","param","code"}}`.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use client::AskError;
use protocol::task::TaskError;
use serde::Serialize;

/// A refusal of one request. Its text goes to the asker and nowhere else: it may name what was asked.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    message: String,
    retry_after_ms: Option<u64>,
    close: bool,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Fields<'a>,
}

#[derive(Serialize)]
struct Fields<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

impl ApiError {
    /// The asker's fault; `type` is `invalid_request_error`.
    pub(crate) fn request(status: StatusCode, message: impl Into<String>) -> Self {
        let kind = "invalid_request_error";
        Self { status, kind, code: None, param: None, message: message.into(), retry_after_ms: None, close: false }
    }

    /// The asker's fault, 400.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::request(StatusCode::BAD_REQUEST, message)
    }

    /// A parameter whose value cannot be.
    pub(crate) fn invalid_value(param: impl Into<String>, why: impl AsRef<str>) -> Self {
        let param = param.into();
        Self::invalid(format!("Invalid value for '{param}': {}", why.as_ref())).code("invalid_value").param(param)
    }

    /// A parameter that this gateway does not serve; saying so beats an answer that ignored it.
    pub(crate) fn unsupported(param: impl Into<String>, why: impl AsRef<str>) -> Self {
        let param = param.into();
        let message = format!("Unsupported parameter: '{param}' {}", why.as_ref());
        Self::invalid(message).code("unsupported_parameter").param(param)
    }

    /// Our side's or the pool's fault; `type` is `server_error`.
    pub(crate) fn server(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind: "server_error", ..Self::request(status, message).code(code) }
    }

    /// Too much at once; the same request is fine later.
    pub(crate) fn overloaded(message: impl Into<String>, retry_after_ms: u64) -> Self {
        let error = Self::request(StatusCode::TOO_MANY_REQUESTS, message).code("rate_limit_exceeded");
        Self { kind: "rate_limit_error", retry_after_ms: Some(retry_after_ms), ..error }
    }

    pub(crate) fn code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    pub(crate) fn param(self, param: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    /// The connection cannot carry another request.
    pub(crate) fn close(self) -> Self {
        Self { close: true, ..self }
    }

    /// The envelope as JSON.
    pub(crate) fn envelope(&self) -> Vec<u8> {
        let Self { message, kind, param, code, .. } = self;
        let error = Fields { message, r#type: kind, param: param.as_deref(), code: *code };
        serde_json::to_vec(&Envelope { error }).expect("strings are always JSON")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.envelope()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(ms) = self.retry_after_ms {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000).max(1)));
            // Not a standard, but the official clients prefer it, and a token takes milliseconds.
            headers.insert("retry-after-ms", HeaderValue::from(ms.max(1)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<AskError> for ApiError {
    fn from(error: AskError) -> Self {
        let message = error.to_string();
        match error {
            AskError::UnknownModel { .. } => {
                Self::request(StatusCode::NOT_FOUND, message).code("model_not_found").param("model")
            }
            AskError::NoNode { retry_after_ms, .. } => {
                let error = Self::server(StatusCode::SERVICE_UNAVAILABLE, "no_node_available", message);
                Self { retry_after_ms, ..error }
            }
            AskError::Overloaded { retry_after_ms } => Self::overloaded(message, retry_after_ms),
            AskError::Unreachable { .. } => Self::server(StatusCode::SERVICE_UNAVAILABLE, "pool_unreachable", message),
            AskError::Broken { .. } => Self::server(StatusCode::BAD_GATEWAY, "answer_broken", message),
            AskError::NotBelieved { .. } => Self::server(StatusCode::BAD_GATEWAY, "not_believed", message),
            AskError::Denied(_) | AskError::Unanswered(_) => {
                Self::server(StatusCode::SERVICE_UNAVAILABLE, "pool_denied", message)
            }
            AskError::Invalid(error) | AskError::Task(error) => error.into(),
            // What later versions of the client add.
            _ => Self::server(StatusCode::INTERNAL_SERVER_ERROR, "not_answered", message),
        }
    }
}

impl From<TaskError> for ApiError {
    fn from(error: TaskError) -> Self {
        let message = error.to_string();
        match error {
            TaskError::ContextExceeded { prompt_tokens, context_tokens } => Self::invalid(format!(
                "This model's maximum context length is {context_tokens} tokens. However, your prompt has \
                 {prompt_tokens} tokens. Please reduce its length."
            ))
            .code("context_length_exceeded"),
            TaskError::Invalid { .. } => Self::invalid(message).code("invalid_value"),
            TaskError::Unsupported { .. } => Self::invalid(message).code("unsupported_by_model").param("model"),
            TaskError::ShuttingDown => {
                let error = Self::server(StatusCode::SERVICE_UNAVAILABLE, "node_leaving", message);
                Self { retry_after_ms: Some(1000), ..error }
            }
            // `Engine`, and what later protocol versions add.
            _ => Self::server(StatusCode::INTERNAL_SERVER_ERROR, "engine_failed", message),
        }
    }
}
