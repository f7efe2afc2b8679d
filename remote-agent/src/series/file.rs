//! The files of one run.

use super::{Moment, Tally, thin};
use crate::record::{RecordError, RunFolder, read_bounded, read_json};
use chrono::{DateTime, TimeDelta, Utc};
use farrun_protocol::series::{FORMAT, GpuSummary, Sample};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest series that is read.
const LONGEST: u64 = 64 * 1024 * 1024;
/// How often old samples are made fewer.
const THINNED_APART: Duration = Duration::from_secs(600);

fn samples_path(folder: &RunFolder) -> PathBuf {
    folder.path().join("series.jsonl")
}

fn tally_path(folder: &RunFolder) -> PathBuf {
    folder.path().join("series.json")
}

/// Every sample that was stored, oldest first. Lines that cannot be read are passed over.
///
/// # Errors
/// The kernel's, or a file that is too long.
pub fn read(folder: &RunFolder) -> Result<Vec<Sample>, RecordError> {
    let bytes = read_bounded(&samples_path(folder), LONGEST)?.unwrap_or_default();
    let lines = bytes.split(|byte| *byte == b'\n');
    Ok(lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect())
}

/// What the samples come to; `None` when none was taken.
///
/// # Errors
/// The kernel's, or a newer format.
pub fn summary(folder: &RunFolder) -> Result<Option<GpuSummary>, RecordError> {
    let tally = tally(folder)?.summary();
    Ok(Some(tally).filter(|summary| summary.samples > 0))
}

/// For how many seconds the run's GPUs have done nothing, as far as that was seen up to now.
pub fn idle(folder: &RunFolder) -> Option<u64> {
    tally(folder).ok()?.idle_at(&Moment::now())
}

fn tally(folder: &RunFolder) -> Result<Tally, RecordError> {
    match read_json(&tally_path(folder), FORMAT) {
        Ok(Some(tally)) => Ok(tally),
        Ok(None) | Err(RecordError::Damaged { .. }) => Ok(Tally::of(&read(folder)?)),
        Err(error) => Err(error),
    }
}

/// The series of a run that is being observed.
#[derive(Debug)]
pub struct Series {
    folder: RunFolder,
    tally: Tally,
    /// Time and span of the newest sample.
    last: Option<(DateTime<Utc>, u32)>,
    thinned: Instant,
}

impl Series {
    /// Goes on with what is there. A line that a crash tore is ended, so that the next one is whole.
    ///
    /// # Errors
    /// The kernel's, or a newer format.
    pub fn open(folder: &RunFolder) -> Result<Self, RecordError> {
        let path = samples_path(folder);
        if let Ok(mut file) = File::options().read(true).append(true).open(&path) {
            end_torn_line(&mut file).map_err(RecordError::io(&path))?;
        }
        Ok(Self {
            folder: folder.clone(),
            tally: tally(folder)?,
            last: read(folder)?.last().map(|sample| (sample.at, sample.covers)),
            thinned: Instant::now(),
        })
    }

    /// What is known about all samples so far.
    pub fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// Stores a sample that was taken at this moment.
    ///
    /// # Errors
    /// The kernel's.
    pub fn append(&mut self, mut sample: Sample, moment: Moment) -> Result<(), RecordError> {
        let path = samples_path(&self.folder);
        sample.at = self.forward(sample.at, &moment);
        let mut line = serde_json::to_vec(&sample).unwrap_or_default();
        line.push(b'\n');
        let mut file = File::options()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(RecordError::io(&path))?;
        file.write_all(&line).map_err(RecordError::io(&path))?;
        self.tally.add(&sample, moment);
        self.last = Some((sample.at, sample.covers));
        let tally = serde_json::to_vec(&self.tally).unwrap_or_default();
        replace(&tally_path(&self.folder), &tally)?;
        if self.thinned.elapsed() >= THINNED_APART {
            self.thinned = Instant::now();
            self.thin(sample.at)?;
        }
        Ok(())
    }

    /// The time of a sample. A series goes forward only, for whoever reads it asks for what is later than what he has;
    /// while a clock that was set back has not caught up, time goes on from the sample before.
    fn forward(&self, at: DateTime<Utc>, moment: &Moment) -> DateTime<Utc> {
        let Some((last, covers)) = self.last.filter(|(last, _)| at <= *last) else {
            return at;
        };
        let passed = self.tally.newest().and_then(|newest| newest.until(moment));
        let passed = passed.unwrap_or(u64::from(covers).saturating_mul(1000)).max(1);
        let passed = i64::try_from(passed).ok().and_then(TimeDelta::try_milliseconds);
        passed
            .and_then(|passed| last.checked_add_signed(passed))
            .unwrap_or(at)
    }

    fn thin(&self, now: DateTime<Utc>) -> Result<(), RecordError> {
        let samples = read(&self.folder)?;
        let before = samples.len();
        let thinned = thin(samples, now);
        if thinned.len() == before {
            return Ok(());
        }
        let mut bytes = Vec::new();
        for sample in &thinned {
            bytes.extend(serde_json::to_vec(sample).unwrap_or_default());
            bytes.push(b'\n');
        }
        replace(&samples_path(&self.folder), &bytes)
    }
}

