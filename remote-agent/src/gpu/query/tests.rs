//! Readings over scripted answers, one rule after the other.

use super::{Taken, take};
use crate::gpu::child::{End, Finished};
use crate::gpu::store::Facts;
use farrun_protocol::gpu::{Absence, Gpu, GpuTrouble, Health, Reading, TroubleKind};

/// A program that knows GPUs by their fields.
#[derive(Default)]
struct Script {
    /// `uuid` and what is special about it, by index.
    gpus: Vec<(&'static str, Vec<(&'static str, &'static str)>)>,
    unknown_fields: Vec<&'static str>,
    /// GPUs without a handle, by UUID, with the words for it.
    handleless: Vec<(&'static str, &'static str)>,
    apps: &'static str,
    apps_end: Option<End>,
    list: &'static str,
    report: &'static str,
    /// Lines around the table.
    noise: &'static str,
    asked: Vec<String>,
}

fn said(end: End, stdout: impl Into<Vec<u8>>) -> Finished {
    Finished {
        end,
        stdout: stdout.into(),
        stderr: Vec::new(),
    }
}

impl Script {
    fn answer(&mut self, arguments: &[&str]) -> Finished {
        self.asked.push(arguments.join(" "));
        let Some(first) = arguments.first() else {
            return said(End::Exited(0), "| Driver Version: 1.2   CUDA Version: 12.9 |\n");
        };
        if first.starts_with("--query-compute-apps") {
            return said(self.apps_end.clone().unwrap_or(End::Exited(0)), self.apps);
        }
        match *first {
            "-L" => return said(End::Exited(0), self.list),
            "-q" => return said(End::Exited(0), self.report),
            _ => {}
        }
        let fields: Vec<&str> = first.strip_prefix("--query-gpu=").unwrap().split(',').collect();
        if let Some(field) = fields.iter().find(|field| self.unknown_fields.contains(field)) {
            let text = format!("Field \"{field}\" is not a valid field to query.\n\n");
            return said(End::Exited(2), text);
        }
        let only = arguments.iter().skip_while(|word| **word != "-i").nth(1).copied();
        let hidden = self
            .handleless
            .iter()
            .find(|(uuid, _)| only.is_none_or(|only| only == *uuid));
        if let Some((_, words)) = hidden {
            return said(End::Exited(255), *words);
        }
        let mut table = self.noise.to_owned();
        for (index, (uuid, special)) in self.gpus.iter().enumerate() {
            if only.is_some_and(|only| only != *uuid) {
                continue;
            }
            let cell = |field: &&str| {
                let special = special.iter().find(|(name, _)| name == field);
                match (*field, special) {
                    (_, Some((_, value))) => (*value).to_owned(),
                    ("index", _) => index.to_string(),
                    ("uuid", _) => (*uuid).to_owned(),
                    ("name", _) => "Test H9, 9 GB".replace(',', ""),
                    ("driver_version", _) => "555.1".to_owned(),
                    ("pci.bus_id", _) => format!("00000000:0{index}:00.0"),
                    ("power.draw", _) => "71.25".to_owned(),
                    ("mig.mode.current", _) => "Disabled".to_owned(),
                    ("persistence_mode", _) => "Enabled".to_owned(),
                    ("compute_mode", _) => "Default".to_owned(),
                    ("clocks_event_reasons.active" | "clocks_throttle_reasons.active", _) => {
                        "0x0000000000000024".to_owned()
                    }
                    ("gpu_recovery_action", _) => "None".to_owned(),
                    _ => "10".to_owned(),
                }
            };
            let cells: Vec<String> = fields.iter().map(cell).collect();
            table.push_str(&cells.join(", "));
            table.push('\n');
        }
        said(End::Exited(0), table)
    }

    fn take(&mut self, previous: &[Gpu]) -> Result<Taken, GpuTrouble> {
        self.take_with(&mut facts(), previous, &[])
    }

