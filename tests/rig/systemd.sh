#!/bin/bash
# A machine with a real systemd, for tests: PID 1 of fresh namespaces over a throw-away view of this
# machine's files, with logind, a system bus and the user `rig` (uid 1500), who lingers.
#
#   systemd.sh start DIR          boot it; DIR must not exist
#   systemd.sh user DIR CMD...    run CMD in a login session of the user's
#   systemd.sh root DIR CMD...    run CMD as root
#   systemd.sh stop DIR           switch it off and remove DIR
#
# Needs root, systemd with its PAM module, a user bus, overlayfs and cgroup v2: exits with 77 and
# says what is missing. Nothing of the host is changed: files written inside vanish, the network is
# a loopback of its own, and /proc/sys is read-only. A file that changes on the host after the start
# may not be seen inside.
set -euo pipefail

readonly SELF=$(readlink -f "${BASH_SOURCE[0]}")
. "$(dirname "$SELF")/furnish.sh"

skip() { echo "no rig: $*" >&2; exit 77; }

check() {
    [ "$(id -u)" = 0 ] || skip "it needs root"
    [ -x /lib/systemd/systemd ] || skip "systemd is not installed"
    compgen -G '/lib/*/security/pam_systemd.so' >/dev/null || compgen -G '/lib*/security/pam_systemd.so' >/dev/null \
        || skip "libpam-systemd is not installed"
    [ -e /usr/lib/systemd/user/dbus.socket ] || skip "dbus-user-session is not installed"
    grep -qw overlay /proc/filesystems || skip "the kernel has no overlayfs"
    [ -n "$(hierarchy)" ] || skip "no cgroup v2 is mounted"
    unshare --mount --uts --ipc --pid --net --cgroup --fork true || skip "namespaces are refused"
}

# systemd ends without a word where root has no inotify instance left, and root's are everybody's here.
await_instances() {
    local look
    for look in $(seq 120); do
        # Takes as many as a machine needs and lets go of them: who has the others is nobody's business.
        python3 -c 'import ctypes, sys
libc = ctypes.CDLL(None)
sys.exit(any(libc.inotify_init1(0) < 0 for _ in range(24)))' && return
        sleep 0.5
    done
    skip "root has no 24 inotify instances left (fs.inotify.max_user_instances)"
}

hierarchy() { findmnt -n -t cgroup2 -o TARGET | head -1; }

# The first process of the new namespaces, until it becomes systemd.
become_init() {
    local dir=$1 root=$1/root node unit
    mount --make-rprivate /
    mount -t tmpfs -o mode=755 files "$dir/files"
    mkdir "$dir/files/upper" "$dir/files/work"
    mount -t overlay -o "lowerdir=/,upperdir=$dir/files/upper,workdir=$dir/files/work" overlay "$root"

    mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
    mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    mount -t tmpfs -o mode=755,nosuid dev "$root/dev"
    for node in null zero full random urandom tty; do
        touch "$root/dev/$node"
        mount --bind "/dev/$node" "$root/dev/$node"
    done
    # What it says when it cannot even begin.
    touch "$root/dev/console"
    mount --bind "$dir/log" "$root/dev/console"
    mkdir "$root/dev/pts" "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    mount -t tmpfs -o mode=1777,nosuid,nodev shm "$root/dev/shm"
    mount -t tmpfs -o mode=755,nosuid,nodev run "$root/run"
    for node in sys sysrq-trigger; do
        [ -e "$root/proc/$node" ] || continue
        mount --bind "$root/proc/$node" "$root/proc/$node"
        mount -o remount,bind,ro "$root/proc/$node"
    done
    ip link set lo up

    furnish "$root"

    cd "$root"
    mkdir run/host
    pivot_root . run/host
    umount -l /run/host
    exec env -i container=rig PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        /lib/systemd/systemd --system --unit=rig.target --show-status=no </dev/null >/dev/null 2>&1
}

start() {
    local dir=$1 cgroup init look
    check
    await_instances
    cgroup=$(hierarchy)/tithon-rig-$$
    mkdir "$dir" "$dir/root" "$dir/files" "$cgroup"
    (
        echo "$BASHPID" >"$cgroup/cgroup.procs"
        exec setsid unshare --mount --uts --ipc --pid --net --cgroup --fork --kill-child=KILL -- \
            "$SELF" become-init "$dir" </dev/null >"$dir/log" 2>&1
    ) &
    local outside=$!
    for look in $(seq 500); do
        init=$(cat "/proc/$outside/task/$outside/children" 2>/dev/null || true)
        init=${init// /}
        [ -n "$init" ] && [ "$(cat "/proc/$init/comm" 2>/dev/null)" = systemd ] && break
        kill -0 $outside 2>/dev/null || { cat "$dir/log" >&2; rmdir "$cgroup"; rm -r "$dir"; exit 1; }
        sleep 0.02
    done
    printf '%s\n' "$init" "$cgroup" >"$dir/rig"
    for look in $(seq 600); do
        if [ -d "$cgroup/init.scope" ]; then
            case $(inside "$dir" systemctl is-system-running 2>/dev/null || true) in running | degraded) return ;; esac
        fi
        kill -0 "$init" 2>/dev/null || break
        sleep 0.05
    done
    echo "the rig does not come up" >&2
    cat "$dir/log" >&2
    stop "$dir"
    exit 1
}

inside() {
    local dir=$1 init cgroup
    shift
    { read -r init && read -r cgroup; } <"$dir/rig"
    # Into its cgroups before its namespaces: a process outside would not be seen from within.
    (echo "$BASHPID" >"$cgroup/init.scope/cgroup.procs"
    exec nsenter --target "$init" --mount --uts --ipc --net --pid --cgroup --root --wd -- "$@")
}

# A session as sshd makes one: through PAM and logind.
user() {
    local dir=$1
    shift
    inside "$dir" systemd-run --quiet --pipe --wait --collect --service-type=exec \
        --property=PAMName=login --property=User=$RIG_USER --property=WorkingDirectory=/home/$RIG_USER \
        --setenv=PATH="$PATH" --setenv=LANG=C.UTF-8 --setenv=HOME=/home/$RIG_USER --setenv=XDG_SESSION_CLASS=user -- "$@"
}

stop() {
    local dir=$1 init cgroup look
    [ -f "$dir/rig" ] || return 0
    { read -r init && read -r cgroup; } <"$dir/rig"
    # The end of a pid namespace's first process is the end of all of them.
    kill -KILL "$init" 2>/dev/null || true
    for look in $(seq 100); do
        [ -d "$cgroup" ] || break
        find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || true
        sleep 0.05
    done
    rm -r "$dir"
}

case ${1:-} in
start | user | root | stop) [ $# -ge 2 ] || exit 2 ;;&
start) start "$2" ;;
user) shift; user "$@" ;;
root) shift; inside "$@" ;;
stop) stop "$2" ;;
become-init) become_init "$2" ;;
*) sed -n '2,14p' "$SELF"; exit 2 ;;
esac
