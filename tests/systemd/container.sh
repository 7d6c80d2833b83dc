# A container that boots systemd as process 1, with a root of its own: to be sourced by the tests beside it.
#
# Needs root, systemd-nspawn (Debian package systemd-container; NSPAWN names another) and built programs (PROGRAMS, default target/debug).
NSPAWN=${NSPAWN:-systemd-nspawn}
PROGRAMS=${PROGRAMS:-target/debug}

skip() { echo "SKIPPED: $1"; exit 0; }
[ "$(id -u)" = 0 ] || skip "not root"
command -v "$NSPAWN" >/dev/null || skip "systemd-nspawn is missing (Debian package systemd-container)"
[ -x /usr/lib/systemd/systemd ] || skip "systemd is missing"
[ -x "$PROGRAMS/lc-capd" ] || skip "$PROGRAMS holds no programs: build them first"

ROOT=$(mktemp -d)
NAME="lc-hunt-test-$$"
mount -t tmpfs -o mode=755,size=1g "$NAME" "$ROOT"
CONTAINER=
INIT=
clean() {
    [ -z "$INIT" ] || kill -s RTMIN+4 "$INIT" 2>/dev/null || true
    [ -z "$CONTAINER" ] || wait "$CONTAINER" || true
    umount "$ROOT" && rmdir "$ROOT"
    # What the container leaves of its control groups; those in use stay.
    for group in /sys/fs/cgroup/{unified,systemd}/{payload,supervisor}; do
        [ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
}
trap clean EXIT

# A root with nothing of the machine but /usr.
mkdir -p "$ROOT"/{usr,etc/systemd/system,etc/dbus-1,etc/alternatives,var/lib,var/log,run,tmp,proc,sys,dev,root,opt,home}
chmod 1777 "$ROOT/tmp"
for folder in bin sbin lib lib64; do ln -s usr/$folder "$ROOT/$folder"; done
cp /etc/{passwd,group,shadow,nsswitch.conf,ld.so.cache} "$ROOT/etc/"
cp -a /usr/lib/os-release "$ROOT/etc/"
cp -a /etc/dbus-1/. "$ROOT/etc/dbus-1/" 2>/dev/null || true
cp -a /etc/alternatives/. "$ROOT/etc/alternatives/"
: >"$ROOT/etc/fstab"
echo uninitialized >"$ROOT/etc/machine-id"
for unit in sysctl remount-fs udevd update-utmp binfmt modules-load firstboot; do
    ln -s /dev/null "$ROOT/etc/systemd/system/systemd-$unit.service"
done
printf '[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n' >"$ROOT/etc/systemd/system/unit-test.target"

# Boots; the arguments say where its /usr comes from.
boot() {
    # The container's own filter does not know landlock.
    SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 setsid timeout 240 "$NSPAWN" --register=no --keep-unit --private-network "$@" \
        --system-call-filter="landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp futex_waitv" \
        --directory="$ROOT" --machine="$NAME" --console=pipe --boot -- --unit=unit-test.target --log-target=console --show-status=0 \
        </dev/null >"$ROOT/console" 2>&1 &
    CONTAINER=$!
    until_true find_init || { cat "$ROOT/console"; echo "FAILED: the container did not start"; exit 1; }
    until_true booted || fail "the container did not boot"
}

# Tries a command for 20 seconds, until it succeeds.
until_true() {
    for _ in $(seq 100); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.2
    done
    return 1
}
find_init() {
    local process
    for process in $(pgrep -f '^/usr/lib/systemd/systemd --unit=unit-test.target'); do
        if grep -q " $NAME " "/proc/$process/mountinfo"; then INIT=$process; fi
    done
    [ -n "$INIT" ]
}
inside() { nsenter -t "$INIT" -m -p -u -i -n -C -r -w timeout 60 "$@"; }
booted() { [ "$(inside systemctl is-active basic.target)" = active ]; }
main_pid() { inside systemctl show -P MainPID "$1"; }

fail() {
    echo "FAILED: $1"
    inside journalctl --no-pager --lines=40 || true
    exit 1
}
