//! What the exit code and the words of `nvidia-smi` mean. The words are on standard output as a rule, standard error
//! is empty; both are read, and the code decides first.

use super::text;
use farrun_protocol::gpu::{GpuTrouble, TroubleKind};

/// The trouble that an exit code names; `None` for 0.
pub(super) fn trouble(code: i32, stdout: &[u8], stderr: &[u8]) -> Option<GpuTrouble> {
    let said = text::detail(stdout).or_else(|| text::detail(stderr));
    let words = said.as_deref().unwrap_or_default().to_ascii_lowercase();
    let kind = match code {
        0 => return None,
        4 => TroubleKind::Denied,
        6 => TroubleKind::NoDevices,
        8 => TroubleKind::PowerCable,
        9 => TroubleKind::DriverNotLoaded,
        10 => TroubleKind::Interrupt,
        12 | 13 => TroubleKind::LibraryMissing,
        14 => TroubleKind::InfoRom,
        15 => TroubleKind::GpuLost,
        16 => TroubleKind::ResetRequired,
        17 => TroubleKind::Blocked,
        18 => TroubleKind::DriverMismatch,
        _ => by_words(&words),
    };
    Some(GpuTrouble {
        kind,
        detail: said.or_else(|| Some(format!("nvidia-smi ended with {code}"))),
        pid: None,
        for_ms: None,
    })
}

/// 255 and what no manual lists: only the words tell.
fn by_words(words: &str) -> TroubleKind {
    const WORDS: &[(&str, TroubleKind)] = &[
        ("no supported gpus were found", TroubleKind::Unsupported),
        ("unable to determine the device handle", TroubleKind::GpuLost),
        ("gpu is lost", TroubleKind::GpuLost),
        ("fallen off the bus", TroubleKind::GpuLost),
        ("requires reset", TroubleKind::ResetRequired),
        ("version mismatch", TroubleKind::DriverMismatch),
        (
            "couldn't communicate with the nvidia driver",
            TroubleKind::DriverNotLoaded,
        ),
        ("couldn't find libnvidia-ml", TroubleKind::LibraryMissing),
        ("no devices", TroubleKind::NoDevices),
        ("insufficient permissions", TroubleKind::Denied),
    ];
    let said = |(part, _): &&(&str, TroubleKind)| words.contains(part);
    WORDS
        .iter()
        .find(said)
        .map_or(TroubleKind::Other, |(_, kind)| *kind)
}

/// The PCI address in `Unable to determine the device handle for GPU 0000:0B:00.0: …`, and whether the GPU is
/// called lost.
pub(super) fn unreadable_gpu(output: &[u8]) -> Option<(String, bool)> {
    text::lines(output).iter().find_map(|line| {
        let (_, rest) = line.split_once("Unable to determine the device handle for GPU")?;
        let address = rest.trim_start().split(' ').next()?.trim_end_matches(':');
        let is_address = address.contains(':')
            && address.len() <= 20
            && address
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte));
        is_address.then(|| (address.to_owned(), rest.contains("is lost")))
    })
}

/// The newest CUDA version the driver supports, from the head of the table: `CUDA Version: 12.4`, of newer drivers
/// `CUDA UMD Version: 13.3`. `Not Found` and `N/A` are none.
pub(super) fn cuda_version(output: &[u8]) -> Option<String> {
    text::lines(output).iter().find_map(|line| {
        ["CUDA Version:", "CUDA UMD Version:"].iter().find_map(|name| {
            let (_, rest) = line.split_once(name)?;
            let version = rest.split_whitespace().next()?;
            let (major, minor) = version.split_once('.')?;
            let digits =
                |text: &str| (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
            (digits(major) && digits(minor)).then(|| version.to_owned())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_has_its_kind() {
        for (code, kind) in [
            (2, TroubleKind::Other),
            (4, TroubleKind::Denied),
            (6, TroubleKind::NoDevices),
            (8, TroubleKind::PowerCable),
            (9, TroubleKind::DriverNotLoaded),
            (10, TroubleKind::Interrupt),
            (12, TroubleKind::LibraryMissing),
            (13, TroubleKind::LibraryMissing),
            (14, TroubleKind::InfoRom),
            (15, TroubleKind::GpuLost),
            (16, TroubleKind::ResetRequired),
            (17, TroubleKind::Blocked),
            (18, TroubleKind::DriverMismatch),
            (255, TroubleKind::Other),
        ] {
            assert_eq!(
                trouble(code, b"", b"").map(|trouble| trouble.kind),
                Some(kind),
                "{code}"
            );
        }
        assert_eq!(trouble(0, b"Failed to initialize NVML", b""), None);
    }

    #[test]
    fn words_are_read_from_both_outputs() {
        let said = trouble(9, b"cannot reach\n\nthe driver\n", b"").unwrap();
        assert_eq!(said.detail.as_deref(), Some("cannot reach; the driver"));
        let said = trouble(255, b"", b"No supported GPUs were found\n").unwrap();
        assert_eq!(said.kind, TroubleKind::Unsupported);
        let silent = trouble(31, b"", b"").unwrap();
        assert_eq!(silent.detail.as_deref(), Some("nvidia-smi ended with 31"));
    }

    #[test]
    fn a_gpu_without_a_handle_is_named() {
        for (said, expected) in [
            (
                "Unable to determine the device handle for GPU 0000:0B:00.0: Unknown Error",
                ("0000:0B:00.0", false),
            ),
            (
                "Unable to determine the device handle for GPU0000:07:00.0: Unknown Error\n",
                ("0000:07:00.0", false),
            ),
            (
                "Unable to determine the device handle for GPU 0000:02:00.0: GPU is lost.  Reboot the system to \
                 recover this GPU",
                ("0000:02:00.0", true),
            ),
        ] {
            let (address, lost) = unreadable_gpu(said.as_bytes()).unwrap();
            assert_eq!((address.as_str(), lost), expected, "{said}");
            let kind = trouble(255, said.as_bytes(), b"").unwrap().kind;
            assert_eq!(kind, TroubleKind::GpuLost);
        }
        assert_eq!(unreadable_gpu(b"No devices were found"), None);
    }

    #[test]
    fn a_cuda_version_is_digits_or_none() {
        for (head, expected) in [
            (
                "| NVIDIA-SMI 550.1   Driver Version: 550.1   CUDA Version: 12.4     |",
                Some("12.4"),
            ),
            (
                "| NVIDIA-SMI 610.1   KMD Version: 610.1   CUDA UMD Version: 13.3  |",
                Some("13.3"),
            ),
            ("| Driver Version: 550.1   CUDA Version: Not Found |", None),
            ("| Driver Version: 540.1   CUDA Version: N/A |", None),
            (
                "CUDA version : Deprecated, see \"CUDA UMD version\" instead",
                None,
            ),
            ("CUDA Version: 12.4x", None),
            ("CUDA Version: 12", None),
        ] {
            assert_eq!(cuda_version(head.as_bytes()).as_deref(), expected, "{head}");
        }
    }
}
