//! Prompts and recipes: what is wanted reaches the job word for word, results are chained and written back.

use crate::SOON;
use crate::pull::named;
use farrun_tests::Lab;
use serde_json::Value;

/// Real work for a shell-less recipe: every operation copies a file.
const RECIPE: &str = r#"
format = 1
name = "tiny"
image = "farrun-test-busybox:1"
pull = "never"

[container]
entrypoint = []
network = "none"

[operations.inference]
argv = ["/bin/cp", "{inputs}/prompt.txt", "{outputs}/made.txt"]
[operations.inference.parameters]
steps = { type = "int", default = 3, min = 1, max = 9, help = "How many" }
look = { type = "choice", default = "oil", choices = ["oil", "ink"], help = "Which" }
[operations.inference.inputs.photo]
file = "photo.png"
[[operations.inference.files]]
path = "prompt.txt"
text = "{prompt}"
[[operations.inference.outputs]]
path = "made.txt"
required = true
primary = true

[operations.upscale]
argv = ["/bin/cp", "{input.video}", "{outputs}/larger.txt"]
[operations.upscale.inputs.video]
from = "parent"
output = "made.txt"
file = "parent.txt"
required = true
[[operations.upscale.outputs]]
path = "larger.txt"
required = true

[operations.enhance]
argv = ["/bin/cp", "{inputs}/result.json", "{outputs}/result.json"]
result = { file = "result.json", pointer = "/text" }
[[operations.enhance.files]]
path = "result.json"
json = { text = "{prompt}, much better" }
[[operations.enhance.outputs]]
path = "result.json"
required = true
"#;

/// Prints the prompt as an argument of a program.
const SAYS: &str = r#"
format = 1
name = "says"
image = "farrun-test-busybox:1"
pull = "never"
[container]
entrypoint = []
[operations.inference]
argv = ["/bin/printf", "%s", "{prompt}"]
"#;

pub(crate) fn lab() -> Lab {
    let mut lab = Lab::new();
    lab.home.write(".config/farrun/recipes/tiny.toml", RECIPE);
    lab.home.write(".config/farrun/recipes/says.toml", SAYS);
    lab.home.set("FARRUN_RECIPE", "tiny");
    lab
}

pub(crate) fn prompt(lab: &Lab, name: &str, text: &str) {
    let _ = lab
        .home
        .farrun_with_input(text.as_bytes(), &["prompt", "create", "-", "--name", name])
        .ok();
}

pub(crate) fn last(lab: &Lab) -> Value {
    lab.show("@last")
}

fn blobs(lab: &Lab) -> usize {
    let entries = std::fs::read_dir(lab.state().join("blobs"));
    entries.map_or(0, |entries| {
        entries.flatten().filter(|entry| entry.path().is_file()).count()
    })
}

#[test]
fn text_reaches_the_job_word_for_word() {
    let lab = lab();
    let long: String = "é🦀$(x)".chars().cycle().take(10_000).collect();
    let texts = [
        "plain",
        "it's \"quoted\" \\ and `ticked`",
        "$(touch /farrun/outputs/owned); rm -rf / & | > < * ? ~ !",
        "first line\n\n  third\tline",
        "{outputs} {prompt} {{x}} %s %d \\n",
        "--help -rf",
        "🦀🎬 日本語 ñ",
        &long,
    ];
    for (number, text) in texts.iter().enumerate() {
        let name = format!("text{number}");
        prompt(&lab, &name, text);
        let outcome = lab.home.farrun(&["inference", &name, "--recipe", "says"]).ok();
        assert!(outcome.stdout == text.as_bytes(), "{text}: {outcome}");
        assert!(!lab.home.outputs().join(&name).join("runs").join("owned").exists());
    }
}

#[test]
fn ten_thousand_characters_are_the_limit() {
    let lab = lab();
    let long = "é".repeat(10_001);
    let _ = lab
        .home
        .farrun_with_input(long.as_bytes(), &["prompt", "create", "-"])
        .expect_code(2);
    let _ = lab.home.farrun(&["prompt", "create", "   "]).expect_code(2);
}

