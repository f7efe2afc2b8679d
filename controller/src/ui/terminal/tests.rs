use super::*;
use crate::ui::{Cell, Tone};

fn runs() -> Table {
    let mut table = Table::new(["RUN", "STATUS", "SIZE", "MESSAGE"]);
    table.row(["rs_abcdefgh", "completed", "3.2 GiB", "-"]);
    table.row([
        "rs_zyxwvuts",
        "failed",
        "512 B",
        "the job ended with exit code 3: \x1b]0;title\x07 and goes on for long",
    ]);
    table
}

#[test]
fn tables_are_cut_to_a_terminal_only() {
    let (ui, out, _) = Ui::captured_tty(UiOptions::default());
    ui.table(&runs());
    insta::assert_snapshot!(out.text(), @r"
    RUN          STATUS        SIZE  MESSAGE
    rs_abcdefgh  completed  3.2 GiB  -
    rs_zyxwvuts  failed       512 B  the job ended with exit code 3: \x1b]0;title\x…
    ");
    let (ui, out, _) = Ui::captured();
    ui.table(&runs());
    insta::assert_snapshot!(out.text(), @r"
    RUN          STATUS        SIZE  MESSAGE
    rs_abcdefgh  completed  3.2 GiB  -
    rs_zyxwvuts  failed       512 B  the job ended with exit code 3: \x1b]0;title\x07 and goes on for long
    ");
}

