//! The parameters that chat and completions share: length, stops, sampling and delivery.

use crate::{
    error::ApiError,
    parameters::{Parameters, Unserved, take_text, wrong_type},
};
use protocol::{
    limits::{STOP_STRING_BYTES_MAX, STOP_STRINGS_MAX},
    task::{Generation, Sampling},
};
use serde_json::Value;

/// Parameters that change nothing in an answer of ours: whom and what a request is for, and hints to a cache.
pub(crate) const HARMLESS: &[&str] =
    &["user", "metadata", "store", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"];

/// Service tiers that mean "as usual".
pub(crate) const SERVICE_TIER: Unserved = ("service_tier", |value| value == "auto" || value == "default");

/// How an answer is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) stream: bool,
    /// A last chunk with the usage, and `"usage":null` in all others.
    pub(crate) include_usage: bool,
}

/// Takes `stream` and `stream_options`.
pub(crate) fn take_delivery(parameters: &mut Parameters) -> Result<Delivery, ApiError> {
    let stream = parameters.flag("stream")?.unwrap_or(false);
    let Some(options) = parameters.take("stream_options") else { return Ok(Delivery { stream, include_usage: false }) };
    if !stream {
        let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled";
        return Err(ApiError::invalid(message).code("invalid_value").param("stream_options"));
    }
    let mut options = Parameters::nested(options, "stream_options")?;
    let include_usage = options.flag("include_usage")?.unwrap_or(false);
    // Padding against who watches the wire: here it is the loopback device, and the private path pads by itself.
    options.ignore(&["include_obfuscation"]);
    options.finish().map_err(|error| error.param("stream_options"))?;
    Ok(Delivery { stream, include_usage })
}

/// Takes everything of a [`Generation`] but its length. What is not given stays at [`Sampling::default`].
pub(crate) fn take_generation(parameters: &mut Parameters, max_tokens: Option<u32>) -> Result<Generation, ApiError> {
    let default = Sampling::default();
    let sampling = Sampling {
        temperature: parameters.number("temperature", 0.0..=2.0)?.unwrap_or(default.temperature),
        top_p: parameters.number("top_p", 0.0..=1.0)?.unwrap_or(default.top_p),
        top_k: parameters.integer("top_k", 0..=u32::MAX.into())?.map_or(default.top_k, |top_k| top_k as u32),
        min_p: parameters.number("min_p", 0.0..=1.0)?.unwrap_or(default.min_p),
        frequency_penalty: parameters.number("frequency_penalty", -2.0..=2.0)?.unwrap_or(default.frequency_penalty),
        presence_penalty: parameters.number("presence_penalty", -2.0..=2.0)?.unwrap_or(default.presence_penalty),
        repeat_penalty: parameters.number("repeat_penalty", 0.1..=10.0)?.unwrap_or(default.repeat_penalty),
        seed: parameters.integer("seed", i64::MIN..=i64::MAX)?.map(fold_seed),
    };
    Ok(Generation { max_tokens, stop: take_stop(parameters)?, sampling, ..Generation::default() })
}

/// Takes a number of tokens, at least one.
pub(crate) fn take_token_count(parameters: &mut Parameters, name: &str) -> Result<Option<u32>, ApiError> {
    Ok(parameters.integer(name, 1..=u32::MAX.into())?.map(|tokens| tokens as u32))
}

/// OpenAI's seeds have 64 bits, a sampler's 32: small ones stay themselves, the halves of others are mixed.
fn fold_seed(seed: i64) -> u32 {
    let bits = seed as u64;
    (bits as u32) ^ ((bits >> 32) as u32)
}

/// A string, or an array of up to [`STOP_STRINGS_MAX`] (OpenAI takes 4).
fn take_stop(parameters: &mut Parameters) -> Result<Vec<String>, ApiError> {
    let Some(mut value) = parameters.take("stop") else { return Ok(Vec::new()) };
    let stop = match &mut *value {
        Value::String(text) => vec![std::mem::take(text)],
        Value::Array(items) if items.len() > STOP_STRINGS_MAX => {
            return Err(ApiError::invalid_value("stop", format!("at most {STOP_STRINGS_MAX} strings")));
        }
        Value::Array(items) => items.iter_mut().map(|item| take_text(item, "stop")).collect::<Result<_, _>>()?,
        other => return Err(wrong_type("stop", "a string or an array of strings", other)),
    };
    if stop.iter().any(|text: &String| text.is_empty() || text.len() > STOP_STRING_BYTES_MAX) {
        return Err(ApiError::invalid_value("stop", format!("each has 1 to {STOP_STRING_BYTES_MAX} bytes")));
    }
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_seeds_stay_and_large_ones_differ() {
        assert_eq!(fold_seed(42), 42);
        assert_eq!(fold_seed(i64::from(u32::MAX)), u32::MAX);
        assert_ne!(fold_seed(1 << 32), fold_seed(1 << 33));
        let _ = (fold_seed(i64::MIN), fold_seed(-1));
    }
}
