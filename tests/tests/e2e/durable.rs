//! What is acknowledged was synced first: what a power loss would leave, read from a trace of the system's calls.

use crate::SOON;
use farrun_tests::{BUSYBOX, Engine, Lab, SshdOptions, temporary_folder};
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

/// What is traced, each call with the paths of its files, the time, and enough of what is written to find a run's id in a page
/// of a database.
const OPTIONS: &str = "-f -ttt -y -s 5000 -e trace=fsync,fdatasync,rename,renameat,renameat2,mkdir,write,writev,sendto,pwrite64";

/// One call of a process.
#[derive(Debug)]
struct Call {
    began: f64,
    ended: f64,
    text: String,
}

impl Call {
    fn is_sync_of(&self, end_of_path: &str) -> bool {
        let is_sync = self.text.starts_with("fsync(") || self.text.starts_with("fdatasync(");
        is_sync && self.text.contains(&format!("{end_of_path}>"))
    }
}

/// The calls in a trace, in the order in which they began.
fn calls(trace: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut unfinished: HashMap<&str, usize> = HashMap::new();
    for line in trace.lines() {
        let mut words = line.splitn(3, ' ').filter(|word| !word.is_empty());
        let (Some(process), Some(time), Some(text)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let Ok(time) = time.parse::<f64>() else { continue };
        if text.starts_with("<... ") {
            if let Some(at) = unfinished.remove(process) {
                calls[at].ended = time;
            }
            continue;
        }
        if text.ends_with("<unfinished ...>") {
            unfinished.insert(process, calls.len());
        }
        calls.push(Call {
            began: time,
            ended: if text.ends_with("<unfinished ...>") {
                f64::INFINITY
            } else {
                time
            },
            text: text.to_owned(),
        });
    }
    calls
}

fn traces(folder: &Path) -> Vec<Call> {
    let files = crate::pull::files(folder);
    let mut all: Vec<Call> = files
        .iter()
        .flat_map(|(_, bytes)| calls(&String::from_utf8_lossy(bytes)))
        .collect();
    all.sort_by(|one, other| one.began.total_cmp(&other.began));
    all
}

#[test]
fn an_order_is_synced_before_the_host_hears_of_it_and_a_start_before_the_engine_does() {
    let (here, there) = (temporary_folder(), temporary_folder());
    let file = there.path().join("serve");
    let front = format!(
        "case $SSH_ORIGINAL_COMMAND in *' serve '*) exec strace {OPTIONS} -o {}.$$ /bin/sh -c \"$SSH_ORIGINAL_COMMAND\" ;; esac\n\
         exec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"",
        file.display()
    );
    let options = SshdOptions {
        front: Some(front),
        environment: vec![("FARRUN_WATCH".to_owned(), "off".to_owned())],
        ..SshdOptions::default()
    };
    let lab = Lab::with(Engine::shared(), &options);
    let order = lab
        .home
        .command(&lab.shell_arguments(BUSYBOX, &["--detach"], "true"));
    let mut command = Command::new("strace");
    command
        .args(OPTIONS.split(' '))
        .arg("-o")
        .arg(here.path().join("farrun"))
        .arg(order.get_program())
        .args(order.get_args())
        .env_clear()
        .current_dir(lab.home.path());
    for (name, value) in order.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let _ = farrun_tests::run(command, SOON).ok();
    let run = crate::trouble::last_id(&lab);
    let (ours, theirs) = (traces(here.path()), traces(there.path()));
    let folder = format!("runs/{run}");
    let first = |calls: &[Call], what: &str, found: &dyn Fn(&Call) -> bool| -> usize {
        let at = calls.iter().position(found);
        at.unwrap_or_else(|| panic!("no {what} among {} calls", calls.len()))
    };

    // The row of the order, then anything about it on the host.
    let heard = theirs[first(&theirs, "folder of the run", &|call| call.text.contains(&folder))].began;
    let row = first(&ours, "row", &|call| {
        call.text.starts_with("pwrite64(")
            && call.text.contains("farrun.db-wal>")
            && call.text.contains(run.as_str())
    });
    let synced = first(&ours[row..], "sync of the row", &|call| {
        call.is_sync_of("farrun.db-wal")
    });
    assert!(ours[row + synced].ended < heard, "{:?}", ours[row + synced]);

    // The intent's content, its name, the folder it is in, then the engine.
    let asked = first(&theirs, "start", &|call| call.text.contains("/start HTTP"));
    let named = first(&theirs, "intent", &|call| {
        call.text.starts_with("rename") && call.text.contains(&format!("{folder}/start.intent\""))
    });
    let content = first(&theirs, "sync of the intent", &|call| {
        call.text.starts_with("fsync(") && call.text.contains(&format!("{folder}/.start.intent."))
    });
    assert!(theirs[content].ended <= theirs[named].began);
    let of_folder = theirs[named..asked]
        .iter()
        .any(|call| call.is_sync_of(&folder) && call.ended <= theirs[asked].began);
    assert!(of_folder, "{:?}", &theirs[named..=asked]);
}
