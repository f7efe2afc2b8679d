mod files;

use super::*;
use crate::model::{OutputRecord, Prompt};
use farrun_protocol::{RunId, Sha256};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const TRICKY: &str = "A \"neon\" city's $(reboot) `id` %{localtime} {seed} {{x}} : \\ ; [a],b\nsecond 🎬";

struct Fixture {
    folder: tempfile::TempDir,
    run_id: RunId,
    prompt: Prompt,
    parent: ParentRun,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let run_id: RunId = "rs_abcdefgh".parse().unwrap();
        let prompt = Prompt {
            id: "ps_abcdefgh".parse().unwrap(),
            name: "city".into(),
            text: TRICKY.into(),
            negative: None,
            inputs: BTreeMap::new(),
            parent: None,
            made_by: None,
            created_at: chrono::DateTime::UNIX_EPOCH,
        };
        let output = |path: &str, size| OutputRecord {
            path: path.into(),
            size,
            sha256: Some(Sha256::of(b"x")),
            blocks: None,
            pulled_at: None,
        };
        let parent = ParentRun {
            run_id: "rs_parent00".parse().unwrap(),
            outputs: vec![output("output.mp4", 5), output("a/empty", 0)],
        };
        Self {
            folder,
            run_id,
            prompt,
            parent,
        }
    }

    fn with_file(mut self, role: &str, content: &[u8]) -> Self {
        let path = self.folder.path().join(role);
        std::fs::write(&path, content).unwrap();
        self.prompt.inputs.insert(role.into(), path.display().to_string());
        self
    }

    fn resolve(
        &self,
        recipe: &Recipe,
        operation: &str,
        set: &[(&str, &str)],
    ) -> Result<Resolved, ResolveError> {
        let set: Vec<(String, String)> = set
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        let request = Request {
            run_id: &self.run_id,
            prompt: Some(&self.prompt),
            parent: Some(&self.parent),
            set: &set,
            overrides: Overrides::default(),
        };
        resolve(recipe, operation, &request)
    }

    fn problems(&self, recipe: &Recipe, operation: &str, set: &[(&str, &str)]) -> String {
        match self.resolve(recipe, operation, set) {
            Err(ResolveError::Refused { problems, .. }) => problems
                .join("\n")
                .replace(&self.folder.path().display().to_string(), "FOLDER"),
            other => panic!("{other:?}"),
        }
    }
}

fn built_in(name: &str) -> Recipe {
    let catalog = Catalog::load(Path::new("/nonexistent"));
    assert_eq!(catalog.problems, []);
    catalog.find(name).unwrap().recipe
}

