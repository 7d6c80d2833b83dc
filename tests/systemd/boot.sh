#!/bin/bash
# Boots systemd as process 1 of a container with a root of its own, starts the units of systemd/ there with lc-sink as processor, and
# kills each daemon in turn: all must come back, behind their walls. Traffic and files stay in the container.
#
# Needs root, systemd-nspawn (Debian package systemd-container; NSPAWN names another) and built programs (PROGRAMS, default target/debug).
set -eu
cd "$(dirname "$0")/../.."
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
mkdir -p "$ROOT"/{usr,etc/systemd/system,etc/dbus-1,etc/alternatives,etc/lc-hunt,var/lib,var/log,run,tmp,proc,sys,dev,root,opt,home}
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
echo 'lc-hunt:x:64999:64999::/nonexistent:/usr/sbin/nologin' >>"$ROOT/etc/passwd"
echo 'lc-hunt:x:64999:' >>"$ROOT/etc/group"

# The product in it.
for program in lc-capd lc-workerd lc-fwdd lc-hunt lc-sink; do strip -o "$ROOT/opt/$program" "$PROGRAMS/$program"; done
for unit in systemd/*.service systemd/*.target systemd/*.slice; do
    sed 's|/usr/bin/lc-|/opt/lc-|; s|^WatchdogSec=.*|WatchdogSec=3|' "$unit" >"$ROOT/etc/systemd/system/$(basename "$unit")"
done
cat >"$ROOT/etc/lc-hunt/config.toml" <<'END'
[hunter]
interfaces = ["lo"]
processor_addr = "127.0.0.1:55999"
insecure = true
workers = 1
runtime_dir = "/run/lc-hunt/service"
END
chgrp 64999 "$ROOT/etc/lc-hunt/config.toml"
chmod 640 "$ROOT/etc/lc-hunt/config.toml"
printf '[Service]\nExecStart=/opt/lc-sink --listen 127.0.0.1:55999 --discard\n' >"$ROOT/etc/systemd/system/sink.service"
printf '[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n' >"$ROOT/etc/systemd/system/unit-test.target"

# The container's own filter does not know landlock.
SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 setsid timeout 120 "$NSPAWN" --register=no --keep-unit --private-network --bind-ro=/usr \
    --system-call-filter="landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp futex_waitv" \
    --directory="$ROOT" --machine="$NAME" --console=pipe --boot -- --unit=unit-test.target --log-target=console --show-status=0 \
    </dev/null >"$ROOT/console" 2>&1 &
CONTAINER=$!

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
inside() { nsenter -t "$INIT" -m -p -u -i -n -C -r -w timeout 20 "$@"; }
booted() { [ "$(inside systemctl is-active basic.target)" = active ]; }

fail() {
    echo "FAILED: $1"
    inside systemctl --no-pager --lines=5 status 'lc-*' || true
    exit 1
}
# All daemons work, and the kernel holds each to its list.
works() {
    local status
    status=$(inside /opt/lc-hunt status) || return 1
    grep -q 'streaming' <<<"$status" || return 1
    [ "$(grep -c ' running, pid' <<<"$status")" = 3 ] || return 1
    [ "$(grep -c 'sandbox seccomp landlock no_new_privs not_dumpable' <<<"$status")" = 3 ]
}
started_again() { [ "$(inside systemctl show -P MainPID "$1")" != "$2" ] && works; }

until_true find_init || { cat "$ROOT/console"; echo "FAILED: the container did not start"; exit 1; }
until_true booted || fail "the container did not boot"
inside systemctl start sink.service
inside systemctl start lc-hunt.target || fail "the target did not start"
until_true works || fail "the node does not work"
echo "ok: the units start, all daemons in their sandbox"
for unit in lc-workerd@0 lc-fwdd lc-capd; do
    before=$(inside systemctl show -P MainPID "$unit")
    inside systemctl kill -s KILL "$unit"
    until_true started_again "$unit" "$before" || fail "$unit did not come back"
    echo "ok: $unit comes back after SIGKILL"
done
worker=$(inside systemctl show -P MainPID lc-workerd@0)
inside systemctl kill -s KILL lc-capd
taken_over() { inside /opt/lc-hunt status | grep -q 'lc-capd .* start 3,' && works; }
until_true taken_over || fail "a new lc-capd did not go on in the shared memory of the old one"
inside /opt/lc-hunt status --json | grep -q '"capture_reopened_total": *0' || fail "systemd did not keep the capture socket"
[ "$(inside systemctl show -P MainPID lc-workerd@0)" = "$worker" ] || fail "lc-workerd@0 did not live on"
echo "ok: a new lc-capd goes on in the shared memory that systemd kept; the worker lives on"
for unit in lc-workerd@0 lc-fwdd lc-capd; do
    before=$(inside systemctl show -P MainPID "$unit")
    inside systemctl kill -s STOP "$unit"
    until_true started_again "$unit" "$before" || fail "the watchdog did not notice that $unit stands still"
    echo "ok: the watchdog replaces $unit when it stands still"
done
inside systemctl stop lc-hunt.target
all_stopped() { ! inside systemctl is-active -q lc-capd lc-workerd@0 lc-fwdd; }
until_true all_stopped || fail "the daemons did not end with the target"
for unit in lc-workerd@0 lc-fwdd lc-capd; do
    [ "$(inside systemctl show -P Result "$unit")" = success ] || fail "$unit did not end well"
done
echo "ok: the target stops all"
