//! Which names speak of secrets.

/// How sure a name makes us that its value is secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sure {
    /// Whatever the value is.
    Certain,
    /// A variable in capitals: any value but a small number.
    Variable,
    /// Values of some length that are no ordinary word.
    Likely,
    /// Only values that look generated.
    Perhaps,
}

/// Parts of names that are secret by themselves.
const PARTS: [&str; 9] = [
    "token",
    "secret",
    "passw",
    "key",
    "credential",
    "auth",
    "cookie",
    "dsn",
    "conn",
];
/// Last words of a name, with [`Sure::Certain`].
const CERTAIN: [&str; 17] = [
    "secret",
    "secrets",
    "password",
    "passwords",
    "passwd",
    "passwort",
    "passphrase",
    "passcode",
    "credential",
    "credentials",
    "cookie",
    "cookies",
    "dsn",
    "apikey",
    "secretkey",
    "privatekey",
    "accesskey",
];
/// What may follow the word that counts.
const TRAILERS: [&str; 6] = ["value", "str", "string", "b64", "base64", "plain"];
/// Words before `key` with which it is no name of a thing in a table.
const KEYS: [&str; 26] = [
    "api",
    "access",
    "secret",
    "private",
    "ssh",
    "encryption",
    "signing",
    "auth",
    "account",
    "storage",
    "shared",
    "master",
    "subscription",
    "license",
    "licence",
    "service",
    "session",
    "client",
    "app",
    "aes",
    "hmac",
    "rsa",
    "deploy",
    "host",
    "openai",
    "wandb",
];
/// Words before `token` with which it is a piece of language.
const TOKENS: [&str; 33] = [
    "eos",
    "bos",
    "pad",
    "unk",
    "sep",
    "cls",
    "mask",
    "eot",
    "image",
    "img",
    "video",
    "audio",
    "vision",
    "start",
    "end",
    "stop",
    "special",
    "next",
    "per",
    "first",
    "last",
    "input",
    "output",
    "prompt",
    "text",
    "new",
    "word",
    "sub",
    "max",
    "min",
    "num",
    "cancellation",
    "decoder",
];
/// Ordinary words that end in one that counts.
const WORDS: [&str; 7] = [
    "monkey", "donkey", "turkey", "hotkey", "whiskey", "passkey", "subtoken",
];

/// Whether a name holds any of the parts, as far as a variable or field is concerned.
pub(super) fn speaks_of_secrets(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    PARTS.iter().any(|part| name.contains(part))
}

/// What the name of an assignment says about its value; none when it says nothing.
pub(super) fn judge(name: &str) -> Option<Sure> {
    let words = words(name);
    if is_variable(name) {
        variable(&words)
    } else {
        field(&words)
    }
}

/// Whether a name is in capitals, as those of environment variables are.
pub(super) fn is_variable(name: &str) -> bool {
    name.bytes().any(|byte| byte.is_ascii_uppercase()) && !name.bytes().any(|byte| byte.is_ascii_lowercase())
}

/// Lower-case words of `AWS_SECRET_KEY`, `authToken` or `db.pass-word`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_lower = false;
    for letter in name.chars() {
        let begins = was_lower && letter.is_ascii_uppercase();
        was_lower = letter.is_ascii_lowercase() || letter.is_ascii_digit();
        if begins || !letter.is_ascii_alphanumeric() {
            words.push(String::new());
        }
        if letter.is_ascii_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.push(letter.to_ascii_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn variable(words: &[String]) -> Option<Sure> {
    let mut sure = None;
    for (number, word) in words.iter().enumerate() {
        let certain = ["passw", "passphrase", "secret", "credential", "cookie"];
        if certain.iter().any(|part| word.contains(part))
            || word == "dsn"
            || is_connection_string(words, number)
        {
            return Some(Sure::Certain);
        }
        let singular = word.strip_suffix('s').unwrap_or(word);
        let before = number
            .checked_sub(1)
            .and_then(|at| words.get(at))
            .map_or("", String::as_str);
        let ends = ["token", "key", "auth", "conn"]
            .iter()
            .any(|part| singular.ends_with(part));
        let is_language = singular == "token" && TOKENS.contains(&before);
        let is_pass = singular == "pass" && number > 0;
        if (ends && !is_language && !WORDS.contains(&singular)) || is_pass || word == "authorization" {
            sure = Some(Sure::Variable);
        }
    }
    sure
}

fn field(words: &[String]) -> Option<Sure> {
    let is_trailer =
        |word: &String| TRAILERS.contains(&word.as_str()) || word.bytes().all(|byte| byte.is_ascii_digit());
    let mut last = words.len().checked_sub(1)?;
    if is_connection_string(words, last) || is_connection_string(words, last.saturating_sub(1)) {
        return Some(Sure::Certain);
    }
    while last > 0 && words.get(last).is_some_and(is_trailer) {
        last -= 1;
    }
    let word = words.get(last)?.as_str();
    let before = last
        .checked_sub(1)
        .and_then(|at| words.get(at))
        .map_or("", String::as_str);
    if CERTAIN.contains(&word) || (word == "pass" && last > 0) {
        return Some(Sure::Certain);
    }
    if WORDS.contains(&word) {
        return None;
    }
    if word == "key" || word == "keys" {
        return Some(if KEYS.contains(&before) {
            Sure::Likely
        } else {
            Sure::Perhaps
        });
    }
    if word.ends_with("token") {
        return (word != "token" || !TOKENS.contains(&before)).then_some(Sure::Likely);
    }
    match word {
        "auth" => Some(Sure::Likely),
        "conn" => Some(Sure::Perhaps),
        _ => None,
    }
}

/// `CONNECTION_STRING`, `connectionString`, `conn_str`: the word at `number` and the one behind it.
fn is_connection_string(words: &[String], number: usize) -> bool {
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    matches!(word(number), "connectionstring" | "connstr")
        || (matches!(word(number), "connection" | "conn") && matches!(word(number + 1), "string" | "str"))
}
