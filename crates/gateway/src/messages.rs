//! The messages of a chat, from OpenAI's shapes to the one that a chat template reads.

use crate::{
    error::ApiError,
    parameters::{Parameters, is_empty, take_text, wrong_type},
};
use protocol::{limits::MESSAGES_MAX, task::Message};
use serde_json::{Map, Value};

/// Takes `messages`.
pub(crate) fn take_messages(parameters: &mut Parameters) -> Result<Vec<Message>, ApiError> {
    let mut value = parameters.require("messages")?;
    let items = match &mut *value {
        Value::Array(items) if (1..=MESSAGES_MAX).contains(&items.len()) => items,
        Value::Array(items) => {
            let why = format!("expected 1 to {MESSAGES_MAX} messages, got {}", items.len());
            return Err(ApiError::invalid_value("messages", why));
        }
        other => return Err(wrong_type("messages", "an array of messages", other)),
    };
    items.iter_mut().enumerate().map(|(index, item)| message(&format!("messages[{index}]"), item)).collect()
}

fn message(at: &str, value: &mut Value) -> Result<Message, ApiError> {
    let fields = match value {
        Value::Object(fields) => fields,
        other => return Err(wrong_type(at, "an object", other)),
    };
    check_fields(at, fields)?;
    let name = format!("{at}.role");
    let role = take_text(fields.get_mut("role").ok_or_else(|| missing(&name))?, &name)?;
    let role = match role.as_str() {
        "system" | "user" | "assistant" => role,
        // OpenAI's newer name of the same part; no chat template knows it.
        "developer" => "system".to_owned(),
        "tool" | "function" => return Err(ApiError::unsupported(name, "is a tool's, and tools are not served")),
        _ => {
            let why = "expected one of 'system', 'developer', 'user', 'assistant'";
            return Err(ApiError::invalid_value(name, why));
        }
    };
    let name = format!("{at}.content");
    let content = match fields.get_mut("content") {
        None | Some(Value::Null) => return Err(missing(&name)),
        Some(Value::String(text)) => std::mem::take(text),
        Some(Value::Array(parts)) => join_parts(&name, parts)?,
        Some(other) => return Err(wrong_type(&name, "a string or an array of parts", other)),
    };
    Ok(Message { role, content })
}

/// Members that an answer of ours or of another service may have left on an assistant's message are fine while they
/// are empty. `name` is a hint for which no chat template has a place.
fn check_fields(at: &str, fields: &Map<String, Value>) -> Result<(), ApiError> {
    for (name, value) in fields {
        let is_harmless = value.is_null()
            || match name.as_str() {
                "role" | "content" | "name" => true,
                "tool_calls" | "annotations" | "refusal" => is_empty(value),
                _ => false,
            };
        if !is_harmless {
            let name: String = name.chars().take(100).collect();
            return Err(ApiError::unsupported(format!("{at}.{name}"), "is not served by this gateway"));
        }
    }
    Ok(())
}

/// Parts are joined by line breaks, as `llama-server` does.
fn join_parts(at: &str, parts: &mut [Value]) -> Result<String, ApiError> {
    let mut texts = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter_mut().enumerate() {
        let at = format!("{at}[{index}]");
        let fields = match part {
            Value::Object(fields) => fields,
            other => return Err(wrong_type(&at, "an object", other)),
        };
        match fields.get("type").and_then(Value::as_str) {
            Some("text") => {}
            Some(_) => {
                return Err(ApiError::unsupported(format!("{at}.type"), "must be 'text': others are not served"));
            }
            None => return Err(missing(&format!("{at}.type"))),
        }
        let name = format!("{at}.text");
        match fields.get("text") {
            Some(Value::String(text)) => texts.push(text.as_str()),
            Some(other) => return Err(wrong_type(&name, "a string", other)),
            None => return Err(missing(&name)),
        }
    }
    if texts.is_empty() {
        return Err(ApiError::invalid_value(at, "expected at least one part"));
    }
    Ok(texts.join("\n"))
}

fn missing(name: &str) -> ApiError {
    let message = format!("Missing required parameter: '{name}'");
    ApiError::invalid(message).code("missing_required_parameter").param(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(messages: &str) -> Result<Vec<Message>, ApiError> {
        take_messages(&mut Parameters::parse(format!(r#"{{"messages":{messages}}}"#).as_bytes()).unwrap())
    }

    #[test]
    fn roles_and_parts_become_what_a_template_reads() {
        let messages = take(
            r#"[{"role":"developer","content":"Be brief."},
                {"role":"user","name":"ann","content":[{"type":"text","text":"one"},{"type":"text","text":"two"}]},
                {"role":"assistant","content":"","tool_calls":[],"refusal":null}]"#,
        )
        .unwrap();
        let read: Vec<_> = messages.iter().map(|message| (message.role.as_str(), message.content.as_str())).collect();
        assert_eq!(read, [("system", "Be brief."), ("user", "one\ntwo"), ("assistant", "")]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (messages, param) in [
            (r#""hello""#, "messages"),
            ("[]", "messages"),
            ("[1]", "messages[0]"),
            (r#"[{"content":"x"}]"#, "messages[0].role"),
            (r#"[{"role":"king","content":"x"}]"#, "messages[0].role"),
            (r#"[{"role":"tool","content":"x"}]"#, "messages[0].role"),
            (r#"[{"role":"user"}]"#, "messages[0].content"),
            (r#"[{"role":"user","content":7}]"#, "messages[0].content"),
            (r#"[{"role":"user","content":[]}]"#, "messages[0].content"),
            (r#"[{"role":"user","content":[{"text":"x"}]}]"#, "messages[0].content[0].type"),
            (r#"[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]"#, "messages[0].content[0].type"),
            (
                r#"[{"role":"user","content":"a"},{"role":"assistant","content":"b","tool_calls":[{}]}]"#,
                "messages[1].tool_calls",
            ),
        ] {
            let envelope: Value = serde_json::from_slice(&take(messages).unwrap_err().envelope()).unwrap();
            assert_eq!(envelope["error"]["param"], param, "{messages}");
        }
    }
}
