//! A program that answers like `nvidia-smi`.
#![allow(dead_code, unreachable_pub, reason = "each suite uses its own part")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A host with this many equal GPUs, `GPU-0` and so on; processes are what lies in `apps` beside the program.
pub fn script(gpus: u32) -> String {
    format!(
        r#"#!/bin/sh
case "$1" in
--query-gpu=*) fields=${{1#--query-gpu=}} ;;
--query-compute-apps=*) cat "$(dirname "$0")/apps" 2>/dev/null; exit 0 ;;
*) echo "| NVIDIA-SMI 550.54    Driver Version: 550.54    CUDA Version: 12.4 |"; exit 0 ;;
esac
IFS=,
n=0
while [ $n -lt {gpus} ]; do
    line=
    for field in $fields; do
        case $field in
        index) value=$n ;;
        uuid) value=GPU-$n ;;
        name) value="NVIDIA Test" ;;
        pci.bus_id) value=00000000:0$n:00.0 ;;
        driver_version) value=550.54 ;;
        memory.total | memory.free) value=24576 ;;
        memory.used | memory.reserved) value=0 ;;
        compute_mode) value=Default ;;
        mig.mode.current) value=Disabled ;;
        *) value="[N/A]" ;;
        esac
        line="$line${{line:+, }}$value"
    done
    echo "$line"
    n=$((n + 1))
done
"#
    )
}

/// Lays the program into a folder.
pub fn install(folder: &Path, gpus: u32) -> PathBuf {
    let path = folder.join("nvidia-smi");
    std::fs::write(&path, script(gpus)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}
