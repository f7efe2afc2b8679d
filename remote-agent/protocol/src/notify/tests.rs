use super::{Event, Hook, Outcome};
use crate::message::Secret;

fn event() -> Event {
    serde_json::from_value::<Event>(serde_json::json!({
        "schema": "farrun.notification/1", "text": "", "run_id": "rs_aaaaaaaa", "name": "light\"house",
        "host": "gpu1", "operation": "inference", "prompt_id": null, "status": "failed", "reason": "exit_code",
        "error_message": "the job exited with code 3 \\ \u{e9}", "exit_code": 3, "signal": null, "started_at": null,
        "ended_at": "2026-03-01T12:00:00Z",
    }))
    .unwrap()
    .worded()
}

fn webhook(url: &str) -> Hook {
    Hook::Webhook {
        url: Secret::new(url),
    }
}

#[test]
fn a_webhooks_address_passes_through_standard_input_only() {
    let hook = webhook("https://ada:pw@hooks.example.org:8443/services/T0/secret?k=v");
    let call = hook.call(&event());
    assert_eq!(
        (call.program.as_str(), call.arguments.join(" ").as_str()),
        ("curl", "-q --config -")
    );
    assert!(call.environment.is_empty());
    assert!(
        call.stdin
            .starts_with("url = \"https://ada:pw@hooks.example.org:8443/services/T0/secret?k=v\"\n")
    );
    assert_eq!(hook.shown(), "webhook https://hooks.example.org:8443/…");
    assert!(!format!("{hook:?}").contains("secret"));
}

#[test]
fn what_curl_is_told_to_send_is_the_document() {
    let call = webhook("https://x/").call(&event());
    let line = call
        .stdin
        .lines()
        .find_map(|line| line.strip_prefix("data-raw = \"")?.strip_suffix('"'))
        .unwrap();
    // As curl reads it.
    let sent = line.replace("\\\"", "\"").replace("\\\\", "\\");
    assert_eq!(serde_json::from_str::<Event>(&sent).unwrap(), event());
}

#[test]
fn hooks_that_cannot_be_are_refused() {
    let command = |argv: &[&str]| Hook::Command {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
    };
    for good in [
        command(&["true"]),
        command(&["a", ""]),
        webhook("http://10.0.0.1/x?y=z&a=%20"),
    ] {
        assert_eq!(good.check(), Ok(()));
    }
    for bad in [
        command(&[]),
        command(&[""]),
        command(&["a", "b\0"]),
        command(&["a"; 101]),
        webhook("ftp://x/"),
        webhook("https://"),
        webhook("https:///etc"),
        webhook("https://x/\"\noutput = \"/etc/passwd"),
        webhook("https://x/a b"),
        webhook(&format!("https://{}", "x".repeat(2000))),
        webhook("file:///etc/passwd"),
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
}

#[test]
fn commands_get_facts_as_variables_and_as_a_document() {
    let call = Hook::Command {
        argv: vec!["notify".into(), "--now".into()],
    }
    .call(&event());
    let variable = |name: &str| {
        let found = call.environment.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    };
    assert_eq!(variable("FARRUN_STATUS"), Some("failed"));
    assert_eq!(variable("FARRUN_REASON"), Some("exit_code"));
    assert_eq!(variable("FARRUN_SIGNAL"), Some(""));
    assert_eq!(
        variable("FARRUN_TEXT"),
        Some("rs_aaaaaaaa (light\"house) on gpu1 failed: the job exited with code 3 \\ \u{e9}")
    );
    assert_eq!(serde_json::from_str::<Event>(&call.stdin).unwrap(), event());
}

#[test]
fn failures_are_told_without_what_is_secret() {
    let curl = webhook("https://x/").call(&event());
    let said = |code, printed| Outcome::of(&curl, code, printed).problem();
    assert_eq!(said(Some(0), "200"), None);
    assert_eq!(
        said(Some(22), "404").as_deref(),
        Some("the webhook answered with HTTP status 404")
    );
    assert_eq!(said(Some(6), "000").as_deref(), Some("it ended with code 6"));
    assert_eq!(said(None, "").as_deref(), Some("it was ended by a signal"));
}
