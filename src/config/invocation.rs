//! How this program was started. An upgrade starts it again in the same way.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::config::UsageError;

/// How this program was started.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The executable as it was named: a path, or a name that is searched in `PATH`.
    pub program: PathBuf,
    /// The arguments, without the program's name.
    pub arguments: Vec<OsString>,
}

impl Invocation {
    /// Returns the invocation of this process. `inherited` is the program as the first version was started, if an
    /// upgrade executed this one: scripts in between may have changed the name.
    pub(super) fn new(
        arguments: Vec<OsString>,
        inherited: Option<OsString>,
    ) -> Result<Self, UsageError> {
        let mut arguments = arguments.into_iter();
        let name = arguments.next().unwrap_or_default();
        let program = match inherited.filter(|program| !program.is_empty()) {
            Some(program) => program.into(),
            None if is_this_program(Path::new(&name)) => name.into(),
            None => env::current_exe().map_err(|error| {
                UsageError(format!("cannot find the path of this program: {error}"))
            })?,
        };
        Ok(Self { program, arguments: arguments.collect() })
    }

    /// Resolves the program anew, as a shell does: `PATH` is searched, and symbolic links are followed when it is
    /// opened.
    pub fn resolve(&self) -> io::Result<PathBuf> {
        resolve(&self.program, env::var_os("PATH").as_deref())
    }
}

fn resolve(program: &Path, search: Option<&OsStr>) -> io::Result<PathBuf> {
    if program.as_os_str().as_encoded_bytes().contains(&b'/') {
        return Ok(program.to_owned());
    }
    let directories = search.map(env::split_paths).into_iter().flatten();
    let mut found = directories.map(|directory| directory.join(program));
    found.find(|path| is_executable(path)).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Whether a name resolves to the executable of this process. A parent may pass any name.
fn is_this_program(name: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    let named = resolve(name, env::var_os("PATH").as_deref());
    named.is_ok_and(|named| {
        identity(&named).is_some() && identity(&named) == identity(Path::new("/proc/self/exe"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_kept_and_names_are_searched() {
        let resolve = |program: &str, search: Option<&str>| {
            resolve(Path::new(program), search.map(OsStr::new)).ok()
        };
        assert_eq!(resolve("./fibsrv", None), Some("./fibsrv".into()));
        assert_eq!(resolve("a/fibsrv", Some("/bin")), Some("a/fibsrv".into()));
        assert_eq!(resolve("sh", Some("/nowhere:/bin")), Some("/bin/sh".into()));
        assert_eq!(resolve("sh", Some("/nowhere")), None);
        assert_eq!(resolve("sh", None), None);
        assert_eq!(resolve("etc", Some("/")), None, "a directory");
    }

    #[test]
    fn a_name_counts_if_it_is_this_program() {
        let this = env::current_exe().unwrap();
        let program = |name: &str, inherited: Option<&str>| {
            let arguments = vec![name.into(), "--flag".into()];
            let found = Invocation::new(arguments, inherited.map(Into::into)).unwrap();
            assert_eq!(found.arguments, ["--flag"]);
            found.program
        };
        assert_eq!(program(this.to_str().unwrap(), None), this);
        assert_eq!(program("/bin/sh", None), this, "another program");
        assert_eq!(program("nothing", None), this);
        assert_eq!(program("/bin/sh", Some("./fibsrv")), Path::new("./fibsrv"));
    }
}
