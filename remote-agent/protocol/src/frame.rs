//! How bytes are cut into frames.
//!
//! ```text
//! u32  length of all that follows, big endian, at most MAX_LENGTH
//! u8   kind
//! u64  request id, big endian; 0 for Ping and Pong
//! …    payload
//! ```
//!
//! The length is checked before anything is allocated for it.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Largest payload of one frame, in bytes.
pub const MAX_PAYLOAD: usize = 1024 * 1024;
const HEAD: usize = 9;
/// Largest value of a frame's length field.
pub const MAX_LENGTH: usize = MAX_PAYLOAD + HEAD;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// JSON [`crate::Request`], controller to agent.
    Request = 1,
    /// JSON [`crate::Reply`], agent to controller.
    Reply = 2,
    /// JSON [`crate::Failure`], agent to controller.
    Failure = 3,
    /// JSON [`crate::Progress`], agent to controller.
    Progress = 4,
    /// [`crate::log::LogChunk`], agent to controller.
    LogChunk = 5,
    /// Asks for a sign of life.
    Ping = 6,
    /// Answers a ping.
    Pong = 7,
    /// Ends the wait of a request.
    Cancel = 8,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Request,
            2 => Self::Reply,
            3 => Self::Failure,
            4 => Self::Progress,
            5 => Self::LogChunk,
            6 => Self::Ping,
            7 => Self::Pong,
            8 => Self::Cancel,
            _ => return None,
        })
    }
}
/// Bytes of a payload that travel with the head of their frame.
const WITH_HEAD: usize = 32 * 1024;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the payload is.
    pub kind: Kind,
    /// The request it belongs to.
    pub id: u64,
    /// The payload, at most [`MAX_PAYLOAD`] bytes.
    pub payload: Bytes,
}

/// A conversation could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer announced more than a frame may hold, or less than its head.
    #[error("a frame of {0} bytes was announced; between {HEAD} and {MAX_LENGTH} are allowed")]
    Length(usize),
    /// The kind byte is none of [`Kind`].
    #[error("frame kind {0} is unknown")]
    Kind(u8),
    /// A payload was too large to send.
    #[error("a payload of {0} bytes does not fit a frame; {MAX_PAYLOAD} are allowed")]
    TooLarge(usize),
    /// The stream broke.
    #[error("the conversation broke off")]
    Io(#[from] std::io::Error),
}

impl Frame {
    /// A frame without payload.
    pub fn empty(kind: Kind, id: u64) -> Self {
        Self {
            kind,
            id,
            payload: Bytes::new(),
        }
    }

    /// Appends the frame's bytes to `buffer`.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] when the payload exceeds [`MAX_PAYLOAD`]; nothing is appended then.
    pub fn encode(&self, buffer: &mut BytesMut) -> Result<(), FrameError> {
        if self.payload.len() > MAX_PAYLOAD {
            return Err(FrameError::TooLarge(self.payload.len()));
        }
        buffer.reserve(4 + HEAD + self.payload.len());
        self.put_head(buffer);
        buffer.extend_from_slice(&self.payload);
        Ok(())
    }

    fn put_head(&self, buffer: &mut BytesMut) {
        buffer.put_u32((HEAD + self.payload.len()) as u32);
        buffer.put_u8(self.kind as u8);
        buffer.put_u64(self.id);
    }

    /// Takes one whole frame off the front of `buffer`, or answers `None` while it is incomplete.
    ///
    /// # Errors
    /// A length or kind that no peer of ours sends; the conversation cannot go on after that.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        let Some(head) = buffer.get(..4) else {
            return Ok(None);
        };
        let mut head = head;
        let length = head.get_u32() as usize;
        if !(HEAD..=MAX_LENGTH).contains(&length) {
            return Err(FrameError::Length(length));
        }
        if buffer.len() < 4 + length {
            buffer.reserve(4 + length - buffer.len());
            return Ok(None);
        }
        buffer.advance(4);
        let mut frame = buffer.split_to(length).freeze();
        let byte = frame.get_u8();
        let kind = Kind::from_byte(byte).ok_or(FrameError::Kind(byte))?;
        let id = frame.get_u64();
        Ok(Some(Self {
            kind,
            id,
            payload: frame,
        }))
    }
}

