//! Whatever is sent, the answer is a 4xx in the envelope or a closed connection, and the next request is served.

use crate::Served;
use proptest::{
    prelude::{Strategy, any, prop},
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use serde_json::Value;

const CHAT: &str =
    r#"{"model":"default","messages":[{"role":"user","content":"hello"}],"temperature":0.5,"stop":["x"]}"#;
const PATHS: [&str; 3] = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"];

/// The same values in every run: the runner's random source is fixed.
fn samples<S: Strategy>(count: usize, strategy: S) -> Vec<S::Value> {
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

#[tokio::test]
async fn broken_json_is_named_as_such() {
    let served = Served::start().await;
    let deep = "[".repeat(100_000);
    let deep_member = format!(r#"{{"model":{}"#, r#"{"a":"#.repeat(10_000));
    let bodies = [
        "",
        "{",
        "nonsense",
        "[]",
        "null",
        "7",
        "\"text\"",
        "{\"model\":}",
        "{'model':1}",
        "\u{0}",
        &deep,
        &deep_member,
    ];
    for body in bodies {
        for path in PATHS {
            let response = served.post(path, body).await;
            assert_eq!((response.status(), response.error_code().as_str()), (400, "invalid_json"), "{path}");
        }
    }
    let huge = CHAT.replace("0.5", "1e999");
    assert_eq!(served.chat(&huge).await.error_code(), "invalid_json");
}

#[tokio::test]
async fn every_truncation_of_a_request_is_refused() {
    let served = Served::start().await;
    let mut connection = served.connect().await;
    for end in 0..CHAT.len() {
        let response = connection.post(PATHS[0], &[], &CHAT[..end]).await;
        assert_eq!((response.status(), response.error_code().as_str()), (400, "invalid_json"), "{end}");
    }
}

#[tokio::test]
async fn a_request_with_any_byte_changed_is_answered_or_refused() {
    let served = Served::start().await;
    let mut connection = served.connect().await;
    for (at, byte) in samples(500, (0..CHAT.len(), 0x20..0x7fu8)) {
        let mut body = CHAT.as_bytes().to_vec();
        body[at] = byte;
        let response = connection.post(PATHS[0], &[], std::str::from_utf8(&body).unwrap()).await;
        match response.status() {
            200 => {}
            400 | 404 => drop(response.error_code()),
            other => panic!("{other} for {}", String::from_utf8_lossy(&body)),
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = proptest::prop_oneof![
        proptest::strategy::Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z ]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 5, |inner| {
        proptest::prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map("role|content|type|text|[a-z]{1,4}", inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

#[tokio::test]
async fn any_value_of_any_parameter_is_answered_or_refused() {
    const NAMES: &str = "model|messages|prompt|input|temperature|top_p|top_k|min_p|seed|stop|stream|stream_options|n|\
                         max_tokens|encoding_format|tools|response_format|user|logit_bias";
    let served = Served::start().await;
    let mut connection = served.connect().await;
    for (path, name, value) in samples(1500, (prop::sample::select(&PATHS[..]), NAMES, any_json())) {
        let mut body: Value = serde_json::from_str(match path {
            "/v1/chat/completions" => CHAT,
            "/v1/completions" => r#"{"model":"default","prompt":"hi"}"#,
            _ => r#"{"model":"default","input":"hi"}"#,
        })
        .unwrap();
        body[&name] = value;
        let response = connection.post(path, &[], &body.to_string()).await;
        match response.status() {
            200 => {}
            400 | 404 => drop(response.error_code()),
            other => panic!("{other} for {body}"),
        }
    }
}

#[tokio::test]
async fn bytes_that_are_not_http_close_their_connection_only() {
    let served = Served::start().await;
    for mut bytes in samples(200, prop::collection::vec(any::<u8>(), 1..300)) {
        bytes.extend(b"\r\n\r\n");
        let mut connection = served.connect().await;
        connection.try_send(&bytes).await;
        drop(connection);
    }
    let mut connection = served.connect().await;
    connection.send(b"GET / HTTP/9.9\r\n\r\n").await;
    connection.closed().await;
    let mut connection = served.connect().await;
    connection
        .try_send(format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)).as_bytes())
        .await;
    connection.closed().await;
    assert_eq!(served.chat(CHAT).await.status(), 200);
}

#[tokio::test]
async fn two_lengths_cannot_hide_a_second_request() {
    let served = Served::start().await;
    let mut connection = served.connect().await;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                content-length: 4\r\ncontent-length: 50\r\n\r\n";
    connection.send(head.as_bytes()).await;
    assert_eq!(connection.head().await.status, 400);
    connection.closed().await;
    assert!(served.pool.asked.lock().unwrap().is_empty());
}
