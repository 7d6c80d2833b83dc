#!/bin/bash
# Boots systemd as process 1 of a container with a root of its own and runs the units of systemd/ there, with lc-sink as processor and
# traffic on a pair of interfaces: they start as their users behind their walls, come back when they are killed or stand still, are
# reloaded, restarted and ended under load, and the processor gets every packet that was captured. Traffic and files stay in the container.
# What it needs: container.sh.
set -eu
cd "$(dirname "$0")/../.."
# Packets of a load, and how many a second.
PACKETS=40000
RATE=4000
. tests/systemd/container.sh

# The product in it.
mkdir -p "$ROOT"/etc/{lc-hunt,sysusers.d,tmpfiles.d}
for program in lc-capd lc-workerd lc-fwdd lc-hunt lc-sink lc-send; do strip -o "$ROOT/opt/$program" "$PROGRAMS/$program"; done
for unit in systemd/*.service systemd/*.target systemd/*.slice; do
    sed 's|/usr/bin/lc-|/opt/lc-|; s|^WatchdogSec=.*|WatchdogSec=3|' "$unit" >"$ROOT/etc/systemd/system/$(basename "$unit")"
done
cp systemd/sysusers.conf "$ROOT/etc/sysusers.d/lc-hunt.conf"
cp systemd/tmpfiles.conf "$ROOT/etc/tmpfiles.d/lc-hunt.conf"
systemd-sysusers --root="$ROOT" 2>/dev/null
# A second worker, and the account of what was captured where the test can read it.
mkdir "$ROOT"/etc/systemd/system/{lc-hunt.target.d,lc-drain.service.d}
printf '[Unit]\nUpholds=lc-workerd@1.service\nAfter=lc-workerd@1.service\n' >"$ROOT/etc/systemd/system/lc-hunt.target.d/workers.conf"
printf '[Service]\nStandardOutput=truncate:/run/drained\n' >"$ROOT/etc/systemd/system/lc-drain.service.d/account.conf"
cat >"$ROOT/etc/lc-hunt/config.toml" <<'END'
[hunter]
interfaces = ["receive"]
processor_addr = "127.0.0.1:55999"
insecure = true
no_filter_policy = "allow"
workers = 2
runtime_dir = "/run/lc-hunt/service"
[hunter.disk_buffer]
enabled = true
dir = "/var/lib/lc-hunt/overflow"
[hunter.users]
worker = "lc-worker"
forwarder = "lc-fwd"
END
"$PROGRAMS/lc-bench" generate --seed 1 --vlan 0 --packets $PACKETS --out "$ROOT/opt/load.pcap" >/dev/null
printf '[Service]\nExecStart=/opt/lc-sink --listen 127.0.0.1:55999 --summary /run/summary.json --discard\n' >"$ROOT/etc/systemd/system/sink.service"
printf '[Service]\nExecStart=/opt/lc-send /opt/load.pcap --interface send --rate %d\n' $RATE >"$ROOT/etc/systemd/system/load.service"

# All daemons work, and the kernel holds each to its list.
works() {
    local status
    status=$(inside /opt/lc-hunt status) || return 1
    grep -q 'streaming' <<<"$status" || return 1
    [ "$(grep -c ' running, pid' <<<"$status")" = 4 ] || return 1
    [ "$(grep -c 'sandbox seccomp landlock no_new_privs not_dumpable' <<<"$status")" = 4 ]
}
started_again() { [ "$(main_pid "$1")" != "$2" ] && works; }
# The number that follows a word at the beginning of a line, in an account of packets.
number() { awk -v word="$1" '$1 == word { print $2; exit }'; }
captured() { inside /opt/lc-hunt status | number captured; }
captured_at_least() { [ "$(captured)" -ge "$1" ]; }
# The account of a node whose packets have all found their end.
drained() { inside cat /run/drained; }
# A total of the processor's.
total() { inside grep -o "\"$1\": *[0-9]*" /run/summary.json | head -1 | grep -o '[0-9]*$'; }
arrived() { total packets; }
sent() { [ "$(inside systemctl show -P ActiveState load.service)" = inactive ]; }

boot --bind-ro=/usr
inside sh -c 'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6'
inside ip link add send type veth peer name receive
inside ip link set send up
inside ip link set receive up
inside systemctl start sink.service
inside systemctl start lc-hunt.target || fail "the target did not start"
until_true works || fail "the node does not work"
echo "ok: the units start, all daemons in their sandbox"

for pair in lc-capd:lc-capd lc-workerd@0:lc-worker lc-workerd@1:lc-worker lc-fwdd:lc-fwd; do
    unit=${pair%:*} user=${pair#*:}
    uid=$(inside awk '/^Uid:/ { print $2 }' "/proc/$(main_pid "$unit")/status")
    [ "$uid" = "$(inside id -u "$user")" ] || fail "$unit runs as the user $uid, not $user"
done
for line in "lc-capd lc-hunt 750 /run/lc-hunt/service" "lc-capd lc-hunt 660 /run/lc-hunt/service/capd.sock" "root lc-hunt 640 /etc/lc-hunt/config.toml" \
    "lc-worker lc-hunt 700 /var/lib/lc-hunt/quarantine" "lc-fwd lc-hunt 700 /var/lib/lc-hunt/overflow"; do
    found=$(inside stat -c '%U %G %a %n' "${line##* }")
    [ "$found" = "$line" ] || fail "$found, not $line"
done
as() { inside setpriv --reuid "$1" --regid "$2" --clear-groups /opt/lc-hunt status --runtime-dir /run/lc-hunt; }
as nobody lc-hunt >/dev/null || fail "a member of the group lc-hunt does not see the status"
! as nobody nogroup >/dev/null 2>&1 || fail "a stranger sees the status"
echo "ok: each daemon has its own user; the group may look, strangers may not"

for unit in lc-workerd@0 lc-fwdd lc-capd; do
    before=$(main_pid "$unit")
    inside systemctl kill -s KILL "$unit"
    until_true started_again "$unit" "$before" || fail "$unit did not come back"
    echo "ok: $unit comes back after SIGKILL"
done
worker=$(main_pid lc-workerd@0)
inside systemctl kill -s KILL lc-capd
taken_over() { inside /opt/lc-hunt status | grep -q 'lc-capd .* start 3,' && works; }
until_true taken_over || fail "a new lc-capd did not go on in the shared memory of the old one"
inside /opt/lc-hunt status --json | grep -q '"capture_reopened_total": *0' || fail "systemd did not keep the capture socket"
[ "$(main_pid lc-workerd@0)" = "$worker" ] || fail "lc-workerd@0 did not live on"
echo "ok: a new lc-capd goes on in the shared memory that systemd kept; the worker lives on"
for unit in lc-workerd@0 lc-fwdd lc-capd; do
    before=$(main_pid "$unit")
    inside systemctl kill -s STOP "$unit"
    until_true started_again "$unit" "$before" || fail "the watchdog did not notice that $unit stands still"
    echo "ok: the watchdog replaces $unit when it stands still"
done

before=$(captured)
inside systemctl start load.service
for unit in lc-workerd@0 lc-workerd@1; do
    until_true captured_at_least $(($(captured) + RATE / 2)) || fail "nothing is captured"
    old=$(main_pid "$unit")
    inside systemctl restart "$unit" || fail "$unit did not restart"
    started_again "$unit" "$old" || until_true started_again "$unit" "$old" || fail "$unit did not come back"
done
forwarder=$(main_pid lc-fwdd)
inside systemctl reload lc-fwdd || fail "lc-fwdd can't be reloaded"
inside systemctl reload lc-hunt.target || fail "the target can't be reloaded"
until_true works || fail "the node does not work after a reload"
[ "$(main_pid lc-fwdd)" = "$forwarder" ] || fail "lc-fwdd did not live on"
echo "ok: systemctl reload, of the forwarder and of the target"
until_true sent || fail "not all packets were sent"
until_true captured_at_least $((before + PACKETS)) || fail "$(captured) packets were captured, not $((before + PACKETS))"
inside systemctl stop lc-hunt.target
all_stopped() { ! inside systemctl is-active -q lc-capd lc-workerd@0 lc-workerd@1 lc-fwdd; }
until_true all_stopped || fail "the daemons did not end with the target"
for unit in lc-workerd@0 lc-workerd@1 lc-fwdd lc-capd; do
    [ "$(inside systemctl show -P Result "$unit")" = success ] || fail "$unit did not end well"
done
first=$(drained | number captured)
inside systemctl kill -s TERM sink.service
until_true arrived || fail "the processor gives no account"
[ "$(arrived)" = "$first" ] || fail "$(arrived) of $first packets arrived"
[ "$(total packets_again)" = 0 ] || fail "packets arrived twice"
[ "$first" = $((before + PACKETS)) ] || fail "$first packets were captured, not $((before + PACKETS))"
echo "ok: workers are restarted one by one under load: $PACKETS packets sent, all arrived, none twice"

inside systemctl start sink.service
inside systemctl start lc-hunt.target || fail "the target did not start again"
until_true works || fail "the node does not work"
inside systemctl start load.service
until_true captured_at_least $((2 * RATE)) || fail "nothing is captured"
inside systemctl stop lc-hunt.target
until_true all_stopped || fail "the daemons did not end with the target"
inside systemctl stop load.service
second=$(drained | number captured)
inside systemctl kill -s TERM sink.service
all_arrived() { [ "$(arrived)" = $((first + second)) ]; }
until_true all_arrived || fail "$(arrived) packets arrived, not $first and $second"
echo "ok: the target stops in order under load: all $second packets that were captured arrived"