#[test]
fn long_lines_are_wrapped_at_a_terminal_only() {
    let text = "  rs_abcdefgh waits: position 2 in line; GPU 0: rs_zyxwvuts holds it; GPU 1: alice uses it: python (pid 4711)";
    let (ui, out, _) = Ui::captured_tty(UiOptions {
        width: Some(60),
        ..Default::default()
    });
    ui.wrapped(text, 4);
    insta::assert_snapshot!(out.text(), @"
    rs_abcdefgh waits: position 2 in line; GPU 0: rs_zyxwvuts
      holds it; GPU 1: alice uses it: python (pid 4711)
    ");
    let (ui, out, _) = Ui::captured_tty(UiOptions {
        width: Some(3),
        ..Default::default()
    });
    ui.wrapped("one\x1b[2J two", 4);
    assert!(!out.text().contains('\x1b') && !out.text().is_empty());
    let (ui, out, _) = Ui::captured();
    ui.wrapped(text, 4);
    assert_eq!(out.text(), format!("{text}\n"));
}

#[test]
fn narrow_terminals_cut_the_widest_columns() {
    let (ui, out, _) = Ui::captured_tty(UiOptions {
        width: Some(36),
        ..Default::default()
    });
    ui.table(&runs());
    assert!(
        out.text().lines().all(|line| line.chars().count() <= 36),
        "{}",
        out.text()
    );
    insta::assert_snapshot!(out.text(), @"
    RUN          STATUS     SIZE  MESSA…
    rs_abcdefgh  compl…  3.2 GiB  -
    rs_zyxwvuts  failed    512 B  the j…
    ");
}

#[test]
fn wide_characters_take_two_columns() {
    let mut table = Table::new(["NAME", "N"]);
    table.row(["都市の夜", "1"]);
    table.row(["city", "12"]);
    assert_eq!(
        table.render(None, false),
        "NAME       N\n都市の夜   1\ncity      12\n"
    );
    assert_eq!(table::cut("都市の夜", 6), "都市…");
}

#[test]
fn colour_never_changes_the_words() {
    let mut table = Table::new(["RUN", "STATUS"]);
    table.row([Cell::new("rs_abcdefgh"), Cell::new("failed").tone(Tone::Bad)]);
    let coloured = table.render(Some(80), true);
    assert!(
        coloured.contains("\x1b[38;5;9mfailed") || coloured.contains("\x1b[31mfailed"),
        "{coloured:?}"
    );
    assert!(table.render(Some(80), false).contains("rs_abcdefgh  failed\n"));
}

#[test]
fn fields_are_aligned() {
    let (ui, out, _) = Ui::captured();
    ui.fields(&[
        ("run", "rs_abcdefgh".into()),
        ("error message", "first\nsecond \x1b[2J".into()),
        ("empty", String::new()),
    ]);
    insta::assert_snapshot!(out.text(), @r"
    run:            rs_abcdefgh
    error message:  first
                    second \x1b[2J
    empty:
    ");
}

#[test]
fn messages_go_to_stderr_and_name_causes_and_hints() {
    let (ui, out, err) = Ui::captured();
    ui.note("uploading `a.mp4`");
    ui.warning("host `gpu1` has no `nvidia-smi`");
    ui.error(
        "host `gpu1` did not answer within 10 s",
        &["connection refused\nerror: forged \x1b[8m".into()],
        &["run `farrun host doctor gpu1`".into()],
    );
    assert_eq!(out.text(), "");
    insta::assert_snapshot!(err.text(), @r"
    uploading `a.mp4`
    warning: host `gpu1` has no `nvidia-smi`
    error: host `gpu1` did not answer within 10 s
      caused by: connection refused
        error: forged \x1b[8m
    hint: run `farrun host doctor gpu1`
    ");
}

#[test]
fn quiet_leaves_warnings_and_errors() {
    let (ui, _, err) = Ui::captured_with(UiOptions {
        quiet: true,
        ..Default::default()
    });
    ui.note("a note");
    ui.hint("a hint");
    ui.progress("uploading").finish("uploaded");
    ui.warning("a warning");
    assert_eq!(err.text(), "warning: a warning\n");
}

#[test]
fn json_is_one_document_without_control_characters() {
    let (ui, out, err) = Ui::captured_with(UiOptions {
        json: true,
        ..Default::default()
    });
    let value = serde_json::json!({"name": "a\u{9b}2J\u{202e}b\u{7f}\u{e0041}\n🎬"});
    ui.json(&value);
    let text = out.text();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    assert!(
        !text
            .trim_end()
            .chars()
            .any(|c| escape::is_hostile(c) && c != '\n'),
        "{text:?}"
    );
    ui.json_line(&[1, 2]);
    assert!(out.text().ends_with("}\n[1,2]\n"));
    assert_eq!(err.text(), "");
}

#[test]
fn a_run_log_is_exact_in_a_pipe_and_harmless_on_a_terminal() {
    let bytes = b"\xff\x00\x1b[31mred\x1b]0;t\x07\n50%\r";
    let (ui, out, _) = Ui::captured();
    ui.log_bytes(bytes);
    ui.log_end();
    assert_eq!(out.bytes(), bytes);

    let (ui, out, err) = Ui::captured_tty(UiOptions::default());
    ui.log_bytes(bytes);
    ui.note("detached");
    ui.log_end();
    assert_eq!(out.text(), "\\xff\\x00\x1b[31mred\\x1b]0;t\\x07\n50%\r\x1b[0m");
    assert_eq!(err.text(), "\x1b[0m\ndetached\n");
}

#[test]
fn a_reader_that_went_away_is_noticed_and_no_failure() {
    let (ui, out, _) = Ui::captured();
    ui.line("one");
    assert!(!ui.stdout_closed());
    ui.break_stdout();
    ui.line("two");
    assert!(ui.stdout_closed());
    assert!(ui.finish().is_ok());
    assert_eq!(out.text(), "one\n");
}

#[test]
fn phases_without_a_bar_are_at_most_two_notes() {
    let (ui, _, err) = Ui::captured();
    let progress = ui.progress("pulling image `demo:1`");
    progress.set_bytes(1, 100);
    progress.suspend(|| ui.line("data"));
    progress.finish("pulled image");
    assert_eq!(err.text(), "pulling image `demo:1`\npulled image\n");
}
