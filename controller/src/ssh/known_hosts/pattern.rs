//! Host patterns: `*`, `?`, lists with commas, negation.

/// Whether a list of patterns names a host. A negated pattern that matches outweighs all others.
pub(in crate::ssh) fn list_matches<'a>(patterns: impl IntoIterator<Item = &'a [u8]>, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let mut found = false;
    for pattern in patterns {
        match pattern.strip_prefix(b"!") {
            Some(negated) if matches(&negated.to_ascii_lowercase(), host.as_bytes()) => return false,
            Some(_) => {}
            None => found |= matches(&pattern.to_ascii_lowercase(), host.as_bytes()),
        }
    }
    found
}

/// Whether one pattern matches a text.
pub(in crate::ssh) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut rest, mut text) = (pattern, text);
    // Where to go back to when what follows the last star does not match.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        match (rest.split_first(), text.split_first()) {
            (Some((b'*', after)), _) => {
                star = Some((after, text));
                rest = after;
            }
            (Some((wanted, after)), Some((found, left))) if *wanted == b'?' || wanted == found => {
                rest = after;
                text = left;
            }
            (None, None) => return true,
            _ => match star {
                Some((after, from)) => {
                    let Some((_, left)) = from.split_first() else {
                        return false;
                    };
                    star = Some((after, left));
                    rest = after;
                    text = left;
                }
                None => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(patterns: &str, host: &str) -> bool {
        list_matches(patterns.as_bytes().split(|byte| *byte == b','), host)
    }

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("gpu?", "gpu1", true),
            ("gpu?", "gpu", false),
            ("gpu?", "gpu12", false),
            ("*.lab", "a.b.lab", true),
            ("*.lab", "lab", false),
            ("a*b*c", "axxbxbxc", true),
            ("a*b*c", "axxbxbx", false),
            ("**", "anything", true),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn many_stars_are_quick() {
        let pattern = "*a".repeat(200);
        assert!(!matches(pattern.as_bytes(), "a".repeat(199).as_bytes()));
    }

    #[test]
    fn a_negated_pattern_wins_wherever_it_stands() {
        assert!(list("*.lab,!bad.lab", "good.lab"));
        assert!(!list("*.lab,!bad.lab", "bad.lab"));
        assert!(!list("!bad.lab,*.lab", "BAD.lab"));
        assert!(!list("!bad.lab", "good.lab"), "a negation alone names nobody");
    }

    #[test]
    fn case_does_not_matter() {
        assert!(list("GPU1.Lab", "gpu1.lab"));
        assert!(list("gpu1.lab", "GPU1.LAB"));
    }
}
