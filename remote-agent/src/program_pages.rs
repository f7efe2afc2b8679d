//! Letting go of pages of the program that are not needed any more.
//!
//! The start of a process (relocations, the command line, its first words with the outside) touches other code than what it
//! does then for hours or days. Kernels map whole large folios of the page cache around the first byte that is touched
//! (Linux 6.18 even beyond `fault_around_bytes`), so that code which ran once would count as memory of the process to its
//! end. The pages stay in the page cache; what is needed again is mapped again.

use nix::sys::mman::{MmapAdvise, madvise};
use std::ptr::NonNull;

/// Unmaps the pages of the program's code and constants. Without `/proc` nothing happens.
#[expect(unsafe_code, reason = "madvise takes an address")]
pub(crate) fn let_go() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else {
        return;
    };
    for (start, length) in maps.lines().filter_map(unchanging) {
        let Some(start) = NonNull::new(std::ptr::without_provenance_mut(start)) else {
            continue;
        };
        // SAFETY: the mapping is a file's, private and was never writable, so every page of it is the file's and is
        // read from there again when it is touched; the program's file is never written to (ETXTBSY).
        let _ = unsafe { madvise(start, length, MmapAdvise::MADV_DONTNEED) };
    }
}

/// Address and length in bytes of a mapping that holds what its file holds: code, or the constants that stand before
/// it at the beginning of the file. Relocated data is read-only too, but was written to. Nothing for any other line of
/// `proc_pid_maps(5)`.
fn unchanging(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let (rights, offset) = (words.next()?, words.next()?);
    let inode = words.nth(1)?;
    let constants = rights == "r--p" && offset.bytes().all(|digit| digit == b'0');
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    ((rights == "r-xp" || constants) && inode != "0").then_some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_the_file_has_it_is_let_go() {
        let taken = [
            "7f20e0200000-7f20e0411000 r--p 00000000 fe:00 1311 /agent",
            "7f20e0411000-7f20e0c86000 r-xp 00210000 fe:00 1311 /agent",
        ];
        assert_eq!(unchanging(taken[0]), Some((0x7f20_e020_0000, 0x21_1000)));
        assert_eq!(unchanging(taken[1]), Some((0x7f20_e041_1000, 0x87_5000)));
        for line in [
            "7f20e0c86000-7f20e0cb2000 r--p 00a85000 fe:00 1311 /agent",
            "7f20e0cb2000-7f20e0cb6000 rw-p 00ab1000 fe:00 1311 /agent",
            "7ffd4a5f1000-7ffd4a5f5000 r--p 00000000 00:00 0 [vvar]",
            "7ffd4a5f7000-7ffd4a5f9000 r-xp 00000000 00:00 0 [vdso]",
            "7f20e0cc0000-7f20e0cc4000 r-xp 00000000 00:00 0",
            "7f20e0cc0000 r-xp",
            "",
        ] {
            assert_eq!(unchanging(line), None, "{line}");
        }
    }

    #[test]
    fn the_program_goes_on_without_its_pages() {
        let_go();
        assert_eq!(format!("{:?}", "text".repeat(2)), "\"texttext\"");
    }
}
