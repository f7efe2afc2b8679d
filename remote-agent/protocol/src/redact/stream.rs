//! Text that comes in pieces: a window that moves over it by the content's own measure.

use super::{Found, Redactor};

/// Bytes before the window that are kept to understand it: a name before its value, the border of a word.
const BEFORE: usize = 512;

/// How far the window sees.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes that must follow a place before it is decided; a longer secret is hidden up to the next blank or
    /// quotation mark.
    pub(super) ahead: usize,
    /// Bytes that are decided at once.
    pub(super) step: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self::for_values(0)
    }
}

impl Limits {
    pub(super) fn for_values(longest_value: usize) -> Self {
        Self {
            ahead: 2 * longest_value.max(16 * 1024),
            step: 64 * 1024,
        }
    }
}

/// A part of a redacted text. The lengths of all of them, in order, are the length of the original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// As it was.
    Plain(&'a [u8]),
    /// Something that is not to be seen.
    Hidden {
        /// What it is taken for; none where it only goes on with the piece before it.
        name: Option<&'a str>,
        /// How long it was, in bytes.
        length: usize,
    },
}

impl Piece<'_> {
    /// Bytes of the original.
    pub fn length(&self) -> usize {
        match self {
            Self::Plain(bytes) => bytes.len(),
            Self::Hidden { length, .. } => *length,
        }
    }
}

/// One text on its way through a [`Redactor`], in bounded memory.
#[derive(Debug)]
pub struct Stream<'a> {
    redactor: &'a Redactor,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were told already.
    told: usize,
    /// Whether a secret that was too long is still going on.
    hiding: bool,
}

impl<'a> Stream<'a> {
    pub(super) fn new(redactor: &'a Redactor) -> Self {
        Self {
            redactor,
            buffer: Vec::new(),
            told: 0,
            hiding: false,
        }
    }

    /// Takes more of the text and tells what is decided by it.
    pub fn push(&mut self, bytes: &[u8], tell: &mut impl FnMut(Piece<'_>)) {
        let limits = self.redactor.limits;
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = (limits.step + limits.ahead).saturating_sub(self.buffer.len() - self.told);
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.buffer.extend_from_slice(now);
            rest = later;
            if self.buffer.len() - self.told >= limits.step + limits.ahead {
                self.decide(limits.ahead, tell);
            }
        }
    }

    /// Tells what is left.
    pub fn finish(mut self, tell: &mut impl FnMut(Piece<'_>)) {
        self.decide(0, tell);
    }

    /// Tells everything but the last `ahead` bytes.
    fn decide(&mut self, ahead: usize, tell: &mut impl FnMut(Piece<'_>)) {
        if self.hiding {
            self.hide_on(tell);
        }
        let until = self.buffer.len().saturating_sub(ahead);
        for mut found in self.redactor.find(&self.buffer, self.told) {
            if found.range.start >= until.max(self.told) {
                break;
            }
            found.range.start = found.range.start.max(self.told);
            if found.range.end <= found.range.start {
                continue;
            }
            self.tell_found(&found, tell);
            // It may go on behind what is known yet: then it was longer than anything is looked ahead for.
            self.hiding = ahead > 0 && found.range.end == self.buffer.len();
        }
        self.tell_plain(until, tell);
        let from = self.told.saturating_sub(BEFORE);
        self.buffer.drain(..from);
        self.told -= from;
    }

    fn tell_plain(&mut self, until: usize, tell: &mut impl FnMut(Piece<'_>)) {
        if let Some(plain) = self.buffer.get(self.told..until)
            && !plain.is_empty()
        {
            tell(Piece::Plain(plain));
            self.told = until;
        }
    }

    fn tell_found(&mut self, found: &Found, tell: &mut impl FnMut(Piece<'_>)) {
        self.tell_plain(found.range.start, tell);
        tell(Piece::Hidden {
            name: Some(&found.name),
            length: found.range.len(),
        });
        self.told = found.range.end;
    }

    /// Hides up to the next byte that ends any secret.
    fn hide_on(&mut self, tell: &mut impl FnMut(Piece<'_>)) {
        let rest = self.buffer.get(self.told..).unwrap_or_default();
        let end = rest
            .iter()
            .position(|byte| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'`'));
        let length = end.unwrap_or(rest.len());
        if length > 0 {
            tell(Piece::Hidden { name: None, length });
            self.told += length;
        }
        self.hiding = end.is_none();
    }
}
