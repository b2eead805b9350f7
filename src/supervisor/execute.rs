//! Execution of a program with the state of this one: descriptors that stay open, and their numbers in the environment.
//!
//! The process ID, the sockets and the workers stay the same.

use std::{
    convert::Infallible,
    ffi::{CString, OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, RawFd},
        unix::{ffi::OsStrExt as _, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::unistd::{Pid, execve};
use rustix::{
    io::{FdFlags, fcntl_setfd},
    pipe::{PipeFlags, pipe_with},
};

use crate::{
    config::{self, Config, Invocation},
    supervisor::{
        Supervisor,
        child::{Child, Worker},
    },
};

/// The last line that a program prints when its rehearsal is complete.
pub const REHEARSED: &str = "rehearsal complete";

/// The executable of this process.
const SELF: &str = "/proc/self/exe";

/// What a program inherits.
pub(super) struct Inheritance<'s> {
    descriptors: Vec<BorrowedFd<'s>>,
    variables: Vec<(&'static str, OsString)>,
}

impl Supervisor<'_> {
    /// Returns the state of this process: sockets and memory.
    fn shared_state(&self) -> Inheritance<'_> {
        let [own, held] = self.group.to_inherit();
        let [own, held] = [own, held].map(|listeners| {
            listeners.into_iter().map(|listener| listener.as_fd()).collect::<Vec<_>>()
        });
        let region = self.group.memory();
        let region = region.as_slice();
        let variables = vec![
            (config::INHERITED_SOCKETS, list(raw(&own))),
            (config::INHERITED_HELD, list(raw(&held))),
            (config::INHERITED_REGION, list(raw(region))),
            (config::INHERITED_ADMIN, list(self.group.admin_addresses())),
            (config::INHERITED_PASSED, list(self.config.replaced().flags())),
            (config::INHERITED_PROGRAM, self.config.invocation.program.clone().into()),
        ];
        Inheritance { descriptors: [&own[..], &held, region].concat(), variables }
    }

    /// Returns what a rehearsal inherits: no workers.
    pub(super) fn inheritance_of_rehearsal(&self) -> Inheritance<'_> {
        let mut state = self.shared_state();
        state.variables.push((config::INHERITED_WORKERS, OsString::new()));
        state.variables.push((config::INHERITED_REHEARSAL, "1".into()));
        state
    }

    /// Returns what the program inherits that replaces this one.
    pub(super) fn inheritance(&self) -> Inheritance<'_> {
        let mut state = self.shared_state();
        let running = self.children.iter().filter_map(Child::worker).chain(&self.old);
        let running: Vec<&Worker> = running.collect();
        let leaving: Vec<&Worker> = self.leaving.iter().collect();
        for (name, workers) in
            [(config::INHERITED_WORKERS, running), (config::INHERITED_LEAVING, leaving)]
        {
            let channel = |worker: &Worker| worker.channel.as_fd().as_raw_fd();
            let pairs = workers.iter().flat_map(|worker| [worker.pid.as_raw(), channel(worker)]);
            state.variables.push((name, list(pairs)));
            state.descriptors.extend(workers.iter().map(|worker| worker.channel.as_fd()));
        }
        state
    }
}

impl Inheritance<'_> {
    /// Calls `execute` while the descriptors stay open in an executed program.
    fn lend<T>(&self, execute: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let set_all = |flags| {
            self.descriptors.iter().try_for_each(|descriptor| fcntl_setfd(descriptor, flags))
        };
        let outcome = set_all(FdFlags::empty()).map_err(io::Error::from).and_then(|()| execute());
        // No other program inherits them.
        set_all(FdFlags::CLOEXEC)?;
        outcome
    }
}

/// Executes a program in this process. It may return to the program of this process. Returns only if it fails.
pub(super) fn execute(path: &Path, invocation: &Invocation, state: Inheritance<'_>) -> io::Error {
    match File::open(SELF) {
        Ok(previous) => {
            let Inheritance { mut descriptors, mut variables } = state;
            descriptors.push(previous.as_fd());
            variables.push((config::INHERITED_PREVIOUS, list([previous.as_raw_fd()])));
            execute_finally(path, invocation, &Inheritance { descriptors, variables })
        }
        Err(error) => error,
    }
}

