//! Names that become folders: prompt names and image names.

/// Folder names below the outputs folder that no prompt may take.
pub const RESERVED: &[&str] = &["prompt_enhancement", "diagnostics"];

/// Ending of the folder that holds the upscales of a prompt; no prompt's own name may end so.
pub const UPSCALED: &str = "_upscaled";

/// Makes a slug of any text: lower-case ASCII letters, digits, `_` and `-`, at most 40 characters, never empty.
///
/// Every other run of characters becomes one `_`.
pub fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        if slug.len() == 40 {
            break;
        }
        if c.is_ascii_alphanumeric() || c == '-' {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('_') {
            slug.push('_');
        }
    }
    let slug = slug.trim_matches(|c| c == '_' || c == '-').to_owned();
    if slug.is_empty() {
        "untitled".to_owned()
    } else {
        slug
    }
}

/// Whether a user may give a prompt this name.
pub fn is_prompt_name(name: &str) -> bool {
    (1..=48).contains(&name.len())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !RESERVED.contains(&name)
        && !name.ends_with(UPSCALED)
        && !name.starts_with("ps_")
        && !name.starts_with("rs_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_plain_folder_names() {
        assert_eq!(slug("A neon city, at night!"), "a_neon_city_at_night");
        assert_eq!(slug("../../etc/passwd"), "etc_passwd");
        assert_eq!(slug("🎬🎬"), "untitled");
        assert_eq!(
            slug("registry.example/team/image:tag"),
            "registry_example_team_image_tag"
        );
        assert!(slug(&"x".repeat(100)).len() <= 40);
        assert!(is_prompt_name(&slug("Übergroße Stadt")));
    }

    #[test]
    fn reserved_names_are_refused() {
        for name in [
            "prompt_enhancement",
            "diagnostics",
            "city_upscaled",
            "ps_x",
            "rs_x",
            "",
            "A",
            "a/b",
            "_a",
        ] {
            assert!(!is_prompt_name(name), "{name}");
        }
    }
}
