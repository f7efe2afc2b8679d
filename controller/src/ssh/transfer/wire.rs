//! Packets: their frame, and the coding of those that carry a handle or file content.

use super::buffers::Buffers;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use russh_sftp::protocol::{FileAttributes, Packet};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Largest packet that is read, OpenSSH's own limit.
const MAX_PACKET: usize = 256 * 1024;
/// Room of a read buffer, so that one serves a large packet or many small ones.
const ROOM: usize = 256 * 1024 + 64;

/// Most bytes of noise that are skipped before the server's greeting.
const NOISE: usize = 64 * 1024;
/// How every greeting continues behind its length: type 2, version 3.
const GREETING: [u8; 5] = [2, 0, 0, 0, 3];

pub(super) const CLOSE: u8 = 4;
pub(super) const READ: u8 = 5;
pub(super) const WRITE: u8 = 6;
pub(super) const FSTAT: u8 = 8;
pub(super) const FSETSTAT: u8 = 10;
const HANDLE: u8 = 102;
const DATA: u8 = 103;
const EXTENDED: u8 = 200;

/// Why a stream is of no more use.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    Lost(String),
    Stalled(u64),
    Protocol(String),
}

/// What a host answered.
#[derive(Debug)]
pub(super) enum Answer {
    Status { code: u32, message: String },
    Handle(Bytes),
    Data(Bytes),
    Attributes(FileAttributes),
    Extended(Bytes),
    Version { version: u32, extensions: Vec<String> },
}

/// Cuts packets out of a stream.
#[derive(Debug)]
pub(super) struct PacketReader<R> {
    stream: R,
    buffer: BytesMut,
    buffers: Arc<Buffers>,
}

impl<R: AsyncRead + Unpin> PacketReader<R> {
    pub(super) fn new(stream: R, buffers: Arc<Buffers>) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            buffers,
        }
    }

    /// Skips what a login shell printed before the server's greeting (a packet of type 2, version 3), as its start-up
    /// files do when the SFTP server is an external program.
    ///
    /// A greeting that is not found within [`NOISE`] bytes is left to [`Self::next`], whose error then says what
    /// came instead.
    pub(super) async fn skip_noise(&mut self, alive: impl Fn()) -> Result<(), Failure> {
        self.fill(4, &alive).await?;
        // No text begins like the length of a packet.
        if self.buffer.starts_with(&[0]) {
            return Ok(());
        }
        while self.buffer.len() < NOISE {
            let found = self.buffer.windows(4 + GREETING.len()).position(|window| {
                window.starts_with(&[0, 0]) && window.get(4..) == Some(GREETING.as_slice())
            });
            if let Some(start) = found {
                self.buffer.advance(start);
                return Ok(());
            }
            self.fill(self.buffer.len() + 1, &alive).await?;
        }
        Ok(())
    }

    /// The next packet without its length; `alive` is told of every arrival of bytes.
    pub(super) async fn next(&mut self, alive: impl Fn()) -> Result<Bytes, Failure> {
        self.fill(4, &alive).await?;
        let length = self.buffer.get_u32() as usize;
        if length == 0 || length > MAX_PACKET {
            return Err(Failure::Protocol(format!("a packet of {length} bytes")));
        }
        self.fill(length, &alive).await?;
        Ok(self.buffer.split_to(length).freeze())
    }

    async fn fill(&mut self, wanted: usize, alive: &impl Fn()) -> Result<(), Failure> {
        while self.buffer.len() < wanted {
            let missing = wanted - self.buffer.len();
            if self.buffer.capacity() - self.buffer.len() < missing {
                let mut next = self.buffers.take(wanted.max(ROOM));
                next.extend_from_slice(&self.buffer);
                self.buffer = next;
            }
            let read = self.stream.read_buf(&mut self.buffer).await;
            if read.map_err(|error| Failure::Lost(error.to_string()))? == 0 {
                return Err(Failure::Lost("it was closed by the host".into()));
            }
            alive();
        }
        Ok(())
    }
}

