//! Event streams: their bytes, their pace, and what ends them.

use crate::{
    Served,
    fake_pool::{MODEL, Script, done, started, tokens},
    http_client::Connection,
};
use client::AskError;
use gateway::Limits;
use protocol::task::{Finish, Frame, TaskError};
use serde_json::Value;
use std::time::Duration;

const STREAM: &str = r#"{"model":"default","stream":true,"messages":[{"role":"user","content":"a b"}]}"#;

async fn open_chat(served: &Served, body: &str) -> Connection {
    let mut connection = served.connect().await;
    connection.send_post("/v1/chat/completions", &[], body).await;
    connection
}

/// Replaces the one part that differs from run to run.
fn without_time(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\"created\":") {
        let (before, after) = rest.split_at(at + 10);
        out += before;
        out += "0";
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out + rest
}

#[tokio::test]
async fn a_chat_stream_has_exactly_these_bytes() {
    let served = Served::start().await;
    served.pool.script(
        "default",
        Script::Frames(vec![
            Ok(started()),
            Ok(tokens("Hi")),
            Ok(tokens("")),
            Ok(tokens(" \"you\"\n\u{2028}é🌍")),
            Ok(done(Finish::Stop, 3)),
        ]),
    );
    let response = served.chat(STREAM).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.head.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(response.head.header("cache-control"), Some("no-store"));
    let head = concat!(
        r#"data: {"id":"chatcmpl-aeaqcaibaeaqcaibaeaqcaibae","object":"chat.completion.chunk","created":0,"#,
        r#""model":"fake/echo-1","system_fingerprint":"fp_ababababab","choices":[{"index":0,"delta":"#
    );
    let expected = format!(
        "{head}{}\n\n{head}{}\n\n{head}{}\n\n{head}{}\n\ndata: [DONE]\n\n",
        r#"{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]}"#,
        r#"{"content":"Hi"},"logprobs":null,"finish_reason":null}]}"#,
        "{\"content\":\" \\\"you\\\"\\n\u{2028}é🌍\"},\"logprobs\":null,\"finish_reason\":null}]}",
        r#"{},"logprobs":null,"finish_reason":"stop"}]}"#,
    );
    assert_eq!(without_time(&response.text()), expected);
}

#[tokio::test]
async fn a_completion_stream_has_exactly_these_bytes() {
    let served = Served::start().await;
    let body =
        r#"{"model":"default","stream":true,"stream_options":{"include_usage":true},"prompt":"a b","max_tokens":1}"#;
    let response = served.post("/v1/completions", body).await;
    let head = concat!(
        r#"data: {"id":"cmpl-aeaqcaibaeaqcaibaeaqcaibae","object":"text_completion","created":0,"#,
        r#""model":"fake/echo-1","system_fingerprint":"fp_ababababab","choices":["#
    );
    let expected = format!(
        "{head}{}\n\n{head}{}\n\n{head}{}\n\ndata: [DONE]\n\n",
        r#"{"index":0,"text":" a","logprobs":null,"finish_reason":null}],"usage":null}"#,
        r#"{"index":0,"text":"","logprobs":null,"finish_reason":"length"}],"usage":null}"#,
        r#"],"usage":{"prompt_tokens":2,"completion_tokens":1,"total_tokens":3}}"#,
    );
    assert_eq!(without_time(&response.text()), expected);
}

