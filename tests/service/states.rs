//! States under a real systemd: what is frozen or copied is in control groups that are its own, outlives
//! whom it should and nobody else.

use super::{MARK, UNIT};
use crate::rig::Rig;

/// The processes of a session's checkpoints.
const TAKEN: &str = r#"
taken() { tithon checkpoints --session $1 --json | python3 -c 'import json, sys; print(*[it["pid"] for it in json.load(sys.stdin)["checkpoints"]])'; }
"#;

#[test]
fn checkpoints_outlive_worker_and_kernel_and_no_session() {
    let Some(rig) = Rig::boot("checkpoints_outlive") else {
        return;
    };
    rig.user(&format!(
        "{UNIT}{TAKEN}
         kernel_of() {{ cat .tithon/sessions/$1-*/kernel.pid; }}
         tithon run --session a -c pass
         tithon checkpoints --session a --keep 5
         tithon run --session a -c '
import subprocess
x = 1
subprocess.Popen([\"env\", \"-i\", \"/usr/bin/setsid\", \"-f\", \"/bin/sleep\", \"4711\"]).wait()'
         until_true '[ -n \"$(taken a)\" ]'
         checkpoint=$(taken a); unit=$(unit_of a); group=$(group_of $unit)
         grep -qx $checkpoint $group/k/cgroup.procs

         worker=$(main_of $unit)
         kill -KILL $worker
         until_true '[ $(main_of '$unit') -gt 0 ] && [ $(main_of '$unit') != '$worker' ]'
         [ $(taken a) = $checkpoint ]

         # What the kernel left ends with it, but for the checkpoint.
         kill -KILL $(kernel_of a)
         until_true 'tithon status --session a | grep dead'
         until_true '[ \"$(cat '$group'/k/cgroup.procs)\" = '$checkpoint' ]'
         if pgrep -xf '/bin/sleep 4711'; then exit 1; fi
         tithon restore --session a >/dev/null
         grep -qx $(kernel_of a) $group/k/cgroup.procs
         [ $(tithon run --session a -c 'x') = 1 ]

         # Both, and nobody is there to replace them.
         tithon shutdown >/dev/null
         systemctl --user stop $unit
         kernel=$(kernel_of a)
         kill -KILL $kernel
         # Its parent, the checkpoint, does not wait for it.
         until_true '[ -z \"$(cat /proc/'$kernel'/cmdline)\" ]'
         tithon reap >said.txt; grep -q 'No orphans' said.txt
         kill -0 $checkpoint
         tithon restore --session a --to e2 >/dev/null
         group=$(group_of $(unit_of a))
         grep -qx $(kernel_of a) $group/k/cgroup.procs
         [ $(tithon run --session a -c 'x') = 1 ]

         # A branch of a checkpoint is no part of its session, whatever ends that.
         tithon branch b --session a --from e2 >/dev/null
         until_true \"grep -qx $(kernel_of b) $(group_of $(unit_of b))/k/cgroup.procs\"
         tithon kill --session a >/dev/null
         until_true '[ ! -e '$group' ]'
         if kill -0 $checkpoint; then exit 1; fi
         [ $(tithon run --session b -c 'x') = 1 ]
         until_true '[ -n \"$(taken b)\" ]'
         tithon shutdown --kill-kernels >/dev/null
         until_true no_session_is_left
         until_true '! pgrep -u rig python'"
    ));
}

#[test]
fn what_runs_in_a_state_outlives_its_worker_and_leaves_a_state_only() {
    let Some(rig) = Rig::boot("what_runs_in_a_state") else {
        return;
    };
    rig.user(&format!(
        "{UNIT}
         state() {{ tithon states ls --json | python3 -c 'import json, sys; print(*[it[\"pid\"] for it in json.load(sys.stdin)[\"states\"] if it[\"name\"] == \"'$1'\"])'; }}
         tithon run -c 'x = 1'
         tithon states exec --as base -c 'x = 2'
         unit=$(unit_of default); group=$(group_of $unit)
         grep -qx $(state base) $group/k/cgroup.procs
         tithon states exec --from base --as late -c '
import os, subprocess, time
subprocess.Popen([\"env\", \"-i\", \"/usr/bin/setsid\", \"-f\", \"/bin/sleep\", \"4713\"]).wait()
print(os.getpid(), flush=True)
open(\"pid\", \"w\").write(str(os.getpid()))
while not os.path.exists(\"go\"): time.sleep(0.01)
print(\"over\")' >late.txt & running=$!
         until_true '[ -s pid ]'
         grep -qx $(cat pid) $group/c[0-9]*/cgroup.procs
         grep -qx $(pgrep -xf '/bin/sleep 4713') $group/c[0-9]*/cgroup.procs

         worker=$(main_of $unit)
         kill -KILL $worker
         until_true '[ $(main_of '$unit') -gt 0 ] && [ $(main_of '$unit') != '$worker' ]'
         kill -0 $(cat pid)
         touch go
         wait $running
         [ \"$(cat late.txt)\" = \"$(cat pid)
over\" ]
         grep -qx $(state late) $group/k/cgroup.procs
         until_true '! ls -d '$group'/c[0-9]*'
         if pgrep -xf '/bin/sleep 4713'; then exit 1; fi
         tithon restore --to late >/dev/null
         [ $(tithon run -c 'x') = 2 ]
         tithon shutdown --kill-kernels >/dev/null
         until_true no_session_is_left
         until_true '! pgrep -u rig python'"
    ));
}

/// The server is killed and cannot end anything; nor does systemd, which is told to end the server alone.
#[test]
fn a_server_of_states_has_a_leaf_and_leaves_nothing_in_it() {
    let Some(rig) = Rig::boot("a_server_of_states") else {
        return;
    };
    rig.user(&format!(
        r#"{UNIT}{MARK}
         cat >call.py <<'END'
import json, sys, urllib.request
path, *body = sys.argv[1:]
body = body and json.dumps(json.loads(body[0])).encode() or None
print(urllib.request.urlopen("http://127.0.0.1:8080/" + path + "?token=secret", data=body).read().decode())
END
         printf secret >token; chmod 600 token
         serve() {{
             systemd-run --user --quiet --unit=$1 --property=Delegate=yes --property=KillMode=process --setenv=PATH="$PATH" \
                 bash -c 'python3 mark.py && exec tithon states serve --token-file token --bind 127.0.0.1:8080'
             until_true 'python3 call.py states'
             group=$(group_of $1.service)
             leaf=$(echo $group/tithon-k-*/k)
         }}
         run() {{ python3 call.py execute "{{\"exec_id\": \"1\", \"state_name\": \"$1\", \"new_state_name\": \"$2\", \"code\": \"$3\"}}"; }}

         serve killed
         [ "$(cat $group/tithon-k-*/w/cgroup.procs)" = $(main_of killed.service) ]
         # The keeper and the first state.
         [ $(wc -l <$leaf/cgroup.procs) = 2 ]
         run initial a 'import os, subprocess; x = subprocess.Popen([\"env\", \"-i\", \"/usr/bin/setsid\", \"-f\", \"/bin/sleep\", \"4711\"]).wait()'
         run a b 'open(\"pid\", \"w\").write(str(os.getpid())); import time; time.sleep(4712)' >ended.txt 2>&1 & running=$!
         until_true '[ -s pid ] && pgrep -xf "/bin/sleep 4711"'
         grep -qx $(cat pid) $leaf/cgroup.procs
         grep -qx $(pgrep -xf '/bin/sleep 4711') $leaf/cgroup.procs
         kill -KILL $(main_of killed.service)
         until_true '[ ! -e '$group' ]'
         if wait $running || pgrep -xf '/bin/sleep 4711' || pgrep -u rig python; then exit 1; fi

         # Told to end it removes what it has made.
         serve stopped
         run initial a 'x = 1'
         systemctl --user stop stopped.service
         until_true '[ ! -e '$group' ]'
         if pgrep -u rig python; then exit 1; fi"#
    ));
}
