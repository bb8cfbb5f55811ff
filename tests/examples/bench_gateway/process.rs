//! What the kernel says of a process: CPU time and resident memory.

use std::fs;
use std::time::Duration;

/// A process, with its children or without.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Process {
    Alone(u32),
    WithChildren(u32),
}

/// `USER_HZ`: what `/proc` counts CPU time in, on every Linux since 2.4.
const TICKS_PER_S: u64 = 100;

impl Process {
    /// User and system time so far.
    ///
    /// # Panics
    /// Where the process is not there.
    pub(crate) fn cpu(self) -> Duration {
        match self {
            Self::Alone(id) => cpu(id),
            Self::WithChildren(id) => cpu(id) + children(id).into_iter().map(cpu).sum::<Duration>(),
        }
    }
}

/// `VmRSS` in MB of 10⁶ bytes.
///
/// # Panics
/// Where the process is not there.
pub(crate) fn resident_mb(id: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel says VmRSS");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("VmRSS is in kB");
    kib * 1024.0 / 1e6
}

/// What else the machine does: the load of the last minute.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().next().unwrap_or("unknown").to_owned()
}

fn cpu(id: u32) -> Duration {
    let stat = stat(id).expect("the process runs");
    let ticks = |at: usize| stat[at].parse::<u64>().expect("ticks are a number");
    Duration::from_millis((ticks(UTIME) + ticks(STIME)) * 1000 / TICKS_PER_S)
}

fn children(parent: u32) -> Vec<u32> {
    let ids = fs::read_dir("/proc").expect("a Linux with /proc").filter_map(|entry| {
        let name = entry.ok()?.file_name();
        name.to_str()?.parse::<u32>().ok()
    });
    let parent = parent.to_string();
    ids.filter(|id| stat(*id).is_some_and(|stat| stat[PARENT] == parent)).collect()
}

// Places after the name, which stands in brackets and may hold anything (proc_pid_stat(5) fields 4, 14 and 15).
const PARENT: usize = 1;
const UTIME: usize = 11;
const STIME: usize = 12;

/// `None` where the process has ended meanwhile.
fn stat(id: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}