#[test]
fn inference_leaves_its_files_where_they_belong() {
    let lab = lab();
    prompt(&lab, "city", "a city");
    let _ = lab.home.farrun(&["inference", "city", "--set", "steps=9"]).ok();
    let shown = last(&lab);
    let id = shown["run"]["id"].as_str().unwrap();
    let made = lab.home.outputs().join("city/runs").join(id).join("made.txt");
    assert_eq!(std::fs::read(made).unwrap(), b"a city");
    assert!(
        lab.home
            .outputs()
            .join(format!("city/logs/run_{id}.log"))
            .is_file()
    );
    assert_eq!(shown["run"]["status"], "completed");
    assert_eq!(shown["spec"]["parameters"]["steps"], 9);
    assert_eq!(shown["spec"]["parameters"]["look"], "oil");
}

#[test]
fn wrong_parameters_are_refused_before_anything_is_sent() {
    let lab = lab();
    prompt(&lab, "city", "a city");
    for (set, said) in [
        ("nonsense=1", "nonsense"),
        ("step=3", "steps"),
        ("steps=10", "9"),
        ("steps=0", "1"),
        ("steps=many", "steps"),
        ("look=water", "ink"),
    ] {
        let outcome = lab
            .home
            .farrun(&["inference", "city", "--set", set])
            .expect_code(2);
        let _ = outcome.expect_error(said);
    }
    let _ = lab
        .home
        .farrun(&["inference", "city", "--recipe", "no-such"])
        .expect_code(4);
    let _ = lab.home.farrun(&["inference", "no-such-prompt"]).expect_code(4);
    let listed = lab.home.farrun(&["list", "--json"]).ok().json();
    assert_eq!(listed["runs"].as_array().unwrap().len(), 0, "{listed}");
}

#[test]
fn missing_inputs_are_named() {
    let lab = lab();
    let photo = lab.home.write("photo.png", "pixels");
    let input = format!("photo={}", photo.display());
    let _ = lab
        .home
        .farrun(&["prompt", "create", "x", "--name", "face", "--input", &input])
        .ok();
    std::fs::remove_file(&photo).unwrap();
    let outcome = lab.home.farrun(&["inference", "face"]).expect_code(2);
    let _ = outcome.expect_error("photo.png");
    let _ = lab
        .home
        .farrun(&["prompt", "create", "x", "--input", &input])
        .expect_code(2);
    let _ = lab
        .home
        .farrun(&["prompt", "create", "x", "--input", "photo=/tmp"])
        .expect_code(2);
}

#[test]
fn upscale_takes_the_output_where_it_lies() {
    let lab = lab();
    prompt(&lab, "city", "a city");
    let _ = lab.home.farrun(&["inference", "city"]).ok();
    let parent = last(&lab)["run"]["id"].as_str().unwrap().to_owned();
    let sent = blobs(&lab);
    // Without a copy here nothing could be sent again.
    std::fs::remove_dir_all(lab.home.outputs()).unwrap();
    let _ = lab.home.farrun(&["upscale", &parent]).ok();
    assert_eq!(named(&lab, "larger.txt"), b"a city");
    let shown = last(&lab);
    assert_eq!(shown["run"]["parent_run"], parent.as_str());
    assert!(
        shown["run"]["outputs_path"]
            .as_str()
            .unwrap()
            .contains("/city_upscaled/runs/"),
        "{shown}"
    );
    assert_eq!(blobs(&lab), sent);
}

#[test]
fn upscale_sends_its_own_copy_when_the_host_lost_it() {
    let lab = lab();
    prompt(&lab, "city", "a city");
    let _ = lab.home.farrun(&["inference", "city"]).ok();
    let parent = last(&lab)["run"]["id"].as_str().unwrap().to_owned();
    std::fs::write(lab.run_folder(&parent).join("outputs/made.txt"), "another").unwrap();
    let _ = lab.home.farrun(&["upscale", &parent]).ok();
    assert_eq!(named(&lab, "larger.txt"), b"a city");
}

