#!/bin/sh
# Checks the units in systemd/: that systemd understands them, and that what they expose stays below the limits.
set -eu
cd "$(dirname "$0")/../../systemd"

if ! command -v systemd-analyze >/dev/null; then
    echo "SKIPPED: systemd-analyze is missing (Debian package systemd)"
    exit 0
fi

failed=0

# The programs need not be installed for a check: any executable stands in for them.
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
for unit in *.service *.target *.slice; do
    sed 's|/usr/bin/lc-[a-z]*|/bin/true|' "$unit" >"$copy/$unit"
done
said=$(cd "$copy" && systemd-analyze verify --recursive-errors=no ./lc-capd.service ./lc-workerd@0.service ./lc-fwdd.service ./lc-drain.service ./lc-hunt.target 2>&1) || failed=1
# What it says about units of the machine is not ours.
said=$(printf '%s\n' "$said" | grep lc- || true)
if [ -n "$said" ]; then
    printf '%s\n' "$said"
    failed=1
fi

# Exposure in tenths, as systemd-analyze counts it.
check() {
    if systemd-analyze security --offline=true --threshold="$2" "$1" >/dev/null 2>&1; then
        echo "ok: $1 exposes no more than $2 tenths"
    else
        echo "FAILED: $1 exposes more than $2 tenths:"
        systemd-analyze security --offline=true "$1" | tail -1
        failed=1
    fi
}
check lc-workerd@.service 10
check lc-fwdd.service 20
check lc-capd.service 40
check lc-drain.service 15
exit $failed