    fn take_with(
        &mut self,
        facts: &mut Facts,
        previous: &[Gpu],
        cards: &[String],
    ) -> Result<Taken, GpuTrouble> {
        take(
            &mut |arguments: &[&str]| self.answer(arguments),
            facts,
            previous,
            cards,
        )
    }
}

fn facts() -> Facts {
    Facts::new("boot".into(), "driver".into(), 0)
}

fn two() -> Script {
    Script {
        gpus: vec![("GPU-a1", vec![]), ("GPU-a2", vec![])],
        ..Script::default()
    }
}

#[test]
fn a_reading_tells_everything_of_two_gpus_of_two_kinds() {
    let mut script = two();
    script.gpus[1].1 = vec![
        ("name", "Test T4"),
        ("fan.speed", "[N/A]"),
        ("memory.total", "15360"),
    ];
    script.apps = "GPU-a2, 4711, python, 2048\n";
    let taken = script.take(&[]).unwrap();
    assert_eq!(taken.trouble, None);
    let [first, second] = &taken.gpus[..] else {
        panic!("{taken:?}")
    };
    assert_eq!(
        (first.index, first.uuid.as_str(), first.health),
        (0, "GPU-a1", Health::Healthy)
    );
    assert_eq!(first.power, Reading::Value(71_250));
    assert_eq!(
        first.throttled.as_deref(),
        Some("sw_power_cap,sw_thermal_slowdown")
    );
    assert_eq!(first.persistence, Some(true));
    assert_eq!(
        (second.name.as_str(), second.memory_total),
        ("Test T4", Reading::Value(15_360))
    );
    assert_eq!(second.fan, Reading::absent(Absence::NotAvailable));
    assert_eq!((taken.apps.len(), taken.apps_unknown), (1, false));
    let driver = taken.driver.unwrap();
    assert_eq!(
        (driver.version.as_str(), driver.cuda.as_deref()),
        ("555.1", Some("12.9"))
    );
}

#[test]
fn fields_that_a_driver_does_not_know_are_left_out_once() {
    let mut script = two();
    script.unknown_fields = vec!["gpu_recovery_action", "clocks_event_reasons.active", "fan.speed"];
    let mut facts = facts();
    let taken = script.take_with(&mut facts, &[], &[]).unwrap();
    assert_eq!(taken.gpus[0].fan, Reading::absent(Absence::UnknownField));
    assert!(taken.gpus[0].throttled.is_some(), "asked for by its older name");
    assert_eq!(
        script
            .asked
            .iter()
            .filter(|call| call.contains("--query-gpu"))
            .count(),
        4
    );
    script.asked.clear();
    script.take_with(&mut facts, &taken.gpus, &[]).unwrap();
    assert_eq!(script.asked.len(), 2, "{:?}", script.asked);
}

#[test]
fn a_field_that_cannot_be_left_out_is_a_trouble_and_no_endless_loop() {
    let mut script = two();
    script.unknown_fields = vec!["uuid"];
    let trouble = script.take(&[]).unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::Other);
    assert!(trouble.detail.unwrap().contains("uuid"));
    let every: Vec<&'static str> = vec![
        "driver_version",
        "kmd_version",
        "memory.total",
        "memory.used",
        "memory.free",
        "power.draw",
        "pstate",
        "display_active",
        "compute_cap",
        "pci.bus_id",
    ];
    script.unknown_fields = every;
    assert_eq!(script.take(&[]).unwrap().gpus.len(), 2);
}

#[test]
fn one_lost_cell_makes_one_gpu_unhealthy_and_leaves_the_others() {
    for (cell, health) in [
        ("[GPU is lost]", Health::Lost),
        ("[GPU requires reset]", Health::ResetRequired),
    ] {
        let mut script = two();
        script.gpus[1].1 = vec![("temperature.gpu", cell)];
        let taken = script.take(&[]).unwrap();
        assert_eq!(
            (taken.gpus[0].health, taken.gpus[1].health),
            (Health::Healthy, health)
        );
        assert_eq!(taken.gpus[1].utilization, Reading::Value(10));
    }
    let mut script = two();
    script.gpus[0].1 = vec![
        ("memory.total", "[Unknown Error]"),
        ("memory.used", "[Unknown Error]"),
    ];
    script.gpus[1].1 = vec![("gpu_recovery_action", "Reset")];
    let taken = script.take(&[]).unwrap();
    assert_eq!(taken.gpus[0].health, Health::Unreadable);
    assert_eq!(taken.gpus[1].health, Health::ResetRequired);
}

