//! The line to the host.

use super::check::{Check, Group};
use super::words::bytes;
use crate::host::LinkError;
use crate::host::doctor::Line;
use crate::ssh::SshError;
use chrono::TimeDelta;
use std::time::Duration;

const GROUP: Group = Group::Ssh;
/// A line on which every question is felt.
const FAR: Duration = Duration::from_millis(150);
/// Files on it take their time.
const SLOW: u64 = 1 << 20;

/// Judges the line.
pub(super) fn judge(line: &Line, clock: Option<TimeDelta>) -> Vec<Check> {
    let agreed = &line.agreed;
    let mut checks = vec![
        Check::ok(
            GROUP,
            "host_key",
            format!("its key is known: {} {}", agreed.host_key, agreed.fingerprint),
        ),
        Check::ok(
            GROUP,
            "algorithms",
            format!("protected by {} and {}", agreed.key_exchange, agreed.cipher),
        ),
        round_trip(&line.round_trip),
        sessions(&line.sessions),
        noise(&line.noise),
        files(&line.files),
    ];
    checks.extend(clock.map(clock_difference));
    checks
}

fn round_trip(measured: &Result<Duration, SshError>) -> Check {
    match measured {
        Ok(time) => {
            let text = format!("a round trip takes {:.1} ms", time.as_secs_f64() * 1000.0);
            if *time > FAR {
                Check::note(GROUP, "round_trip", text)
            } else {
                Check::ok(GROUP, "round_trip", text)
            }
        }
        Err(error) => {
            Check::warning(GROUP, "round_trip", "it does not answer a sign of life").seen(error.to_string())
        }
    }
}

fn sessions(counted: &Result<usize, SshError>) -> Check {
    const NAME: &str = "sessions";
    match counted {
        Ok(0) => Check::broken(GROUP, NAME, "a second connection may open no session")
            .remedy("raise `MaxSessions` in the host's sshd_config to 10, its usual value"),
        Ok(1) => Check::note(
            GROUP,
            NAME,
            "one session per connection: farrun makes a connection for each, which takes longer",
        )
        .remedy("raise `MaxSessions` in the host's sshd_config to 10, its usual value"),
        Ok(count @ 2..10) => Check::ok(GROUP, NAME, format!("{count} sessions on one connection")),
        Ok(_) => Check::ok(GROUP, NAME, "ten sessions on one connection, and maybe more"),
        Err(error) => Check::warning(GROUP, NAME, "a second connection could not be made")
            .seen(error.to_string())
            .remedy("see `MaxStartups` and `PerSourceMaxStartups` in the host's sshd_config"),
    }
}

fn noise(printed: &Result<usize, SshError>) -> Check {
    const NAME: &str = "login_shell";
    const REMEDY: &str =
        "let the shell's start-up file print only where `$-` holds an `i`, as in `case $- in *i*) …;; esac`";
    match printed {
        Ok(0) => Check::ok(GROUP, NAME, "the login shell prints nothing before a program"),
        Ok(count) => Check::note(
            GROUP,
            NAME,
            format!("the login shell prints {count} bytes before every program; farrun skips them"),
        )
        .remedy(REMEDY),
        Err(SshError::TooMuchOutput { .. }) => Check::broken(
            GROUP,
            NAME,
            "the login shell prints more before a program than farrun skips",
        )
        .remedy(REMEDY),
        Err(error) => Check::broken(GROUP, NAME, "the login shell runs no command").seen(error.to_string()),
    }
}

fn files(measured: &Result<crate::host::doctor::Speed, LinkError>) -> Check {
    const NAME: &str = "sftp";
    match measured {
        Ok(speed) => {
            let text = format!(
                "files travel by SFTP, up with {}/s, down with {}/s ({} tried)",
                bytes(speed.up),
                bytes(speed.down),
                bytes(speed.size)
            );
            if speed.up.min(speed.down) < SLOW {
                Check::note(GROUP, NAME, text)
            } else {
                Check::ok(GROUP, NAME, text)
            }
        }
        Err(LinkError::Ssh(SshError::SftpRefused { .. })) => {
            Check::broken(GROUP, NAME, "the account has no SFTP")
                .remedy("add `Subsystem sftp internal-sftp` to the host's sshd_config and restart sshd")
        }
        Err(error) => {
            Check::broken(GROUP, NAME, "a small file could not be sent and fetched").seen(super::chain(error))
        }
    }
}

fn clock_difference(ahead: TimeDelta) -> Check {
    const NAME: &str = "clock";
    let seconds = ahead.num_milliseconds().unsigned_abs() / 1000;
    let way = if ahead < TimeDelta::zero() {
        "behind"
    } else {
        "ahead of"
    };
    if seconds < 2 {
        return Check::ok(GROUP, NAME, "its clock is that of this machine");
    }
    let text = format!("its clock is {seconds} s {way} this machine's");
    let check = if seconds < 60 {
        Check::note(GROUP, NAME, text)
    } else {
        Check::warning(GROUP, NAME, text)
    };
    check.remedy("on whichever is wrong: `sudo timedatectl set-ntp true`")
}

#[cfg(test)]
mod tests {
    use super::super::check::Verdict;
    use super::*;
    use crate::host::doctor::Speed;
    use crate::ssh::Agreed;

    fn line() -> Line {
        Line {
            agreed: Agreed::default(),
            round_trip: Ok(Duration::from_micros(1234)),
            sessions: Ok(10),
            noise: Ok(0),
            files: Ok(Speed {
                size: 1 << 20,
                up: 50 << 20,
                down: 60 << 20,
            }),
        }
    }

    fn verdict(line: &Line, clock: i64, name: &str) -> Verdict {
        let checks = judge(line, TimeDelta::try_seconds(clock));
        checks.iter().find(|check| check.name == name).unwrap().verdict
    }

    #[test]
    fn a_good_line_is_fine() {
        let checks = judge(&line(), Some(TimeDelta::zero()));
        assert!(
            checks.iter().all(|check| check.verdict == Verdict::Ok),
            "{checks:?}"
        );
        assert!(checks.iter().any(|check| check.text.contains("1.2 ms")));
    }

    #[test]
    fn every_fault_has_its_verdict() {
        let refused = || SshError::SftpRefused { host: "x".into() };
        let flood = || SshError::TooMuchOutput {
            host: "x".into(),
            what: "true".into(),
            limit: 1,
        };
        for (line, name, expected) in [
            (
                Line {
                    sessions: Ok(1),
                    ..line()
                },
                "sessions",
                Verdict::Note,
            ),
            (
                Line {
                    sessions: Ok(0),
                    ..line()
                },
                "sessions",
                Verdict::Broken,
            ),
            (
                Line {
                    noise: Ok(9),
                    ..line()
                },
                "login_shell",
                Verdict::Note,
            ),
            (
                Line {
                    noise: Err(flood()),
                    ..line()
                },
                "login_shell",
                Verdict::Broken,
            ),
            (
                Line {
                    files: Err(refused().into()),
                    ..line()
                },
                "sftp",
                Verdict::Broken,
            ),
            (
                Line {
                    round_trip: Ok(Duration::from_millis(300)),
                    ..line()
                },
                "round_trip",
                Verdict::Note,
            ),
        ] {
            assert_eq!(verdict(&line, 0, name), expected, "{name}");
        }
        for (clock, expected) in [(1, Verdict::Ok), (-30, Verdict::Note), (600, Verdict::Warning)] {
            assert_eq!(verdict(&line(), clock, "clock"), expected, "{clock}");
        }
    }
}