#[tokio::test]
async fn usage_comes_last_and_is_null_before_when_it_was_asked_for() {
    let served = Served::start().await;
    let body = STREAM.replace("\"stream\":true", r#""stream":true,"stream_options":{"include_usage":true}"#);
    let text = served.chat(&body).await.text();
    let events: Vec<&str> = text.trim_end().split("\n\n").map(|event| event.strip_prefix("data: ").unwrap()).collect();
    let (done, events) = events.split_last().unwrap();
    assert_eq!(*done, "[DONE]");
    let events: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let (last, others) = events.split_last().unwrap();
    assert!(others.iter().all(|event| event.get("usage").is_some_and(Value::is_null)));
    assert_eq!(last["choices"], Value::Array(Vec::new()));
    assert_eq!(last["usage"]["total_tokens"], 4);
    assert_eq!(last["model"], MODEL);
}

#[tokio::test]
async fn each_frame_leaves_before_the_next_one_exists() {
    let served = Served::start().await;
    let frames = served.pool.live("default");
    let mut connection = open_chat(&served, STREAM).await;
    frames.send(Ok(started())).unwrap();
    assert_eq!(connection.head().await.status, 200);
    assert!(connection.event().await.contains(r#""role":"assistant""#));
    for word in ["one", "two", "three"] {
        frames.send(Ok(tokens(word))).unwrap();
        let event = connection.event().await;
        assert!(event.contains(word) && event.ends_with("\n\n"), "{event}");
    }
    frames.send(Ok(done(Finish::Stop, 3))).unwrap();
    assert!(connection.event().await.ends_with("data: [DONE]\n\n"));
    assert_eq!(connection.chunk().await, None);
}

#[tokio::test]
async fn comments_keep_a_silent_stream_alive_before_and_after_it_begins() {
    let limits = Limits { keep_alive_interval: Duration::from_millis(5), ..Limits::default() };
    let served = Served::with_limits(limits).await;
    let frames = served.pool.live("default");
    let mut connection = open_chat(&served, STREAM).await;
    assert_eq!(connection.head().await.status, 200);
    assert_eq!(connection.event().await, ": keep-alive\n\n");
    frames.send(Ok(started())).unwrap();
    while connection.event().await == ": keep-alive\n\n" {}
    assert_eq!(connection.event().await, ": keep-alive\n\n");
    frames.send(Ok(tokens("late"))).unwrap();
    let event = loop {
        match connection.event().await {
            comment if comment == ": keep-alive\n\n" => {}
            event => break event,
        }
    };
    assert!(event.contains("late"));
}

#[tokio::test]
async fn an_error_before_the_first_frame_keeps_its_status() {
    let served = Served::start().await;
    let error = TaskError::ContextExceeded { prompt_tokens: 900, context_tokens: 512 };
    served.pool.script("default", Script::Frames(vec![Ok(Frame::Failed { error })]));
    let response = served.chat(STREAM).await;
    assert_eq!((response.status(), response.error_code().as_str()), (400, "context_length_exceeded"));
    let response = served.chat(&STREAM.replace("default", "unknown")).await;
    assert_eq!((response.status(), response.error_code().as_str()), (404, "model_not_found"));
}

#[tokio::test]
async fn an_error_after_the_headers_is_an_event_and_nothing_follows() {
    let broken = || AskError::Broken { reason: "the node left".to_owned() };
    let scripts = [
        (vec![Ok(started()), Ok(tokens("x")), Err(broken())], "answer_broken"),
        (vec![Ok(started()), Ok(tokens("x")), Ok(Frame::Failed { error: TaskError::ShuttingDown })], "node_leaving"),
        (vec![Ok(started()), Ok(tokens("x"))], "answer_broken"),
        (vec![Ok(started()), Ok(tokens("x")), Ok(started())], "answer_broken"),
        (vec![Ok(started()), Ok(Frame::Embedding { index: 0, vector: vec![1.0] })], "answer_broken"),
    ];
    let served = Served::start().await;
    for (frames, code) in scripts {
        served.pool.script("default", Script::Frames(frames));
        let text = served.chat(STREAM).await.text();
        assert!(!text.contains("[DONE]"), "{text}");
        let last = text.trim_end().rsplit("\n\n").next().unwrap();
        let error: Value = serde_json::from_str(last.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(error["error"]["code"], code);
        assert!(error["error"]["message"].is_string());
    }
    let metrics = served.get("/metrics").await.text();
    assert!(metrics.contains("darkbloom_gateway_streams_failed_total 5"), "{metrics}");
}

#[tokio::test]
async fn a_refusal_after_the_headers_is_an_event() {
    let limits = Limits { keep_alive_interval: Duration::from_millis(5), ..Limits::default() };
    let served = Served::with_limits(limits).await;
    let frames = served.pool.live("default");
    let mut connection = open_chat(&served, STREAM).await;
    assert_eq!(connection.head().await.status, 200);
    frames.send(Err(AskError::Overloaded { retry_after_ms: 10 })).unwrap();
    let event = loop {
        match connection.event().await {
            comment if comment == ": keep-alive\n\n" => {}
            event => break event,
        }
    };
    assert!(event.contains("rate_limit_exceeded"), "{event}");
    assert_eq!(connection.chunk().await, None);
}

#[tokio::test]
async fn a_reader_that_leaves_a_stream_cancels_its_task() {
    let served = Served::start().await;
    let frames = served.pool.live("default");
    let mut connection = open_chat(&served, STREAM).await;
    frames.send(Ok(started())).unwrap();
    connection.head().await;
    connection.event().await;
    drop(connection);
    served.pool.answer_dropped().await;
    assert!(frames.is_closed());
}

#[tokio::test]
async fn an_asker_that_leaves_before_the_first_frame_cancels_its_task() {
    let served = Served::start().await;
    for body in [STREAM, &STREAM.replace("true", "false")] {
        let frames = served.pool.live("default");
        let mut connection = served.connect().await;
        connection.send_post("/v1/chat/completions", &[], body).await;
        // It has arrived when it was asked on.
        while served.pool.asked.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        drop(connection);
        served.pool.answer_dropped().await;
        assert!(frames.is_closed());
        served.pool.asked.lock().unwrap().clear();
    }
}

#[tokio::test]
async fn an_asker_that_leaves_while_no_node_is_found_cancels_the_search() {
    let served = Served::start().await;
    served.pool.script("default", Script::NeverBegin);
    let connection = open_chat(&served, STREAM).await;
    while served.pool.asked.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(connection);
    served.pool.answer_dropped().await;
}
