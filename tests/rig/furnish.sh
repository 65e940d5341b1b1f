# What both machines have in common; sourced by systemd.sh and uml.sh.
#
#   furnish ROOT     makes the tree at ROOT one that systemd boots quickly, with the user `rig`

readonly RIG_USER=rig RIG_UID=1500

furnish() {
    local root=$1 units=$1/etc/systemd/system unit
    tr -d - <"$root/proc/sys/kernel/random/uuid" >"$root/etc/machine-id"
    : >"$root/etc/fstab"
    mkdir -p "$units" "$root/etc/systemd/journald.conf.d" "$root/etc/tmpfiles.d"
    printf '%s\n' '[Unit]' 'Requires=basic.target dbus.socket' \
        'Wants=systemd-logind.service systemd-user-sessions.service systemd-journald.service' \
        'After=basic.target' 'AllowIsolate=yes' >"$units/rig.target"
    # What looks after hardware, clocks and disks has no work here.
    for unit in systemd-{timesyncd,networkd,resolved,udevd,udev-trigger,sysctl,binfmt,modules-load,remount-fs,firstboot,random-seed,hwdb-update}.service \
        systemd-networkd.socket systemd-udevd-{control,kernel}.socket systemd-tmpfiles-{clean.timer,setup-dev.service} \
        systemd-machine-id-commit.service kmod-static-nodes.service modprobe@.service console-getty.service getty.target \
        sys-kernel-{debug,tracing,config}.mount sys-fs-fuse-connections.mount dev-hugepages.mount dev-mqueue.mount \
        proc-sys-fs-binfmt_misc.automount apt-daily{,-upgrade}.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer man-db.timer; do
        ln -sf /dev/null "$units/$unit"
    done
    # Its rules for /tmp would empty a directory that is only lent.
    for unit in tmp x11; do ln -sf /dev/null "$root/etc/tmpfiles.d/$unit.conf"; done
    printf '[Journal]\nReadKMsg=no\nRateLimitIntervalSec=0\n' >"$root/etc/systemd/journald.conf.d/rig.conf"

    chmod a+x "$root/root"  # a Python that lives there must be reachable
    chroot "$root" useradd --create-home --uid $RIG_UID --shell /bin/bash $RIG_USER
    mkdir -p "$root/var/lib/systemd/linger"
    touch "$root/var/lib/systemd/linger/$RIG_USER"
}
