//! `tithon install` and `uninstall` where no systemd is: what they print, and that they change nothing.

#![expect(clippy::unwrap_used, reason = "what cannot be run is a failed test")]

use std::{
    path::Path,
    process::{Command, Output},
};

fn tithon(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tithon"))
        .args(arguments)
        .env_clear()
        .env("HOME", home)
        .env("PATH", "/nowhere")
        .output()
        .unwrap()
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_dry_run_prints_every_file_and_writes_none() {
    let home = tempfile::tempdir().unwrap();
    let output = tithon(
        home.path(),
        &["install", "--dry-run", "--manager", "systemd"],
    );
    assert!(output.status.success(), "{}", words(&output.stderr));
    let said = words(&output.stdout);
    for line in [
        "--- HOME/.config/systemd/user/tithon.slice",
        "--- HOME/.config/systemd/user/tithon.socket",
        "--- HOME/.config/systemd/user/tithon.service",
        "ListenStream=%h/.tithon/daemon.sock",
        "KillMode=process",
    ] {
        let line = line.replace("HOME", home.path().to_str().unwrap());
        assert!(said.lines().any(|said| said == line), "{line}: {said}");
    }
    assert_eq!(home.path().read_dir().unwrap().count(), 0);
}

#[test]
fn the_launchd_job_is_what_apple_documents() {
    let home = tempfile::tempdir().unwrap();
    let output = tithon(
        home.path(),
        &["install", "--dry-run", "--manager", "launchd"],
    );
    let said = words(&output.stdout);
    let (_, plist) = said.split_once('\n').unwrap();
    let file = home.path().join("job.plist");
    std::fs::write(&file, plist).unwrap();
    // Keys and types of launchd.plist(5).
    let check = "
import plistlib, sys
job = plistlib.load(open(sys.argv[1], 'rb'))
types = dict(Label=str, ProgramArguments=list, EnvironmentVariables=dict, Sockets=dict, RunAtLoad=bool,
    KeepAlive=bool, ThrottleInterval=int, AbandonProcessGroup=bool, ExitTimeOut=int, ProcessType=str,
    LimitLoadToSessionType=list, SoftResourceLimits=dict)
assert {key: type(value) for key, value in job.items()} == types, job
assert job['Sockets']['control']['SockPathMode'] == 0o600
assert job['Sockets']['control']['SockPathName'] == sys.argv[2] + '/.tithon/daemon.sock'
assert job['ProgramArguments'][1:] == ['daemon']
assert job['ProcessType'] in ('Background', 'Standard', 'Adaptive', 'Interactive')
assert set(job['LimitLoadToSessionType']) <= {'Aqua', 'Background', 'LoginWindow', 'StandardIO', 'System'}
sockets = dict(SockType=str, SockPassive=bool, SockPathName=str, SockPathMode=int, SockPathOwner=int,
    SockPathGroup=int)
assert all(type(value) is sockets[key] for key, value in job['Sockets']['control'].items()), job
assert job['Sockets']['control']['SockType'] == 'stream'
limits = {'Core', 'CPU', 'Data', 'FileSize', 'MemoryLock', 'NumberOfFiles', 'NumberOfProcesses',
    'ResidentSetSize', 'Stack'}
assert set(job['SoftResourceLimits']) <= limits and all(type(v) is int for v in job['SoftResourceLimits'].values())
assert all(type(value) is str for value in job['EnvironmentVariables'].values())
";
    let checked = Command::new("python3")
        .args(["-c", check])
        .arg(&file)
        .arg(home.path())
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", words(&checked.stderr));
}

#[test]
fn without_systemd_nothing_is_written_and_the_way_out_is_said() {
    let home = tempfile::tempdir().unwrap();
    let output = tithon(home.path(), &["install"]);
    assert_eq!(output.status.code(), Some(1));
    let said = words(&output.stderr);
    assert!(
        said.contains("nothing was installed") && said.contains("@reboot"),
        "{said}"
    );
    let output = tithon(home.path(), &["uninstall"]);
    assert!(output.status.success());
    assert_eq!(words(&output.stdout), "nothing is installed\n");
    assert_eq!(home.path().read_dir().unwrap().count(), 0);
}
