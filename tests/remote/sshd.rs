//! A real sshd on loopback with a configuration of the test's own, and the ssh that knows it.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::{DirBuilderExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Home, PYTHON, skip, until};

const SSHD: &str = "/usr/sbin/sshd";

/// The server, and the machine behind it: a home of its own. Both end with the test.
pub(crate) struct Sshd {
    pub(crate) far: Home,
    server: Child,
}

impl Sshd {
    /// A machine on which these programs are on the PATH; `near` learns to reach it as `gpu01`.
    /// `None` where there is no ssh, and the test is skipped.
    pub(crate) fn start(test: &str, near: &mut Home, programs: impl FnOnce(&Path)) -> Option<Self> {
        let version = Command::new("ssh").arg("-V").output();
        if version.is_err() || !Path::new(SSHD).exists() {
            return skip(test, "openssh-server and openssh-client are not installed");
        }
        let far = Home::empty();
        let dir = far.work();
        fs::create_dir(dir.join("bin")).unwrap();
        programs(&dir.join("bin"));
        for key in ["host", "id"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(dir.join(key))
                .status();
            assert!(made.unwrap().success());
        }
        if rustix::process::getuid().is_root() {
            // Where root's sshd gives up its rights; the service manager makes it elsewhere.
            let made = fs::DirBuilder::new().mode(0o755).create("/run/sshd");
            assert!(made.is_ok() || Path::new("/run/sshd").is_dir());
        }
        let (server, port) = serve(&far, &dir);
        fs::write(
            dir.join("ssh_config"),
            format!(
                "Host gpu01\n HostName 127.0.0.1\n Port {port}\n IdentityFile {0}/id\n IdentitiesOnly yes\n \
                 IdentityAgent none\n UserKnownHostsFile {0}/known\n StrictHostKeyChecking accept-new\n\
                 Host nowhere\n ProxyCommand false\n",
                dir.display()
            ),
        )
        .unwrap();
        near.set(
            "TITHON_SSH",
            &format!("ssh -F {}", dir.join("ssh_config").display()),
        );
        Some(Self { far, server })
    }

    /// Has `near` give up a connection that says nothing after few seconds rather than many.
    pub(crate) fn is_given_up_soon(&self, near: &mut Home) {
        let config = self.far.work().join("ssh_config");
        let soon = "-o ServerAliveInterval=2 -o ServerAliveCountMax=2";
        near.set("TITHON_SSH", &format!("ssh -F {} {soon}", config.display()));
    }

    /// With this build's program.
    pub(crate) fn with_tithon(test: &str, near: &mut Home) -> Option<Self> {
        Self::start(test, near, |bin| {
            symlink(env!("CARGO_BIN_EXE_tithon"), bin.join("tithon")).unwrap();
        })
    }

    /// Ends every connection as a network does: nobody is told anything.
    pub(crate) fn cut(&self) {
        let connections = children(self.server.id());
        assert!(!connections.is_empty(), "nobody is connected");
        for pid in connections {
            let pid = Pid::from_raw(pid).unwrap();
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Lets every process of the server hang, or go on: what a network is that says nothing.
    pub(crate) fn hang(&self, signal: Signal) {
        for pid in self.processes() {
            let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
        }
    }

    /// The server's own first, and those that serve connections.
    fn processes(&self) -> Vec<i32> {
        let mut processes = vec![i32::try_from(self.server.id()).unwrap()];
        let mut at = 0;
        while let Some(pid) = processes.get(at).copied() {
            processes.extend(children(pid.unsigned_abs()));
            at += 1;
        }
        processes
    }

    /// How many connections there have been.
    pub(crate) fn connections(&self) -> usize {
        let log = fs::read_to_string(self.far.work().join("sshd.log")).unwrap();
        log.matches("Accepted publickey").count()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // Those below too: one that hangs would not notice that nobody is there any more.
        for pid in self.processes() {
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
        drop(self.server.wait());
    }
}

/// Starts the server on a port that nobody else has.
fn serve(far: &Home, dir: &Path) -> (Child, u16) {
    let config = dir.join("sshd_config");
    until("an sshd", || {
        let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = probe.local_addr().unwrap().port();
        drop(probe);
        fs::write(&config, configuration(far, dir, port)).unwrap();
        let mut server = Command::new(SSHD)
            .args(["-D", "-f"])
            .arg(&config)
            .arg("-E")
            .arg(dir.join("sshd.log"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        // Another program may have taken the port meanwhile: then another one is tried.
        until("sshd listening or over", || {
            let is_over = server.try_wait().unwrap().is_some();
            let said = fs::read_to_string(dir.join("sshd.log")).unwrap_or_default();
            let listens = said.contains(&format!("Server listening on 127.0.0.1 port {port}"));
            (is_over || listens).then_some(!is_over)
        })
        .then_some((server, port))
    })
}

fn configuration(far: &Home, dir: &Path, port: u16) -> String {
    fs::copy(dir.join("id.pub"), dir.join("authorized_keys")).unwrap();
    let python: PathBuf = PYTHON.root().join("bin");
    format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {0}/host\nPidFile none\n\
         AuthorizedKeysFile {0}/authorized_keys\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         SetEnv HOME={0} PATH={0}/bin:{1}:/usr/bin:/bin TITHON_HOME={2}\n",
        dir.display(),
        python.display(),
        far.root().display()
    )
}

/// The processes that name this one as their parent.
fn children(parent: u32) -> Vec<i32> {
    let stats = fs::read_dir("/proc").unwrap().flatten();
    stats
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            // "pid (name) state parent …"
            let after = stat.rsplit_once(") ")?.1;
            let named: u32 = after.split(' ').nth(1)?.parse().ok()?;
            (named == parent).then_some(pid)
        })
        .collect()
}
