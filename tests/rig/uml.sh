#!/bin/bash
# A machine with a Linux of its own, for tests of what a machine's memory controller does: User-Mode
# Linux, an ordinary process, boots systemd over a throw-away view of this machine's files.
#
#   uml.sh DIR SCRIPT     runs SCRIPT with bash in a login session of the user `rig`, who lingers, and
#                         exits as it does; DIR must not exist, and is readable inside under its name
#
# Needs root and the Debian packages user-mode-linux, systemd, libpam-systemd and dbus-user-session:
# exits with 77 and says what is missing. Nothing of the host is changed but DIR.
set -euo pipefail

readonly SELF=$(readlink -f "${BASH_SOURCE[0]}")
. "$(dirname "$SELF")/furnish.sh"

# As much as three Pythons and the files written inside need.
readonly MEMORY=1G
# A machine that hangs must not hang the tests.
readonly WITHIN=300

skip() { echo "no machine: $*" >&2; exit 77; }

check() {
    [ "$(id -u)" = 0 ] || skip "it needs root"
    command -v linux.uml >/dev/null || skip "user-mode-linux is not installed"
    [ -x /lib/systemd/systemd ] || skip "systemd is not installed"
    compgen -G '/lib/*/security/pam_systemd.so' >/dev/null || compgen -G '/lib*/security/pam_systemd.so' >/dev/null \
        || skip "libpam-systemd is not installed"
    [ -e /usr/lib/systemd/user/dbus.socket ] || skip "dbus-user-session is not installed"
}

# The first process of the guest, until it becomes systemd. The host's files are its root, read-only.
become_init() {
    local dir root=/mnt/root units
    export PATH=/usr/sbin:/usr/bin:/sbin:/bin
    mount -t proc proc /proc
    dir=$(tr ' ' '\n' </proc/cmdline | sed -n 's/^rig=//p')
    insmod "/usr/lib/uml/modules/$(uname -r)/kernel/fs/overlayfs/overlay.ko"
    umount /proc
    mount -t tmpfs -o size=60% files /mnt
    mkdir /mnt/upper /mnt/work "$root"
    mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay "$root"
    mount -t proc proc "$root/proc"
    mount -t sysfs sysfs "$root/sys"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    mount -t devtmpfs dev "$root/dev"
    mount -t tmpfs -o mode=755,nosuid,nodev run "$root/run"
    # Directly, not through the view: what is written there reaches the host.
    mkdir -p "$root$dir"
    mount -t hostfs -o "$dir" exchange "$root$dir"
    furnish "$root"
    chroot "$root" ip link set lo up
    units=$root/etc/systemd/system
    printf '%s\n' '[Unit]' 'Requires=basic.target' \
        'After=basic.target systemd-logind.service systemd-user-sessions.service' \
        '[Service]' 'Type=oneshot' "User=$RIG_USER" 'PAMName=login' "WorkingDirectory=/home/$RIG_USER" \
        'Environment=LANG=C.UTF-8 XDG_SESSION_CLASS=user' "EnvironmentFile=$dir/environment" \
        "ExecStart=/bin/bash $dir/script" "StandardOutput=append:$dir/said" "StandardError=append:$dir/said" \
        "ExecStopPost=+/bin/sh -c 'echo \$EXIT_STATUS >$dir/exit; systemctl --no-block poweroff --force'" \
        >"$units/rig-run.service"
    printf '%s\n' 'Requires=rig-run.service' >>"$units/rig.target"
    exec chroot "$root" /lib/systemd/systemd --unit=rig.target
}

run() {
    local dir=$1 script=$2 exit
    check
    mkdir "$dir"
    chmod 755 "$dir"
    cp "$script" "$dir/script"
    chmod 644 "$dir/script"
    printf 'PATH=%s\n' "$PATH" >"$dir/environment"
    : >"$dir/said"
    : >"$dir/exit"
    printf '#!/bin/bash\nexec %q become-init\n' "$SELF" >"$dir/init"
    chmod 755 "$dir/init"
    # Its memory is a file; on a disk it would be as slow as the disk.
    TMPDIR=/dev/shm timeout --kill-after=5 $WITHIN linux.uml mem=$MEMORY umid=rig uml_dir="$dir/uml" \
        root=/dev/root rootfstype=hostfs rootflags=/ ro "init=$dir/init" "rig=$dir" \
        quiet systemd.show_status=0 con=null con0=null,fd:1 ssl=null </dev/null >"$dir/console" 2>&1 || true
    cat "$dir/said"
    exit=$(cat "$dir/exit")
    if [ -z "$exit" ]; then
        echo "the machine ended without the script's end; its console:" >&2
        tail -n 30 "$dir/console" >&2
        exit=1
    fi
    exit "$exit"
}

case ${1:-} in
become-init) become_init ;;
'' | -*) sed -n '2,10p' "$SELF"; exit 2 ;;
*) [ $# = 2 ] || exit 2; run "$1" "$2" ;;
esac
