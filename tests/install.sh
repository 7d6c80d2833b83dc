#!/bin/bash
# Checks what an installation consists of: with a Debian package as argument that one, else what `make install` puts into a folder, with
# built programs (PROGRAMS, default target/debug). Nothing is installed on this machine.
set -eu
cd "$(dirname "$0")/.."
PROGRAMS=${PROGRAMS:-target/debug}

ROOT=$(mktemp -d)
trap 'rm -rf "$ROOT"' EXIT
fail() { echo "FAILED: $1"; exit 1; }

if [ $# -gt 0 ]; then
    what=${1##*/}
    if ! command -v dpkg >/dev/null; then echo "SKIPPED: dpkg is missing"; exit 0; fi
    dpkg -x "$1" "$ROOT"
    zsh=zsh/vendor-completions
    scripts=$(dpkg --info "$1")
    for script in postinst prerm postrm conffiles; do
        grep -q " $script" <<<"$scripts" || fail "$what: no $script"
    done
    [ "$(dpkg --info "$1" conffiles)" = /etc/lc-hunt/config.toml ] || fail "$what: the configuration is no conffile"
else
    [ -x "$PROGRAMS/lc-hunt" ] || { echo "SKIPPED: $PROGRAMS holds no programs: build them first"; exit 0; }
    what="make install"
    make --no-print-directory install DESTDIR="$ROOT" PREFIX=/usr PROGRAMS="$PROGRAMS" >/dev/null
    zsh=zsh/site-functions
fi

# Each file with its mode.
while read -r mode path; do
    [ "$(stat -c %a "$ROOT/$path" 2>/dev/null)" = "$mode" ] || fail "$what: $path is missing, or not of mode $mode"
done <<END
755 usr/bin/lc-hunt
755 usr/bin/lc-capd
755 usr/bin/lc-workerd
755 usr/bin/lc-fwdd
755 usr/bin/lc-sink
644 usr/lib/systemd/system/lc-capd.service
644 usr/lib/systemd/system/lc-workerd@.service
644 usr/lib/systemd/system/lc-fwdd.service
644 usr/lib/systemd/system/lc-drain.service
644 usr/lib/systemd/system/lc-hunt.target
644 usr/lib/systemd/system/lc-hunt.slice
644 usr/lib/sysusers.d/lc-hunt.conf
644 usr/lib/tmpfiles.d/lc-hunt.conf
644 usr/lib/sysctl.d/60-lc-hunt.conf
644 usr/share/lc-hunt/notify-reload.conf
640 etc/lc-hunt/config.toml
644 usr/share/doc/lc-hunt/config.toml
644 usr/share/bash-completion/completions/lc-hunt
644 usr/share/fish/vendor_completions.d/lc-hunt.fish
644 usr/share/$zsh/_lc-hunt
END
for page in man1/lc-hunt.1 man1/lc-hunt-status.1 man1/lc-sink.1 man8/lc-capd.8 man8/lc-workerd.8 man8/lc-fwdd.8; do
    ls "$ROOT/usr/share/man/$page"* >/dev/null 2>&1 || fail "$what: no manual page $page"
done
echo "ok: $what: programs, units, configuration, manual pages and completions are in their places"

for program in lc-hunt lc-capd lc-workerd lc-fwdd lc-sink; do
    "$ROOT/usr/bin/$program" --version | grep -q "^$program " || fail "$what: $program does not run"
done
bash -n "$ROOT/usr/share/bash-completion/completions/lc-hunt" || fail "$what: the completions are no shell script"
# The example must be a configuration, but for the certificate.
"$ROOT/usr/bin/lc-hunt" show config --config "$ROOT/etc/lc-hunt/config.toml" >/dev/null || fail "$what: the configuration is not accepted"
echo "ok: $what: the programs run and accept the configuration"

if command -v systemd-sysusers >/dev/null && [ "$(id -u)" = 0 ]; then
    systemd-sysusers --root="$ROOT" 2>/dev/null || fail "$what: sysusers.d is not accepted"
    for user in lc-capd lc-worker lc-fwd; do
        grep -q "^$user:" "$ROOT/etc/passwd" || fail "$what: no user $user"
    done
    systemd-tmpfiles --root="$ROOT" --create 2>/dev/null || fail "$what: tmpfiles.d is not accepted"
    [ "$(stat -c %a "$ROOT/var/lib/lc-hunt/overflow")" = 700 ] || fail "$what: others may look into the overflow"
    echo "ok: $what: users and directories"
else
    echo "SKIPPED: users and directories; this needs root and systemd"
fi

if command -v systemd-analyze >/dev/null; then
    # The programs are looked for where the units name them.
    sed -i "s|=-\?/usr/bin/|=$ROOT/usr/bin/|" "$ROOT"/usr/lib/systemd/system/lc-*.service
    said=$(cd "$ROOT/usr/lib/systemd/system" && systemd-analyze verify --recursive-errors=no ./lc-capd.service ./lc-workerd@0.service ./lc-fwdd.service ./lc-drain.service ./lc-hunt.target 2>&1) || true
    # What it says about units of the machine is not ours.
    ! grep lc- <<<"$said" || fail "$what: systemd does not accept the units"
    echo "ok: $what: systemd accepts the units"
else
    echo "SKIPPED: systemd-analyze is missing (Debian package systemd)"
fi

if [ $# = 0 ]; then
    make --no-print-directory uninstall DESTDIR="$ROOT" PREFIX=/usr >/dev/null
    left=$(find "$ROOT/usr" -type f)
    [ -z "$left" ] || fail "make uninstall leaves $left"
    [ -e "$ROOT/etc/lc-hunt/config.toml" ] || fail "make uninstall takes the configuration away"
    echo "ok: make uninstall leaves the configuration only"
fi
