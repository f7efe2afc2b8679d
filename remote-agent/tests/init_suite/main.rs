//! `farrun-agent init` as an ordinary process: what lies in the record when a job has ended, and how it ends.

#[cfg(test)]
mod capture;
#[cfg(test)]
mod claim;
#[cfg(test)]
mod ends;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod locks;
#[cfg(test)]
mod pid_one;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod signals;
#[cfg(test)]
#[allow(dead_code, unreachable_pub, reason = "each suite uses its own part")]
#[path = "../../../tests/src/small_disk.rs"]
mod small_disk;
