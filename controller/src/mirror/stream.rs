//! The loop from request to file and reader.

use super::ahead::{Ahead, PIECE as ASKED};
use super::follow::{Event, Followed, From, Mirror, Options, Until};
use super::local::{Local, PIECE, is_full};
use super::{LogSource, MirrorError, SourceError, read};
use farrun_protocol::log::{LogChunk, LogEnd};
use std::time::{Duration, Instant};

/// How long a request waits for a byte.
const WAIT: Duration = Duration::from_secs(25);
/// The same while another process writes: at each answer it is tried to take over.
const WAIT_ELSEWHERE: Duration = Duration::from_secs(5);
/// Longest pause between two tries to write on a full disk.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// An empty answer that comes faster than this did not wait.
const AT_ONCE: Duration = Duration::from_millis(20);

/// What to do after an answer.
enum Next {
    /// Go on with what is under way.
    On,
    /// Ask again from the file's length.
    Again,
    /// Prove the file and start over.
    Prepare,
    /// Following is done.
    Done(Followed),
}

/// One call of [`Mirror::follow`].
pub(super) struct Session<'a, S> {
    pub(super) mirror: &'a mut Mirror,
    pub(super) source: &'a S,
    options: Options,
    pub(super) sink: &'a mut (dyn FnMut(Event<'_>) + Send),
    pub(super) contradictions: u32,
    elsewhere: bool,
    refetched: bool,
}

