use super::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

fn picture() -> Picture {
    let gpu = |index: u32, holder: &str, tone| GpuRow {
        index: index.to_string(),
        model: "H100 80GB HBM3".to_owned(),
        history: vec![Some(5), Some(40), None, Some(98), Some(98)],
        utilization: "98 %".to_owned(),
        memory: "61.5/79.6 GiB".to_owned(),
        temperature: "71 °C".to_owned(),
        power: "640 W".to_owned(),
        holder: holder.to_owned(),
        tone,
    };
    let run = |id: &str, state: &str, tone| RunRow {
        id: id.to_owned(),
        name: "city_night".to_owned(),
        host: "gpu1".to_owned(),
        state: state.to_owned(),
        time: "3 m 05 s".to_owned(),
        gpus: "GPU 0 ".to_owned(),
        note: "log 18.2 KiB".to_owned(),
        tone,
    };
    Picture {
        title: "farrun status  14:02:11  2 hosts, 2 runs".to_owned(),
        hosts: vec![
            HostPanel {
                name: "gpu1".to_owned(),
                link: "up, 38 ms, 2 × H100 80GB HBM3, 1 s old".to_owned(),
                tone: Tone::Good,
                troubles: Vec::new(),
                gpus: vec![gpu(0, "rs_aaaaaaaaaaaa", Tone::Plain), gpu(1, "free", Tone::Good)],
            },
            HostPanel {
                name: "gpu2".to_owned(),
                link: "away 6 min: no answer within 10 s".to_owned(),
                tone: Tone::Bad,
                troubles: vec!["a GPU has fallen off the bus".to_owned()],
                gpus: Vec::new(),
            },
        ],
        runs: vec![
            run("rs_aaaaaaaaaaaa", "running", Tone::Good),
            run("rs_bbbbbbbbbbbb", "queued", Tone::Plain),
        ],
        chosen: Some(0),
        log_title: "rs_aaaaaaaaaaaa city_night on gpu1".to_owned(),
        log: (1..=30).map(|line| format!("step {line} of 30")).collect(),
        ..Picture::default()
    }
}

fn drawn(picture: &Picture, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, picture)).unwrap();
    terminal.backend().to_string()
}

#[test]
fn everything_is_there_at_eighty_by_twenty_four() {
    let frame = drawn(&picture(), 80, 24);
    for text in [
        "gpu1",
        "rs_aaaaaaaaaaaa",
        "free",
        "fallen off the bus",
        "step 30 of 30",
        "q quit",
    ] {
        assert!(frame.contains(text), "{text}\n{frame}");
    }
    insta::assert_snapshot!(frame);
}

#[test]
fn the_way_out_is_always_shown() {
    let mut picture = picture();
    picture.title = "farrun status  14:02:11  12 hosts, 10 active runs".to_owned();
    for (width, keys) in [
        (120, "up/down run  pgup/pgdn hosts  q quit"),
        (80, "up/down run  q quit"),
        (60, " q quit"),
        (40, " q quit"),
    ] {
        let frame = drawn(&picture, width, 24);
        assert!(frame.lines().next().unwrap().contains(keys), "{width}: {frame}");
    }
}

#[test]
fn a_wide_terminal_shows_more_history() {
    insta::assert_snapshot!(drawn(&picture(), 120, 16));
}

#[test]
fn hosts_that_do_not_fit_can_be_scrolled() {
    let mut many = picture();
    let host = many.hosts[0].clone();
    many.hosts = (0..20)
        .map(|number| HostPanel {
            name: format!("host{number:02}"),
            ..host.clone()
        })
        .collect();
    let first = drawn(&many, 80, 24);
    assert!(
        first.contains("host00") && first.contains("more lines: pgdn"),
        "{first}"
    );
    // Farther than there is leads to the end.
    many.scroll = 10_000;
    let last = drawn(&many, 80, 24);
    assert!(last.contains("host19") && !last.contains("more lines"), "{last}");
    assert!(last.contains("step 30 of 30"), "{last}");
}

#[test]
fn the_chosen_run_is_always_in_sight() {
    let mut many = picture();
    let run = many.runs[0].clone();
    many.runs = (0..40)
        .map(|number| RunRow {
            id: format!("rs_{number:012}"),
            ..run.clone()
        })
        .collect();
    for chosen in [0, 20, 39] {
        many.chosen = Some(chosen);
        let frame = drawn(&many, 80, 24);
        assert!(frame.contains(&format!("> rs_{chosen:012}")), "{frame}");
    }
}

#[test]
fn no_size_makes_it_panic() {
    for (width, height) in [(1, 1), (39, 24), (40, 10), (80, 9), (80, 10), (300, 100)] {
        let _ = drawn(&picture(), width, height);
        let _ = drawn(&Picture::default(), width, height);
    }
}

#[test]
fn texts_from_a_host_cannot_reach_the_terminal() {
    let mut hostile = picture();
    let evil = "\u{1b}]0;owned\u{7}\u{202e}".to_owned();
    hostile.hosts[0].link = evil.clone();
    hostile.hosts[0].gpus[0].holder = evil.clone();
    hostile.hosts[0].gpus[0].model = evil.clone();
    hostile.runs[0].name = evil.clone();
    hostile.runs[0].note = evil.clone();
    hostile.log = vec![evil];
    let frame = drawn(&hostile, 120, 30);
    assert!(
        !frame.chars().any(|c| c != '\n' && escape::is_hostile(c)),
        "{frame:?}"
    );
}

#[test]
fn without_colour_no_cell_has_one() {
    let coloured = |colour: bool| {
        let picture = Picture { colour, ..picture() };
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &picture)).unwrap();
        terminal
            .backend()
            .buffer()
            .content
            .iter()
            .any(|cell| cell.fg != Color::Reset)
    };
    assert!(coloured(true));
    assert!(!coloured(false));
}