/// Decodes a packet into the id it answers and its content; only a version has no id.
pub(super) fn decode(mut packet: Bytes) -> Result<(Option<u32>, Answer), Failure> {
    match packet.first() {
        Some(&HANDLE) => decode_bytes(packet).map(|(id, handle)| (Some(id), Answer::Handle(handle))),
        Some(&DATA) => decode_bytes(packet).map(|(id, data)| (Some(id), Answer::Data(data))),
        _ => match Packet::try_from(&mut packet).map_err(|error| Failure::Protocol(error.to_string()))? {
            Packet::Status(status) => {
                let answer = Answer::Status {
                    code: status.status_code as u32,
                    message: status.error_message,
                };
                Ok((Some(status.id), answer))
            }
            Packet::Attrs(reply) => Ok((Some(reply.id), Answer::Attributes(reply.attrs))),
            Packet::Name(_) => Err(Failure::Protocol("names that nobody asked for".into())),
            Packet::ExtendedReply(reply) => Ok((Some(reply.id), Answer::Extended(reply.data.into()))),
            Packet::Version(reply) => {
                let extensions = reply.extensions.into_keys().collect();
                Ok((
                    None,
                    Answer::Version {
                        version: reply.version,
                        extensions,
                    },
                ))
            }
            _ => Err(Failure::Protocol("a packet that only clients send".into())),
        },
    }
}

fn decode_bytes(mut packet: Bytes) -> Result<(u32, Bytes), Failure> {
    let short = |_| Failure::Protocol("a packet that ends early".into());
    packet.advance(1);
    let id = packet.try_get_u32().map_err(short)?;
    let length = packet.try_get_u32().map_err(short)?;
    if packet.len() != length as usize {
        return Err(Failure::Protocol("a packet whose lengths disagree".into()));
    }
    Ok((id, packet))
}

/// A packet of `kind` that begins with a handle; `tail` appends the rest.
pub(super) fn with_handle(kind: u8, id: u32, handle: &[u8], tail: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut packet = begin(kind, id, handle.len() + 32);
    put_bytes(&mut packet, handle);
    tail(&mut packet);
    finish(packet, id)
}

/// A packet of a vendor's extension whose fields are byte strings.
pub(super) fn extended(id: u32, name: &str, fields: &[&[u8]]) -> Bytes {
    let mut packet = begin(EXTENDED, id, 256);
    put_bytes(&mut packet, name.as_bytes());
    for field in fields {
        put_bytes(&mut packet, field);
    }
    finish(packet, id)
}

/// The head of a write of `length` bytes at `offset`. The content is appended by who reads it, without a copy,
/// and [`finish`] completes it.
pub(super) fn begin_write(handle: &[u8], offset: u64, length: u32) -> BytesMut {
    let mut packet = begin(WRITE, 0, handle.len() + 32 + length as usize);
    put_bytes(&mut packet, handle);
    packet.put_u64(offset);
    packet.put_u32(length);
    packet
}

/// Sets the length and the id of a packet that was begun.
pub(super) fn finish(mut packet: BytesMut, id: u32) -> Bytes {
    let length = u32::try_from(packet.len().saturating_sub(4)).unwrap_or(u32::MAX);
    if let Some(field) = packet.get_mut(0..4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
    if let Some(field) = packet.get_mut(5..9) {
        field.copy_from_slice(&id.to_be_bytes());
    }
    packet.freeze()
}

fn begin(kind: u8, id: u32, capacity: usize) -> BytesMut {
    let mut packet = BytesMut::with_capacity(capacity + 16);
    packet.put_u32(0);
    packet.put_u8(kind);
    packet.put_u32(id);
    packet
}

fn put_bytes(packet: &mut BytesMut, bytes: &[u8]) {
    packet.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    packet.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_has_the_layout_of_the_draft() {
        let mut packet = begin_write(&[0xff, 0], 5, 3);
        packet.put_slice(b"abc");
        let expected = b"\0\0\0\x1e\x06\0\0\0\x09\0\0\0\x02\xff\0\0\0\0\0\0\0\0\x05\0\0\0\x03abc";
        let mut expected = expected.to_vec();
        expected[3] = u8::try_from(expected.len() - 4).unwrap();
        assert_eq!(finish(packet, 9), expected);
    }

    #[test]
    fn data_with_a_wrong_length_is_refused() {
        assert!(decode(Bytes::from_static(b"\x67\0\0\0\x01\xff\xff\xff\xffabc")).is_err());
        assert!(decode(Bytes::from_static(b"\x67\0\0\0\x01\0\0\0\x02abc")).is_err());
        assert!(decode(Bytes::from_static(b"\x67\0\0")).is_err());
        let (id, answer) = decode(Bytes::from_static(b"\x67\0\0\0\x01\0\0\0\x03abc")).unwrap();
        assert!(id == Some(1) && matches!(answer, Answer::Data(data) if data == "abc"));
    }

    proptest::proptest! {
        #[test]
        fn no_packet_makes_the_decoder_panic(kind in 0u8..=255, rest: Vec<u8>) {
            let mut packet = vec![kind];
            packet.extend(rest);
            let _ = decode(packet.into());
        }
    }
}