#[test]
fn a_large_output_becomes_an_input_wherever_it_still_is() {
    let lab = lab();
    lab.home.write(
        ".config/farrun/recipes/large.toml",
        RECIPE.replace("\"tiny\"", "\"large\"").replace(
            r#"["/bin/cp", "{inputs}/prompt.txt", "{outputs}/made.txt"]"#,
            r#"["/bin/sh", "-c", "(cat {inputs}/prompt.txt; seq 1 1500000) > {outputs}/made.txt"]"#,
        ),
    );
    let numbers: String = (1..=1_500_000).map(|number| format!("{number}\n")).collect();
    // Each has content of its own: a host never takes the same twice.
    let made = |text: &str| {
        prompt(&lab, text, text);
        let _ = lab.home.farrun(&["inference", text, "--recipe", "large"]).ok();
        last(&lab)["run"]["id"].as_str().unwrap().to_owned()
    };
    let lose_here = || std::fs::remove_dir_all(lab.home.outputs()).unwrap();
    let lose_there =
        |run: &str| std::fs::write(lab.run_folder(run).join("outputs/made.txt"), "another").unwrap();
    // Where nothing is left here the host has it, and where the host lost it the copy here is sent.
    for text in ["here", "there"] {
        let parent = made(text);
        let known = &lab.show(&parent)["outputs"][0];
        assert_eq!(known["sha256"], Value::Null);
        assert_eq!(known["blocks"].as_str().unwrap().len(), 64);
        match text {
            "here" => lose_here(),
            _ => lose_there(&parent),
        }
        let _ = lab.home.farrun(&["upscale", &parent]).ok();
        assert!(named(&lab, "larger.txt") == [text.as_bytes(), numbers.as_bytes()].concat());
        lose_here();
    }
    // Neither: the order is refused, and says whose output it is.
    let parent = made("nowhere");
    lose_here();
    lose_there(&parent);
    let refused = lab.home.farrun(&["upscale", &parent]).expect_code(1);
    let _ = refused.expect_error(&parent);
}

#[test]
fn upscale_of_a_failed_run_is_refused() {
    let lab = lab();
    let _ = lab.shell(&[], "exit 3").expect_code(1);
    let _ = lab.home.farrun(&["upscale", "@last"]).expect_code(5);
    let _ = lab.home.farrun(&["upscale", "rs_00000000"]).expect_code(4);
}

#[test]
fn several_prompts_share_a_secret_that_is_read_once() {
    let lab = lab();
    let _ = ["one", "two"].map(|name| prompt(&lab, name, name));
    let arguments = [
        "inference",
        "one",
        "two",
        "--recipe",
        "says",
        "--secret",
        "TOKEN=-",
    ];
    let both = lab.home.farrun_with_input(b"open sesame\n", &arguments).ok();
    assert_eq!(both.text(), "onetwo");
}

#[test]
fn several_prompts_that_were_interrupted_say_what_was_not_ordered() {
    let lab = lab();
    let sleeps = SAYS.replace(
        r#"["/bin/printf", "%s", "{prompt}"]"#,
        r#"["/bin/sh", "-c", "echo on; exec sleep 600"]"#,
    );
    lab.home.write(
        ".config/farrun/recipes/sleeps.toml",
        sleeps.replace("says", "sleeps"),
    );
    let _ = ["one", "two", "three"].map(|name| prompt(&lab, name, name));
    let arguments = ["inference", "one", "two", "three", "--recipe", "sleeps"];
    let mut attached = lab.home.spawn(&arguments);
    attached.wait_for("the first job", SOON, |attached| attached.stdout() == b"on\n");
    attached.interrupt();
    let outcome = attached.finish(SOON).expect_code(130);
    assert!(outcome.errors().contains("not ordered: two, three"), "{outcome}");
    let _ = lab.home.farrun(&["stop", "@last", "--kill"]).ok();
}

#[test]
fn recipe_file_is_checked() {
    let lab = lab();
    let broken = lab
        .home
        .write("broken.toml", RECIPE.replace("steps =", "steps = 3 #"));
    let _ = lab
        .home
        .farrun(&["recipe", "check", broken.to_str().unwrap()])
        .expect_code(2)
        .expect_error("14:9");
    let misspelt = lab
        .home
        .write("misspelt.toml", RECIPE.replace("format =", "fromat ="));
    let _ = lab
        .home
        .farrun(&["recipe", "check", misspelt.to_str().unwrap()])
        .expect_code(2)
        .expect_error("2:1: unknown field `fromat`");
    let whole = lab.home.write("whole.toml", RECIPE);
    let _ = lab
        .home
        .farrun(&["recipe", "check", whole.to_str().unwrap()])
        .ok();
    let help = lab.home.farrun(&["inference", "--help-recipe"]).ok();
    assert!(
        help.text().contains("steps") && help.text().contains("oil"),
        "{help}"
    );
}
