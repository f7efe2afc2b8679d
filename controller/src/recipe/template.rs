//! Placeholders in words and JSON: `{name}` for something that is there, `{name?}` for something that may be.
//!
//! A value is put in as it is: nothing in it is read as a placeholder again, and no word is ever split.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What placeholders stand for.
pub(super) type Values = BTreeMap<String, Value>;

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Text(&'a str),
    Name { name: &'a str, optional: bool },
}

/// Splits a template. `{{` and `}}` are braces.
pub(super) fn pieces(template: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let (text, from) = rest.split_at(at);
        pieces.push(Piece::Text(text));
        let doubled = ["{{", "}}"].into_iter().find_map(|pair| from.strip_prefix(pair));
        if let Some(after) = doubled {
            pieces.push(Piece::Text(from.get(..1).unwrap_or_default()));
            rest = after;
            continue;
        }
        let (inner, after) = from
            .strip_prefix('{')
            .and_then(|inner| inner.split_once('}'))
            .ok_or_else(|| {
                format!(
                    "has a brace without its other half in `{template}`; write `{{{{` or `}}}}` for a brace"
                )
            })?;
        let (name, optional) = inner
            .strip_suffix('?')
            .map_or((inner, false), |name| (name, true));
        pieces.push(Piece::Name { name, optional });
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    pieces.retain(|piece| *piece != Piece::Text(""));
    Ok(pieces)
}

/// The text of a template, or the name of the value that it lacks.
pub(super) fn text(template: &str, values: &Values) -> Result<String, String> {
    let mut out = String::new();
    for piece in pieces(template)? {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Name { name, optional } => match values.get(name) {
                Some(value) => out.push_str(&shown(value)),
                None if optional => {}
                None => return Err(format!("needs `{name}`, which is not given")),
            },
        }
    }
    Ok(out)
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The JSON of a template. A text that is one placeholder keeps the value's type; an entry whose text is one
/// optional placeholder without a value is left out.
pub(super) fn json(template: &toml::Value, values: &Values) -> Result<Option<Value>, String> {
    Ok(Some(match template {
        toml::Value::String(template) => {
            if let [Piece::Name { name, optional }] = pieces(template)?.as_slice() {
                return match values.get(*name) {
                    None if !optional => Err(format!("needs `{name}`, which is not given")),
                    found => Ok(found.cloned()),
                };
            }
            Value::String(text(template, values)?)
        }
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => (*number).into(),
        toml::Value::Boolean(truth) => (*truth).into(),
        toml::Value::Datetime(moment) => moment.to_string().into(),
        toml::Value::Array(items) => {
            let items = items.iter().filter_map(|item| json(item, values).transpose());
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        toml::Value::Table(table) => {
            let mut map = Map::new();
            for (key, item) in table {
                if let Some(value) = json(item, values)? {
                    map.insert(key.clone(), value);
                }
            }
            Value::Object(map)
        }
    }))
}

/// Every text in a JSON template.
pub(super) fn texts<'a>(template: &'a toml::Value, found: &mut Vec<&'a str>) {
    match template {
        toml::Value::String(text) => found.push(text),
        toml::Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        toml::Value::Table(table) => table.values().for_each(|item| texts(item, found)),
        _ => {}
    }
}
