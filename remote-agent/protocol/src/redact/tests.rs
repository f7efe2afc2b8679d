//! What must go, what must stay, and that neither depends on how the text arrives.

mod made;

use super::stream::{Limits, Piece};
use super::{Redactor, is_secret_name};

/// Text, what must not be left of it, and what must.
const SECRET: &[(&str, &str, &str)] = &[
    ("/app/password: hunter2", "hunter2", "/app/"),
    ("token hf_AbCdEfGhIjKlMnOpQrStUvWx ok", "AbCdEfGh", "token "),
    ("using sk-proj-a1B2c3D4e5F6g7H8i9J0", "a1B2", "using "),
    ("sk-ant-api03-AAAAbbbb1111-cccc", "bbbb", ""),
    (
        "remote: ghp_0123456789abcdefghijABCDEFGHIJ012345",
        "0123456789",
        "remote: ",
    ),
    ("gho_0123456789abcdefghijABCDEFGHIJ012345", "0123456789", ""),
    ("github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuv", "11ABC", ""),
    ("id AKIAIOSFODNN7EXAMPLE.", "IOSFODNN", "."),
    ("xoxb-123456789012-abcdefGHIJKL", "123456789012", ""),
    ("glpat-ABCdef123456_7890xyz", "ABCdef", ""),
    ("nvapi-abcdefghijklmnopQRST", "abcdefghij", ""),
    (
        "jwt=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U!",
        "dozjgNry",
        "!",
    ),
    (
        "curl -H 'Authorization: Bearer abcDEF123456' https://x.example/y",
        "abcDEF",
        "' https://x.example/y",
    ),
    ("Authorization: Basic dXNlcjpwYXNz", "dXNlcjpw", "Authorization: "),
    (
        r#"{"Authorization": "token 0a1b2c3d4e", "n": 1}"#,
        "0a1b2c",
        r#"", "n": 1}"#,
    ),
    ("> authorization: Bearer short", "short", "> authorization: "),
    ("sent Bearer abcdefgh12345678", "abcdefgh", "sent Bearer "),
    ("Cookie: session=abc; other=def", "abc", "Cookie: "),
    (
        "git clone https://user:p4ss@git.example/x.git",
        "p4ss",
        "@git.example/x.git",
    ),
    ("postgres://app:s3:cr@et@db:5432/x", "cr@et", "@db:5432/x"),
    ("GET /f?a=1&token=abcdef&b=2", "abcdef", "&b=2"),
    (
        "https://cdn.example/f?Expires=1&Signature=AbC~dEf__&Key-Pair-Id=K2",
        "AbC~",
        "&Key-Pair-Id=K2",
    ),
    (
        "https://s3.example/f?X-Amz-Credential=ABC%2F2026&X-Amz-Date=1",
        "ABC%2F",
        "&X-Amz-Date=1",
    ),
    (
        "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA04up8h\nabc=\n-----END RSA PRIVATE KEY-----\nb",
        "MIIEpA",
        "\nb",
    ),
    (
        "1| -----BEGIN PRIVATE KEY-----\n2| MIIEpAIBAAKCAQEA04up8h\n3| abc=\n4| -----END PRIVATE KEY-----\nb",
        "abc=",
        "\nb",
    ),
    (
        r#"{"private_key": "-----BEGIN PRIVATE KEY-----\nMIIEpAIBAAKCAQEA04up8h\n-----END PRIVATE KEY-----\n", "x": 1}"#,
        "MIIEpA",
        r#""x": 1}"#,
    ),
    (
        "-----BEGIN PRIVATE KEY-----\nMIIEpAIBAAKCAQEA04up8h\nTraceback (most recent call last):",
        "MIIEpA",
        "Traceback (most recent call last):",
    ),
    (
        r#"{"auths":{"r.example":{"auth": "dXNlcjpwYXNzd29yZA=="}}}"#,
        "dXNlcjpw",
        r#""}}}"#,
    ),
    (r#"{"identitytoken": "abcdefghijk"}"#, "abcdefghijk", r#""}"#),
    ("HF_TOKEN=abc", "abc", "HF_TOKEN="),
    (
        "export AWS_SECRET_ACCESS_KEY=abc/def+1",
        "abc/def",
        "export AWS_SECRET_ACCESS_KEY=",
    ),
    ("MYSQL_PASSWORD='with blank'", "with blank", "MYSQL_PASSWORD='"),
    ("password: hunter2", "hunter2", "password: "),
    (r#"{'password': 'it\'s', 'lr': 0.1}"#, "it", ", 'lr': 0.1}"),
    (
        r#"cmd "{\"api_key\": \"abcdefgh\", \"n\": 2}""#,
        "abcdefgh",
        r#"\", \"n\": 2}""#,
    ),
    ("Config(api_key=abcdefgh, lr=0.1)", "abcdefgh", ", lr=0.1)"),
    (
        "Settings(password=SecretStr('open sesame'), lr=0.1)",
        "sesame",
        ", lr=0.1)",
    ),
    ("password=b'bytes here'", "bytes", "password=b'"),
    ("--api-key=abcdefgh --steps 5", "abcdefgh", " --steps 5"),
    ("db_conn_str: Server=x;Pwd=y", "Pwd=y", "db_conn_str: "),
    ("SENTRY_DSN=https://abc@o1.example/2", "abc@", "SENTRY_DSN="),
    ("accessToken: aB3dE5fG7h", "aB3d", "accessToken: "),
    ("\x1b[32mAPI_KEY=abc\x1b[0m done", "abc", "\x1b[0m done"),
];

/// Lines that people need to read, exactly as they are.
const PLAIN: &[&str] = &[
    "/etc/passwd: Permission denied (os error 13)",
    "cat: /run/secrets/db_password: Is a directory",
    "key frame 12 of 240, keyframe=12, keyboard=us, monkey=7, hotkey: F5",
    "KeyError: 'model.layers.0.self_attn.q_proj.weight'",
    "RuntimeError: Error(s) in loading state_dict: Missing key(s) in state_dict: \"a.weight\", \"b.bias\".",
    "Unexpected key(s) in state_dict: \"position_ids\"",
    "max_tokens=4096 num_tokens: 1234 tokens/s: 34.5 tokens=[1, 2, 3]",
    "TOKENIZERS_PARALLELISM=false MAX_TOKENS=4096 CUDA_DEVICE_MAX_CONNECTIONS=1",
    "eos_token='</s>' pad_token_id=0 bos_token: \"<|begin_of_text|>\" image_token: '<image_placeholder>'",
    "tokenizer=AutoTokenizer token_type_ids=None tokenization: fast",
    "num_key_value_heads=8 key_padding_mask=None primary_key=id sort_key: name key=value",
    "ConnectionError: HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded",
    "ConnectionRefusedError: [Errno 111] Connection refused; connect_timeout=10 connections: 12 connection: keep-alive",
    "unauthorized: authentication required; denied: requested access to the resource is denied",
    "pull access denied for foo/bar, repository does not exist or may require 'docker login'",
    "author: somebody, authors=[\"a\"], authority: none, auth: basic, authentication: failed",
    "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 23.69 GiB total capacity)",
    "NVRM: Xid (PCI:0000:0b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
    "nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown",
    "Error response from daemon: could not select device driver \"\" with capabilities: [[gpu]]",
    "401 Client Error: Unauthorized for url: https://huggingface.co/api/models/meta-llama/Llama-2-7b",
    "Cannot access gated repo for url https://huggingface.co/x/resolve/main/config.json?download=true",
    "sk-learn disk-cache-something-long-hyphenated risk-adjusted-return-computation",
    "Basic authentication is used. Bearer authentication needed. bearer of bad news",
    "HF_TOKEN= and HF_TOKEN is not set; token=None, password=null, secret: ***",
    "ssh://git@github.com/x/y.git http://localhost:8080/x?max_tokens=5 https://[::1]:80/",
    "step 100%|██████████| 100/100 [00:10<00:00, 9.9it/s, loss=0.1]\r",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 9f86d081 3fa85f64-5717-4562-b3fc",
    "cookies are off. secret sauce: not here, the key: frame, passing: 3 tests, compass=north",
    "key == value, token == 'x', secret != None",
    "keys: ['a', 'b'], values: [1, 2]; cache key: blocks_0_attn_qkv; key: sample_000123_frame_0045",
    "Traceback (most recent call last):\n  File \"/app/auth.py\", line 3, in <module>\n    key = d[\"x\"]",
];

fn small(mut redactor: Redactor) -> Redactor {
    redactor.limits = Limits { ahead: 192, step: 64 };
    redactor
}

fn by_value() -> Redactor {
    Redactor::with_values([
        ("HF", "tr0ub4dor"),
        ("PIN", "42"),
        ("QUOTED", "a\"b c"),
        ("LONG", "first line of it\nsecond line of it"),
        ("WORD", "redacted"),
        ("INNER", "b4do"),
    ])
}

fn in_pieces(redactor: &Redactor, bytes: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut redacted = Vec::new();
    let mut length = 0;
    let mut tell = |piece: Piece<'_>| {
        length += piece.length();
        redactor.write(&piece, &mut redacted);
    };
    let mut stream = redactor.stream();
    let mut rest = bytes;
    for size in sizes.iter().cycle() {
        let (now, later) = rest.split_at((*size).clamp(1, rest.len().max(1)).min(rest.len()));
        stream.push(now, &mut tell);
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    stream.finish(&mut tell);
    assert_eq!(length, bytes.len(), "the pieces together are the text");
    redacted
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn every_shape_goes_and_what_stands_beside_it_stays() {
    for (text, gone, left) in SECRET {
        let redactor = Redactor::by_shape();
        let redacted = redactor.text(text);
        assert!(!redacted.contains(gone), "{text}\n{redacted}");
        assert!(redacted.contains("[redacted:"), "{text}\n{redacted}");
        assert!(redacted.contains(left), "{text}\n{redacted}");
        assert!(!redactor.counts().is_empty(), "{text}");
    }
}

#[test]
fn what_people_need_to_read_stays() {
    for line in PLAIN {
        assert_eq!(&Redactor::by_shape().text(line), line);
    }
    let all = PLAIN.join("\n");
    assert_eq!(Redactor::by_shape().text(&all), all);
}

#[test]
fn a_bundle_names_what_it_hid() {
    let redactor = Redactor::with_values([("MY SECRET", "tr0ub4dor")]);
    let text = redactor.text("tr0ub4dor and DB_PASSWORD=x and tr0ub4dor");
    assert_eq!(
        text,
        "[redacted:MY_SECRET] and DB_PASSWORD=[redacted:DB_PASSWORD] and [redacted:MY_SECRET]"
    );
    let counts: Vec<(String, u64)> = redactor.counts().into_iter().collect();
    assert_eq!(
        counts,
        [("DB_PASSWORD".to_owned(), 1), ("MY_SECRET".to_owned(), 2)]
    );
}

#[test]
fn values_are_found_in_the_ways_they_are_written() {
    let redactor = by_value();
    assert_eq!(redactor.text("xtr0ub4dory"), "x[redacted:HF]y");
    assert_eq!(
        redactor.text("pin 42, not 421 or a42"),
        "pin [redacted:PIN], not 421 or a42"
    );
    assert_eq!(redactor.text(r#"{"x":"a\"b c"}"#), r#"{"x":"[redacted:QUOTED]"}"#);
    assert_eq!(redactor.text("?x=a%22b%20c"), "?x=[redacted:QUOTED]");
    assert_eq!(
        redactor.text("1 first line of it\n2 second line of it"),
        "1 [redacted:LONG]\n2 [redacted:LONG]"
    );
    assert_eq!(
        Redactor::with_values([("E", ""), ("B", " \n")]).text("a  b"),
        "a  b"
    );
}

#[test]
fn bytes_that_are_no_text_stay_as_they_are() {
    let redactor = by_value();
    assert_eq!(
        redactor.bytes(b"\xff\x00tr0ub4dor\xfe"),
        b"\xff\x00[redacted:HF]\xfe"
    );
    assert_eq!(
        redactor.bytes(b"\xffHF_TOKEN=\xfe\xfd \xff"),
        b"\xffHF_TOKEN=[redacted:HF_TOKEN] \xff"
    );
}

#[test]
fn a_secret_longer_than_any_window_goes_as_a_whole() {
    let long = "aB3".repeat(100_000);
    for text in [
        format!("x hf_{long} y"),
        format!("x TOKEN={long} y"),
        format!("x eyJhbGciOiJIUzI1NiJ9.{long} y"),
    ] {
        let redacted = Redactor::by_shape().text(&text);
        assert!(
            redacted.starts_with("x ") && redacted.ends_with(" y") && redacted.len() < 60,
            "{} bytes",
            redacted.len()
        );
    }
    let value = "v".repeat(200_000);
    let redacted = Redactor::with_values([("V", &value)]).text(&format!(
        "{}{value}{}",
        "x".repeat(100_000),
        "y".repeat(70_000)
    ));
    assert_eq!(redacted.len(), 170_000 + "[redacted:V]".len());
}

#[test]
fn names_are_bounded_and_tame() {
    let redactor = Redactor::by_shape();
    for number in 0..1000 {
        assert_eq!(
            redactor.hide(&format!("a]b\n{number}")),
            format!("[redacted:a_b_{number}]")
        );
    }
    assert_eq!(redactor.counts().values().sum::<u64>(), 1000);
    assert!(redactor.counts().len() <= 257, "{}", redactor.counts().len());
    assert_eq!(redactor.hide(&"n".repeat(1000)).len(), 64 + "[redacted:]".len());
}

#[test]
fn documents_are_read_by_field() {
    let redactor = by_value();
    let mut document = serde_json::json!({
        "auth": "dXNlcjpwYXNz", "password": "x", "eos_token": "</s>", "key": "value",
        "Env": ["A=tr0ub4dor", "HF_TOKEN=x"], "deep": {"tr0ub4dor": 1, "url": "https://a:b@c/d"}, "n": 1, "t": null,
    });
    redactor.json(&mut document);
    let once = document.clone();
    assert_eq!(document["auth"], "[redacted:auth]");
    assert_eq!(document["password"], "[redacted:password]");
    assert_eq!(document["eos_token"], "</s>");
    assert_eq!(document["key"], "value");
    assert_eq!(document["Env"][0], "A=[redacted:HF]");
    assert_eq!(document["Env"][1], "HF_TOKEN=[redacted:HF_TOKEN]");
    assert_eq!(document["deep"]["url"], "https://[redacted:url_login]@c/d");
    redactor.json(&mut document);
    assert_eq!(document, once);
    let mut deep = serde_json::Value::String("tr0ub4dor".to_owned());
    for _ in 0..100 {
        deep = serde_json::json!([deep]);
    }
    redactor.json(&mut deep);
    assert!(!deep.to_string().contains("tr0ub4dor"));
}

#[test]
fn names_of_variables_are_judged_strictly() {
    for name in [
        "HF_TOKEN",
        "KEYBOARD",
        "authority",
        "DB_CONN",
        "my-Secret",
        "SENTRY_DSN",
        "PGPASSWORD",
    ] {
        assert!(is_secret_name(name), "{name}");
    }
    assert!(!is_secret_name("PATH"));
}

#[test]
fn a_line_made_to_be_slow_is_not() {
    let began = std::time::Instant::now();
    for part in [
        "token='\\\"x ",
        "key=\"",
        "-----BEGIN A-----\"",
        "://a:",
        "password=",
        "eyJaaaaaaaaaa.",
        "aaaaaa",
    ] {
        let text = part.repeat(256 * 1024 / part.len());
        let redactor = Redactor::with_values([("A", "aaaaa")]);
        redactor.bytes(text.as_bytes());
    }
    assert!(
        began.elapsed() < std::time::Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn a_placeholder_is_not_taken_for_an_open_quotation() {
    let text = "password='Settings(password=SecretStr('open sesame'), lr=0.1)";
    let once = Redactor::by_shape().text(text);
    assert!(!once.contains("sesame") && once.contains("lr=0.1"), "{once}");
    assert_eq!(Redactor::by_shape().text(&once), once);
}
