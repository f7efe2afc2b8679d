//! Where figures come from; choosing does not care.

use farrun_protocol::gpu::GpuReport;
use std::fmt::Debug;
use std::pin::Pin;
use std::time::Duration;

/// A source of figures of a host's GPUs.
pub trait Readings: Debug + Send + Sync {
    /// Figures that are at most this old, when such can be had in time; else the newest there are.
    fn read(&self, max_age: Duration) -> Pin<Box<dyn Future<Output = GpuReport> + Send + '_>>;
}