#[test]
fn a_lost_gpu_that_does_not_tell_its_index_is_shown_as_lost() {
    let mut all = two().take(&[]).unwrap().gpus;
    let mut script = two();
    script.gpus[1].1 = vec![("index", "[GPU is lost]"), ("memory.used", "[GPU is lost]")];
    let first = script.take(&[]).unwrap();
    let seen = |gpus: &[Gpu]| -> Vec<(String, u32, Health)> {
        gpus.iter()
            .map(|gpu| (gpu.uuid.clone(), gpu.index, gpu.health))
            .collect()
    };
    // Rows come in the order of the indices.
    let expected = [
        ("GPU-a1".to_owned(), 0, Health::Healthy),
        ("GPU-a2".to_owned(), 1, Health::Lost),
    ];
    assert_eq!(seen(&first.gpus), expected);
    // What was read before says it better.
    all[1].index = 7;
    assert_eq!(seen(&script.take(&all).unwrap().gpus)[1].1, 7);
    // A cell that is no reason is no row of a GPU.
    script.gpus[1].1 = vec![("index", "one")];
    assert_eq!(seen(&script.take(&[]).unwrap().gpus), expected[..1]);
}

#[test]
fn a_lost_gpu_that_does_not_tell_its_uuid_is_known_by_its_address() {
    let all = two().take(&[]).unwrap().gpus;
    for (special, health) in [
        (vec![("uuid", "[GPU is lost]")], Health::Lost),
        (
            vec![("uuid", "[GPU is lost]"), ("index", "[GPU is lost]")],
            Health::Lost,
        ),
        (
            vec![("uuid", "[GPU is lost]"), ("pci.bus_id", "[GPU is lost]")],
            Health::Lost,
        ),
        (vec![("uuid", "[Unknown Error]")], Health::Unreadable),
    ] {
        let mut script = two();
        script.gpus[0].1 = special.clone();
        let taken = script.take(&all).unwrap();
        assert_eq!(
            (
                taken.gpus[0].uuid.as_str(),
                taken.gpus[0].index,
                taken.gpus[0].health
            ),
            ("GPU-a1", 0, health),
            "{special:?}"
        );
        assert_eq!((taken.gpus.len(), taken.gpus[1].health), (2, Health::Healthy));
        assert_eq!(taken.trouble, None, "{special:?}");
        // Never seen before, it is told as a trouble of the host and hides nobody.
        let taken = script.take(&[]).unwrap();
        assert_eq!((taken.gpus.len(), taken.gpus[0].uuid.as_str()), (1, "GPU-a2"));
        let trouble = taken.trouble.unwrap();
        assert_eq!(trouble.kind, TroubleKind::GpuLost);
        assert!(trouble.detail.unwrap().contains('0'), "{special:?}");
    }
    // Nothing is left that says which GPU it is.
    let mut script = two();
    script.gpus[0].1 = ["uuid", "index", "pci.bus_id"]
        .map(|name| (name, "[GPU is lost]"))
        .into();
    assert_eq!(script.take(&[]).unwrap().gpus.len(), 1);
}

#[test]
fn a_gpu_that_is_not_listed_any_more_is_shown_as_unreadable() {
    let all = two().take(&[]).unwrap().gpus;
    let mut script = two();
    script.gpus.remove(1);
    let taken = script.take(&all).unwrap();
    assert_eq!(taken.gpus.len(), 2);
    assert_eq!(
        (taken.gpus[1].uuid.as_str(), taken.gpus[1].health),
        ("GPU-a2", Health::Unreadable)
    );
    assert_eq!(taken.gpus[1].memory_used, Reading::absent(Absence::UnknownError));
    assert_eq!(taken.gpus[1].name, all[1].name);
    let again = script.take(&taken.gpus).unwrap();
    assert_eq!(
        again.gpus[1].health,
        Health::Unreadable,
        "until the host restarts"
    );
    let back = two().take(&again.gpus).unwrap();
    assert_eq!(back.gpus[1].health, Health::Healthy);
}

#[test]
fn a_gpu_without_a_handle_does_not_hide_the_others() {
    let all = two().take(&[]).unwrap().gpus;
    for (words, health) in [
        (
            "Unable to determine the device handle for GPU 0000:00:00.0: Unknown Error\n",
            Health::Unreadable,
        ),
        (
            "Unable to determine the device handle for GPU0000:00:00.0: GPU is lost.  Reboot the system\n",
            Health::Lost,
        ),
    ] {
        let mut script = two();
        script.handleless = vec![("GPU-a1", words)];
        let taken = script.take(&all).unwrap();
        assert_eq!(
            (taken.gpus[0].health, taken.gpus[1].health),
            (health, Health::Healthy),
            "{words}"
        );
        let trouble = taken.trouble.unwrap();
        assert_eq!(trouble.kind, TroubleKind::GpuLost);
        assert!(trouble.detail.unwrap().contains("0000:00:00.0"));
    }
}

