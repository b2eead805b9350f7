//! Signals, and what `/proc` says about a process.

use std::{
    fs,
    io::{self, Error},
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, kill_process};

/// Sends a signal.
pub(crate) fn send_signal(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = Pid::from_raw(pid.cast_signed()).ok_or_else(|| Error::other("not a process ID"))?;
    Ok(kill_process(pid, signal)?)
}

/// The state of a process as one letter: `T` is stopped, `Z` is a zombie.
pub(crate) fn state(pid: u32) -> Option<char> {
    stat(pid).ok()?.chars().next()
}

/// The fields of `/proc/PID/stat` after the name, which is in parentheses and may contain anything.
pub(crate) fn stat(pid: u32) -> io::Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok(text.rsplit_once(") ").map(|(_, fields)| fields.to_owned()).unwrap_or_default())
}

/// The number after a name in a `status` file of `/proc`, such as `VmRSS:`.
pub(crate) fn status_field(status: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Resident memory in bytes.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let status = PathBuf::from(format!("/proc/{pid}/status"));
    status_field(&status, "VmRSS:").map(|kib| kib * 1024)
}

/// The number of open file descriptors.
pub(crate) fn open_files(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// The threads of a process as folders of `/proc`.
pub(crate) fn tasks(pid: u32) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    entries.flatten().map(|entry| entry.path())
}

/// The children of a process.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let texts = tasks(pid).filter_map(|task| fs::read_to_string(task.join("children")).ok());
    texts
        .flat_map(|text| text.split_whitespace().flat_map(str::parse).collect::<Vec<_>>())
        .collect()
}
