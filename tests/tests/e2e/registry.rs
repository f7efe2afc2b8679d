//! Images that the host has to fetch.

use crate::SOON;
use farrun_tests::{
    BUSYBOX, Direction, Engine, EngineOptions, FRESH_LAYER, FaultProxy, Lab, Registry, SshdOptions,
    wait_until,
};

#[test]
fn absent_image_is_pulled() {
    let lab = Lab::new();
    let registry = Registry::start(&lab.engine);
    let image = registry.publish(&lab.engine, BUSYBOX, "pulled:1");
    let arguments = lab.shell_arguments(&image, &[], "echo from the registry");
    assert_eq!(lab.home.farrun(&arguments).ok().text(), "from the registry\n");
    lab.engine.ask(&["rmi", "-f", &image]);
}

#[test]
fn image_that_does_not_exist_is_named() {
    let lab = Lab::new();
    let registry = Registry::start(&lab.engine);
    let image = registry.image("never-pushed:1");
    let arguments = lab.shell_arguments(&image, &[], "true");
    let _ = lab
        .home
        .farrun(&arguments)
        .expect_code(1)
        .expect_error("never-pushed");
    assert_eq!(lab.show("@last")["run"]["reason"], "image_missing");
}

#[test]
fn registry_that_wants_a_password_is_named() {
    let lab = Lab::new();
    let registry = Registry::with_account(&lab.engine, "someone", "secret");
    let arguments = lab.shell_arguments(&registry.image("closed:1"), &[], "true");
    let _ = lab
        .home
        .farrun(&arguments)
        .expect_code(1)
        .expect_error("the registry refused");
    assert_eq!(lab.show("@last")["run"]["reason"], "image_denied");
}

#[test]
fn account_that_is_logged_in_gets_the_image() {
    let engine = Engine::shared();
    let registry = Registry::with_account(&engine, "someone", "s3cret");
    let login = farrun_tests::temporary_folder();
    // base64 of someone:s3cret
    let settings = format!(
        r#"{{"auths":{{"{}":{{"auth":"c29tZW9uZTpzM2NyZXQ="}}}}}}"#,
        registry.server()
    );
    std::fs::write(login.path().join("config.json"), settings).unwrap();
    let environment = vec![("DOCKER_CONFIG".to_owned(), login.path().display().to_string())];
    let image = registry.publish_as(&engine, BUSYBOX, "closed:1", login.path());
    let lab = Lab::with(
        engine,
        &SshdOptions {
            environment,
            ..SshdOptions::default()
        },
    );
    let arguments = lab.shell_arguments(&image, &[], "echo let in");
    assert_eq!(lab.home.farrun(&arguments).ok().text(), "let in\n");
    let missing = lab.shell_arguments(&registry.image("closed:2"), &[], "true");
    let _ = lab.home.farrun(&missing).expect_code(1);
    assert_eq!(lab.show("@last")["run"]["reason"], "image_missing");
    lab.engine.ask(&["rmi", "-f", &image]);
}

#[test]
fn registry_that_is_down_is_told_apart() {
    let lab = Lab::new();
    let registry = Registry::start(&lab.engine);
    let image = registry.image("any:1");
    drop(registry);
    let _ = lab
        .home
        .farrun(&lab.shell_arguments(&image, &[], "true"))
        .expect_code(1);
    assert_eq!(lab.show("@last")["run"]["reason"], "image_pull");
}

#[test]
fn present_image_is_fetched_again_only_when_told() {
    let lab = Lab::new();
    let registry = Registry::start(&lab.engine);
    let image = registry.publish(&lab.engine, BUSYBOX, "moving:1");
    let run = |pull: &str| {
        lab.home
            .farrun(&lab.shell_arguments(&image, &["--pull-image", pull], "true"))
    };
    let _ = run("never").expect_code(1);
    let _ = run("missing").ok();
    let _ = run("always").ok();
    drop(registry);
    let _ = run("missing").ok();
    let _ = run("always").expect_code(1);
    lab.engine.ask(&["rmi", "-f", &image]);
}

