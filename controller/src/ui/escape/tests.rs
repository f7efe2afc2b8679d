use super::*;
use proptest::prelude::*;

/// Sequences that move the cursor, set titles, clipboards and links, answer the shell, hide or reorder text.
fn corpus() -> Vec<Vec<u8>> {
    let mut cases: Vec<Vec<u8>> = Vec::new();
    // Every control sequence but SGR, with and without parameters.
    for last in (b'@'..=b'~').filter(|byte| *byte != b'm') {
        cases.push([b"\x1b[", &[last][..]].concat());
        cases.push([b"\x1b[1;2", &[last][..]].concat());
    }
    // Every two-byte escape but the start of a control sequence.
    cases.extend(
        (b' '..=b'~')
            .filter(|byte| *byte != b'[')
            .map(|byte| vec![0x1b, byte]),
    );
    // Every C0 control that is not kept, and every C1 control as UTF-8 and as a bare byte.
    cases.extend(
        (0..0x20)
            .chain([0x7f])
            .filter(|byte| !b"\n\t\r".contains(byte))
            .map(|byte| vec![byte]),
    );
    cases.extend((0x80..=0x9f).map(|byte| vec![0xc2, byte]));
    cases.extend((0x80..=0xffu8).map(|byte| vec![byte, b'A']));
    cases.extend("\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\u{2028}\u{feff}\u{e0041}"
        .chars().map(|c| c.to_string().into_bytes()));
    let known: &[&[u8]] = &[
        b"\x1b]0;title\x07",
        b"\x1b]2;title\x1b\\",
        b"\x1b]52;c;cm0gLXJm\x07",
        b"\x1b]8;;http://evil.example\x07link\x1b]8;;\x07",
        b"\x1b]1337;File=inline=1:AAAA\x07",
        b"\x1b]4;1;?\x07",
        b"\x1b]11;?\x07",
        b"\x1bP$qm\x1b\\",
        b"\x1bP+q544e\x1b\\",
        b"\x1b_Gf=24;AAAA\x1b\\",
        b"\x1b^private\x1b\\",
        b"\x1bX string\x1b\\",
        b"\x1b[?1049h",
        b"\x1b[?25l",
        b"\x1b[?2004h",
        b"\x1b[>0q",
        b"\x1b[>4;2m",
        b"\x1b[?4m",
        b"\x1b[=5m",
        b"\x1b[ m",
        b"\x1b[31 q",
        b"\x1b[31!m",
        b"\x1b[31\x1bm",
        b"\x1b[31\nm",
        b"\x1b[31\x9bm",
        b"\x1b[\xc2\x9b31m",
        b"\x1b\x1b[31",
        b"\x1b\x1b]0;x\x07",
        b"\x9b31;1H",
        b"\x9d0;title\x9c",
        b"\x1b[6n",
        b"\x1b[c",
        b"\x1b[0x",
        b"\x1bc",
        b"\x1b#8",
        b"\x1b(0",
        b"\x1bZ",
        b"\x1b[2J\x1b[H",
        b"\x1b[1A\x1b[2Kforged line",
        b"a\x08\x08\x08b",
        b"\xe2\x80",
        b"\xf0\x9f\x8e",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xe2\x80\x1b[2J",
        b"\xc2\x1b]0;x\x07",
    ];
    cases.extend(known.iter().map(|case| case.to_vec()));
    cases.push([b"\x1b[".to_vec(), vec![b'1'; 5000], b"m".to_vec()].concat());
    cases
}

fn stream(pieces: &[&[u8]]) -> String {
    let mut escaper = StreamEscaper::default();
    let mut out: String = pieces.iter().map(|piece| escaper.push(piece)).collect();
    out.push_str(&escaper.finish());
    out
}

/// Whether a terminal would do no more with `text` than print it, in colour.
fn is_harmless(text: &str) -> bool {
    let mut rest = text;
    while let Some(found) = rest.find(|c: char| is_hostile(c) && !"\n\t\r".contains(c)) {
        let Some(after) = rest[found..].strip_prefix("\x1b[") else {
            return false;
        };
        let end = after.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';' || c == ':');
        let Some(next) = end.strip_prefix('m') else {
            return false;
        };
        rest = next;
    }
    true
}

#[test]
fn the_hostile_corpus_is_harmless_whole_and_byte_by_byte() {
    let corpus = corpus();
    assert!(corpus.len() >= 200, "{}", corpus.len());
    for case in corpus {
        let whole = stream(&[&case]);
        assert!(is_harmless(&whole), "{case:?} became {whole:?}");
        assert!(
            !whole.contains("\x1b[") || whole.contains('m'),
            "{case:?} became {whole:?}"
        );
        let single: Vec<&[u8]> = case.chunks(1).collect();
        assert_eq!(stream(&single), whole, "{case:?}");
        let text = String::from_utf8_lossy(&case);
        assert!(!line(&text).chars().any(is_hostile), "{case:?}");
    }
}

#[test]
fn what_a_log_needs_is_kept() {
    let text = "plain\ttab\r\n50%|█████     | 5/10\r\x1b[1;38;5;196mred\x1b[0m grün 都市 🎬👩‍🚀\n";
    assert_eq!(stream(&[text.as_bytes()]), text);
    let pieces: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
    assert_eq!(stream(&pieces), text);
}

#[test]
fn refused_sequences_are_shown() {
    insta::assert_snapshot!(stream(&[b"\x1b]0;t\x07 \x1b[2J \x9b \xc2\x9b \xff \xe2\x80\xae x"]), @r"\x1b]0;t\x07 \x1b[2J \x9b \u{9b} \xff \u{202e} x");
    assert_eq!(stream(&[b"\x1b[31mred"]), "\x1b[31mred\x1b[0m");
    assert_eq!(stream(&[b"\x1b[31mred\x1b[m"]), "\x1b[31mred\x1b[m");
}

proptest! {
    #[test]
    fn no_bytes_in_any_cutting_reach_the_terminal_unescaped(
        pieces in proptest::collection::vec(proptest::collection::vec(prop_oneof![
            any::<u8>(), Just(0x1b), Just(b'['), Just(b'm'), Just(b';'), Just(0xc2), Just(0x9b), Just(0xe2), Just(0x80), Just(0xae),
        ], 0..24), 0..12)
    ) {
        let cut: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let out = stream(&cut);
        prop_assert!(is_harmless(&out), "{:?}", out);
        prop_assert_eq!(stream(&[&pieces.concat()]), out);
    }

    #[test]
    fn text_that_is_harmless_stays(text in "[ -~äöü都市🎬\n\t\r]{0,60}") {
        prop_assert_eq!(stream(&[text.as_bytes()]), text);
    }
}
