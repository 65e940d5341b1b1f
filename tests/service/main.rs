//! Tithon under a real systemd: installed, restarted, killed and removed, with kernels that notice
//! nothing of it.

#![expect(
    clippy::unwrap_used,
    reason = "a rig that cannot be worked with is a failed test"
)]

#[path = "../rig/mod.rs"]
mod rig;
mod states;
mod units;

use rig::Rig;

/// What is known of a session's unit.
const UNIT: &str = "
unit_of() { tithon status --session $1 | grep -o 'tithon-k-[0-9a-f]*[.]service'; }
main_of() { systemctl --user show -P MainPID $1; }
group_of() { echo /sys/fs/cgroup$(systemctl --user show -P ControlGroup $1); }
no_session_is_left() { [ -z \"$(systemctl --user list-units --all --no-legend 'tithon-k-*')\" ]; }
";

/// A program for a unit with `Delegate=yes`: systemd 252 does not mark what it delegates yet.
const MARK: &str = r#"
cat >mark.py <<'END'
import os
[group] = [line[3:].strip() for line in open("/proc/self/cgroup") if line.startswith("0::")]
os.setxattr("/sys/fs/cgroup" + group, "user.delegate", b"1")
END
"#;

const INSTALLED: &str = "tithon install >/dev/null\n";

/// Counts until it is told that it is enough, with a client attached.
const FLOOD: &str = "
tithon run --session flood -c 'import itertools, os, time
for number in itertools.count():
    print(number, flush=True)
    if number % 100 == 0:
        time.sleep(0.02)
        if os.path.exists(\"enough\"): break' >flood.txt 2>flood.err & flood=$!
until_true 'grep -qx 700 flood.txt'
";
/// The cell ended well, and the client has every number once and in order.
const UNHARMED: &str = "
touch enough
wait $flood
seq 0 $(tail -n 1 flood.txt) | cmp - flood.txt
";

#[test]
fn a_supervisor_becomes_a_service_and_ceases_to_be_one() {
    let Some(rig) = Rig::boot("becomes_a_service") else {
        return;
    };
    rig.user("tithon run -c 'x = 1'");
    let said = rig.user("tithon install");
    assert!(said.contains("written"), "{said}");
    assert!(said.contains("its kernels run on"), "{said}");
    let units = "~/.config/systemd/user";
    rig.user(&format!("systemd-analyze --user verify {units}/tithon.*"));
    let again = rig.user("tithon install");
    assert!(
        !again.contains("written") && !again.contains("stopped"),
        "{again}"
    );
    rig.user(
        "main=$(systemctl --user show -P MainPID tithon.service)
         [ $(cat .tithon/daemon.pid) = $main ]
         [ $(stat -c %a .tithon/daemon.sock) = 600 ]",
    );
    assert_eq!(rig.user("tithon run -c 'x += 1; print(x)'"), "2\n");

    rig.user("tithon shutdown; ! systemctl --user is-active tithon.socket tithon.service");
    assert_eq!(rig.user("tithon run -c 'x += 1; print(x)'"), "3\n");
    rig.user("systemctl --user is-active tithon.socket tithon.service");

    let said = rig.user("tithon uninstall");
    assert!(said.contains("removed"), "{said}");
    rig.user(&format!(
        "[ -z \"$(find {units} -mindepth 1)\" ]
         [ -z \"$(systemctl --user list-unit-files --no-legend 'tithon[!-]*')\" ]
         [ ! -e .tithon/daemon.sock ]"
    ));
    assert_eq!(rig.user("tithon uninstall"), "nothing is installed\n");
    assert_eq!(rig.user("tithon run -c 'x += 1; print(x)'"), "4\n");
}

#[test]
fn files_that_are_not_ours_are_never_touched() {
    let Some(rig) = Rig::boot("files_that_are_not_ours") else {
        return;
    };
    rig.user(
        "mkdir -p ~/.config/systemd/user
         cd ~/.config/systemd/user
         echo '# mine' >tithon.service
         if tithon install 2>~/said; then exit 1; fi
         grep -q 'was not written by tithon install; nothing was changed' ~/said
         [ \"$(ls)\" = tithon.service ] && [ \"$(cat tithon.service)\" = '# mine' ]
         rm tithon.service
         tithon install
         echo 'Nice=5' >>tithon.service
         if tithon install 2>~/said; then exit 1; fi
         grep -q 'was edited since' ~/said
         if tithon uninstall 2>~/said; then exit 1; fi
         grep -q 'was edited since.*it stays' ~/said
         tail -n 1 tithon.service | grep -qx Nice=5
         [ ! -e tithon.socket ]",
    );
}

#[test]
fn another_home_is_written_into_the_units() {
    let Some(rig) = Rig::boot("another_home") else {
        return;
    };
    rig.user(
        "export TITHON_HOME=\"$HOME/50% of \\\"it\\\" in \\$USER\"
         tithon install
         [ \"$(tithon run -c 'print(6 * 7)')\" = 42 ]
         [ -S \"$TITHON_HOME/daemon.sock\" ] && [ ! -e ~/.tithon ]
         systemctl --user is-active tithon.service
         # The worker is a unit, also the one that systemd puts in its place.
         tithon status >status.txt
         unit=$(grep -o 'tithon-k-[0-9a-f]*[.]service' status.txt)
         worker=$(systemctl --user show -P MainPID $unit)
         kill -KILL $worker
         until_true '[ $(systemctl --user show -P MainPID '$unit') -gt 0 ] && [ $(systemctl --user show -P MainPID '$unit') != '$worker' ]'
         [ \"$(tithon run -c 'print(6 * 7)')\" = 42 ]",
    );
}

#[test]
fn nothing_that_happens_to_the_supervisor_reaches_a_running_cell() {
    let Some(rig) = Rig::boot("nothing_that_happens") else {
        return;
    };
    rig.user(&format!(
        "{INSTALLED}{FLOOD}
         systemctl --user kill --kill-whom main --signal KILL tithon.service
         tithon run -c pass
         systemctl --user kill tithon.service
         tithon run -c pass
         systemctl --user restart tithon.service
         tithon run -c pass
         systemctl --user reload tithon.service
         systemctl --user stop tithon.service
         tithon run -c pass
         systemctl --user stop tithon.socket tithon.service
         systemctl --user start tithon.socket
         tithon run -c pass
         systemctl --user daemon-reexec
         tithon run -c pass
         systemctl --user stop dbus.socket dbus.service
         tithon run -c pass
         {UNHARMED}"
    ));
}

#[test]
fn clients_that_come_during_a_restart_wait_in_the_socket() {
    let Some(rig) = Rig::boot("clients_that_come") else {
        return;
    };
    rig.user(&format!(
        "{INSTALLED}tithon run -c pass
         (for i in $(seq 20); do tithon --no-start ps >/dev/null || echo refused; done) >refused.txt 2>&1 & clients=$!
         for i in 1 2 3 4 5; do systemctl --user restart tithon.service; done
         for i in 1 2; do until_true 'systemctl --user kill --kill-whom main --signal KILL tithon.service'; done
         wait $clients
         [ ! -s refused.txt ] || {{ cat refused.txt >&2; exit 1; }}"
    ));
}

#[test]
fn a_supervisor_that_hangs_is_replaced() {
    let Some(rig) = Rig::boot("a_supervisor_that_hangs") else {
        return;
    };
    rig.user(&format!(
        "mkdir -p ~/.config/systemd/user/tithon.service.d
         printf '[Service]\\nWatchdogSec=1s\\n' >~/.config/systemd/user/tithon.service.d/quick.conf
         {INSTALLED}tithon run -c 'x = 1'
         before=$(systemctl --user show -P MainPID tithon.service)
         kill -STOP $before
         until_true '[ $(systemctl --user show -P MainPID tithon.service) -gt 0 ] && [ $(systemctl --user show -P MainPID tithon.service) != '$before' ]'
         [ \"$(tithon run -c 'print(x)')\" = 1 ]"
    ));
}

#[test]
fn lingering_decides_whether_kernels_survive_the_last_logout() {
    let Some(rig) = Rig::boot("lingering_decides") else {
        return;
    };
    rig.user(&format!("{INSTALLED}tithon run -c 'x = 1'"));
    rig.root("until_true '[ $(loginctl show-user rig -P Sessions | wc -w) = 0 ]'");
    assert_eq!(rig.user("tithon run -c 'print(x)'"), "1\n");
    rig.root(
        "loginctl disable-linger rig
         until_true '! systemctl is-active user@1500.service'
         until_true '! pgrep -u rig python'",
    );
    let said = rig.user("tithon install; tithon run -c 'print(\"x\" in dir())'");
    assert!(said.contains("enabled     lingering"), "{said}");
    assert!(
        said.ends_with("False\n"),
        "the history is there, the kernel new: {said}"
    );
    assert_eq!(rig.root("loginctl show-user rig -P Linger"), "yes\n");
}

#[test]
fn an_upgrade_rolls_the_workers_under_a_flood() {
    let Some(rig) = Rig::boot("an_upgrade") else {
        return;
    };
    let said = rig.user(&format!(
        "{INSTALLED}tithon run -c 'x = 1'
         tithon upgrade
         {FLOOD}
         cp ~/.local/bin/tithon ~/.local/bin/tithon.new; mv ~/.local/bin/tithon.new ~/.local/bin/tithon
         before=$(cat .tithon/daemon.pid)
         if tithon upgrade --no-wait; then exit 1; fi
         [ $(cat .tithon/daemon.pid) != $before ]
         [ $(systemctl --user show -P MainPID tithon.service) = $(cat .tithon/daemon.pid) ]
         if tithon doctor --quiet >doctor.txt; then exit 1; fi; grep -q 'tithon upgrade' doctor.txt
         tithon upgrade --now
         tithon doctor --json >said.txt; grep -q workers.run.this.program said.txt
         {UNHARMED}
         tithon run -c 'print(x)'"
    ));
    assert!(said.contains("every worker runs this version"), "{said}");
    assert!(said.contains("left        flood is busy"), "{said}");
    assert_eq!(
        said.matches("replaced    the worker of ").count(),
        2,
        "{said}"
    );
    assert!(said.ends_with("\n1\n"), "{said}");
}

#[test]
fn the_doctor_knows_what_ails() {
    let Some(rig) = Rig::boot("the_doctor") else {
        return;
    };
    rig.user(&format!(
        "{INSTALLED}tithon run -c pass
         tithon doctor
         loginctl disable-linger
         chmod 755 ~/.tithon
         for code in 2; do tithon doctor >doctor.txt && exit 1; [ $? = $code ]; done
         grep -q 'ERROR *lingering' doctor.txt
         grep -q 'WARNING *home' doctor.txt
         grep -q 'chmod 700' doctor.txt"
    ));
}

#[test]
fn what_outlived_worker_and_kernel_is_reaped() {
    let Some(rig) = Rig::boot("what_outlived") else {
        return;
    };
    rig.user(
        "tithon run -c '
import subprocess
subprocess.Popen([\"setsid\", \"-f\", \"sleep\", \"4711\"])
subprocess.Popen([\"env\", \"-i\", \"/usr/bin/setsid\", \"-f\", \"/bin/sleep\", \"4713\"]).wait()'
         until_true 'pgrep -xf \"sleep 4711\" && pgrep -xf \"/bin/sleep 4713\"'
         tithon ps --orphans >said.txt; grep -q 'No orphans' said.txt
         TITHON_SESSION=$HOME/other/sessions/s setsid -f sleep 4712 >/dev/null 2>&1 </dev/null
         unit=$(tithon status | grep -o 'tithon-k-[0-9a-f]*[.]service')
         tithon shutdown >/dev/null
         # The worker first: it would end what its kernel leaves.
         systemctl --user stop $unit
         kill -KILL $(cat .tithon/sessions/default/kernel.pid)
         until_true 'tithon ps --orphans | grep sleep'
         if tithon reap --dry-run >orphans.txt; then exit 1; fi
         grep -q 'no worker, no kernel .*default, sleep 4711' orphans.txt
         # The one without a mark is known by its group.
         grep -q 'no worker, no kernel .*default, /bin/sleep 4713' orphans.txt
         [ $(wc -l <orphans.txt) = 3 ]
         pgrep -xf 'sleep 4711'
         tithon reap >said.txt; grep -q ended said.txt
         until_true '! pgrep -xf \"sleep 4711\" && ! pgrep -xf \"/bin/sleep 4713\"'
         pgrep -xf 'sleep 4712'",
    );
}

#[test]
fn workers_that_nobody_looks_after_are_shown_and_ended_on_demand() {
    let Some(rig) = Rig::boot("workers_that_nobody") else {
        return;
    };
    rig.user(&format!(
        "{UNIT}
         tithon run --session kept -c 'x = 1'
         tithon shutdown >/dev/null
         tithon ps --orphans >said.txt; grep -q 'no supervisor .*kept' said.txt
         if tithon reap >said.txt 2>&1; then exit 1; fi
         grep -q '^kept .*no supervisor' said.txt
         [ \"$(tithon run --session kept -c 'print(x)')\" = 1 ]
         tithon shutdown >/dev/null
         tithon reap --workers >said.txt; grep -q '^ended .*no supervisor' said.txt
         until_true no_session_is_left

         # The directory of a session is deleted under its worker and kernel.
         tithon run --session gone -c pass
         rm -r .tithon/sessions/gone-*
         tithon ps --orphans >said.txt
         [ $(grep -c 'session deleted' said.txt) = 2 ]
         tithon reap >said.txt; [ $(grep -c '^ended .*session deleted' said.txt) = 2 ]
         until_true no_session_is_left
         tithon ps --orphans >said.txt; grep -q 'No orphans' said.txt"
    ));
}
