//! One line of configuration: a keyword and its arguments.

/// A keyword in lower case and its arguments; none for an empty line or a comment.
pub(super) fn split(line: &str) -> Result<Option<(String, Vec<String>)>, &'static str> {
    let line = line.trim_matches(is_space);
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (keyword, rest) = keyword(line)?;
    Ok(Some((keyword.to_ascii_lowercase(), arguments(rest)?)))
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n' | '\u{c}')
}

/// The keyword, and what follows it: after spaces, one equals sign with or without spaces, or a quoted keyword.
fn keyword(line: &str) -> Result<(&str, &str), &'static str> {
    let (keyword, rest) = match line.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or("a quote is not closed")?,
        None => {
            let end = line
                .find(|c| is_space(c) || c == '=' || c == '"')
                .unwrap_or(line.len());
            line.split_at(end)
        }
    };
    let rest = rest.trim_start_matches(is_space);
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    Ok((keyword, rest.trim_start_matches(is_space)))
}

/// Splits arguments at spaces. Either quote may enclose spaces, a backslash escapes quotes, itself and a space, and
/// a comment may begin where an argument could.
fn arguments(text: &str) -> Result<Vec<String>, &'static str> {
    let mut found = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| is_space(*c)).is_some() {}
        match rest.peek() {
            None | Some('#') => return Ok(found),
            Some(_) => found.push(argument(&mut rest)?),
        }
    }
}

fn argument(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<String, &'static str> {
    let mut text = String::new();
    let mut quote = None;
    while let Some(c) = rest.next_if(|c| quote.is_some() || !is_space(*c)) {
        match (c, quote) {
            ('\\', _) => match rest
                .next_if(|next| matches!(next, '\'' | '"' | '\\') || (quote.is_none() && *next == ' '))
            {
                Some(escaped) => text.push(escaped),
                None => text.push('\\'),
            },
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (c, _) => text.push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lexed(line: &str) -> (String, Vec<String>) {
        split(line).unwrap().unwrap()
    }

    #[test]
    fn the_ways_to_write_a_directive() {
        let expected = ("hostname".to_owned(), vec!["a.b".to_owned()]);
        for line in [
            "HostName a.b",
            "  hostname=a.b",
            "HOSTNAME = a.b ",
            "HostName\ta.b # where",
            "HostName \"a.b\"",
            "HostName 'a.b'\r",
            "\"HostName\" a.b",
        ] {
            assert_eq!(lexed(line), expected, "{line}");
        }
    }

    #[test]
    fn quotes_and_escapes() {
        assert_eq!(
            lexed(r#"IdentityFile "a b" c\ d e\"f 'g#h'"#).1,
            ["a b", "c d", "e\"f", "g#h"]
        );
        assert!(split("IdentityFile \"a b").is_err());
        assert_eq!(
            lexed("Host a#b").1,
            ["a#b"],
            "a comment begins only where an argument could"
        );
    }

    #[test]
    fn nothing_to_say() {
        for line in ["", "   ", "# Host x", "\t#"] {
            assert_eq!(split(line).unwrap(), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_it_fall_over(line in "\\PC{0,60}", quoted in "[ a\"'\\\\#=]{0,40}") {
            let _ = split(&line);
            let _ = split(&quoted);
        }
    }
}