#[test]
fn fetch_that_is_cut_is_told_and_leaves_nothing_running() {
    let lab = Lab::new();
    let registry = Registry::start(&lab.engine);
    let image = registry.publish_fresh(&lab.engine, "cut:1");
    // The registry knows the image and has lost its layers, as when the line breaks between the two.
    registry.lose_layers();
    let outcome = lab.home.farrun(&lab.shell_arguments(&image, &[], "echo never"));
    assert_eq!(outcome.expect_code(1).text(), "");
    let shown = lab.show("@last");
    assert_eq!(shown["run"]["status"], "failed");
    assert_eq!(shown["run"]["reason"], "image_pull", "{shown}");
    let run = shown["run"]["id"].as_str().unwrap();
    assert_eq!(lab.containers(run), Vec::<String>::new());
}

/// A host whose registry is behind a proxy, and the name of an image there that only a fetch brings. `None` where
/// this account may not enter the engine's namespace.
fn behind_a_proxy(engine: Engine, name: &str) -> Option<(Lab, Registry, FaultProxy, String)> {
    if !rustix::process::geteuid().is_root() {
        farrun_tests::skipped("only root may enter the engine's network namespace");
        return None;
    }
    let lab = Lab::with(engine, &SshdOptions::default());
    let registry = Registry::start(&lab.engine);
    registry.publish_fresh(&lab.engine, name);
    let proxy = FaultProxy::beside(&lab.engine, registry.port());
    let image = format!("127.0.0.1:{}/{name}", proxy.port());
    Some((lab, registry, proxy, image))
}

/// An image that is on its way for ten seconds.
pub(crate) struct SlowImage {
    pub(crate) lab: Lab,
    pub(crate) proxy: FaultProxy,
    pub(crate) image: String,
    _registry: Registry,
}

pub(crate) fn slow_image(name: &str) -> Option<SlowImage> {
    let engine = Engine::own(EngineOptions::default());
    let (lab, registry, proxy, image) = behind_a_proxy(engine, name)?;
    proxy.rate(Direction::Down, Some(FRESH_LAYER / 10));
    Some(SlowImage {
        lab,
        proxy,
        image,
        _registry: registry,
    })
}

impl SlowImage {
    /// Waits until the engine has some of it.
    pub(crate) fn wait_for_a_part(&self) {
        wait_until("a part of the layer", SOON, || {
            self.proxy.passed(Direction::Down) > FRESH_LAYER / 4
        });
    }
}

#[test]
fn registry_lost_within_a_layer_is_told_and_the_next_order_fetches_the_rest() {
    let engine = Engine::own(EngineOptions {
        one_download_attempt: true,
        ..EngineOptions::default()
    });
    let Some((lab, _registry, proxy, image)) = behind_a_proxy(engine, "lost:1") else {
        return;
    };
    proxy.end_after(Direction::Down, FRESH_LAYER / 2);
    let order = lab.shell_arguments(&image, &[], "echo whole");
    let outcome = lab.home.farrun(&order).expect_code(1).expect_error(&image);
    assert_eq!(outcome.text(), "");
    let shown = lab.show("@last");
    assert_eq!(shown["run"]["reason"], "image_pull", "{shown}");
    let run = shown["run"]["id"].as_str().unwrap();
    assert_eq!(lab.containers(run), Vec::<String>::new());
    proxy.refuse(false);
    assert_eq!(lab.home.farrun(&order).ok().text(), "whole\n");
    lab.engine.ask(&["rmi", "-f", &image]);
}

#[test]
fn connection_cut_within_a_layer_costs_only_time() {
    let Some((lab, _registry, proxy, image)) = behind_a_proxy(Engine::shared(), "cut-once:1") else {
        return;
    };
    proxy.cut_after(Direction::Down, FRESH_LAYER / 2);
    let order = lab.shell_arguments(&image, &[], "echo whole");
    assert_eq!(lab.home.farrun(&order).ok().text(), "whole\n");
    let passed = proxy.passed(Direction::Down);
    assert!(passed > FRESH_LAYER, "{passed}");
    lab.engine.ask(&["rmi", "-f", &image]);
}
