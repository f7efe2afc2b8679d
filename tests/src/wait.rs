//! Conditions with deadlines: the only way a test waits.

use std::time::{Duration, Instant};

/// Waits until `condition` answers a value and returns it.
///
/// # Panics
/// When `deadline` has passed; the message names `what`.
pub fn wait_for<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            start.elapsed() < deadline,
            "waited {:.1} s in vain for {what}",
            start.elapsed().as_secs_f32()
        );
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// When `deadline` has passed; the message names `what`.
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, deadline, || condition().then_some(()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_of_a_later_try_is_returned() {
        let mut tries = 0;
        let value = wait_for("third try", Duration::from_secs(5), || {
            tries += 1;
            (tries == 3).then_some("there")
        });
        assert_eq!((value, tries), ("there", 3));
    }

    #[test]
    #[should_panic(expected = "in vain for a miracle")]
    fn deadline_names_what_did_not_come() {
        wait_until("a miracle", Duration::from_millis(20), || false);
    }
}
