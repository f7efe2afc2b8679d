//! A prompt that a model rewrites: a new one beside it, made once, by whichever command brings the result home.

use crate::SOON;
use crate::recipes::{lab, last, prompt};

#[test]
fn enhance_writes_a_new_prompt() {
    let lab = lab();
    prompt(&lab, "city", "a city");
    let _ = lab.home.farrun(&["enhance", "city"]).ok();
    let made = lab
        .home
        .farrun(&["prompt", "show", "city_enhanced", "--json"])
        .ok()
        .json();
    assert_eq!(made["prompt"]["text"], "a city, much better", "{made}");
    let old = lab.home.farrun(&["prompt", "show", "city", "--json"]).ok().json();
    assert_eq!(old["prompt"]["text"], "a city");
    assert_eq!(made["prompt"]["parent"], old["prompt"]["id"]);
    let id = last(&lab)["run"]["id"].as_str().unwrap().to_owned();
    assert!(
        lab.home
            .outputs()
            .join(format!("prompt_enhancement/logs/op_{id}.log"))
            .is_file()
    );
    let _ = lab
        .home
        .farrun(&["enhance", "city", "--name", "city"])
        .expect_code(5);
}

#[test]
fn enhance_that_was_left_alone_makes_its_prompt_when_it_comes_home() {
    let lab = lab();
    prompt(&lab, "city", "a city");
    let ordered = lab.home.farrun(&["enhance", "city", "--detach"]).ok();
    let run = ordered.text().trim().to_owned();
    lab.wait_status(&run, &["downloading"], SOON);
    let _ = lab
        .home
        .farrun(&["prompt", "show", "city_enhanced"])
        .expect_code(4);
    let attached = lab.home.farrun(&["attach", &run]).ok();
    assert!(
        attached.errors().contains("new prompt `city_enhanced`"),
        "{attached}"
    );
    let made = lab
        .home
        .farrun(&["prompt", "show", "city_enhanced", "--json"])
        .ok()
        .json();
    assert_eq!(made["prompt"]["text"], "a city, much better", "{made}");
    assert_eq!(made["prompt"]["made_by"], run.as_str());
    // Nobody makes a second one of it.
    for arguments in [["attach", &run], ["pull", &run]] {
        let _ = lab.home.farrun(&arguments).ok();
    }
    let listed = lab.home.farrun(&["prompt", "list", "--json"]).ok().json();
    assert_eq!(listed["prompts"].as_array().unwrap().len(), 2, "{listed}");
}

#[test]
fn enhance_repeated_under_its_key_makes_one_prompt() {
    let lab = lab();
    prompt(&lab, "city", "a city");
    let order = ["enhance", "city", "--key", "once", "--json"];
    let first = lab.home.farrun(&order).ok().json();
    let again = lab.home.farrun(&order).ok().json();
    assert_eq!(first["schema"], "farrun.enhancement/1");
    assert_eq!(first["prompt"], again["prompt"]);
    let listed = lab.home.farrun(&["prompt", "list", "--json"]).ok().json();
    assert_eq!(listed["prompts"].as_array().unwrap().len(), 2, "{listed}");
}
