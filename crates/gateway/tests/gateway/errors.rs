//! Every refusal: its status, its code, and OpenAI's envelope around it.

use crate::{
    Served,
    fake_pool::{Script, started},
};
use client::AskError;
use gateway::Limits;
use protocol::task::{Finish, Frame, TaskError, Usage};
use std::time::Duration;

const CHAT: &str = r#"{"model":"default","messages":[{"role":"user","content":"hello"}]}"#;

#[tokio::test]
async fn what_the_pool_refuses_gets_its_status() {
    let context = TaskError::ContextExceeded { prompt_tokens: 900, context_tokens: 512 };
    let reason = || "no reply".to_owned();
    let cases = [
        (AskError::UnknownModel { model: "x".into(), known: vec!["y".into()] }, 404, "model_not_found", None),
        (
            AskError::NoNode { reasons: vec!["all asleep".into()], retry_after_ms: Some(2500) },
            503,
            "no_node_available",
            Some(("3", "2500")),
        ),
        (
            AskError::NoNode { reasons: vec!["none joined".into()], retry_after_ms: None },
            503,
            "no_node_available",
            None,
        ),
        (AskError::Overloaded { retry_after_ms: 40 }, 429, "rate_limit_exceeded", Some(("1", "40"))),
        (AskError::Unreachable { reason: reason() }, 503, "pool_unreachable", None),
        (AskError::Broken { reason: reason() }, 502, "answer_broken", None),
        (AskError::Invalid(TaskError::Invalid { message: "bad".into() }), 400, "invalid_value", None),
        (AskError::Task(context), 400, "context_length_exceeded", None),
        (AskError::Task(TaskError::Unsupported { message: "no vectors".into() }), 400, "unsupported_by_model", None),
        (AskError::Task(TaskError::Engine { message: "oops".into() }), 500, "engine_failed", None),
        (AskError::Task(TaskError::ShuttingDown), 503, "node_leaving", Some(("1", "1000"))),
    ];
    let served = Served::start().await;
    for (error, status, code, retry) in cases {
        let said = error.to_string();
        served.pool.script("default", Script::Refuse(error));
        let response = served.chat(CHAT).await;
        assert_eq!((response.status(), response.error_code().as_str()), (status, code), "{said}");
        let given = response.head.header("retry-after").zip(response.head.header("retry-after-ms"));
        assert_eq!(given, retry, "{said}");
    }
    served.pool.script(
        "default",
        Script::Refuse(AskError::NoNode {
            reasons: vec!["laptop: on battery".into(), "mac: owner is back".into()],
            retry_after_ms: None,
        }),
    );
    let text = served.chat(CHAT).await.text();
    assert!(text.contains("laptop: on battery; mac: owner is back"), "{text}");
}

