//! The kernel that the Python program left in a session directory, and the proof that it is that.
//!
//! That program recorded a pid alone, which may be another process's by now. It counts as the
//! kernel only if it is ours, runs `ipykernel_launcher` on this directory's connection file, and
//! was there before the pid was written down.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::Path,
    time::{Duration, SystemTime},
};

use crate::{platform::process as processes, process::ProcessIdentity};

/// How far the wall clock may have been set since boot: start times count from there.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

/// What `kernel.pid` leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PythonKernel {
    /// No living process.
    None,
    /// The session's kernel.
    Proven(ProcessIdentity),
    /// A living process that is not the kernel, or cannot be shown to be, with the reason.
    Unproven(i32, &'static str),
}

impl PythonKernel {
    /// Looks at the process that `dir/kernel.pid` names.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn find(dir: &Path) -> io::Result<Self> {
        let file = dir.join("kernel.pid");
        let Ok(Ok(pid)) = fs::read_to_string(&file).map(|text| text.trim().parse::<i32>()) else {
            return Ok(Self::None);
        };
        let Some(identity) = ProcessIdentity::of(pid)? else {
            return Ok(Self::None);
        };
        let recorded = fs::metadata(&file)?.modified()?;
        Ok(match objection(&identity, dir, recorded) {
            Ok(None) => Self::Proven(identity),
            Ok(Some(reason)) => Self::Unproven(pid, reason),
            // It ended while it was looked at.
            Err(err) if err.kind() == io::ErrorKind::NotFound => Self::None,
            Err(err) => return Err(err),
        })
    }
}

fn objection(
    process: &ProcessIdentity,
    dir: &Path,
    recorded: SystemTime,
) -> io::Result<Option<&'static str>> {
    if processes::owner(process.pid)? != rustix::process::geteuid().as_raw() {
        return Ok(Some("it belongs to another user"));
    }
    let mut arguments = processes::command_line(process.pid)?.into_iter();
    if !arguments.any(|argument| argument.as_bytes().ends_with(b"ipykernel_launcher")) {
        return Ok(Some("it runs something else"));
    }
    let connection_file = fs::canonicalize(dir.join("kernel.json"))?;
    let names_it =
        |argument: OsString| fs::canonicalize(argument).is_ok_and(|path| path == connection_file);
    if !arguments.any(names_it) {
        return Ok(Some("it is the kernel of another connection file"));
    }
    if processes::began(process.start_time)? > recorded + CLOCK_SLACK {
        return Ok(Some("it started after kernel.pid was written"));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::Read,
        process::{Child, Command, Stdio},
    };

    use super::*;

    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }

    /// A process whose command line is that of a kernel of `dir`.
    fn kernel(dir: &Path, module: &str) -> Killed {
        fs::write(dir.join("kernel.json"), "{}").unwrap();
        let mut child = Command::new("sh")
            .args(["-c", "echo; read -r _", "-m", module, "-f"])
            .arg(dir.join("kernel.json"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // `spawn` returns in the middle of the exec, when the command line may still be empty.
        let mut said = child.stdout.take().unwrap();
        said.read_exact(&mut [0]).unwrap();
        fs::write(dir.join("kernel.pid"), child.id().to_string()).unwrap();
        Killed(child)
    }

    fn unproven(dir: &Path) -> &'static str {
        match PythonKernel::find(dir).unwrap() {
            PythonKernel::Unproven(_, reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_kernel_is_proven_by_its_command_line_and_its_age() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        assert_eq!(PythonKernel::find(dir).unwrap(), PythonKernel::None);
        let child = kernel(dir, "ipykernel_launcher");
        let pid = i32::try_from(child.0.id()).unwrap();
        let identity = ProcessIdentity::of(pid).unwrap().unwrap();
        assert_eq!(
            PythonKernel::find(dir).unwrap(),
            PythonKernel::Proven(identity)
        );

        let written = File::options()
            .write(true)
            .open(dir.join("kernel.pid"))
            .unwrap();
        written
            .set_modified(SystemTime::now() - Duration::from_secs(3600))
            .unwrap();
        assert!(unproven(dir).contains("started after"));
        drop(child);
        assert_eq!(PythonKernel::find(dir).unwrap(), PythonKernel::None);
    }

    #[test]
    fn a_reused_pid_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let (dir, other) = (home.path().join("a"), home.path().join("b"));
        fs::create_dir_all(&dir).unwrap();
        fs::create_dir_all(&other).unwrap();
        let editor = kernel(&dir, "editor");
        assert!(unproven(&dir).contains("something else"));
        drop(editor);
        let elsewhere = kernel(&other, "ipykernel_launcher");
        fs::copy(other.join("kernel.pid"), dir.join("kernel.pid")).unwrap();
        assert!(unproven(&dir).contains("another connection file"));
        drop(elsewhere);
    }
}
