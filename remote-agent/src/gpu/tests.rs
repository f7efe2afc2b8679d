//! Whatever is printed, nothing panics and nothing is made up.

use super::child::{End, Finished};
use super::fields::{self, Fields};
use super::store::Facts;
use super::{apps, exit, mig, query, rows, text};
use farrun_protocol::gpu::{Health, Reading};
use proptest::prelude::*;

/// A table of two GPUs, one of them lost, in the format of the program.
const TABLE: &str = "0, GPU-00aa11bb-2222-3333-4444-555566667777, Test H9 90GB, 00000000:07:00.0, 555.10, 90000, 500, \
                     1200, 88300, 37, 4, 41, [N/A], 71.25, 700.00, P0, Enabled, Default, Disabled, 0, 9.0, \
                     0x0000000000000001, None, Disabled\n\
                     1, GPU-11bb22cc-2222-3333-4444-555566667777, Test H9 90GB, 00000000:08:00.0, 555.10, \
                     [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost], \
                     [GPU is lost], [N/A], [GPU is lost], 700.00, P0, Enabled, Default, Disabled, [GPU is lost], 9.0, \
                     [GPU is lost], [GPU is lost], Disabled\n";

fn everything(output: &[u8]) {
    let rows = rows::parse(output, &Fields::default());
    for gpu in &rows.gpus {
        assert!(rows::is_uuid(&gpu.uuid));
        assert!(gpu.utilization.value().is_none_or(|percent| percent <= 100));
        assert!(!gpu.name.chars().any(char::is_control));
    }
    for app in apps::parse(output) {
        assert!(app.pid > 0);
    }
    let mut instances = mig::list(output);
    mig::add_memory(&mut instances, output);
    let _ = fields::unknown(output);
    let _ = exit::cuda_version(output);
    let _ = exit::unreadable_gpu(output);
    assert!(text::detail(output).is_none_or(|detail| detail.chars().count() <= 500));
    for code in [0, 2, 6, 255, -1] {
        let _ = exit::trouble(code, output, output);
    }
    let finished = || Finished {
        end: End::Exited(i32::from(output.len().is_multiple_of(3)) * 255),
        stdout: output.to_vec(),
        stderr: Vec::new(),
    };
    let mut facts = Facts::new("boot".into(), "driver".into(), 0);
    let _ = query::take(&mut |_: &[&str]| finished(), &mut facts, &rows.gpus, &[]);
}

#[test]
fn a_table_that_is_cut_anywhere_shows_whole_rows_only() {
    for length in 0..=TABLE.len() {
        let rows = rows::parse(&TABLE.as_bytes()[..length], &Fields::default());
        for gpu in rows.gpus {
            match gpu.index {
                0 => assert_eq!(gpu.memory_used, Reading::Value(1200), "{length}"),
                1 => assert_eq!(gpu.health, Health::Lost, "{length}"),
                other => panic!("{other}"),
            }
        }
        everything(&TABLE.as_bytes()[..length]);
    }
    assert_eq!(rows::parse(TABLE.as_bytes(), &Fields::default()).gpus.len(), 2);
}

#[test]
fn ten_megabytes_are_read_in_bounds() {
    for byte in [b',', b'\n', 0xff] {
        everything(&vec![byte; 10 << 20]);
    }
    let rows = TABLE.repeat(10_000);
    assert_eq!(rows::parse(rows.as_bytes(), &Fields::default()).gpus.len(), 2);
}

proptest! {
    #[test]
    fn bytes_of_any_kind_never_panic(output in proptest::collection::vec(any::<u8>(), 0..2000)) {
        everything(&output);
    }

    #[test]
    fn a_damaged_table_never_panics(
        damage in proptest::collection::vec((0usize..TABLE.len(), any::<u8>()), 0..20),
        cut in 0usize..TABLE.len(),
    ) {
        let mut table = TABLE.as_bytes().to_vec();
        for (place, byte) in damage {
            table[place] = byte;
        }
        everything(&table);
        everything(&table[..cut]);
    }

    #[test]
    fn words_of_the_program_in_any_order_never_panic(
        words in proptest::collection::vec(
            prop_oneof![
                Just("GPU-aa01".to_owned()), Just(", ".to_owned()), Just("[GPU is lost]".to_owned()),
                Just("\n".to_owned()), Just("<gpu>".to_owned()), Just("<!DOCTYPE a [<!ENTITY b \"&b;\">]>".to_owned()),
                Just("Field \"uuid\" is not a valid field to query.".to_owned()), Just("\u{1b}[".to_owned()),
                Just("Unable to determine the device handle for GPU".to_owned()), Just(" 0000:07:00.0: ".to_owned()),
                Just("(UUID: MIG-b1)".to_owned()), Just("MIG ".to_owned()), Just("CUDA Version: ".to_owned()),
                "[0-9a-f.:]{0,20}", "\\PC{0,8}",
            ],
            0..60,
        )
    ) {
        everything(words.concat().as_bytes());
    }
}
