//! A unit per session: what is accounted and contained in it, and who replaces what dies there.

use super::{FLOOD, INSTALLED, MARK, UNHARMED, UNIT};
use crate::rig::{self, Rig};

#[test]
fn each_session_is_a_unit_of_its_own() {
    let Some(rig) = Rig::boot("each_session_is_a_unit") else {
        return;
    };
    rig.user(&format!(
        "{UNIT}{INSTALLED}
         SECRET=open-sesame tithon run --session a -c 'import os; print(os.environ[\"SECRET\"], os.getpid())' >a.txt
         read -r secret kernel <a.txt; [ $secret = open-sesame ]
         unit=$(unit_of a)
         group=$(group_of $unit)
         case $group in */tithon.slice/$unit) ;; *) exit 1 ;; esac
         worker=$(main_of $unit)
         [ \"$(cat $group/w/cgroup.procs)\" = $worker ]
         grep -qx $kernel $group/k/cgroup.procs
         [ $(cat /proc/$kernel/oom_score_adj) -gt $(cat /proc/$worker/oom_score_adj) ]
         systemctl --user show $unit >unit.txt; if grep open-sesame unit.txt; then exit 1; fi
         if tr '\\0' '\\n' </proc/$kernel/environ | grep NOTIFY_SOCKET; then exit 1; fi
         grep -qx Description='Tithon session a' unit.txt
         tithon ps --wide >ps.txt; grep -q $unit ps.txt

         # What a kernel starts is in its group under whatever name, and ends with it.
         tithon run --session a -c '
import os, subprocess
from multiprocessing import get_context
pool = get_context(\"fork\").Pool(2)
os.environ.pop(\"TITHON_SESSION\")
subprocess.Popen([\"env\", \"-i\", \"/usr/bin/setsid\", \"-f\", \"/bin/sleep\", \"4711\"])'
         until_true 'pgrep -xf \"/bin/sleep 4711\"'
         [ $(wc -l <$group/k/cgroup.procs) -ge 4 ]
         kill -KILL $kernel
         until_true 'tithon status --session a | grep dead'
         [ -z \"$(cat $group/k/cgroup.procs)\" ]
         [ $(main_of $unit) = $worker ]

         # Nothing of a session that ended stays, however it ended.
         tithon kill --session a >/dev/null
         until_true no_session_is_left
         tithon run --session a -c 'x = 1'; tithon run --session b -c 'x = 2'
         [ $(unit_of a) != $(unit_of b) ]
         kernel=$(cat .tithon/sessions/a-*/kernel.pid)
         systemctl --user kill $(unit_of a)
         until_true '! kill -0 '$kernel
         [ \"$(tithon run --session b -c 'print(x)')\" = 2 ]
         tithon restart --session a >/dev/null
         [ \"$(tithon run --session a -c 'print(\"x\" in dir())')\" = False ]
         tithon shutdown --kill-kernels >/dev/null
         until_true no_session_is_left
         tithon uninstall >/dev/null
         [ -z \"$(systemctl --user list-units --all --no-legend 'tithon*')\" ]"
    ));
}

#[test]
fn systemd_replaces_a_worker_that_dies_and_nobody_else_does() {
    let Some(rig) = Rig::boot("systemd_replaces") else {
        return;
    };
    rig.user(&format!(
        "{UNIT}{INSTALLED}{FLOOD}
         unit=$(unit_of flood)
         for round in 1 2 3; do
             worker=$(main_of $unit)
             kill -KILL $worker
             until_true '[ $(main_of '$unit') -gt 0 ] && [ $(main_of '$unit') != '$worker' ]'
             until_true '[ $(tithon status --session flood | grep -c '$unit') = 1 ]'
         done
         [ $(systemctl --user show -P NRestarts $unit) = 3 ]
         # Also without a supervisor.
         systemctl --user stop tithon.socket tithon.service
         worker=$(main_of $unit)
         kill -KILL $worker
         until_true '[ $(main_of '$unit') -gt 0 ] && [ $(main_of '$unit') != '$worker' ]'
         systemctl --user start tithon.socket
         # Stopped on purpose its kernel lives on, and the supervisor has it served again.
         systemctl --user stop $unit
         until_true '[ $(main_of '$unit') -gt 0 ]'
         {UNHARMED}
         systemctl --user list-units --no-legend 'tithon-k-*' >units.txt
         [ $(wc -l <units.txt) = 1 ]"
    ));
}

#[test]
fn what_crashes_before_it_is_ready_is_not_started_for_ever() {
    let Some(rig) = Rig::boot("what_crashes") else {
        return;
    };
    rig.user(&format!(
        "{UNIT}
         tithon run -c 'x = 1'
         unit=$(unit_of default)
         rm .tithon/program
         printf '#!/bin/sh\\nexit 3\\n' >.tithon/program
         chmod +x .tithon/program
         # Nothing is there to be saved: one attempt for whoever asks.
         if tithon run --session lost -c pass 2>err.txt; then exit 1; fi
         cat err.txt
         until_true '[ -z \"$(systemctl --user list-units --no-legend \"tithon-k-*\" | grep -v '$unit')\" ]'
         [ \"$(tithon run -c 'print(x)')\" = 1 ]
         tithon shutdown --kill-kernels >/dev/null
         until_true no_session_is_left"
    ));
}

#[test]
fn without_a_manager_workers_are_processes_and_it_is_said_why() {
    let Some(rig) = Rig::boot("without_a_manager") else {
        return;
    };
    rig.user(&format!(
        "{UNIT}
         # None there, as in a container or on a batch node.
         XDG_RUNTIME_DIR=/nowhere tithon run -c 'x = 1'
         tithon status >status.txt
         grep -q '\"detached_because\": \"no systemd user manager answers here' status.txt
         grep -q '\"unit\": null' status.txt
         tithon ps --wide >ps.txt; grep -q 'detached: no systemd' ps.txt
         if tithon restart --memory-max 1G 2>err.txt; then exit 1; fi
         grep -q 'memory cannot be limited here.*no systemd user manager' err.txt
         tithon restart --memory-max infinity >/dev/null
         tithon shutdown --kill-kernels >/dev/null

         # One that refuses.
         mkdir -p ~/fake; printf '#!/bin/sh\\necho no bus today >&2; exit 1\\n' >~/fake/systemd-run; chmod +x ~/fake/systemd-run
         PATH=~/fake:$PATH tithon run -c 'x = 2'
         tithon status >status.txt; grep -q '\"detached_because\": \"no bus today' status.txt
         [ \"$(tithon run -c 'print(x)')\" = 2 ]
         tithon shutdown --kill-kernels >/dev/null

         # One that hangs: a bound later its session works, and what it does then harms nobody.
         manager=$(systemctl show -P MainPID user@1500.service)
         kill -STOP $manager
         tithon run -c 'x = 3'
         tithon status >status.txt; grep -q '\"detached_because\": \"systemd did not start it' status.txt
         kill -CONT $manager
         until_true 'systemctl --user is-system-running | grep -E \"running|degraded\"'
         until_true no_session_is_left
         [ \"$(tithon run -c 'print(x)')\" = 3 ]
         tithon shutdown --kill-kernels >/dev/null"
    ));
}

#[test]
fn detached_workers_divide_a_group_that_was_delegated() {
    let Some(rig) = Rig::boot("detached_workers") else {
        return;
    };
    rig.user(&format!(
        "{UNIT}{MARK}
         systemd-run --user --quiet --unit=mine --property=Delegate=yes --setenv=PATH=\"$PATH\" \
             bash -c 'python3 mark.py && {{ TITHON_HOME=~/other tithon daemon --detached-workers &
                      exec tithon daemon --detached-workers; }}'
         until_true 'tithon --no-start ps && TITHON_HOME=~/other tithon --no-start ps'
         tithon run -c 'import os; print(os.getpid())' >kernel.txt
         group=$(group_of mine.service)
         leaf=$(echo $group/tithon-k-*/k)
         grep -qx $(cat kernel.txt) $leaf/cgroup.procs
         # A session of the same name in another home has a group of its own.
         TITHON_HOME=~/other tithon run -c 'x = 1'
         [ $(ls -d $group/tithon-k-*/k | wc -l) = 2 ]
         tithon run -c '
import subprocess
subprocess.Popen([\"env\", \"-i\", \"/usr/bin/setsid\", \"-f\", \"/bin/sleep\", \"4711\"]).wait()'
         until_true 'pgrep -xf \"/bin/sleep 4711\"'
         tithon kill --session default >/dev/null
         until_true '! pgrep -xf \"/bin/sleep 4711\"'
         until_true '[ ! -e '$leaf' ]'
         [ \"$(TITHON_HOME=~/other tithon run -c 'print(x)')\" = 1 ]
         TITHON_HOME=~/other tithon shutdown --kill-kernels >/dev/null
         tithon shutdown >/dev/null"
    ));
}

/// The kernel is forked in the first session's group: it is to be in its own, and nothing that happens to
/// the first's unit may reach it.
#[test]
fn the_kernel_of_a_branch_moves_into_its_own_unit() {
    let Some(rig) = Rig::boot("a_branch_moves") else {
        return;
    };
    rig.user(&format!(
        "{UNIT}{INSTALLED}
         tithon run --session a -c 'x = 1'
         tithon branch b --session a
         first=$(unit_of a); second=$(unit_of b)
         [ -n \"$second\" ]; [ $first != $second ]
         kernel=$(cat .tithon/sessions/b-*/kernel.pid)
         until_true \"grep -qx $kernel $(group_of $second)/k/cgroup.procs\"
         [ -z \"$(cat $(group_of $first)/b*/cgroup.procs)\" ]
         tithon kill --session a
         [ $(tithon run --session b -c 'x') = 1 ]
         kill -9 $(main_of $second)
         [ $(tithon run --session b -c 'x') = 1 ]
         [ $kernel = $(cat .tithon/sessions/b-*/kernel.pid) ]
         tithon try --session b -c 'open(\"group\", \"w\").write(open(\"/proc/self/cgroup\").read())' >/dev/null
         grep -q \"$second/c[0-9]*$\" group
         ! ls -d $(group_of $second)/c[0-9]*"
    ));
}

#[test]
fn a_limit_that_would_not_hold_is_refused() {
    let Some(rig) = Rig::boot("a_limit") else {
        return;
    };
    rig.user(&format!(
        "{UNIT}
         if grep -qw memory /sys/fs/cgroup/cgroup.controllers; then exit; fi
         if tithon run --memory-max 1G -c pass 2>err.txt; then exit 1; fi
         grep -q 'there is no memory controller' err.txt
         tithon run --memory-max infinity -c 'x = 1'
         tithon run --memory-max 1G -c 'print(x)' 2>err.txt
         grep -q 'runs already' err.txt"
    ));
}

#[test]
fn a_kernel_that_runs_out_of_memory_harms_no_other() {
    let test = "a_kernel_that_runs_out_of_memory_harms_no_other";
    let eat = "'a = [bytearray(10 << 20) for _ in range(40)]'";
    let Some(said) = rig::with_memory_controller(
        test,
        &format!(
            "{UNIT}
             tithon run --session other -c 'x = 1'
             tithon run --session big --memory-max 150M -c 'y = 2'
             unit=$(unit_of big)
             worker=$(main_of $unit)
             [ $(systemctl --user show -P MemoryMax $unit) = $((150 << 20)) ]
             tithon status --session big >status.txt; grep -q '\"memory_max\": '$((150 << 20)) status.txt
             if tithon run --session big -c {eat} >big.txt 2>&1; then exit 1; fi
             cat big.txt
             [ \"$(tithon run --session other -c 'print(x)')\" = 1 ]
             [ $(main_of $unit) = $worker ]
             # The limit holds for the next kernel too, also after its worker was replaced in between.
             tithon restart --session big >/dev/null
             tithon run --session big -c 'y = 3'
             kill -KILL $worker
             until_true '[ $(main_of '$unit') -gt 0 ] && [ $(main_of '$unit') != '$worker' ]'
             [ \"$(tithon run --session big -c 'print(y)')\" = 3 ]
             if tithon run --session big -c {eat} >big.txt 2>&1; then exit 1; fi
             [ \"$(tithon run --session other -c 'print(x)')\" = 1 ]
             tithon restart --session big --memory-max infinity >/dev/null
             [ $(systemctl --user show -P MemoryMax $unit) = infinity ]
             tithon shutdown --kill-kernels >/dev/null
             until_true no_session_is_left"
        ),
    ) else {
        return;
    };
    assert!(
        said.contains("killed by SIGKILL: its control group ran out of memory"),
        "{said}"
    );
}
