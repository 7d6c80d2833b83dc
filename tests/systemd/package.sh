#!/bin/bash
# Installs the Debian package in a container with its own /usr, runs the node of its units, upgrades it while it works, and removes it. The
# argument names the package; else it is the one that `make deb` has made. What it needs besides: container.sh, overlayfs.
set -eu
cd "$(dirname "$0")/../.."
. tests/systemd/container.sh

PACKAGE=${1:-$(ls target/debian/lc-hunt_*.deb 2>/dev/null | tail -1)}
[ -n "$PACKAGE" ] || skip "there is no package: make deb"

# dpkg's account of this machine, without what it knows about each package's files.
mkdir -p "$ROOT"/var/lib/dpkg/{info,updates,triggers,parts} "$ROOT/upper"
cp /var/lib/dpkg/status "$ROOT/var/lib/dpkg/"
cp /var/lib/dpkg/info/format "$ROOT/var/lib/dpkg/info/"
cp "$PACKAGE" "$ROOT/opt/lc-hunt.deb"
printf '[Service]\nExecStart=/usr/bin/lc-sink --listen 127.0.0.1:55999 --discard\n' >"$ROOT/etc/systemd/system/sink.service"
boot --overlay="/usr:$ROOT/upper:/usr"

install() { inside env DEBIAN_FRONTEND=noninteractive dpkg -i /opt/lc-hunt.deb >"$ROOT/dpkg.log" 2>&1 || { cat "$ROOT/dpkg.log"; fail "$1"; }; }
works() {
    local status
    status=$(inside lc-hunt status) || return 1
    grep -q 'streaming' <<<"$status" && [ "$(grep -c ' running, pid' <<<"$status")" = 3 ]
}
UNITS="lc-capd lc-workerd@0 lc-fwdd"
pids() { for unit in $UNITS; do main_pid "$unit"; done; }

install "the package can't be installed"
for user in lc-capd lc-worker lc-fwd; do inside id "$user" >/dev/null || fail "there is no user $user"; done
for line in "root lc-hunt 640 /etc/lc-hunt/config.toml" "lc-worker lc-hunt 700 /var/lib/lc-hunt/quarantine" "lc-fwd lc-hunt 700 /var/lib/lc-hunt/overflow"; do
    found=$(inside stat -c '%U %G %a %n' "${line##* }")
    [ "$found" = "$line" ] || fail "$found, not $line"
done
! inside systemctl is-active -q lc-hunt.target || fail "the node runs before it is configured"
echo "ok: the package installs users, directories and units"

inside sed -i 's/"eth0"/"lo"/; s/^processor_addr.*/processor_addr = "127.0.0.1:55999"\ninsecure = true/; /^\[hunter.tls\]/,$d' /etc/lc-hunt/config.toml
inside systemctl start sink.service
inside systemctl enable -q --now lc-hunt.target || fail "the target can't be started"
until_true works || fail "the node does not work"
echo "ok: the node runs"

before=$(pids)
install "the package can't be upgraded"
until_true works || fail "the node does not work after the upgrade"
for pid in $before; do
    ! grep -qw "$pid" <<<"$(pids)" || fail "process $pid lived on"
done
inside lc-hunt status | grep -q 'lc-capd .* start 2,' || fail "the new lc-capd did not go on in the shared memory of the old one"
inside grep -q '"lo"' /etc/lc-hunt/config.toml || fail "the configuration was lost"
echo "ok: an upgrade replaces the daemons of the running node, in the same shared memory, and keeps the configuration"

inside dpkg -r lc-hunt >/dev/null 2>&1 || fail "the package can't be removed"
for unit in $UNITS; do ! inside systemctl is-active -q "$unit" || fail "$unit still runs"; done
inside test ! -e /usr/bin/lc-capd || fail "programs stay"
inside test -e /etc/lc-hunt/config.toml || fail "a removal takes the configuration away"
inside dpkg -P lc-hunt >/dev/null 2>&1 || fail "the package can't be purged"
inside test ! -e /etc/lc-hunt/config.toml -a ! -e /var/lib/lc-hunt || fail "a purge leaves configuration or state"
echo "ok: a removal ends the node, a purge leaves nothing"
