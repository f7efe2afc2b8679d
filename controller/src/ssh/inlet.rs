//! A bounded queue of bytes between a channel's drain task and whoever reads the channel.

use bytes::{Buf as _, Bytes};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{Semaphore, mpsc};

/// Bytes that may wait for a slow reader.
pub(super) const CAPACITY: usize = 8 * 1024 * 1024;

/// The writing end, held by the drain task. Dropping it is the end of the stream.
pub(super) struct InletSender {
    sender: mpsc::UnboundedSender<io::Result<Bytes>>,
    room: Arc<Semaphore>,
}

/// The reading end.
#[derive(Debug)]
pub(super) struct InletReader {
    receiver: mpsc::UnboundedReceiver<io::Result<Bytes>>,
    current: Bytes,
    room: Arc<Semaphore>,
}

/// Makes a queue.
pub(super) fn inlet() -> (InletSender, InletReader) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(CAPACITY));
    let reader = InletReader {
        receiver,
        current: Bytes::new(),
        room: Arc::clone(&room),
    };
    (InletSender { sender, room }, reader)
}

impl InletSender {
    /// Queues bytes, waiting for room. A reader that is gone takes everything.
    pub(super) async fn push(&self, bytes: Bytes) {
        let wanted = u32::try_from(bytes.len().min(CAPACITY)).unwrap_or(u32::MAX);
        if let Ok(permit) = self.room.acquire_many(wanted).await {
            permit.forget();
            let _ = self.sender.send(Ok(bytes));
        }
    }

    /// Ends the stream with an error, for a stream that was cut off must not look like one that ended.
    pub(super) fn fail(self, error: io::Error) {
        let _ = self.sender.send(Err(error));
    }
}

impl Drop for InletReader {
    fn drop(&mut self) {
        self.room.close();
    }
}

impl AsyncRead for InletReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.current.is_empty() {
            match ready!(self.receiver.poll_recv(context)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(error)),
                Some(Ok(bytes)) => self.current = bytes,
            }
        }
        let taken = self.current.len().min(buffer.remaining());
        buffer.put_slice(&self.current.split_to(taken));
        if !self.current.has_remaining() {
            self.current = Bytes::new();
        }
        self.room.add_permits(taken);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn bytes_arrive_in_order_and_then_the_end() {
        let (sender, mut reader) = inlet();
        sender.push(Bytes::from_static(b"one ")).await;
        sender.push(Bytes::from_static(b"two")).await;
        drop(sender);
        let mut text = String::new();
        reader.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "one two");
    }

    #[tokio::test]
    async fn a_full_queue_waits_for_its_reader() {
        let (sender, mut reader) = inlet();
        let block = Bytes::from(vec![7; CAPACITY / 2]);
        let total = CAPACITY * 3;
        let writer = tokio::spawn(async move {
            for _ in 0..6 {
                sender.push(block.clone()).await;
            }
        });
        let mut received = Vec::new();
        reader.read_to_end(&mut received).await.unwrap();
        writer.await.unwrap();
        assert_eq!(received.len(), total);
    }

    #[tokio::test]
    async fn a_reader_that_left_holds_nobody_up() {
        let (sender, reader) = inlet();
        drop(reader);
        for _ in 0..4 {
            sender.push(Bytes::from(vec![0; CAPACITY])).await;
        }
    }

    #[tokio::test]
    async fn a_cut_is_an_error_after_what_came_before_it() {
        let (sender, mut reader) = inlet();
        sender.push(Bytes::from_static(b"half")).await;
        sender.fail(io::ErrorKind::ConnectionReset.into());
        let mut received = Vec::new();
        let error = reader.read_to_end(&mut received).await.unwrap_err();
        assert_eq!(
            (received.as_slice(), error.kind()),
            (b"half".as_slice(), io::ErrorKind::ConnectionReset)
        );
    }
}
