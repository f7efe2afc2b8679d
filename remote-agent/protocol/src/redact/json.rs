//! Values in JSON documents, where names and values are known apart.

use super::{Redactor, assignments};
use serde_json::Value;

/// Deepest level that is looked at; what lies deeper is hidden.
const DEEPEST: usize = 64;

impl Redactor {
    /// Takes the secrets out of a document: values whose field speaks of secrets, and what is found in texts.
    pub fn json(&self, document: &mut Value) {
        self.json_at(document, 0);
    }

    fn json_at(&self, value: &mut Value, depth: usize) {
        match value {
            _ if depth > DEEPEST => *value = Value::String(self.hide("depth")),
            Value::String(text) => *text = self.text(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.json_at(value, depth + 1)),
            Value::Object(fields) => {
                for (name, value) in fields.iter_mut() {
                    match value {
                        Value::String(text) if self.is_hidden_field(name, text) => *text = self.hide(name),
                        value => self.json_at(value, depth + 1),
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn is_hidden_field(&self, name: &str, text: &str) -> bool {
        let is_placeholder = text.starts_with("[redacted:") && text.ends_with(']');
        !is_placeholder && assignments::is_secret_field(name, text)
    }
}