fn inline(resolved: &Resolved, path: &str) -> Vec<u8> {
    let input = resolved
        .inputs
        .iter()
        .find(|input| input.path_in_inputs == path)
        .unwrap();
    match &input.source {
        Source::Inline(bytes) => bytes.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_prompt_of_any_text_stays_one_text() {
    let fixture = Fixture::new();
    let demo = built_in("demo");
    let resolved = fixture.resolve(&demo, "inference", &[("seed", "7")]).unwrap();
    assert_eq!(
        inline(&resolved, "prompt.txt"),
        format!("{TRICKY}\n").into_bytes()
    );
    assert!(!resolved.command.iter().any(|word| word.contains("neon")));
    assert!(resolved.command.iter().any(|word| word.contains("seed=7:")));
    assert!(!resolved.command.contains(&"-re".to_owned()));
    assert_eq!(resolved.required_outputs, ["output.mp4"]);
    assert_eq!(resolved.primary_output.as_deref(), Some("output.mp4"));
    assert_eq!((resolved.gpus, resolved.time_limit), (GpuNeed::None, Some(7200)));

    let resolved = fixture
        .resolve(&demo, "enhance", &[("style", "{prompt}")])
        .unwrap();
    let result: serde_json::Value = serde_json::from_slice(&inline(&resolved, "result.json")).unwrap();
    assert_eq!(result["enhanced_prompt"], json!(format!("{TRICKY}, {{prompt}}")));
}

#[test]
fn groups_follow_inputs_and_switches() {
    let demo = built_in("demo");
    let fixture = Fixture::new().with_file("video", b"film");
    let resolved = fixture
        .resolve(&demo, "inference", &[("realtime", "yes")])
        .unwrap();
    assert!(resolved.command.contains(&"-re".to_owned()));
    assert!(resolved.command.contains(&"/farrun/inputs/video.mp4".to_owned()));
    assert!(!resolved.command.contains(&"lavfi".to_owned()));
    let source = Source::Local(PathBuf::from(&fixture.prompt.inputs["video"]));
    assert!(resolved.inputs.contains(&ResolvedInput {
        path_in_inputs: "video.mp4".into(),
        source
    }));
}

#[test]
fn cosmos_inference_is_what_its_users_know() {
    let cosmos = built_in("cosmos-transfer1");
    let mut fixture = Fixture::new()
        .with_file("video", b"film")
        .with_file("depth", b"deep");
    fixture.prompt.text = "a city".into();
    let resolved = fixture
        .resolve(
            &cosmos,
            "inference",
            &[("guidance", "7"), ("remote_dir", "/data/cosmos")],
        )
        .unwrap();
    insta::assert_snapshot!(resolved.command.join(" "), @"torchrun --nproc_per_node=1 --nnodes=1 --node_rank=0 cosmos_transfer1/diffusion/inference/transfer.py --checkpoint_dir ./checkpoints --video_save_folder /farrun/outputs --controlnet_specs /farrun/inputs/spec.json --guidance 7.0 --seed 1 --offload_text_encoder_model --offload_guardrail_models --num_gpus 1");
    let spec: serde_json::Value = serde_json::from_slice(&inline(&resolved, "spec.json")).unwrap();
    assert_eq!(
        spec,
        json!({
            "prompt": "a city", "input_video_path": "/farrun/inputs/videos/color.mp4", "num_steps": 35, "guidance": 7.0,
            "seed": 1, "fps": 24, "sigma_max": 70.0, "blur_strength": "medium", "canny_threshold": "medium",
            "vis": {"control_weight": 0.25}, "edge": {"control_weight": 0.25},
            "depth": {"control_weight": 0.25, "input_control": "/farrun/inputs/videos/depth.mp4"},
            "seg": {"control_weight": 0.25},
        })
    );
    let mounts: Vec<_> = resolved
        .mounts
        .iter()
        .map(|mount| (mount.source.as_str(), mount.target.as_str()))
        .collect();
    assert_eq!(
        mounts,
        [
            ("/data/cosmos", "/workspace"),
            ("~/.cache/huggingface", "/root/.cache/huggingface"),
            ("~/.cache/torch", "/root/.cache/torch"),
            ("~/.cache/mlx", "/root/.cache/mlx")
        ]
    );
    for (name, folder) in [
        ("HF_HOME", "huggingface"),
        ("TRANSFORMERS_CACHE", "huggingface"),
        ("TORCH_HOME", "torch"),
        ("MLX_CACHE_DIR", "mlx"),
    ] {
        let folder = format!("/root/.cache/{folder}");
        assert_eq!(resolved.env.get(name), Some(&folder), "{name}");
        assert!(mounts.iter().any(|(_, target)| *target == folder), "{name}");
    }
    assert_eq!(resolved.working_dir.as_deref(), Some("/workspace"));
    assert_eq!(
        (resolved.gpus, resolved.shm_size, resolved.ipc_host),
        (GpuNeed::Count(1), Some(8 << 30), true)
    );
}

#[test]
fn cosmos_upscale_takes_the_parents_output_where_it_lies() {
    let fixture = Fixture::new();
    let cosmos = built_in("cosmos-transfer1");
    let resolved = fixture.resolve(&cosmos, "upscale", &[]).unwrap();
    let spec: serde_json::Value = serde_json::from_slice(&inline(&resolved, "spec.json")).unwrap();
    assert_eq!(
        spec,
        json!({"input_video_path": "/farrun/inputs/videos/parent.mp4", "upscale": {"control_weight": 0.5}})
    );
    assert!(
        resolved.inputs.iter().any(
            |input| matches!(&input.source, Source::Parent { path, size: 5, .. } if path == "output.mp4")
        )
    );
    let resolved = fixture
        .resolve(&cosmos, "upscale", &[("guide", "sharp"), ("weight", "0.7")])
        .unwrap();
    let spec: serde_json::Value = serde_json::from_slice(&inline(&resolved, "spec.json")).unwrap();
    assert_eq!(
        (&spec["prompt"], &spec["upscale"]["control_weight"]),
        (&json!("sharp"), &json!(0.7))
    );
}

#[test]
fn cosmos_enhance_reads_only_a_success() {
    let fixture = Fixture::new().with_file("video", b"film");
    let resolved = fixture
        .resolve(&built_in("cosmos-transfer1"), "enhance", &[])
        .unwrap();
    assert_eq!(resolved.env["VLLM_WORKER_MULTIPROC_METHOD"], "spawn");
    assert_eq!(resolved.env["CUDA_VISIBLE_DEVICES"], "0");
    assert_eq!(resolved.required_outputs, ["prompt_upsampled.json"]);
    assert_eq!(resolved.result.unwrap().pointer, "/upsampled_prompt");
}

#[test]
fn everything_wrong_with_an_order_is_said_at_once() {
    let mut fixture = Fixture::new().with_file("depth", b"");
    fixture
        .prompt
        .inputs
        .insert("segmentation".into(), fixture.folder.path().display().to_string());
    let set = [
        ("guidence", "7"),
        ("steps", "0"),
        ("seed", "x"),
        ("blur_strength", "huge"),
        ("vis", "NaN"),
        ("zzzzzz", "1"),
    ];
    insta::assert_snapshot!(fixture.problems(&built_in("cosmos-transfer1"), "inference", &set), @"
    there is no parameter `guidence`; did you mean `guidance`?
    parameter `steps` must be a whole number from 1 to 1000, not `0`
    parameter `seed` must be a whole number from 0 to 4294967295, not `x`
    parameter `blur_strength` must be one of `very_low`, `low`, `medium`, `high`, `very_high`, not `huge`
    parameter `vis` must be a number from 0 to 1, not `NaN`
    there is no parameter `zzzzzz`; there are `blur_strength`, `canny_threshold`, `depth`, `edge`, `fps`, `guidance`, `huggingface_cache`, `mlx_cache`, `remote_dir`, `seed`, `seg`, `sigma_max`, `steps`, `torch_cache`, `vis`
    input `depth`: `FOLDER/depth` is empty
    input `segmentation`: `FOLDER` is a folder, not a file
    the prompt has no input `video`, which this operation needs
    ");
}

#[test]
fn a_missing_prompt_parent_or_operation_is_named() {
    let fixture = Fixture::new();
    let demo = built_in("demo");
    let request = Request {
        run_id: &fixture.run_id,
        prompt: None,
        parent: None,
        set: &[],
        overrides: Overrides::default(),
    };
    let said = |operation: &str| resolve(&demo, operation, &request).unwrap_err().to_string();
    insta::assert_snapshot!(said("inference"), @"`inference` of recipe `demo` cannot run: this operation needs a prompt, and none is given");
    insta::assert_snapshot!(said("upscale"), @"`upscale` of recipe `demo` cannot run: this operation works on an earlier run, and none is given");
    insta::assert_snapshot!(said("train"), @"recipe `demo` has no operation `train`; it has `enhance`, `inference`, `upscale`");
}

#[test]
fn overrides_win() {
    let fixture = Fixture::new();
    let mount = farrun_protocol::spec::Mount {
        source: "/data".into(),
        target: "/workspace".into(),
        read_only: true,
        create: false,
    };
    let overrides = Overrides {
        image: Some("other:2".into()),
        gpus: Some(GpuNeed::All),
        env: [("CUDA_VISIBLE_DEVICES".to_owned(), "1".to_owned())].into(),
        mounts: vec![mount.clone()],
        time_limit: Some(60),
        ..Overrides::default()
    };
    let request = Request {
        run_id: &fixture.run_id,
        prompt: None,
        parent: Some(&fixture.parent),
        set: &[],
        overrides,
    };
    let resolved = resolve(&built_in("cosmos-transfer1"), "upscale", &request).unwrap();
    assert_eq!(
        (resolved.image.as_str(), resolved.gpus, resolved.time_limit),
        ("other:2", GpuNeed::All, Some(60))
    );
    assert_eq!(resolved.env["CUDA_VISIBLE_DEVICES"], "1");
    assert_eq!(
        resolved
            .mounts
            .iter()
            .filter(|other| other.target == "/workspace")
            .collect::<Vec<_>>(),
        [&mount]
    );
}

#[test]
fn outputs_are_matched_within_one_folder() {
    use super::check::matches;
    assert!(
        matches("*.mp4", "a.mp4")
            && matches("a*b*c", "a1b2c")
            && matches("out/*", "out/x")
            && matches("ü*", "üé")
    );
    assert!(
        !matches("*.mp4", "a/b.mp4")
            && !matches("*.mp4", "a.mp3")
            && !matches("a", "ab")
            && !matches("", "a")
    );
}