#[test]
fn without_a_good_list_the_kernels_cards_are_asked_for() {
    let mut script = two();
    script.handleless = vec![(
        "GPU-a1",
        "Unable to determine the device handle for GPU 0000:07:00.0: Unknown Error\n",
    )];
    let cards = ["GPU-a1".to_owned(), "GPU-a2".to_owned()];
    let taken = script.take_with(&mut facts(), &[], &cards).unwrap();
    assert_eq!(taken.gpus.len(), 1);
    assert_eq!(taken.gpus[0].uuid, "GPU-a2");
    let trouble = script.take(&[]).unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::GpuLost);
}

#[test]
fn lines_of_others_between_rows_are_skipped_alone() {
    let mut script = two();
    script.noise = "NVRM: Xid (PCI:0000:07:00): 79, pid=1, GPU has fallen off the bus.\n\
                    WARNING: infoROM is corrupted at gpu 0000:0B:00.0\n0, GPU-zz, half a row\n";
    let taken = script.take(&[]).unwrap();
    assert_eq!(taken.gpus.len(), 2);
}

#[test]
fn rows_count_although_the_program_ends_with_a_warning() {
    let mut script = two();
    let mut ask = |arguments: &[&str]| {
        let mut finished = script.answer(arguments);
        if arguments
            .first()
            .is_some_and(|first| first.starts_with("--query-gpu"))
        {
            finished.end = End::Exited(14);
        }
        finished
    };
    let taken = take(&mut ask, &mut facts(), &[], &[]).unwrap();
    assert_eq!(taken.gpus.len(), 2);
    assert_eq!(taken.trouble.unwrap().kind, TroubleKind::InfoRom);
}

#[test]
fn processes_that_cannot_be_read_are_not_none() {
    for (end, kind) in [
        (End::Late, TroubleKind::Timeout),
        (End::Stuck(9), TroubleKind::Stuck),
    ] {
        let mut script = two();
        script.apps_end = Some(end);
        let taken = script.take(&[]).unwrap();
        assert!(taken.apps_unknown);
        assert_eq!(taken.trouble.unwrap().kind, kind);
        assert!(
            !script.asked.contains(&String::new()),
            "no further question to a driver that hangs"
        );
    }
}

#[test]
fn a_divided_gpu_shows_its_instances_and_others_are_not_asked_for_any() {
    let mut script = two();
    script.take(&[]).unwrap();
    assert!(!script.asked.iter().any(|call| call == "-L" || call == "-q -x"));
    script.gpus[0].1 = vec![("mig.mode.current", "Enabled")];
    script.list = "GPU 0: X (UUID: GPU-a1)\n  MIG 1g.5gb Device 0: (UUID: MIG-b1)\nGPU 1: Y (UUID: GPU-a2)\n";
    script.report = "<x><gpu><uuid>GPU-a1</uuid><mig_devices><mig_device><index>0</index><fb_memory_usage>\
                     <total>4864 MiB</total><used>3 MiB</used></fb_memory_usage></mig_device></mig_devices></gpu></x>";
    let taken = script.take(&[]).unwrap();
    assert!(taken.gpus[0].mig);
    assert_eq!(taken.gpus[0].mig_devices.len(), 1);
    assert_eq!(taken.gpus[0].mig_devices[0].memory_used, Reading::Value(3));
    assert!(taken.gpus[1].mig_devices.is_empty());
}

#[test]
fn an_empty_answer_is_not_believed() {
    let mut script = Script::default();
    assert_eq!(script.take(&[]).unwrap_err().kind, TroubleKind::Garbled);
    for (end, kind) in [
        (End::Late, TroubleKind::Timeout),
        (End::Flooded, TroubleKind::Garbled),
        (End::Stuck(7), TroubleKind::Stuck),
        (End::Signalled(11), TroubleKind::Other),
        (End::NotStarted("no".into()), TroubleKind::ToolMissing),
        (End::Exited(6), TroubleKind::NoDevices),
        (End::Exited(9), TroubleKind::DriverNotLoaded),
    ] {
        let mut asked = 0;
        let mut ask = |_: &[&str]| {
            asked += 1;
            said(end.clone(), "No devices were found\n")
        };
        let trouble = take(&mut ask, &mut facts(), &[], &[]).unwrap_err();
        assert_eq!((trouble.kind, asked), (kind, 1), "{end:?}");
    }
}