fn end_torn_line(file: &mut File) -> std::io::Result<()> {
    if file.metadata()?.len() == 0 {
        return Ok(());
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok(())
}

/// A kill leaves the old content or the new one. Nothing is synced: a power loss may cost what it likes of this.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), RecordError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // One observer at a time writes, so one name will do, and what a kill left is written over.
    let temporary = path.with_file_name(format!(".{name}.new"));
    let written = (|| {
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        std::fs::rename(&temporary, path)
    })();
    written.map_err(RecordError::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrun_protocol::series::GpuSample;

    fn sample(second: i64) -> Sample {
        Sample {
            at: DateTime::from_timestamp(second, 0).unwrap(),
            covers: 5,
            log_offset: 7,
            gpus: vec![GpuSample {
                uuid: "GPU-0".into(),
                run_memory: Some(second.unsigned_abs()),
                ..GpuSample::default()
            }],
        }
    }

    fn moment(ms: u64) -> Moment {
        Moment {
            boot_id: String::new(),
            ms,
        }
    }

    fn folder(state: &Path) -> RunFolder {
        let folder = RunFolder::new(state, &"rs_abcdefgh".parse().unwrap());
        std::fs::create_dir_all(folder.path()).unwrap();
        folder
    }

    #[test]
    fn a_torn_line_costs_itself_only() {
        let state = tempfile::tempdir().unwrap();
        let folder = folder(state.path());
        let mut series = Series::open(&folder).unwrap();
        series.append(sample(5), moment(5000)).unwrap();
        drop(series);
        let mut file = File::options().append(true).open(samples_path(&folder)).unwrap();
        file.write_all(br#"{"at":"2026-01-0"#).unwrap();
        let mut series = Series::open(&folder).unwrap();
        series.append(sample(15), moment(15_000)).unwrap();
        assert_eq!(read(&folder).unwrap(), [sample(5), sample(15)]);
        let summary = summary(&folder).unwrap().unwrap();
        assert_eq!((summary.samples, summary.gaps), (2, 1));
        assert_eq!(summary.peak_memory, Some(15));
    }

    #[test]
    fn a_summary_that_is_gone_or_damaged_is_made_anew() {
        let state = tempfile::tempdir().unwrap();
        let folder = folder(state.path());
        assert_eq!(summary(&folder).unwrap(), None);
        let mut series = Series::open(&folder).unwrap();
        for second in [5, 10, 15] {
            series
                .append(sample(second), moment(second.unsigned_abs() * 1000))
                .unwrap();
        }
        let before = summary(&folder).unwrap();
        std::fs::write(tally_path(&folder), "{").unwrap();
        assert_eq!(summary(&folder).unwrap(), before);
        std::fs::remove_file(tally_path(&folder)).unwrap();
        assert_eq!(summary(&folder).unwrap(), before);
        std::fs::write(tally_path(&folder), r#"{"format":9}"#).unwrap();
        assert!(summary(&folder).is_err());
    }

    #[test]
    fn thinning_rewrites_the_file_whole() {
        let state = tempfile::tempdir().unwrap();
        let folder = folder(state.path());
        let mut series = Series::open(&folder).unwrap();
        for number in 0..24 {
            series.append(sample(number * 5), moment(0)).unwrap();
        }
        series.thin(DateTime::from_timestamp(10_000, 0).unwrap()).unwrap();
        let kept = read(&folder).unwrap();
        assert_eq!(kept.len(), 2);
        assert_eq!(kept.iter().map(|sample| sample.covers).sum::<u32>(), 120);
    }

    #[test]
    fn a_series_goes_forward_whatever_is_done_to_the_clock() {
        let state = tempfile::tempdir().unwrap();
        let folder = folder(state.path());
        let mut series = Series::open(&folder).unwrap();
        series.append(sample(10_000), moment(1000)).unwrap();
        // Set back by two hours, between two samples and while nobody observes.
        series.append(sample(2805), moment(6000)).unwrap();
        drop(series);
        let mut series = Series::open(&folder).unwrap();
        series.append(sample(2815), moment(16_000)).unwrap();
        // Another boot, whose clock says nothing about this one's.
        let other = Moment {
            boot_id: "other".into(),
            ms: 3,
        };
        series.append(sample(2900), other.clone()).unwrap();
        // Set right, and then forward.
        for (second, ms) in [(10_030, 5003), (20_000, 10_003)] {
            let later = Moment { ms, ..other.clone() };
            series.append(sample(second), later).unwrap();
        }
        let seconds: Vec<i64> = read(&folder)
            .unwrap()
            .iter()
            .map(|sample| sample.at.timestamp())
            .collect();
        assert_eq!(seconds, [10_000, 10_005, 10_015, 10_020, 10_030, 20_000]);
        // What is missing is told by the other clock.
        assert_eq!(summary(&folder).unwrap().unwrap().gaps, 1);
    }
}