/// Executes the previous program with all that this process has inherited from it, because this one cannot start.
/// Call it before inherited state is adopted. Returns `error` if there is no previous program.
pub fn return_to_previous(
    config: &Config,
    error: Box<dyn std::error::Error>,
) -> Box<dyn std::error::Error> {
    let inherited = config.inherited.as_ref();
    let Some(previous) = inherited.and_then(|inherited| inherited.previous) else { return error };
    log::error!("upgrade failed: {error}; returning to the previous version");
    let environment = config::environment_of_previous();
    match execute_with(&path_of(previous), &config.invocation, environment) {
        Ok(never) => match never {},
        Err(error) => format!("cannot return to the previous version: {error}").into(),
    }
}

/// Returns the path of an executable that is open.
pub(super) fn path_of(descriptor: RawFd) -> PathBuf {
    format!("/proc/self/fd/{descriptor}").into()
}

/// Executes a program in this process. Returns only if it fails.
pub(super) fn execute_finally(
    path: &Path,
    invocation: &Invocation,
    state: &Inheritance<'_>,
) -> io::Error {
    let environment = config::upgrade_environment(&state.variables);
    match state.lend(|| execute_with(path, invocation, environment)) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

/// Executes a program. Unlike that of the standard library, this function leaves the signal mask alone, so that no
/// signal is lost or fatal.
fn execute_with(
    path: &Path,
    invocation: &Invocation,
    environment: Vec<(OsString, OsString)>,
) -> io::Result<Infallible> {
    let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(io::Error::other);
    let arguments = invocation.arguments.iter().map(OsString::as_os_str);
    let arguments = [invocation.program.as_os_str()].into_iter().chain(arguments);
    let arguments = arguments.map(text).collect::<io::Result<Vec<_>>>()?;
    let variables = environment.into_iter().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        text(&name)
    });
    let variables = variables.collect::<io::Result<Vec<_>>>()?;
    Ok(execve(&text(path.as_os_str())?, &arguments, &variables)?)
}

/// Executes a program in a process of its own, to rehearse an upgrade. Returns the process and its output, a pipe that
/// does not block.
pub(super) fn spawn_rehearsal(
    path: &Path,
    invocation: &Invocation,
    state: &Inheritance<'_>,
) -> io::Result<(Pid, File)> {
    let (output, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let mut command = Command::new(path);
    command.arg0(&invocation.program).args(&invocation.arguments);
    command.env_clear().envs(config::upgrade_environment(&state.variables));
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let child = state.lend(|| command.spawn())?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    Ok((Pid::from_raw(pid), output.into()))
}

/// Returns why a rehearsal failed, given what it has printed: the last line, without the notes of a panic. Returns
/// `None` if it is complete.
pub(super) fn failure_of_rehearsal(output: &str) -> Option<String> {
    let last =
        output.lines().map(str::trim).rfind(|line| !line.is_empty() && !line.starts_with("note: "));
    let last = last.unwrap_or("no output");
    let text = last.chars().filter(|letter| !letter.is_control()).collect();
    (last != REHEARSED).then_some(text)
}

fn raw<'d>(descriptors: &'d [BorrowedFd<'_>]) -> impl Iterator<Item = RawFd> + 'd {
    descriptors.iter().map(BorrowedFd::as_raw_fd)
}

/// Returns the values, separated by commas.
fn list(values: impl IntoIterator<Item = impl ToString>) -> OsString {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    values.join(",").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_separated_by_commas() {
        assert_eq!((list([0; 0]), list([7, 8])), ("".into(), "7,8".into()));
    }

    #[test]
    fn a_rehearsal_is_complete_if_it_says_so_last() {
        assert_eq!(failure_of_rehearsal("a\nrehearsal complete\n"), None);
        let check = |output: &str, reason: &str| {
            assert_eq!(failure_of_rehearsal(output).as_deref(), Some(reason), "{output:?}");
        };
        check("", "no output");
        check(
            "memory allocation of 9 bytes failed\nnote: run\n",
            "memory allocation of 9 bytes failed",
        );
        check("rehearsal complete\nfibsrv: cannot\x1b\n\n", "fibsrv: cannot");
    }
}
