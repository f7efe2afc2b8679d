//! Images that the host has to fetch.

use farrun_tests::{BUSYBOX, Engine, Lab, Registry, SshdOptions};

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
