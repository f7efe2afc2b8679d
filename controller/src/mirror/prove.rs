//! What a session does about a file that may not be of the log: proves it, cuts it, or puts it aside.

use super::follow::Event;
use super::local::Local;
use super::repair::repair;
use super::stream::Session;
use super::{LogSource, MirrorError, SourceError};
use farrun_protocol::ErrorCode;
use farrun_protocol::message::FetchLog;

/// Answers without progress in a row, or repairs and replacements in the life of a mirror, until the source is not
/// believed any more: each replacement leaves a file behind.
const MAX_CONTRADICTIONS: u32 = 16;

impl<S: LogSource> Session<'_, S> {
    /// Compares the file with the log; false when it was cut or replaced and must be looked at again.
    pub(super) async fn prove(&mut self) -> Result<bool, MirrorError> {
        let Some(local) = self.mirror.local.as_mut() else {
            return Ok(true);
        };
        let probe = FetchLog {
            run_id: self.mirror.run_id.clone(),
            generation: local.generation.clone(),
            offset: local.length(),
            place: None,
            tail_sha256: local.tail_sha256()?,
            max: 1,
            wait: 0,
        };
        let whole = self.source.hash(&self.mirror.run_id, local.length());
        let (probed, whole) = futures_util::future::join(self.source.fetch(probe), whole).await;
        let chunk = match probed {
            Ok(chunk) => chunk,
            Err(error) => {
                self.refused(error).await?;
                return Ok(false);
            }
        };
        if local
            .generation
            .as_ref()
            .is_some_and(|known| *known != chunk.generation)
        {
            self.replace()?;
        } else if whole?.is_some_and(|whole| whole == local.sha256()) {
            local.proven = true;
            local.set_generation(&chunk.generation);
            return Ok(true);
        } else {
            self.repair().await?;
        }
        Ok(false)
    }

    /// Acts on a refusal that says something about the file; any other ends following.
    pub(super) async fn refused(&mut self, error: SourceError) -> Result<(), MirrorError> {
        match error.code() {
            Some(ErrorCode::GenerationChanged) => self.replace(),
            Some(ErrorCode::TailMismatch | ErrorCode::OffsetBeyondEnd) if self.mirror.local.is_some() => {
                self.repair().await
            }
            _ => Err(error.into()),
        }
    }

    pub(super) async fn repair(&mut self) -> Result<(), MirrorError> {
        self.mirror.upheavals += 1;
        self.believe()?;
        let Some(local) = self.mirror.local.as_mut() else {
            return Ok(());
        };
        let had = local.length();
        let kept = repair(local, self.source, &self.mirror.run_id).await?;
        if kept < had {
            self.mirror.told = self.mirror.told.map(|told| told.min(kept));
            (self.sink)(Event::Repaired { had, kept });
        }
        Ok(())
    }

    /// The host has another log: keeps the old file under another name, and begins a new one.
    pub(super) fn replace(&mut self) -> Result<(), MirrorError> {
        self.mirror.upheavals += 1;
        self.believe()?;
        self.mirror.told = self.mirror.told.map(|_| 0);
        self.mirror.generation = None;
        match self.mirror.local.take() {
            Some(mut local) if local.length() == 0 => {
                local.generation = None;
                self.mirror.local = Some(local);
            }
            Some(local) => {
                let kept = local.put_aside()?;
                (self.sink)(Event::Replaced { kept: Some(&kept) });
                self.mirror.local = Local::open(&self.mirror.path)?;
            }
            None => (self.sink)(Event::Replaced { kept: None }),
        }
        Ok(())
    }

    pub(super) fn contradiction(&mut self) -> Result<(), MirrorError> {
        self.contradictions += 1;
        self.believe()
    }

    fn believe(&self) -> Result<(), MirrorError> {
        if self.contradictions.max(self.mirror.upheavals) > MAX_CONTRADICTIONS {
            return Err(MirrorError::Contradiction {
                run_id: self.mirror.run_id.clone(),
            });
        }
        Ok(())
    }
}
