//! Whatever is printed, nothing panics.
