//! Every route, as it should go.

use crate::{Served, fake_pool::MODEL};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

const CHAT: &str = r#"{"model":"default","messages":[{"role":"user","content":"one two three"}]}"#;

#[tokio::test]
async fn a_chat_is_answered_whole() {
    let served = Served::start().await;
    let response = served.chat(CHAT).await;
    assert_eq!(response.status(), 200);
    let mut body = response.json();
    assert!(body["created"].as_u64().unwrap() > 1_700_000_000);
    body["created"] = 0.into();
    let choice = json!({
        "index": 0,
        "message": {"role": "assistant", "content": " one two three", "refusal": null},
        "logprobs": null,
        "finish_reason": "stop",
    });
    let expected = json!({
        "id": "chatcmpl-aeaqcaibaeaqcaibaeaqcaibae",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "system_fingerprint": "fp_ababababab",
        "choices": [choice],
        "usage": {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6},
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_chat_that_reaches_its_bound_says_so() {
    let served = Served::start().await;
    let body = r#"{"model":"echo","max_completion_tokens":2,"messages":[{"role":"user","content":"one two three"}]}"#;
    let body = served.chat(body).await.json();
    assert_eq!(body["choices"][0]["message"]["content"], " one two");
    assert_eq!(body["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn a_completion_is_answered_whole() {
    let served = Served::start().await;
    for prompt in [r#""one two""#, r#"["one two"]"#] {
        let body = format!(r#"{{"model":"default","prompt":{prompt},"max_tokens":3}}"#);
        let response = served.post("/v1/completions", &body).await;
        assert_eq!(response.status(), 200);
        let body = response.json();
        assert_eq!(body["object"], "text_completion");
        assert!(body["id"].as_str().unwrap().starts_with("cmpl-"));
        let choice = json!({"index": 0, "text": " one two one", "logprobs": null, "finish_reason": "stop"});
        assert_eq!(body["choices"], json!([choice]));
        assert_eq!(body["usage"]["total_tokens"], 5);
    }
}

#[tokio::test]
async fn embeddings_come_in_the_order_of_their_inputs_and_in_both_encodings() {
    let served = Served::start().await;
    let float = served.post("/v1/embeddings", r#"{"model":"default","input":["a","bcd"]}"#).await.json();
    assert_eq!(float["object"], "list");
    assert_eq!(float["model"], MODEL);
    assert_eq!(float["usage"], json!({"prompt_tokens": 2, "total_tokens": 2}));
    assert_eq!(float["data"][0], json!({"object": "embedding", "index": 0, "embedding": [1.0, 0.1, -1.0]}));
    assert_eq!(float["data"][1]["embedding"][0], 3.0);

    let body = r#"{"model":"default","input":"abcd","encoding_format":"base64"}"#;
    let base64 = served.post("/v1/embeddings", body).await.json();
    let bytes = data_encoding::BASE64.decode(base64["data"][0]["embedding"].as_str().unwrap().as_bytes()).unwrap();
    let vector: Vec<f32> = bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
    assert_eq!(vector, [4.0, 0.1, -1.0]);
}

#[tokio::test]
async fn models_are_found_by_name_alias_and_default() {
    let served = Served::start().await;
    let list = served.get("/v1/models").await.json();
    assert_eq!(list["object"], "list");
    let model = &list["data"][0];
    assert_eq!(model["id"], MODEL);
    assert_eq!(model["object"], "model");
    assert_eq!(model["created"], 1_700_000_000);
    assert_eq!(model["context_tokens"], 512);
    for name in ["fake/echo-1", "fake%2Fecho-1", "echo", "default"] {
        assert_eq!(served.get(&format!("/v1/models/{name}")).await.json(), *model, "{name}");
    }
    let missing = served.get("/v1/models/gpt-4").await;
    assert_eq!((missing.status(), missing.error_code().as_str()), (404, "model_not_found"));
    assert_eq!(served.get("/v1/models/%ff").await.status(), 400);
}

#[tokio::test]
async fn health_is_the_process_and_readiness_the_pool() {
    let served = Served::start().await;
    assert_eq!(served.get("/readyz").await.status(), 200);
    served.pool.ready_nodes.store(0, Ordering::Relaxed);
    let response = served.get("/readyz").await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.json()["reasons"], json!(["no node of the pool is ready to serve a model"]));
    served.pool.connected.store(false, Ordering::Relaxed);
    let response = served.get("/readyz").await;
    assert_eq!(response.json()["reasons"], json!(["no link to an orchestrator is up"]));
    assert_eq!(served.get("/healthz").await.json()["status"], "ok");
}

#[tokio::test]
async fn metrics_count_and_bear_no_content() {
    let served = Served::start().await;
    served.chat(CHAT).await;
    served.chat("{").await;
    served.get("/secret-path").await;
    let response = served.get("/metrics").await;
    assert!(response.head.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    let text = response.text();
    let chat = r#"darkbloom_gateway_requests_total{route="/v1/chat/completions",method="POST""#;
    for line in [
        format!(r#"{chat},status="200"}} 1"#),
        format!(r#"{chat},status="400"}} 1"#),
        r#"darkbloom_gateway_requests_total{route="unmatched",method="GET",status="404"} 1"#.to_owned(),
        "darkbloom_gateway_prompt_tokens_total 3".to_owned(),
        "darkbloom_gateway_completion_tokens_total 3".to_owned(),
        "darkbloom_gateway_time_to_first_token_seconds_count 1".to_owned(),
        "darkbloom_gateway_tasks_in_flight 0".to_owned(),
        "# EOF".to_owned(),
    ] {
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("secret") && !text.contains("one two"));
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let served = Served::start().await;
    let mut connection = served.connect().await;
    for _ in 0..3 {
        assert_eq!(connection.post("/v1/chat/completions", &[], CHAT).await.status(), 200);
        assert_eq!(connection.post("/v1/chat/completions", &[], "{").await.status(), 400);
        assert_eq!(connection.get("/v1/models", &[]).await.status(), 200);
    }
}

#[tokio::test]
async fn a_request_id_is_echoed_or_made_also_for_errors() {
    let served = Served::start().await;
    let mut connection = served.connect().await;
    let given = connection.get("/v1/models", &[("x-request-id", "my-id-7")]).await;
    assert_eq!(given.head.header("x-request-id"), Some("my-id-7"));
    let given = connection.get("/nothing", &[("x-request-id", "my-id-8")]).await;
    assert_eq!(given.head.header("x-request-id"), Some("my-id-8"));
    let long = "x".repeat(1000);
    for headers in [&[][..], &[("x-request-id", "with space")], &[("x-request-id", long.as_str())]] {
        let made = connection.get("/nothing", headers).await;
        assert!(made.head.header("x-request-id").unwrap().starts_with("req_"));
    }
}

#[tokio::test]
async fn head_requests_have_no_body() {
    let served = Served::start().await;
    let mut connection = served.connect().await;
    connection.send(b"HEAD /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(connection.head().await.status, 200);
    assert_eq!(connection.get("/healthz", &[]).await.json()["reasons"], Value::Array(Vec::new()));
}
