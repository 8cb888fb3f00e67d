//! The parameters of a request, taken one by one: each is read, known to be harmless, or refused by name.

use crate::error::ApiError;
use serde_json::{Map, Value};
use std::ops::{Deref, DerefMut, RangeInclusive};
use zeroize::Zeroize;

/// A JSON object whose members are taken out until [`finish`](Self::finish) finds none left. What is left when it is
/// dropped is wiped.
#[derive(Debug)]
pub(crate) struct Parameters(Map<String, Value>);

/// A value that is wiped when it is dropped.
#[derive(Debug)]
pub(crate) struct Wiped(Value);

/// A parameter that is not served, and which of its values ask for nothing that is.
pub(crate) type Unserved = (&'static str, fn(&Value) -> bool);

impl Parameters {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Ok(Self(members)),
            Ok(other) => {
                let other = Wiped(other);
                let message = format!("The body must be a JSON object, but it is {}", kind(&other));
                Err(ApiError::invalid(message).code("invalid_json"))
            }
            Err(error) => Err(ApiError::invalid(format!("The body is not valid JSON: {error}")).code("invalid_json")),
        }
    }

    /// The value of a member; `null` is as good as absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<Wiped> {
        self.0.remove(name).filter(|value| !value.is_null()).map(Wiped)
    }

    pub(crate) fn require(&mut self, name: &str) -> Result<Wiped, ApiError> {
        self.take(name).ok_or_else(|| {
            let message = format!("Missing required parameter: '{name}'");
            ApiError::invalid(message).code("missing_required_parameter").param(name)
        })
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        self.take(name).map(|mut value| value.take_text(name)).transpose()
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        self.take(name).map(|value| value.as_bool().ok_or_else(|| wrong_type(name, "a boolean", &value))).transpose()
    }

    pub(crate) fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f32>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_f64().ok_or_else(|| wrong_type(name, "a number", &value))?;
        if !range.contains(&number) {
            let (low, high) = range.into_inner();
            return Err(ApiError::invalid_value(name, format!("expected between {low} and {high}, got {number}")));
        }
        Ok(Some(number as f32))
    }

    /// A whole number. One beyond 64 bits is out of any range.
    pub(crate) fn integer(&mut self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        if !value.is_i64() && !value.is_u64() {
            return Err(wrong_type(name, "an integer", &value));
        }
        match value.as_i64().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let (low, high) = range.into_inner();
                let why = format!("expected an integer between {low} and {high}, got {}", *value);
                Err(ApiError::invalid_value(name, why))
            }
        }
    }

    /// Takes parameters that change nothing in an answer.
    pub(crate) fn ignore(&mut self, names: &[&str]) {
        for name in names {
            drop(self.take(name));
        }
    }

    /// Refuses parameters that would change the answer and are not served.
    pub(crate) fn refuse(&mut self, unserved: &[Unserved]) -> Result<(), ApiError> {
        for (name, asks_nothing) in unserved {
            if self.take(name).is_some_and(|value| !asks_nothing(&value)) {
                return Err(ApiError::unsupported(*name, "is not served by this gateway with this value"));
            }
        }
        Ok(())
    }

    /// Refuses whatever is left: a parameter that nobody read is one whose effect would silently be missing.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        match self.0.iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(100).collect();
                let message = format!("Unrecognized request argument supplied: {name}");
                Err(ApiError::invalid(message).code("unknown_parameter").param(name))
            }
        }
    }

    /// The members, to take nested ones out.
    pub(crate) fn nested(mut value: Wiped, name: &str) -> Result<Self, ApiError> {
        match &mut value.0 {
            Value::Object(members) => Ok(Self(std::mem::take(members))),
            other => Err(wrong_type(name, "an object", other)),
        }
    }
}

impl Drop for Parameters {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

impl Wiped {
    /// The string itself, without a copy.
    pub(crate) fn take_text(&mut self, name: &str) -> Result<String, ApiError> {
        take_text(&mut self.0, name)
    }
}

impl Deref for Wiped {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

impl DerefMut for Wiped {
    fn deref_mut(&mut self) -> &mut Value {
        &mut self.0
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// The string itself, without a copy.
pub(crate) fn take_text(value: &mut Value, name: &str) -> Result<String, ApiError> {
    match value {
        Value::String(text) => Ok(std::mem::take(text)),
        other => Err(wrong_type(name, "a string", other)),
    }
}

pub(crate) fn wrong_type(name: &str, expected: &str, got: &Value) -> ApiError {
    let message = format!("Invalid type for '{name}': expected {expected}, but got {} instead", kind(got));
    ApiError::invalid(message).code("invalid_type").param(name)
}

pub(crate) fn never(_: &Value) -> bool {
    false
}

pub(crate) fn is_false(value: &Value) -> bool {
    value == &Value::Bool(false)
}

pub(crate) fn is_one(value: &Value) -> bool {
    value.as_u64() == Some(1)
}

pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The parser bounds the depth to 128, so recursion is bounded too.
fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Parameters {
        Parameters::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn null_is_absent_and_what_nobody_took_is_named() {
        let mut parameters = parse(r#"{"a": null, "b": true, "c": null}"#);
        assert_eq!(parameters.flag("a").unwrap(), None);
        assert_eq!(parameters.flag("b").unwrap(), Some(true));
        parameters.finish().unwrap();
        let error = parse(r#"{"surprise": 1}"#).finish().unwrap_err();
        assert!(String::from_utf8(error.envelope()).unwrap().contains(r#""param":"surprise""#));
    }

    #[test]
    fn numbers_keep_to_their_range_and_kind() {
        let mut parameters = parse(r#"{"a": 3, "b": 1.5, "c": -1, "d": 18446744073709551615, "e": 7}"#);
        assert!(parameters.number("a", 0.0..=2.0).is_err());
        assert!(parameters.integer("b", 0..=9).is_err());
        assert!(parameters.integer("c", 0..=9).is_err());
        assert!(parameters.integer("d", 0..=i64::MAX).is_err());
        assert_eq!(parameters.integer("e", 0..=9).unwrap(), Some(7));
    }

    #[test]
    fn a_wiped_value_is_wiped() {
        let mut value = serde_json::json!({"a": ["secret", {"b": "secret"}]});
        wipe(&mut value);
        assert_eq!(value, serde_json::json!({"a": ["", {"b": ""}]}));
    }
}
