//! The tasks behind a channel: one that reads whatever the host sends, one that closes the channel.
//!
//! A channel that nobody reads freezes its whole connection. So every channel has a drain task of its own in front
//! of a queue of [`inlet::CAPACITY`] bytes. When that is full because its reader is slow, the drain task holds the
//! connection up, the only brake there is, as long as no other channel of a control connection is in use. Once there
//! is another one, the slow channel is failed instead. Bulk connections carry transfers alone and only brake.

use super::exec::{Ending, Exec, ExecEnding, ExecStdin, ExecStdout, StderrTail};
use super::inlet::{self, InletSender};
use bytes::Bytes;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What the channels of one connection have in common.
#[derive(Debug, Clone)]
pub(super) struct Traffic {
    /// How many channels are open or being opened.
    pub(super) channels: watch::Sender<usize>,
    /// Whether a slow reader may hold the connection up while other channels are in use.
    pub(super) brake_always: bool,
    /// Flags of this connection and of those it goes through: set while we, not the peer, are why nothing arrives.
    pub(super) heard: Vec<Arc<AtomicBool>>,
    /// Cancelled when the connection is given up; its task must not wait for a reader then.
    pub(super) broken: CancellationToken,
}

/// Counts a channel for as long as it lives.
pub(super) struct Counted(watch::Sender<usize>);

impl Traffic {
    pub(super) fn count(&self) -> Counted {
        self.channels.send_modify(|count| *count += 1);
        Counted(self.channels.clone())
    }

    async fn crowded(&self) {
        let mut channels = self.channels.subscribe();
        if self.brake_always || channels.wait_for(|count| *count > 1).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    async fn excuse_the_peer(&self) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            ticks.tick().await;
            for heard in &self.heard {
                heard.store(true, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// Puts the tasks behind a channel on which a program was started. `early` is what arrived before the host
/// confirmed the start.
pub(super) fn run(channel: Channel<Msg>, early: Vec<ChannelMsg>, traffic: Traffic, counted: Counted) -> Exec {
    let (read, write) = channel.split();
    let (sender, reader) = inlet::inlet();
    let (ending_sender, ending) = watch::channel(None);
    let stderr = StderrTail::default();
    let done = CancellationToken::new();
    let end_of_input = CancellationToken::new();
    let released = CancellationToken::new();
    let keep = Arc::new(released.clone().drop_guard());
    let writer = Box::pin(write.make_writer());

    let drain = Drain {
        read,
        stdout: Some(sender),
        stderr: stderr.clone(),
        ending: None,
        traffic,
        early,
    };
    let drained = done.clone().drop_guard();
    tokio::spawn(async move {
        let ending = drain.run().await;
        ending_sender.send_replace(Some(ending));
        drop((drained, counted));
    });
    tokio::spawn(close_when_released(
        write,
        end_of_input.clone(),
        released,
        done.clone(),
    ));

    Exec {
        stdin: ExecStdin {
            writer,
            gone: Box::pin(done.cancelled_owned()),
            end_of_input: Some(end_of_input.drop_guard()),
            _channel: Arc::clone(&keep),
        },
        stdout: ExecStdout {
            reader,
            _channel: Arc::clone(&keep),
        },
        ending: ExecEnding {
            ending,
            stderr,
            _channel: keep,
        },
    }
}

/// Sends the end of input when the writing part is dropped, and closes the channel when every part is.
///
/// The drain task must not do this: it could wait for the connection's task while that waits for it.
async fn close_when_released(
    write: ChannelWriteHalf<Msg>,
    end_of_input: CancellationToken,
    released: CancellationToken,
    done: CancellationToken,
) {
    tokio::select! {
        () = done.cancelled() => return,
        () = released.cancelled() => {}
        () = end_of_input.cancelled() => {
            let _ = write.eof().await;
        }
    }
    tokio::select! {
        () = done.cancelled() => {}
        () = released.cancelled() => {
            let _ = write.close().await;
        }
    }
}

struct Drain {
    read: ChannelReadHalf,
    stdout: Option<InletSender>,
    stderr: StderrTail,
    ending: Option<Ending>,
    traffic: Traffic,
    early: Vec<ChannelMsg>,
}

impl Drain {
    async fn run(mut self) -> Ending {
        for message in std::mem::take(&mut self.early) {
            self.take(message).await;
        }
        // Not only until the end of output: the exit status may come after it.
        while let Some(message) = self.read.wait().await {
            if matches!(message, ChannelMsg::Close) {
                break;
            }
            self.take(message).await;
        }
        let ending = self.ending.unwrap_or(Ending::Lost);
        if let (Some(stdout), Ending::Lost) = (self.stdout, &ending) {
            stdout.fail(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "the connection was lost",
            ));
        }
        ending
    }

    async fn take(&mut self, message: ChannelMsg) {
        match message {
            ChannelMsg::Data { data } => self.deliver(data).await,
            ChannelMsg::ExtendedData { data, ext: 1 } => self.stderr.push(&data),
            ChannelMsg::Eof => self.stdout = None,
            ChannelMsg::ExitStatus { exit_status } => self.ending = Some(Ending::Status(exit_status)),
            ChannelMsg::ExitSignal { signal_name, .. } => {
                self.ending = Some(Ending::Signal(signal(signal_name)))
            }
            _ => {}
        }
    }

    async fn deliver(&mut self, data: Bytes) {
        let Some(stdout) = &self.stdout else { return };
        let delivered = tokio::select! {
            biased;
            () = stdout.push(data) => true,
            () = self.traffic.crowded() => false,
            () = self.traffic.broken.cancelled() => false,
            () = self.traffic.excuse_the_peer() => false,
        };
        if delivered {
            return;
        }
        let (kind, reason) = if self.traffic.broken.is_cancelled() {
            (io::ErrorKind::ConnectionReset, "the connection was lost")
        } else {
            let reason = "more arrived than was read while other channels were waiting";
            (io::ErrorKind::OutOfMemory, reason)
        };
        if let Some(stdout) = self.stdout.take() {
            stdout.fail(io::Error::new(kind, reason));
        }
    }
}

fn signal(name: Sig) -> String {
    match name {
        Sig::Custom(name) => name.chars().take(32).collect(),
        known => format!("{known:?}"),
    }
}
