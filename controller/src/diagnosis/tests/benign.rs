//! What looks like a cause and is none.

use super::{Folder, codes};
use crate::diagnosis::{Certainty, Facts, read};
use std::fmt::Write as _;

const PAPER: &str = "\
On CUDA out of memory errors in diffusion models\n\
Abstract. The torch.OutOfMemoryError that practitioners see, and words such as No space left on device,\n\
bus error, segmentation fault, connection refused, permission denied and NCCL timeout, are studied. We show that \"CUDA out\n\
of memory\" is raised when torch.cuda.OutOfMemoryError is constructed by the allocator. A GPU fallen off the bus (Xid 79)\n\
needs a reboot; a read-only file system does not. Most users report that no module named so was ever found.\n\
Killed processes and memory errors are discussed in section 3. Driver version mismatches and toolkits are not.\n";

#[test]
fn a_run_that_succeeded_may_print_anything() {
    let mut folder = Folder::new().log(PAPER);
    folder.run.status = "completed".parse().unwrap();
    folder.run.exit_code = Some(0);
    assert_eq!(read(Some(folder.dir.path()), &Facts::of(&folder.run)), None);
}

#[test]
fn frightening_prose_is_no_cause() {
    let mut folder = Folder::new().log(PAPER);
    folder.run.exit_code = Some(3);
    let diagnosis = folder.read();
    assert_eq!(diagnosis.cause, None, "{:?}", diagnosis.cause);
    // The bare words are told as seen, never as more.
    assert_eq!(codes(&diagnosis), ["gpu_out_of_memory"]);
    assert_eq!(diagnosis.also[0].certainty, Certainty::Seen);
    assert_eq!(diagnosis.ending, "the job exited with code 3");
    assert_eq!(diagnosis.last_lines.len(), 6);
}

#[test]
fn without_evidence_nothing_is_invented() {
    let mut run = super::run();
    run.exit_code = Some(42);
    let diagnosis = read(None, &Facts::of(&run)).unwrap();
    assert_eq!((&diagnosis.cause, codes(&diagnosis).len()), (&None, 0));
    assert_eq!(diagnosis.ending, "the job exited with code 42");
    assert!(diagnosis.last_lines.is_empty() && super::super::short(&diagnosis).is_none());
}

#[test]
fn an_error_that_was_survived_is_not_certain() {
    let mut log =
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. Retrying with batch 2\n"
            .to_owned();
    for step in 0..2000 {
        let _ = writeln!(log, "step {step}");
    }
    let alone = Folder::new().log(&log).read();
    assert_eq!(
        alone.cause.as_ref().map(|cause| cause.certainty),
        Some(Certainty::Likely)
    );
    assert!(super::super::short(&alone).unwrap().1.starts_with("probably: "));
    log.push_str("FileNotFoundError: [Errno 2] No such file or directory: '/farrun/inputs/a.png'\n");
    let later = Folder::new().log(&log).read();
    assert_eq!(codes(&later), ["file_missing", "gpu_out_of_memory"]);
}

#[test]
fn the_last_words_of_python_are_told_when_nothing_is_known() {
    let log = "\
Traceback (most recent call last):\n  File \"/app/a.py\", line 3, in <module>\n    raise first()\nKeyError: 'a'\n\n\
During handling of the above exception, another exception occurred:\n\n\
Traceback (most recent call last):\n  File \"/app/run.py\", line 9, in <module>\n    main()\n\
my.module.StrangeError: the 7th frame is odd\n";
    let diagnosis = Folder::new().log(log).read();
    assert_eq!(codes(&diagnosis), ["python_exception"]);
    let cause = diagnosis.cause.unwrap();
    assert_eq!(
        cause.sentence,
        "the Python program ended with `my.module.StrangeError`: the 7th frame is odd"
    );
    // It is the last thing of the log, and Python's own exit code: nothing else ended it.
    assert_eq!(cause.certainty, Certainty::Certain);
    let sure = |log: &str, change: fn(&mut crate::model::Run)| {
        let mut folder = Folder::new().log(log);
        change(&mut folder.run);
        folder.read().cause.map(|cause| (cause.code, cause.certainty))
    };
    let likely = Some(("python_exception", Certainty::Likely));
    assert_eq!(
        sure(&format!("{log}\n\n"), |_| ()),
        Some(("python_exception", Certainty::Certain))
    );
    assert_eq!(
        sure(&format!("{log}saved what there was\n"), |_| ()),
        likely,
        "it was caught"
    );
    assert_eq!(
        sure(log, |run| run.exit_code = Some(3)),
        likely,
        "somebody chose the code"
    );
    let by_signal = |run: &mut crate::model::Run| {
        (run.exit_code, run.signal) = (None, Some(15));
        run.reason = Some(farrun_protocol::verdict::Reason::Signal);
    };
    assert!(sure(log, by_signal).is_none_or(|(_, sure)| sure == Certainty::Likely));
    let ranks = log
        .lines()
        .map(|line| format!("[rank1]: {line}\n"))
        .collect::<String>();
    assert_eq!(codes(&Folder::new().log(&ranks).read()), ["python_exception"]);
    // A mirror that is not whole may have cut what came after.
    let mirror = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(mirror.path(), log).unwrap();
    for (whole, certainty) in [(true, Certainty::Certain), (false, Certainty::Likely)] {
        let mut run = super::run();
        (run.log_complete, run.log_path) = (whole, Some(mirror.path().display().to_string()));
        let told = read(None, &Facts::of(&run)).unwrap().cause.unwrap();
        assert_eq!((told.code, told.certainty), ("python_exception", certainty));
    }
    // A known cause needs no last words.
    let known = format!("{log}ModuleNotFoundError: No module named 'x'\n");
    assert_eq!(codes(&Folder::new().log(&known).read()), ["module_missing"]);
}

#[test]
fn of_several_causes_the_first_of_the_table_is_told() {
    let log = "\
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n\
RuntimeError: NCCL error in: x.cpp:1, unhandled system error\n\
torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n";
    assert_eq!(
        codes(&Folder::new().log(log).read()),
        ["gpu_out_of_memory", "nccl"]
    );
}
