//! Text as HTML: nothing that comes from anywhere else becomes markup, and nothing in it is invisible.

use crate::ui::escape;

/// Text of one line as HTML.
pub(super) fn line(text: &str) -> String {
    escape::markup(&escape::line(text))
}

/// Text of several lines as HTML.
pub(super) fn block(text: &str) -> String {
    escape::markup(&escape::block(text))
}

/// A sentence with its `code` marked as such, with a capital letter.
pub(super) fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let text: String = match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => String::new(),
    };
    let parts: Vec<&str> = text.split('`').collect();
    // A lone backtick is a backtick.
    let marks = parts.len() % 2 == 1;
    let mut out = String::new();
    for (at, part) in parts.iter().enumerate() {
        match (at % 2 == 1, marks) {
            (true, true) => out.push_str(&format!("<code>{}</code>", line(part))),
            (_, true) => out.push_str(&line(part)),
            (_, false) => out.push_str(&format!("{}{}", if at > 0 { "`" } else { "" }, line(part))),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_and_what_cannot_be_seen_become_text() {
        assert_eq!(
            line("<b a='\"'>&\u{1b}\u{202e}\n"),
            "&lt;b a=&#39;&quot;&#39;&gt;&amp;\\x1b\\u{202e}\\n"
        );
        assert_eq!(block("a\n\tb\r"), "a\n\tb\\r");
        assert_eq!(sentence("the `<i>` is"), "The <code>&lt;i&gt;</code> is");
        assert_eq!(sentence("a ` lone <"), "A ` lone &lt;");
        assert_eq!(sentence(""), "");
    }
}
