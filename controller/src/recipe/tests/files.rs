//! Recipes as files: what is enough, what is wrong and where, and which one wins.

use super::*;

fn problems(text: &str) -> String {
    let error = Recipe::parse(text, "mine.toml").unwrap_err();
    let lines = error.problems.iter().map(|problem| match &problem.hint {
        Some(hint) => format!("{problem} ({hint})"),
        None => problem.to_string(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

const MINE: &str = r#"
format = 1
name = "mine"
image = "alpine"

[operations.go]
argv = ["/bin/true"]
"#;

#[test]
fn the_smallest_recipe_is_enough() {
    let recipe = Recipe::parse(MINE, "mine.toml").unwrap();
    let resolved = Fixture::new().resolve(&recipe, "go", &[]).unwrap();
    assert_eq!(resolved.command, ["/bin/true"]);
    assert_eq!(
        (resolved.inputs_target.as_str(), resolved.grace, resolved.log_cap),
        ("/farrun/inputs", 10, 100_000_000)
    );
    assert!(!recipe.operation("go").unwrap().needs_prompt());
}

#[test]
fn mistakes_are_found_where_they_are() {
    insta::assert_snapshot!(problems("format = 1\nname = "), @"line 2, column 8: string values must be quoted, expected literal string");
    insta::assert_snapshot!(problems(&MINE.replace("argv", "arvg")), @"line 7, column 1: unknown field `arvg`, expected one of `help`, `argv`, `parameters`, `inputs`, `files`, `outputs`, `result`, `env`, `gpus`, `time_limit`, `working_dir` (did you mean `argv`?)");
    insta::assert_snapshot!(problems(&MINE.replace("format = 1", "format = 2")), @"line 2, column 1: `format` is 2, which this version does not know (write `format = 1`, or use a newer farrun)");
    insta::assert_snapshot!(problems(&format!("{MINE}gpus = -1")), @"line 8, column 8: invalid value: integer `-1`, expected a text or a whole number that is not negative");
    let many = r#"
format = 1
name = "My Recipe"
image = "-v"

[container]
working_dir = "work"
time_limit = "2h"

[operations.go]
argv = ["{promt}", "{strength}", "{", { when = "fast", args = ["{fast}"] }, { args = ["x"] }]

[operations.go.parameters.strength]
type = "float"
min = 2
max = 1

[operations.go.parameters.fast]
type = "bool"
default = "maybe"

[operations.go.inputs.video]
file = "../video.mp4"
from = "parent"

[[operations.go.outputs]]
path = "*.mp4"
required = true
"#;
    insta::assert_snapshot!(problems(many), @r#"
    line 3, column 1: `name` is not 1 to 63 characters of a-z 0-9 _ - that start with a letter or digit
    line 4, column 1: `image` is not an image reference
    line 7, column 1: `container.working_dir` has `work`, which is not an absolute path without `..` and `:`
    line 20, column 1: `operations.go.parameters.fast.default` must be `true` or `false`, not `maybe`
    line 13, column 1: `operations.go.parameters.strength` has a `min` above its `max`
    line 22, column 1: `operations.go.inputs.video` has `../video.mp4`, which is not a plain relative path
    line 22, column 1: `operations.go.inputs.video` needs `output` when it is from the parent, and only then
    line 26, column 1: `operations.go.outputs` has `*.mp4`, which is not a plain relative path; only optional outputs may have `*`
    line 11, column 1: `operations.go.argv` has a group without exactly one of `when` and `unless`
    line 11, column 1: `operations.go.argv` uses `{promt}`, which is no parameter, input or placeholder (did you mean `prompt`?)
    line 11, column 1: `operations.go.argv` uses `{strength}`, which may not be given (write `{strength?}`, or put the words into a group with `when = "strength"`)
    line 11, column 1: `operations.go.argv` has a brace without its other half in `{`; write `{{` or `}}` for a brace
    "#);
}

#[test]
fn units_and_syntax_errors_do_not_reach_a_run() {
    for (from, to) in [
        ("argv = [\"/bin/true\"]", "argv = \"/bin/true\""),
        ("argv = [\"/bin/true\"]", "argv = [1]"),
        ("argv = [\"/bin/true\"]", "argv = []"),
        ("argv = [\"/bin/true\"]", "argv = [\"x\"]\ntime_limit = \"soon\""),
        ("image = \"alpine\"", ""),
        (
            "[operations.go]",
            "[container]\nshm_size = \"big\"\n[operations.go]",
        ),
        (
            "[operations.go]",
            "[container]\ncapture = \"none\"\n[operations.go]",
        ),
        ("[operations.go]", "[operations.\"../x\"]"),
    ] {
        let text = MINE.replace(from, to);
        assert_ne!(text, MINE);
        assert!(Recipe::parse(&text, "mine.toml").is_err(), "{text}");
    }
}

#[test]
fn the_users_recipes_win_and_broken_ones_hide_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("mine.toml", MINE);
    write("own-demo.toml", &MINE.replace("\"mine\"", "\"demo\""));
    write("broken.toml", "format = ");
    write("notes.txt", "not a recipe");
    let catalog = Catalog::load(folder.path());
    let names: Vec<_> = catalog
        .entries
        .iter()
        .map(|entry| (entry.recipe.name.as_str(), entry.overrides_built_in))
        .collect();
    assert_eq!(
        names,
        [("cosmos-transfer1", false), ("demo", true), ("mine", false)]
    );
    assert_eq!(catalog.problems.len(), 1);
    assert!(matches!(catalog.find("broken"), Err(FindError::Broken(_))));
    assert!(
        matches!(catalog.find("mien"), Err(FindError::Unknown { meant: Some(name), .. }) if name == "mine")
    );
    let path = folder.path().join("mine.toml").display().to_string();
    assert_eq!(catalog.find(&path).unwrap().origin, Origin::File(path.into()));
    assert!(matches!(
        catalog.find("./missing.toml"),
        Err(FindError::Broken(_))
    ));
}

#[test]
fn help_tells_what_can_be_set() {
    let help = built_in("demo").help("upscale").unwrap();
    assert_eq!((help.needs_prompt, help.needs_parent), (false, true));
    insta::assert_snapshot!(serde_json::to_string(&help.parameters).unwrap(), @r#"[{"name":"factor","type":"int","expected":"a whole number from 2 to 4","default":2,"required":false,"help":"How many times wider and higher"}]"#);
    assert!(
        built_in("cosmos-transfer1")
            .help("inference")
            .unwrap()
            .needs_prompt
    );
}

#[test]
fn the_documented_example_is_a_recipe() {
    let document = include_str!("../../../../docs/recipes.md");
    let example = document
        .split("```toml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let recipe = Recipe::parse(example, "docs/recipes.md").unwrap();
    let fixture = Fixture::new();
    let resolved = fixture
        .resolve(&recipe, "inference", &[("fast", "true")])
        .unwrap();
    assert!(resolved.command.contains(&"--half-precision".to_owned()));
    assert!(!resolved.command.contains(&"--start-from".to_owned()));
    let job: serde_json::Value = serde_json::from_slice(&inline(&resolved, "job.json")).unwrap();
    assert_eq!(job, json!({"text": TRICKY, "steps": 30, "look": "oil"}));
}

proptest::proptest! {
    #[test]
    fn no_value_ever_becomes_two_words_or_a_placeholder(style in "[^\0]{0,60}", text in "[^\0]{1,60}") {
        let mut fixture = Fixture::new();
        fixture.prompt.text = text.clone();
        let recipe = MINE.replace("[\"/bin/true\"]", "[\"a\", \"x{style}y\", \"{prompt}\"]")
            + "[operations.go.parameters]\nstyle = { type = \"string\", default = \"\" }\n";
        let resolved = fixture.resolve(&Recipe::parse(&recipe, "mine.toml").unwrap(), "go", &[("style", &style)]).unwrap();
        proptest::prop_assert_eq!(resolved.command, vec!["a".to_owned(), format!("x{style}y"), text]);
    }

    #[test]
    fn no_text_breaks_the_parser(text in "(format = 1\n|name|\\[|\\]|\\{|\\}|=|\"|\n|[a-z]{1,4}|operations\\.|argv|é){0,40}") {
        let _ = Recipe::parse(&text, "mine.toml");
    }
}
