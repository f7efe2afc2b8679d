//! A driver in an uninterruptible sleep: SIGKILL has no effect until it wakes up. A frozen control group of the first
//! version is just that, and needs no driver.

use super::{NvidiaSmi, host};
use crate::support::PATIENCE;
use farrun_agent::gpu::Gpus;
use farrun_protocol::gpu::{GpuReport, TroubleKind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const NOW: Option<Duration> = Some(Duration::ZERO);

/// Processes that nothing can end.
struct Freezer {
    group: PathBuf,
}

impl Freezer {
    /// None where this machine has no such groups, or does not let us make one.
    fn new() -> Option<Self> {
        let group = PathBuf::from(format!(
            "/sys/fs/cgroup/freezer/farrun-test-{}",
            std::process::id()
        ));
        std::fs::create_dir(&group).ok()?;
        Some(Self { group })
    }

    fn freeze(&self, pid: u32) {
        std::fs::write(self.group.join("cgroup.procs"), pid.to_string()).unwrap();
        std::fs::write(self.group.join("freezer.state"), "FROZEN").unwrap();
        let state = || std::fs::read_to_string(self.group.join("freezer.state")).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while state().trim() != "FROZEN" {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn thaw(&self) {
        let _ = std::fs::write(self.group.join("freezer.state"), "THAWED");
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        self.thaw();
        let deadline = Instant::now() + PATIENCE;
        // Empty once what was killed has gone.
        while std::fs::remove_dir(&self.group).is_err() && Instant::now() < deadline {
            for pid in std::fs::read_to_string(self.group.join("cgroup.procs"))
                .unwrap_or_default()
                .lines()
            {
                let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
                let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

async fn until(gpus: &Gpus, what: &str, wanted: impl Fn(&GpuReport) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = gpus.report(NOW, false).await;
        if wanted(&report) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {report:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_child_that_survives_sigkill_is_given_up_and_stays_the_only_one() {
    let Some(freezer) = Freezer::new() else {
        not_tested("no freezer of version 1 here: only the record of such a child is tested");
        return;
    };
    let (state, fake) = (tempfile::tempdir().unwrap(), NvidiaSmi::with_gpus(1));
    fake.hang(true);
    let mut settings = host(state.path(), &fake);
    settings.child.run = Duration::from_secs(5);
    settings.child.kill = Duration::from_millis(300);
    let gpus = [Gpus::new(settings.clone()), Gpus::new(settings)];
    until(&gpus[0], "it is started", |_| fake.alive().len() == 1).await;
    let pid = fake.alive()[0];
    freezer.freeze(pid);
    let is_stuck = |report: &GpuReport| {
        let trouble = report.trouble.as_ref();
        trouble.is_some_and(|trouble| trouble.kind == TroubleKind::Stuck && trouble.pid == Some(pid))
    };
    until(&gpus[0], "it is given up", is_stuck).await;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("State:\tD"), "{status}");
    let until_then = Instant::now() + Duration::from_secs(3);
    let mut asked = 0;
    while Instant::now() < until_then || asked < 20 {
        for gpus in &gpus {
            let begun = Instant::now();
            let report = gpus.report(NOW, false).await;
            assert!(is_stuck(&report), "{report:?}");
            assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
            asked += 1;
        }
    }
    assert_eq!(
        (fake.queries(), fake.alive().len()),
        (1, 1),
        "no other is started beside it"
    );
    fake.hang(false);
    freezer.thaw();
    until(&gpus[1], "it is gone", |report| {
        report.trouble.is_none() && report.gpus.len() == 1
    })
    .await;
}

/// Says at the end of `scripts/test` what it could not look at.
fn not_tested(why: &str) {
    let thread = std::thread::current();
    let line = format!("{}: {why}\n", thread.name().unwrap_or("a test"));
    let Some(shared) = std::env::var_os("FARRUN_TEST_SHARED") else {
        return;
    };
    let list = std::fs::File::options()
        .create(true)
        .append(true)
        .open(std::path::Path::new(&shared).join("skipped"));
    std::io::Write::write_all(&mut list.unwrap(), line.as_bytes()).unwrap();
}
