//! What the live view shows, free of what it is made from. Texts may come from a host: drawing escapes them.

use crate::ui::Tone;

/// One moment of the live view.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    /// First line: time and counts.
    pub title: String,
    /// Hosts, each with its GPUs.
    pub hosts: Vec<HostPanel>,
    /// First line of the hosts that is shown, where they do not fit.
    pub scroll: usize,
    /// Runs.
    pub runs: Vec<RunRow>,
    /// Place of the chosen run.
    pub chosen: Option<usize>,
    /// Whose log it is, and what is wrong with it.
    pub log_title: String,
    /// Its last lines, oldest first.
    pub log: Vec<String>,
    /// Whether colours are shown.
    pub colour: bool,
}

/// A host.
#[derive(Debug, Clone, Default)]
pub struct HostPanel {
    /// Its name.
    pub name: String,
    /// How its link is.
    pub link: String,
    /// Colour of that.
    pub tone: Tone,
    /// What is wrong, one line each.
    pub troubles: Vec<String>,
    /// Its GPUs.
    pub gpus: Vec<GpuRow>,
}

/// A GPU.
#[derive(Debug, Clone, Default)]
pub struct GpuRow {
    /// Its index.
    pub index: String,
    /// Its model.
    pub model: String,
    /// Utilisation of the newest samples, oldest first.
    pub history: Vec<Option<u8>>,
    /// Utilisation now.
    pub utilization: String,
    /// Memory in use and in all.
    pub memory: String,
    /// Temperature.
    pub temperature: String,
    /// Power.
    pub power: String,
    /// Who holds it.
    pub holder: String,
    /// Colour of that.
    pub tone: Tone,
}

/// A run.
#[derive(Debug, Clone, Default)]
pub struct RunRow {
    /// Its id.
    pub id: String,
    /// Name of its prompt or image.
    pub name: String,
    /// Its host.
    pub host: String,
    /// How it stands.
    pub state: String,
    /// For how long it has been running.
    pub time: String,
    /// Its GPUs, with a space behind.
    pub gpus: String,
    /// What it waits for, or why it failed.
    pub note: String,
    /// Colour of the state.
    pub tone: Tone,
}
