//! Images that the host has to fetch.

use farrun_tests::{BUSYBOX, Lab, Registry};

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
}

#[test]
fn registry_that_wants_a_password_is_named() {
    let lab = Lab::new();
    let registry = Registry::with_account(&lab.engine, "someone", "secret");
    let arguments = lab.shell_arguments(&registry.image("closed:1"), &[], "true");
    let outcome = lab.home.farrun(&arguments).expect_code(1);
    assert!(
        outcome.errors().contains("login") || outcome.errors().contains("auth"),
        "{outcome}"
    );
}
