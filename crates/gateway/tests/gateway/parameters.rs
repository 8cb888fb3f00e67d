//! What a request's parameters become, and which are refused by name.

use crate::Served;
use protocol::task::{Generation, Message, Sampling, Task};
use serde_json::{Value, json};

/// A request with these members beside the required ones.
fn with(required: &Value, members: Value) -> String {
    let mut body = required.clone();
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    body.to_string()
}

fn chat() -> Value {
    json!({"model": "default", "messages": [{"role": "user", "content": "hi"}]})
}

fn completion() -> Value {
    json!({"model": "default", "prompt": "hi"})
}

fn embedding() -> Value {
    json!({"model": "default", "input": "hi"})
}

#[tokio::test]
async fn every_served_parameter_reaches_the_task() {
    let served = Served::start().await;
    let members = json!({
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
        "max_tokens": 7, "temperature": 0, "top_p": 0.5, "top_k": 3, "min_p": 0.25, "frequency_penalty": -1.5,
        "presence_penalty": 2, "repeat_penalty": 1.1, "seed": 42, "stop": ["a", "b"], "stream": false,
    });
    assert_eq!(served.chat(&with(&chat(), members)).await.status(), 200);
    let message = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
    let sampling = Sampling {
        temperature: 0.0,
        top_p: 0.5,
        top_k: 3,
        min_p: 0.25,
        frequency_penalty: -1.5,
        presence_penalty: 2.0,
        repeat_penalty: 1.1,
        seed: Some(42),
    };
    let stop = vec!["a".to_owned(), "b".to_owned()];
    let generation = Generation { max_tokens: Some(7), stop, sampling, ..Generation::default() };
    let messages = vec![message("system", "s"), message("user", "u")];
    assert_eq!(served.pool.asked.lock().unwrap().pop(), Some(Task::Chat { messages, generation }));

    let body = with(&completion(), json!({"stop": "x", "max_tokens": null, "seed": -1}));
    assert_eq!(served.post("/v1/completions", &body).await.status(), 200);
    let sampling = Sampling { seed: Some(0), ..Sampling::default() };
    let generation = Generation { max_tokens: Some(16), stop: vec!["x".to_owned()], sampling, ..Generation::default() };
    let task = Task::Completion { prompt: "hi".to_owned(), generation };
    assert_eq!(served.pool.asked.lock().unwrap().pop(), Some(task));
}

#[tokio::test]
async fn what_changes_nothing_is_taken() {
    let served = Served::start().await;
    let members = json!({
        "n": 1, "user": "u", "metadata": {"a": "b"}, "store": true, "tools": [], "tool_choice": "none",
        "parallel_tool_calls": true, "response_format": {"type": "text"}, "logprobs": false, "top_logprobs": 0,
        "logit_bias": {}, "modalities": ["text"], "audio": null, "prediction": null, "service_tier": "auto",
        "stop": null, "seed": null, "stream_options": null, "something_new": null, "max_tokens": 5,
        "max_completion_tokens": 5,
    });
    let response = served.chat(&with(&chat(), members)).await;
    assert_eq!(response.status(), 200, "{}", response.text());
    let members = json!({"n": 1, "best_of": 1, "echo": false, "logprobs": null, "suffix": null, "user": "u"});
    assert_eq!(served.post("/v1/completions", &with(&completion(), members)).await.status(), 200);
}

