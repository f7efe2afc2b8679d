//! Names of signals.

/// `SIGKILL` and the like; the number where there is no name.
pub fn signal_name(signal: Option<i32>) -> String {
    const NAMES: [(i32, &str); 14] = [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (10, "SIGUSR1"),
        (11, "SIGSEGV"),
        (12, "SIGUSR2"),
        (13, "SIGPIPE"),
        (14, "SIGALRM"),
        (15, "SIGTERM"),
    ];
    match signal {
        None => "a signal".to_owned(),
        Some(number) => NAMES
            .iter()
            .find(|(known, _)| *known == number)
            .map_or_else(|| format!("signal {number}"), |(_, name)| (*name).to_owned()),
    }
}
