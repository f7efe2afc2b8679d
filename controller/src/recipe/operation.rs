//! What an operation asks for.

use super::file::{ArgvItem, InputFrom, Operation};
use super::template::{self, Piece};

impl Operation {
    /// Whether it can only run with a prompt.
    pub fn needs_prompt(&self) -> bool {
        self.inputs
            .values()
            .any(|rule| rule.required && rule.from == InputFrom::Prompt)
            || self.templates().into_iter().any(|(_, _, text)| {
                template::pieces(text).is_ok_and(|pieces| {
                    pieces.iter().any(|piece| {
                        matches!(
                            piece,
                            Piece::Name {
                                name: "prompt" | "prompt.name",
                                optional: false
                            }
                        )
                    })
                })
            })
    }

    /// Whether it can only run on the outputs of an earlier run.
    pub fn needs_parent(&self) -> bool {
        self.inputs
            .values()
            .any(|rule| rule.required && rule.from == InputFrom::Parent)
    }

    /// Every text with placeholders: its key, what it depends on, the text.
    pub(super) fn templates(&self) -> Vec<(String, Option<&str>, &str)> {
        let mut found: Vec<(String, Option<&str>, &str)> = Vec::new();
        for item in &self.argv {
            match item {
                ArgvItem::Word(word) => found.push(("argv".into(), None, word)),
                ArgvItem::Group(group) => {
                    found.extend(
                        group
                            .args
                            .iter()
                            .map(|word| ("argv".into(), group.when.as_deref(), word.as_str())),
                    );
                }
            }
        }
        found.extend(
            self.env
                .iter()
                .map(|(name, value)| (format!("env.{name}"), None, value.as_str())),
        );
        for file in &self.files {
            let mut texts: Vec<&str> = file.text.as_deref().into_iter().collect();
            if let Some(json) = &file.json {
                template::texts(json, &mut texts);
            }
            found.extend(texts.into_iter().map(|text| ("files".into(), None, text)));
        }
        found
    }
}