#[tokio::test]
async fn an_answer_that_is_not_whole_is_an_error() {
    let served = Served::start().await;
    let vector = |index, vector: &[f32]| Ok(Frame::Embedding { index, vector: vector.to_vec() });
    let end = || Ok(Frame::Done { finish: Finish::Stop, usage: Usage::default() });
    for frames in [vec![], vec![Ok(started())], vec![end()], vec![Ok(started()), vector(0, &[1.0]), end()]] {
        served.pool.script("default", Script::Frames(frames));
        let response = served.chat(CHAT).await;
        assert_eq!((response.status(), response.error_code().as_str()), (502, "answer_broken"));
    }
    for frames in [
        vec![end()],
        vec![vector(0, &[1.0]), end()],
        vec![vector(0, &[1.0]), vector(0, &[1.0]), end()],
        vec![vector(0, &[1.0]), vector(2, &[1.0]), end()],
        vec![vector(0, &[1.0]), vector(1, &[f32::NAN]), end()],
        vec![vector(0, &[1.0]), vector(1, &[]), end()],
        vec![vector(0, &[1.0]), vector(1, &[1.0])],
    ] {
        let frames = std::iter::once(Ok(started())).chain(frames).collect();
        served.pool.script("default", Script::Frames(frames));
        let response = served.post("/v1/embeddings", r#"{"model":"default","input":["a","b"]}"#).await;
        assert_eq!((response.status(), response.error_code().as_str()), (502, "answer_broken"));
    }
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_named() {
    let served = Served::start().await;
    let response = served.get("/v1/nothing").await;
    assert_eq!((response.status(), response.error_code().as_str()), (404, "unknown_url"));
    let mut connection = served.connect().await;
    for (method, path, allow) in [
        ("GET", "/v1/chat/completions", "POST"),
        ("OPTIONS", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/models", "GET,HEAD"),
        ("BREW", "/healthz", "GET,HEAD"),
    ] {
        let response = connection.request(method, path, &[]).await;
        assert_eq!((response.status(), response.error_code().as_str()), (405, "method_not_allowed"));
        assert_eq!(response.head.header("allow"), Some(allow));
        assert_eq!(response.head.header("access-control-allow-origin"), None);
    }
}

#[tokio::test]
async fn a_body_that_is_not_json_by_type_is_refused() {
    let served = Served::start().await;
    for content_type in
        ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonp", "multipart/form-data"]
    {
        let mut connection = served.connect().await;
        let response = connection.post("/v1/chat/completions", &[("content-type", content_type)], CHAT).await;
        assert_eq!((response.status(), response.error_code().as_str()), (415, "unsupported_media_type"));
    }
    let mut connection = served.connect().await;
    let response = connection.post("/v1/chat/completions", &[("content-encoding", "gzip")], CHAT).await;
    assert_eq!(response.status(), 415);
    let mut connection = served.connect().await;
    let content_type = [("content-type", "Application/JSON; charset=utf-8")];
    assert_eq!(connection.post("/v1/chat/completions", &content_type, CHAT).await.status(), 200);
}

#[tokio::test]
async fn an_oversized_body_is_refused_however_it_comes() {
    let limits = Limits { body_bytes_max: 1000, body_discard_bytes_max: 5000, ..Limits::default() };
    let served = Served::with_limits(limits).await;
    // Announced, and small enough to throw away: the connection goes on.
    let mut connection = served.connect().await;
    let response = connection.post("/v1/chat/completions", &[], &"x".repeat(4000)).await;
    assert_eq!((response.status(), response.error_code().as_str()), (413, "request_too_large"));
    assert_eq!(connection.post("/v1/chat/completions", &[], CHAT).await.status(), 200);
    // Announced, and too large even for that.
    let response = served.chat(&"x".repeat(100_000)).await;
    assert_eq!((response.status(), response.head.header("connection")), (413, Some("close")));
    // In chunks, without an announcement.
    let mut connection = served.connect().await;
    let head = "POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                transfer-encoding: chunked\r\n\r\n";
    connection.send(head.as_bytes()).await;
    for _ in 0..3 {
        connection.try_send(format!("1f4\r\n{}\r\n", "x".repeat(500)).as_bytes()).await;
    }
    connection.try_send(b"0\r\n\r\n").await;
    assert_eq!(connection.response().await.status(), 413);
}

#[tokio::test]
async fn bodies_share_one_budget() {
    let limits = Limits { body_bytes_in_flight_max: 2000, ..Limits::default() };
    let served = Served::with_limits(limits).await;
    let response = served.chat(&" ".repeat(3000)).await;
    assert_eq!((response.status(), response.error_code().as_str()), (429, "rate_limit_exceeded"));
    // What was held came back.
    assert_eq!(served.chat(CHAT).await.status(), 200);
}

#[tokio::test]
async fn a_body_that_does_not_come_times_out() {
    let limits = Limits { body_timeout: Duration::from_millis(20), ..Limits::default() };
    let served = Served::with_limits(limits).await;
    let mut connection = served.connect().await;
    let response = connection.post("/v1/chat/completions", &[("content-length", "500")], "{").await;
    assert_eq!((response.status(), response.error_code().as_str()), (408, "request_timeout"));
    connection.closed().await;
}