/// Reads frames off a stream. `next` is cancel-safe: bytes already read stay in the buffer.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads from `stream`; `buffered` are bytes of it that were already read (behind a preamble).
    pub fn new(stream: R, buffered: &[u8]) -> Self {
        Self {
            stream,
            buffer: BytesMut::from(buffered),
        }
    }

    /// Waits for the next frame; `None` when the peer closed between two frames.
    ///
    /// # Errors
    /// A malformed frame, a broken stream, or one that ended inside a frame.
    pub async fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some(frame) = Frame::decode(&mut self.buffer)? {
                return Ok(Some(frame));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                return Err(FrameError::Io(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

/// Writes one frame and flushes it. A large payload is not copied: its beginning goes with the head, the rest behind it.
///
/// # Errors
/// A payload that is too large, or a broken stream.
pub async fn write_frame<W: AsyncWrite + Unpin>(stream: &mut W, frame: &Frame) -> Result<(), FrameError> {
    let payload = &frame.payload;
    if payload.len() > MAX_PAYLOAD {
        return Err(FrameError::TooLarge(payload.len()));
    }
    let (with_head, behind) = payload.split_at(payload.len().min(WITH_HEAD));
    let mut buffer = BytesMut::with_capacity(4 + HEAD + with_head.len());
    frame.put_head(&mut buffer);
    buffer.extend_from_slice(with_head);
    stream.write_all(&buffer).await?;
    stream.write_all(behind).await?;
    stream.flush().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_frame() -> impl Strategy<Value = Frame> {
        (
            1u8..=8,
            any::<u64>(),
            proptest::collection::vec(any::<u8>(), 0..2000),
        )
            .prop_map(|(kind, id, payload)| Frame {
                kind: Kind::from_byte(kind).unwrap(),
                id,
                payload: payload.into(),
            })
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(frames in proptest::collection::vec(any_frame(), 0..20), cut in 1usize..700) {
            let mut wire = BytesMut::new();
            for frame in &frames {
                frame.encode(&mut wire).unwrap();
            }
            let mut buffer = BytesMut::new();
            let mut seen = Vec::new();
            for piece in wire.chunks(cut) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = Frame::decode(&mut buffer).unwrap() {
                    seen.push(frame);
                }
            }
            prop_assert_eq!(seen, frames);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn hostile_bytes_never_panic_nor_allocate_more_than_a_frame(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Frame::decode(&mut buffer) {}
            prop_assert!(buffer.capacity() <= 4 * (MAX_LENGTH + 400));
        }
    }

    #[tokio::test]
    async fn a_written_frame_is_the_encoded_one() {
        for length in [0, 1, WITH_HEAD - 1, WITH_HEAD, WITH_HEAD + 1, MAX_PAYLOAD] {
            let payload: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let frame = Frame {
                kind: Kind::LogChunk,
                id: 7,
                payload: payload.into(),
            };
            let (mut written, mut encoded) = (Vec::new(), BytesMut::new());
            write_frame(&mut written, &frame).await.unwrap();
            frame.encode(&mut encoded).unwrap();
            assert_eq!(written, encoded, "{length}");
        }
        let frame = Frame {
            kind: Kind::Reply,
            id: 7,
            payload: vec![0; MAX_PAYLOAD + 1].into(),
        };
        let mut written = Vec::new();
        let refused = write_frame(&mut written, &frame).await;
        assert!(matches!(refused, Err(FrameError::TooLarge(_))) && written.is_empty());
    }

    #[test]
    fn golden_bytes_are_frozen() {
        let mut wire = BytesMut::new();
        Frame {
            kind: Kind::LogChunk,
            id: 0x0102_0304_0506_0708,
            payload: Bytes::from_static(b"\xff\0"),
        }
        .encode(&mut wire)
        .unwrap();
        assert_eq!(hex::encode(&wire), "0000000b050102030405060708ff00");
    }

    #[test]
    fn an_announced_gigabyte_is_refused_before_it_is_allocated() {
        let mut buffer = BytesMut::from(&[0x40, 0, 0, 0, 1][..]);
        assert!(matches!(
            Frame::decode(&mut buffer),
            Err(FrameError::Length(0x4000_0000))
        ));
        assert!(buffer.capacity() < 1024);
    }
}
