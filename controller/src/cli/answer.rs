//! Answers SSH's questions at the terminal, or declines where there is none.

use crate::ssh::{Ask, PromptQuestion, Secret, ShownKey};
use crate::ui::{Ui, escape};

/// Asks the person at the terminal.
pub struct TerminalAnswer {
    ui: Ui,
    accept_new: bool,
}

impl TerminalAnswer {
    /// Asks through `ui`; `accept_new` accepts unknown host keys unasked, as the user said on the command line.
    pub fn new(ui: Ui, accept_new: bool) -> Self {
        Self { ui, accept_new }
    }

    fn secret(&self, prompt: &str) -> Option<Secret> {
        self.ui.ask_secret(prompt).map(Secret::new)
    }
}

impl Ask for TerminalAnswer {
    fn trust_host_key(&self, host: &str, shown: &ShownKey) -> bool {
        let ShownKey {
            key_name,
            key_type,
            fingerprint,
            ..
        } = shown;
        if self.accept_new {
            self.ui.note(format!(
                "accepting the {key_type} key of `{host}` ({key_name}): {fingerprint}"
            ));
            return true;
        }
        self.ui.note(format!(
            "`{host}` ({key_name}) is unknown; it shows the {key_type} key {fingerprint}"
        ));
        self.ui.ask("trust this key from now on?").unwrap_or(false)
    }

    fn passphrase(&self, question: &PromptQuestion) -> Option<Secret> {
        self.secret(&format!("passphrase of `{}`: ", escape::line(&question.subject)))
    }

    fn password(&self, question: &PromptQuestion) -> Option<Secret> {
        self.secret(&format!("password of {} on `{}`: ", question.user, question.host))
    }

    fn answer(&self, question: &PromptQuestion, echo: bool) -> Option<Secret> {
        let prompt = format!("`{}` asks: {} ", question.host, escape::line(&question.subject));
        if echo {
            self.ui.ask_text(&prompt).map(Secret::new)
        } else {
            self.secret(&prompt)
        }
    }
}
