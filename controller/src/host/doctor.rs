//! The line to a host, measured from here.

use super::{Dialer, LinkError};
use crate::model::Host;
use crate::ssh::transfer::{Sftp, TransferError};
use crate::ssh::{Agreed, Purpose, Session, SshError};
use rand::Rng as _;
use std::time::{Duration, Instant};

/// More sessions on one connection than anything here opens.
const MOST_SESSIONS: usize = 10;
/// How long one measurement may take.
const LIMIT: Duration = Duration::from_secs(15);
/// Most that a shell may print before a program.
const MOST_NOISE: usize = 64 * 1024;
/// How long a file may take in either direction.
const TRANSFER: Duration = Duration::from_secs(2);
/// The first file, and the largest one.
const SMALLEST: usize = 256 * 1024;
const LARGEST: usize = 16 * 1024 * 1024;

/// What was measured.
#[derive(Debug)]
pub struct Line {
    /// What protects it.
    pub agreed: Agreed,
    /// The quickest of some signs of life.
    pub round_trip: Result<Duration, SshError>,
    /// How many sessions one connection may have, up to ten.
    pub sessions: Result<usize, SshError>,
    /// Bytes that the login shell prints before a command.
    pub noise: Result<usize, SshError>,
    /// How fast files travel.
    pub files: Result<Speed, LinkError>,
}

/// How fast files travel, in bytes per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speed {
    /// Length of the largest file that was sent.
    pub size: u64,
    /// To the host.
    pub up: u64,
    /// From the host.
    pub down: u64,
}

/// Measures the line by way of a session that is there and others that are made for it.
pub async fn measure(dialer: &Dialer, host: &Host, session: &Session) -> Line {
    let mut round_trip = session.round_trip(LIMIT).await;
    for _ in 0..2 {
        if let (Ok(quickest), Ok(again)) = (&round_trip, session.round_trip(LIMIT).await) {
            round_trip = Ok(again.min(*quickest));
        }
    }
    let noise = noise(dialer, host, session).await;
    Line {
        agreed: session.agreed(),
        round_trip,
        noise,
        sessions: sessions(dialer, host).await,
        files: files(dialer, host).await,
    }
}

async fn noise(dialer: &Dialer, host: &Host, session: &Session) -> Result<usize, SshError> {
    let printed = match session.output("true", MOST_NOISE, LIMIT).await {
        // Where one connection may have one session, the conversation has that of this one.
        Err(SshError::ChannelRefused { .. }) => {
            let session = dialer.unasking().session(host, Purpose::Bulk).await?;
            let printed = session.output("true", MOST_NOISE, LIMIT).await;
            session.close().await;
            printed
        }
        printed => printed,
    };
    printed.map(|output| output.stdout.len())
}

async fn sessions(dialer: &Dialer, host: &Host) -> Result<usize, SshError> {
    let session = dialer.unasking().session(host, Purpose::Bulk).await?;
    let count = session.count_sessions(MOST_SESSIONS).await;
    session.close().await;
    count
}

async fn files(dialer: &Dialer, host: &Host) -> Result<Speed, LinkError> {
    let (session, sftp) = dialer.unasking().files(host).await?;
    let state = host.settings.state_folder();
    // Without a state folder the login folder does as well.
    let folder = match sftp.stat(state).await {
        Ok(Some(facts)) if facts.is_dir => format!("{state}/"),
        _ => String::new(),
    };
    let nonce: u64 = rand::rng().random();
    let path = format!("{folder}.doctor-{nonce:016x}");
    let speed = transfers(&sftp, &path).await;
    // What is gone already, or was never made, is as well removed.
    drop(sftp.remove(&path).await);
    session.close().await;
    Ok(speed?)
}

/// Sends and fetches files that grow until one takes long enough to tell.
async fn transfers(sftp: &Sftp, path: &str) -> Result<Speed, TransferError> {
    let mut size = SMALLEST;
    loop {
        // Noise, so that no compression on the way flatters it.
        let mut content = vec![0; size];
        rand::rng().fill(content.as_mut_slice());
        let begun = Instant::now();
        sftp.write_small(path, &content, 0o600).await?;
        let up = begun.elapsed();
        let length = size as u64;
        let begun = Instant::now();
        let back = sftp.read_exactly(path, length).await?;
        let down = begun.elapsed();
        debug_assert_eq!(back.len(), size);
        let longest = up.max(down);
        if size >= LARGEST || longest.saturating_mul(4) > TRANSFER {
            return Ok(Speed {
                size: length,
                up: per_second(length, up),
                down: per_second(length, down),
            });
        }
        size = size.saturating_mul(4);
    }
}

fn per_second(bytes: u64, took: Duration) -> u64 {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    bytes.saturating_mul(1_000_000) / micros
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_per_second() {
        assert_eq!(per_second(1000, Duration::from_millis(500)), 2000);
        assert_eq!(per_second(1000, Duration::ZERO), 1_000_000_000);
    }
}
