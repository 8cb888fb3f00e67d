//! What an application sends and gets.

use serde_json::{Value, json};

/// A client without proxies.
pub fn client() -> reqwest::Client {
    // Plain HTTP; the builder asks for a provider all the same. Another test may have set it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().expect("a client without TLS roots")
}

/// A chat request of one user message.
pub fn chat_body(content: &str, max_tokens: u32) -> Value {
    json!({
        "model": "default",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": max_tokens,
        "temperature": 0,
    })
}

/// Posts JSON; returns the status and the body.
pub async fn post(url: &str, body: &Value) -> (u16, Value) {
    let response = send(url, body).await;
    let status = response.status().as_u16();
    let text = response.text().await.expect("a body");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Posts JSON; returns the response as it begins.
pub async fn send(url: &str, body: &Value) -> reqwest::Response {
    let request = client().post(url).header("content-type", "application/json").body(body.to_string());
    request.send().await.expect("the gateway answers")
}

/// The text of a whole chat answer.
///
/// # Panics
/// If there is none.
pub async fn chat(base_url: &str, content: &str, max_tokens: u32) -> String {
    let (status, body) = post(&format!("{base_url}/chat/completions"), &chat_body(content, max_tokens)).await;
    assert_eq!(status, 200, "{body}");
    body["choices"][0]["message"]["content"].as_str().expect("content").to_owned()
}

/// A whole streamed answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole {
    /// All of its text.
    pub text: String,
    /// Why it ended.
    pub finish: String,
    /// Its usage, where it was asked for.
    pub usage: Value,
}

/// A streamed chat answer that is being read.
pub struct Stream {
    response: reqwest::Response,
    pending: Vec<u8>,
}

impl Stream {
    /// Asks.
    pub async fn start(base_url: &str, content: &str, max_tokens: u32) -> Self {
        let mut body = chat_body(content, max_tokens);
        body["stream"] = true.into();
        body["stream_options"] = json!({"include_usage": true});
        let response = send(&format!("{base_url}/chat/completions"), &body).await;
        let status = response.status().as_u16();
        if status != 200 {
            panic!("{status}: {}", response.text().await.unwrap_or_default());
        }
        Self { response, pending: Vec::new() }
    }

    /// The next event; `None` at the end of the body or where the connection breaks.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.pending.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.pending.drain(..end + 2).collect();
                let event = String::from_utf8(event).expect("UTF-8");
                if let Some(data) = event.trim_end().strip_prefix("data: ") {
                    return Some(data.to_owned());
                }
                continue;
            }
            let bytes = self.response.chunk().await.ok()??;
            self.pending.extend_from_slice(&bytes);
        }
    }

    /// Reads to the end.
    ///
    /// # Panics
    /// If the answer is an error, is cut off, or ends more than once.
    pub async fn whole(&mut self) -> Whole {
        let mut whole = Whole { text: String::new(), finish: String::new(), usage: Value::Null };
        while let Some(data) = self.next().await {
            if data == "[DONE]" {
                assert!(!whole.finish.is_empty(), "it said why it ended");
                return whole;
            }
            let value: Value = serde_json::from_str(&data).expect("JSON");
            assert!(value["error"].is_null(), "{value} after {:?}", whole.text);
            let choice = &value["choices"][0];
            whole.text.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
            if let Some(finish) = choice["finish_reason"].as_str() {
                assert_eq!(whole.finish, "", "it ends once");
                finish.clone_into(&mut whole.finish);
            }
            if value["usage"].is_object() {
                assert!(whole.usage.is_null(), "usage comes once");
                whole.usage = value["usage"].clone();
            }
        }
        panic!("cut off after {:?}", whole.text);
    }

    /// The next piece of text; `None` after the last.
    pub async fn text(&mut self) -> Option<String> {
        loop {
            let data = self.next().await?;
            if data == "[DONE]" {
                return None;
            }
            let value: Value = serde_json::from_str(&data).expect("JSON");
            assert!(value["error"].is_null(), "{value}");
            if let Some(text) = value["choices"][0]["delta"]["content"].as_str()
                && !text.is_empty()
            {
                return Some(text.to_owned());
            }
        }
    }
}