impl<'a, S: LogSource> Session<'a, S> {
    pub(super) fn new(
        mirror: &'a mut Mirror,
        source: &'a S,
        options: Options,
        sink: &'a mut (dyn FnMut(Event<'_>) + Send),
    ) -> Self {
        Self {
            mirror,
            source,
            options,
            sink,
            contradictions: 0,
            elsewhere: false,
            refetched: false,
        }
    }

    pub(super) async fn run(mut self) -> Result<Followed, MirrorError> {
        loop {
            self.prepare().await?;
            if let Some(followed) = self.stream().await? {
                return Ok(followed);
            }
        }
    }

    /// Takes the lock where it is free, proves what lies in the file, and tells it.
    async fn prepare(&mut self) -> Result<(), MirrorError> {
        self.take_lock()?;
        while let Some(local) = self.mirror.local.as_mut() {
            if !local.proven || local.is_foreign()? {
                local.load().await?;
            }
            if local.proven || self.prove().await? {
                break;
            }
        }
        if self.mirror.local.is_none() && self.mirror.told.is_none() {
            self.find_lines()?;
        }
        self.tell_file()
    }

    fn take_lock(&mut self) -> Result<(), MirrorError> {
        if self.mirror.local.is_none() {
            self.mirror.local = Local::open(&self.mirror.path)?;
        }
        let elsewhere = self.mirror.local.is_none();
        if elsewhere != self.elsewhere {
            self.elsewhere = elsewhere;
            (self.sink)(if elsewhere {
                Event::WrittenElsewhere
            } else {
                Event::TookOver
            });
        }
        Ok(())
    }

    /// Fetches until following is done, or the file must be proven again.
    async fn stream(&mut self) -> Result<Option<Followed>, MirrorError> {
        let wait = match self.options.until {
            Until::Now => Duration::ZERO,
            Until::End if self.mirror.local.is_none() => WAIT_ELSEWHERE,
            Until::End => WAIT,
        };
        let mut ahead = Ahead::new(self.source, &self.mirror.run_id, wait);
        ahead.generation = self.known_generation();
        self.ask_again(&mut ahead).await?;
        loop {
            let asked = Instant::now();
            let Some(answer) = ahead.next().await else {
                return Ok(None);
            };
            if self.must_prepare()? {
                return Ok(None);
            }
            match self.take(answer, &mut ahead, asked).await? {
                Next::On => {}
                Next::Again => self.ask_again(&mut ahead).await?,
                Next::Prepare => return Ok(None),
                Next::Done(followed) => return Ok(Some(followed)),
            }
        }
    }

    fn known_generation(&self) -> Option<farrun_protocol::Generation> {
        match &self.mirror.local {
            Some(local) => local.generation.clone(),
            None => self.mirror.generation.clone(),
        }
    }

    async fn ask_again(&self, ahead: &mut Ahead<'_, S>) -> Result<(), MirrorError> {
        let tail = self
            .mirror
            .local
            .as_ref()
            .map(Local::tail_sha256)
            .transpose()?
            .flatten();
        ahead.restart(self.position(), tail).await;
        Ok(())
    }

    /// Log bytes before the next one that is needed.
    fn position(&self) -> u64 {
        match &self.mirror.local {
            Some(local) => local.length(),
            None => self.mirror.told.unwrap_or(0),
        }
    }

    /// Whether the lock came free, or somebody else changed the file.
    fn must_prepare(&mut self) -> Result<bool, MirrorError> {
        match &self.mirror.local {
            Some(local) => local.is_foreign(),
            None => {
                self.mirror.local = Local::open(&self.mirror.path)?;
                Ok(self.mirror.local.is_some())
            }
        }
    }

    async fn take(
        &mut self,
        answer: Result<LogChunk, SourceError>,
        ahead: &mut Ahead<'_, S>,
        asked: Instant,
    ) -> Result<Next, MirrorError> {
        let mut chunk = match answer {
            Ok(chunk) => chunk,
            Err(error) => {
                self.refused(error).await?;
                return Ok(Next::Prepare);
            }
        };
        if ahead
            .generation
            .as_ref()
            .is_some_and(|known| *known != chunk.generation)
        {
            self.replace()?;
            return Ok(Next::Prepare);
        }
        let position = self.position();
        let full = chunk.bytes.len() >= ASKED && chunk.offset == position;
        if !trim(&mut chunk, position) {
            self.contradiction()?;
            return Ok(Next::Again);
        }
        if !chunk.bytes.is_empty() && position.saturating_add(chunk.bytes.len() as u64) > self.mirror.most {
            return Err(MirrorError::TooLong {
                run_id: self.mirror.run_id.clone(),
                most: self.mirror.most,
            });
        }
        self.remember(&chunk, ahead);
        if chunk.end.is_none() && !(chunk.bytes.is_empty() && self.options.until == Until::Now) {
            if !chunk.bytes.is_empty() {
                self.contradictions = 0;
            } else if asked.elapsed() < AT_ONCE {
                tokio::time::sleep(self.options.pause).await;
            }
            ahead.go_on(full).await;
        }
        self.keep(&chunk.bytes).await?;
        if (!full || chunk.end.is_some()) && self.mirror.told.is_none() {
            self.find_lines()?;
            self.tell_file()?;
        }
        match chunk.end {
            Some(end) => self.finish(end).await,
            None if chunk.bytes.is_empty() && self.options.until == Until::Now => Ok(Next::Done(Followed {
                length: position,
                end: None,
                complete: false,
            })),
            None => Ok(Next::On),
        }
    }

    fn remember(&mut self, chunk: &LogChunk, ahead: &mut Ahead<'_, S>) {
        if ahead.generation.is_none() {
            ahead.generation = Some(chunk.generation.clone());
        }
        if let Some(local) = self.mirror.local.as_mut() {
            local.set_generation(&chunk.generation);
        }
        self.mirror.generation = Some(chunk.generation.clone());
    }

    /// Writes and tells; waits while the disk is full.
    async fn keep(&mut self, bytes: &[u8]) -> Result<(), MirrorError> {
        let mut rest = bytes;
        let mut pause = self.options.pause;
        let mut full = false;
        while !rest.is_empty() {
            let Some(local) = self.mirror.local.as_mut() else {
                (self.sink)(Event::Bytes(rest));
                self.mirror.told = Some(self.position() + rest.len() as u64);
                return Ok(());
            };
            let (count, error) = local.append(&*self.mirror.disk, rest);
            let (written, unwritten) = rest.split_at(count.min(rest.len()));
            rest = unwritten;
            if full && !written.is_empty() {
                (full, pause) = (false, self.options.pause);
                (self.sink)(Event::DiskFreed);
            }
            self.tell(written)?;
            match error {
                None => {}
                Some(error) if is_full(&error) => {
                    if !full {
                        full = true;
                        (self.sink)(Event::DiskFull);
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(MAX_PAUSE);
                }
                Some(error) => return Err(MirrorError::io(&self.mirror.path)(error)),
            }
        }
        Ok(())
    }

    /// Tells the bytes that were just written, or what the file holds beyond what was told.
    fn tell(&mut self, written: &[u8]) -> Result<(), MirrorError> {
        let (Some(told), Some(local)) = (self.mirror.told, &self.mirror.local) else {
            return Ok(());
        };
        if told + written.len() as u64 != local.length() {
            return self.tell_file();
        }
        if !written.is_empty() {
            (self.sink)(Event::Bytes(written));
            self.mirror.told = Some(local.length());
        }
        Ok(())
    }

    fn tell_file(&mut self) -> Result<(), MirrorError> {
        let (Some(mut told), Some(local)) = (self.mirror.told, &self.mirror.local) else {
            return Ok(());
        };
        while told < local.length() {
            let piece = local.read(told, (local.length() - told).min(PIECE))?;
            told += piece.len() as u64;
            (self.sink)(Event::Bytes(&piece));
            self.mirror.told = Some(told);
        }
        Ok(())
    }

    fn find_lines(&mut self) -> Result<(), MirrorError> {
        if let From::Lines(lines) = self.options.from {
            self.mirror.told = Some(read::tail_offset(&self.mirror.path, lines)?);
        }
        Ok(())
    }

    /// The log is complete and all of it should be here.
    async fn finish(&mut self, end: LogEnd) -> Result<Next, MirrorError> {
        let Some(local) = &self.mirror.local else {
            return Ok(Next::Done(Followed {
                length: self.position(),
                end: Some(end),
                complete: false,
            }));
        };
        let length = local.length();
        if local.is_foreign()? {
            return Ok(Next::Prepare);
        }
        if length == end.length && local.sha256() == end.sha256 {
            local.sync().await?;
            return Ok(Next::Done(Followed {
                length,
                end: Some(end),
                complete: true,
            }));
        }
        if std::mem::replace(&mut self.refetched, true) {
            return Err(MirrorError::Damaged {
                run_id: self.mirror.run_id.clone(),
                length,
                expected: end.length,
            });
        }
        self.repair().await?;
        Ok(Next::Prepare)
    }
}

/// Cuts off what is here already; false when the chunk leaves a gap or brings nothing it promised.
fn trim(chunk: &mut LogChunk, position: u64) -> bool {
    let Some(known) = position.checked_sub(chunk.offset) else {
        return false;
    };
    if known == 0 {
        return true;
    }
    let length = chunk.bytes.len() as u64;
    // An overlap that ends where we are brings news only when it brings the end.
    if known > length || (known == length && chunk.end.is_none()) {
        return false;
    }
    let _ = chunk.bytes.split_to(known as usize);
    true
}
