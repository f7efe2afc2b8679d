//! All items of a bundle, in their order and within the time of the whole.

use super::item::{File, Found, Looked, USUAL};
use super::items::command::{Command, nvidia_smi};
use super::items::engine::Asked;
use super::items::log::{Written, of_before};
use super::items::{agent, caches, cgroup, disks, driver, kept, kernel, processes, system, toolkit};
use super::parcel::Parcel;
use super::place;
use super::scene::Scene;
use super::thread::{SoFar, on_thread};
use super::write_down::{Made, write_down};
use crate::docker::Engine;
use crate::record::{RunFolder, boot_id, host_id};
use crate::serve::{Session, gpu_report};
use chrono::Utc;
use farrun_protocol::HostId;
use farrun_protocol::diagnostics as names;
use farrun_protocol::diagnostics::{Bundle, Outcome, Trigger};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For everything.
const WHOLE: Duration = Duration::from_secs(60);

/// For one call of `nvidia-smi`.
const NVIDIA_SMI: Duration = Duration::from_secs(10);

const ENGINE_ANSWERS: File = File::new(names::ENGINE, 256);

/// What a bundle is about.
#[derive(Debug, Clone)]
pub(crate) enum Subject {
    Run(RunFolder),
    Host,
}

/// Collects and writes down; `tell` hears of each file that is begun. Never fails: what is missing is in the bundle.
pub(crate) async fn collect(
    session: &Arc<Session>,
    engine: &Engine,
    subject: &Subject,
    trigger: Trigger,
    tell: impl Fn(&str),
) -> Made {
    let began_at = Utc::now();
    let run = match subject {
        Subject::Run(run) => Some(run.clone()),
        Subject::Host => None,
    };
    let scene = Arc::new(Scene::new(Arc::clone(session), engine.clone(), run));
    let mut collecting = Collecting {
        parcel: Parcel::new(Arc::clone(&scene.redactor)),
        deadline: Instant::now() + WHOLE,
        scene,
        tell,
    };
    collecting.all().await;
    let (parcel, scene) = (collecting.parcel, collecting.scene);
    let state = session.context.state.clone();
    let bundle = Bundle {
        format: names::FORMAT,
        run_id: scene.run.as_ref().map(|run| run.run_id().clone()),
        host_id: host_id(&state).unwrap_or_else(|_| HostId::random()),
        host_name: host_name(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: boot_id(),
        trigger,
        began_at,
        ended_at: Utc::now(),
        items: parcel.items().to_vec(),
        redactions: scene.redactor.counts(),
        elsewhere: None,
    };
    let described = bundle.clone();
    let stored = tokio::task::spawn_blocking(move || write_down(&state, &scene, parcel, bundle));
    stored.await.unwrap_or(Made {
        bundle: described,
        place: None,
    })
}

struct Collecting<T> {
    parcel: Parcel,
    scene: Arc<Scene>,
    deadline: Instant,
    tell: T,
}

impl<T: Fn(&str)> Collecting<T> {
    async fn all(&mut self) {
        let scene = Arc::clone(&self.scene);
        let state = scene.session.context.state.clone();
        if let Some(run) = scene.run.clone() {
            self.of_run(&run).await;
        }
        self.look(File::new(names::SYSTEM, 64), USUAL, system::system)
            .await;
        let own = state.clone();
        self.look(File::newest(names::REQUESTS, 64), USUAL, move |_| {
            kept::requests(&own)
        })
        .await;
        let own = state.clone();
        self.look(File::new(names::LEASES, 256), USUAL, move |_| kept::leases(&own))
            .await;
        let began = self.begin(names::GPUS);
        let report = gpu_report(&scene.session, &scene.engine).await;
        self.add(File::new(names::GPUS, 256), Found::json(&report), began);
        let (pid, root) = self.of_engine().await;
        let own = Arc::clone(&scene);
        if scene.run.is_some() {
            self.look(File::new(names::CGROUP, 16), USUAL, move |_| {
                cgroup::counters(
                    Path::new("/"),
                    own.settled.as_ref(),
                    own.container.as_deref(),
                    pid,
                )
            })
            .await;
        }
        let own = Arc::clone(&scene);
        self.look(File::new(names::PROCESSES, 64), USUAL, move |_| {
            let run_id = own.run.as_ref().map(RunFolder::run_id);
            processes::processes(
                Path::new("/"),
                &report,
                own.container.as_deref(),
                run_id,
                &own.redactor,
            )
        })
        .await;
        let began = self.begin(names::DISKS);
        let places = disks::places(
            &state,
            root.as_deref(),
            &scene.session.context.home,
            mounts(&scene).into_iter(),
        );
        let limit = self.limit(USUAL);
        let looked = disks::disks(places, limit).await;
        self.add(File::new(names::DISKS, 64), looked, began);
        self.of_host().await;
    }

    async fn of_run(&mut self, run: &RunFolder) {
        let scene = Arc::clone(&self.scene);
        let own = Arc::clone(&scene);
        self.look(File::new(names::SPEC, 1024), USUAL, move |_| kept::spec(&own))
            .await;
        let own = Arc::clone(&scene);
        self.look(File::new(names::SETTLED, 64), USUAL, move |_| kept::settled(&own))
            .await;
        let own = run.clone();
        self.look(File::new(names::AGENT, 64), USUAL, move |_| agent::events(&own))
            .await;
        if run.pull_log().exists() {
            let own = run.clone();
            self.look(File::newest(names::PULL, 256), USUAL, move |_| kept::pull(&own))
                .await;
        }
        let before = place::find(&scene.session.context.state, run).map(|place| place.folder);
        let excerpt = |of_tail: bool| {
            let (run, scene, before) = (run.clone(), Arc::clone(&scene), before.clone());
            move |_: &SoFar| {
                if scene.secrets_are_gone {
                    let name = if of_tail {
                        names::LOG_TAIL_FILE
                    } else {
                        names::LOG_HEAD_FILE
                    };
                    return of_before(before.as_deref(), name);
                }
                let written = Written::open(&run)?;
                let places = written.places();
                let part = match of_tail {
                    true => places.tail_from..places.tail_from + places.tail,
                    false => 0..places.head,
                };
                written.excerpt(part, &scene.redactor)
            }
        };
        // Placeholders may be longer than what they stand for.
        self.look(File::new(names::LOG_HEAD_FILE, 128), USUAL, excerpt(false))
            .await;
        self.look(File::newest(names::LOG_TAIL_FILE, 2048), USUAL, excerpt(true))
            .await;
        let (own, gone) = (run.clone(), scene.secrets_are_gone);
        self.look(File::new(names::LOG_PLACES, 4), USUAL, move |_| {
            if gone {
                return of_before(before.as_deref(), names::LOG_PLACES);
            }
            Found::json(&Written::open(&own)?.places())
        })
        .await;
        let own = run.clone();
        self.look(File::newest(names::SERIES, 256), USUAL, move |_| {
            kept::series(&own)
        })
        .await;
    }

    /// Answers with the container's PID 1 and the engine's folder.
    async fn of_engine(&mut self) -> (Option<u64>, Option<String>) {
        let scene = Arc::clone(&self.scene);
        let asked = Asked::default();
        let mut pid = None;
        if scene.run.is_some() {
            let began = self.begin(names::CONTAINER);
            let (looked, document) = asked.container(&scene, self.limit(USUAL)).await;
            self.add(File::new(names::CONTAINER, 256), looked, began);
            pid = document.and_then(|document| document.pointer("/State/Pid").and_then(Value::as_u64));
            let began = self.begin(names::IMAGE);
            let looked = asked.image(&scene, self.limit(USUAL)).await;
            self.add(File::new(names::IMAGE, 256), looked, began);
            let began = self.begin(names::EVENTS);
            let looked = asked.events(&scene, self.limit(USUAL)).await;
            self.add(File::newest(names::EVENTS, 256), looked, began);
        }
        let began = self.begin(names::ENGINE);
        let (looked, root) = asked.engine(&scene, self.limit(USUAL)).await;
        self.add(ENGINE_ANSWERS, looked, began);
        (pid, root)
    }

    async fn of_host(&mut self) {
        let scene = Arc::clone(&self.scene);
        let command = Command {
            launcher: scene.session.context.agent.clone(),
        };
        let (own, from, until) = (command.clone(), scene.from, scene.until);
        let inner = self.limit(USUAL);
        self.look(
            File::newest(names::KERNEL, 512),
            USUAL + Duration::from_secs(2),
            move |_| kernel::messages(&own, from, until, inner),
        )
        .await;
        let home = scene.session.context.home.clone();
        self.look(File::new(names::CACHES, 64), USUAL, move |so_far| {
            caches::caches(&home, so_far, USUAL - Duration::from_secs(1))
        })
        .await;
        let own = command.clone();
        self.look(File::new(names::DRIVER, 64), USUAL, move |so_far| {
            driver::driver(&own, so_far, USUAL - Duration::from_secs(2))
        })
        .await;
        let smi = |arguments: &'static [&'static str]| {
            let gpus = scene.session.gpus.clone();
            move |_: &SoFar| nvidia_smi(&gpus, arguments, NVIDIA_SMI)
        };
        let longest = NVIDIA_SMI + Duration::from_secs(4);
        let text = self
            .look(File::new(names::SMI_TEXT, 1024), longest, smi(&["-q"]))
            .await;
        let topology = File::new(names::SMI_TOPOLOGY, 64);
        if text {
            self.look(topology, longest, smi(&["topo", "-m"])).await;
        } else {
            self.unasked(topology);
        }
        self.look(
            File::new(names::TOOLKIT, 64),
            USUAL + Duration::from_secs(1),
            move |_| toolkit::toolkit(&command),
        )
        .await;
        // Last: it says what the text says, and takes a slow driver as long again.
        let document = File::new(names::SMI_XML, 1024);
        if text {
            self.look(document, longest, smi(&["-q", "-x"])).await;
        } else {
            self.unasked(document);
        }
    }

    /// One that hangs or is not there is not asked again.
    fn unasked(&mut self, file: File) {
        let began = self.begin(file.name);
        self.add(file, Err(format!("{} could not be had", names::SMI_TEXT)), began);
    }

    /// One item on a thread of its own; answers whether all of it was had.
    async fn look(
        &mut self,
        file: File,
        limit: Duration,
        work: impl FnOnce(&SoFar) -> Looked + Send + 'static,
    ) -> bool {
        let began = self.begin(file.name);
        let limit = self.limit(limit);
        let looked = match limit.is_zero() {
            true => Err("no time was left for it".to_owned()),
            false => on_thread(limit, work).await,
        };
        self.add(file, looked, began);
        let last = self.parcel.items().last();
        last.is_some_and(|item| item.outcome == Outcome::Collected)
    }

    fn begin(&self, name: &str) -> Instant {
        (self.tell)(name);
        Instant::now()
    }

    fn limit(&self, own: Duration) -> Duration {
        own.min(self.deadline.saturating_duration_since(Instant::now()))
    }

    fn add(&mut self, file: File, looked: Looked, began: Instant) {
        self.parcel.add(file, looked, began.elapsed());
    }
}

/// Folders and files of the host that the run sees.
fn mounts(scene: &Scene) -> Vec<PathBuf> {
    let home = &scene.session.context.home;
    let mounts = scene.spec.iter().flat_map(|spec| &spec.mounts);
    mounts
        .map(|mount| match mount.source.strip_prefix("~/") {
            Some(below) => home.join(below),
            None => PathBuf::from(&mount.source),
        })
        .collect()
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