#[tokio::test]
async fn what_is_not_served_or_not_valid_is_refused_by_name() {
    let served = Served::start().await;
    let unsupported = "unsupported_parameter";
    let chats = [
        (json!({"n": 2}), "n", unsupported),
        (json!({"tools": [{"type": "function"}]}), "tools", unsupported),
        (json!({"tool_choice": "required"}), "tool_choice", unsupported),
        (json!({"functions": [{}]}), "functions", unsupported),
        (json!({"response_format": {"type": "json_object"}}), "response_format", unsupported),
        (json!({"logprobs": true}), "logprobs", unsupported),
        (json!({"logit_bias": {"50256": -100}}), "logit_bias", unsupported),
        (json!({"modalities": ["text", "audio"]}), "modalities", unsupported),
        (json!({"audio": {"voice": "x"}}), "audio", unsupported),
        (json!({"reasoning_effort": "high"}), "reasoning_effort", unsupported),
        (json!({"service_tier": "flex"}), "service_tier", unsupported),
        (json!({"best_of": 2}), "best_of", "unknown_parameter"),
        (json!({"something_new": 1}), "something_new", "unknown_parameter"),
        (json!({"model": null}), "model", "missing_required_parameter"),
        (json!({"model": 3}), "model", "invalid_type"),
        (json!({"messages": null}), "messages", "missing_required_parameter"),
        (json!({"messages": []}), "messages", "invalid_value"),
        (json!({"messages": "hi"}), "messages", "invalid_type"),
        (json!({"temperature": 2.5}), "temperature", "invalid_value"),
        (json!({"temperature": "hot"}), "temperature", "invalid_type"),
        (json!({"top_p": -0.1}), "top_p", "invalid_value"),
        (json!({"top_k": -1}), "top_k", "invalid_value"),
        (json!({"top_k": 1.5}), "top_k", "invalid_type"),
        (json!({"seed": 1.5}), "seed", "invalid_type"),
        (json!({"max_tokens": 0}), "max_tokens", "invalid_value"),
        (json!({"max_tokens": 99999999999u64}), "max_tokens", "invalid_value"),
        (json!({"max_tokens": 5, "max_completion_tokens": 6}), "max_tokens", "invalid_value"),
        (json!({"stop": vec!["x"; 17]}), "stop", "invalid_value"),
        (json!({"stop": [""]}), "stop", "invalid_value"),
        (json!({"stop": [1]}), "stop", "invalid_type"),
        (json!({"stop": 1}), "stop", "invalid_type"),
        (json!({"stream": "yes"}), "stream", "invalid_type"),
        (json!({"stream_options": {"include_usage": true}}), "stream_options", "invalid_value"),
        (json!({"stream": true, "stream_options": 1}), "stream_options", "invalid_type"),
        (json!({"stream": true, "stream_options": {"x": 1}}), "stream_options", "unknown_parameter"),
    ];
    let completions = [
        (json!({"prompt": ["a", "b"]}), "prompt", unsupported),
        (json!({"prompt": [1, 2]}), "prompt", unsupported),
        (json!({"prompt": [[1, 2]]}), "prompt", unsupported),
        (json!({"prompt": []}), "prompt", "invalid_value"),
        (json!({"prompt": {}}), "prompt", "invalid_type"),
        (json!({"prompt": null}), "prompt", "missing_required_parameter"),
        (json!({"echo": true}), "echo", unsupported),
        (json!({"logprobs": 2}), "logprobs", unsupported),
        (json!({"suffix": "end"}), "suffix", unsupported),
        (json!({"best_of": 3}), "best_of", unsupported),
        (json!({"messages": []}), "messages", "unknown_parameter"),
    ];
    let embeddings = [
        (json!({"input": []}), "input", "invalid_value"),
        (json!({"input": ""}), "input", "invalid_value"),
        (json!({"input": [1, 2]}), "input", unsupported),
        (json!({"input": ["a", 2]}), "input", "invalid_type"),
        (json!({"input": vec!["a"; 2049]}), "input", "invalid_value"),
        (json!({"encoding_format": "hex"}), "encoding_format", "invalid_value"),
        (json!({"dimensions": 64}), "dimensions", unsupported),
        (json!({"temperature": 1}), "temperature", "unknown_parameter"),
    ];
    let cases = chats.map(|case| ("/v1/chat/completions", chat(), case)).into_iter();
    let cases = cases.chain(completions.map(|case| ("/v1/completions", completion(), case)));
    let cases = cases.chain(embeddings.map(|case| ("/v1/embeddings", embedding(), case)));
    let mut connection = served.connect().await;
    for (path, required, (members, param, code)) in cases {
        let response = connection.post(path, &[], &with(&required, members.clone())).await;
        assert_eq!((response.status(), response.error_code().as_str()), (400, code), "{path} {members}");
        assert_eq!(response.json()["error"]["param"], param, "{path} {members}");
        assert_eq!(response.json()["error"]["type"], "invalid_request_error");
    }
    assert!(served.pool.asked.lock().unwrap().is_empty(), "nothing of it was asked");
}
