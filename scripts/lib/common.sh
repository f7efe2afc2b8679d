# shellcheck shell=bash
# What the scripts share. Sourced by bash with `set -euo pipefail`; $ROOT is the clone.

# A shell of `su`, cron or a runner may lack what a login sets: the folders of root's programs, a home, open files
# that other accounts may read, and a stdin.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
if [ -z "${HOME:-}" ]; then
    HOME=$(getent passwd "$(id -u)" | cut -d: -f6)
    export HOME=${HOME:-/}
fi
umask 022
{ : <&0; } 2>/dev/null || exec </dev/null

# Bold at a terminal that wants it.
BOLD='' PLAIN=''
if [ -t 2 ] && [ -z "${NO_COLOR:-}" ]; then BOLD=$'\033[1m' PLAIN=$'\033[0m'; fi
say() { printf '%s==>%s %s\n' "$BOLD" "$PLAIN" "$*" >&2; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}
# shown WORD...: the words as a shell would take them, quoted only where it matters.
shown() {
    local word
    for word in "$@"; do
        case $word in
        '' | *[!A-Za-z0-9_./:=@%+,-]*) printf " '%s'" "${word//\'/\'\\\'\'}" ;;
        *) printf ' %s' "$word" ;;
        esac
    done
}
have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command with the rights of root. At a terminal sudo may ask for a password; elsewhere it must not.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif ! have sudo; then
        warn "\`$*\` needs root, and there is no sudo"
        return 1
    elif [ -t 0 ] && [ -t 2 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

# may_be_root: whether `as_root` works; at a terminal this is where the password is asked for.
may_be_root() { [ "$(id -u)" = 0 ] || { have sudo && as_root true; }; }

# want PACKAGE TEST...: notes PACKAGE as missing unless the test succeeds.
MISSING=()
want() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || MISSING+=("$package")
}

# Installs what `want` noted, and nothing when nothing is missing.
install_missing() {
    [ ${#MISSING[@]} -gt 0 ] || return 0
    have apt-get || die "missing: ${MISSING[*]} (Debian's names; this is no Debian or Ubuntu: install them by hand)"
    may_be_root || die "missing: ${MISSING[*]}
This account may not install them. Have root run \`apt-get install --no-install-recommends ${MISSING[*]}\`, then start again."
    say "installing ${MISSING[*]} (a minute or more); no service of theirs is started"
    as_root sh "$ROOT/scripts/lib/install-packages" "${MISSING[@]}" || die "apt-get could not install ${MISSING[*]}"
    MISSING=()
}

# Cargo as rustup or the distribution put it.
find_cargo() {
    have cargo && return 0
    # shellcheck disable=SC1091
    if [ -r "$HOME/.cargo/env" ]; then . "$HOME/.cargo/env"; fi
    have cargo || die "cargo is missing: install Rust from https://rustup.rs and start again"
}

# Sends a signal to one process of ours and waits for its end, at most $2 seconds; then kills it.
end_process() {
    local pid=$1 seconds=${2:-10} tries=0
    [ -d "/proc/$pid" ] || return 0
    kill "$pid" 2>/dev/null || as_root kill "$pid" 2>/dev/null || return 0
    while [ -d "/proc/$pid" ] && [ $tries -lt $((seconds * 10)) ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    [ ! -d "/proc/$pid" ] || as_root kill -9 "$pid" 2>/dev/null || true
}

# Ends what runs from a folder of ours: its engine, containerd and shims, and observers. Others are recognised by name and left.
sweep_folder() {
    local folder=$1 pid name
    for pid in $(grep -las -- "$folder/" /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3); do
        name=$(cat "/proc/$pid/comm" 2>/dev/null || true)
        case $name in
        dockerd | containerd* | docker-registry | sshd | runc | farrun-agent) end_process "$pid" 15 ;;
        esac
    done
    { grep -F " $folder/" /proc/self/mounts || true; } | cut -d' ' -f2 | sort -r | while read -r mount; do
        as_root umount -l "$mount" 2>/dev/null || true
    done
}

# free_port: a loopback port below the ephemeral range on which nobody listens.
free_port() {
    python3 - <<'PY'
import random, socket
for _ in range(500):
    port = random.randint(20000, 31999)
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            continue
    print(port)
    break
PY
}

# start_sshd FOLDER PORT [LINE...]: a server of our own for this account, with these lines more in its configuration;
# its pid lands in FOLDER/sshd.pid.
start_sshd() {
    local folder=$1 port=$2 name
    shift 2
    mkdir -p "$folder"
    for name in host_key identity; do
        [ -e "$folder/$name" ] || ssh-keygen -q -t ed25519 -N '' -C farrun -f "$folder/$name"
    done
    cp "$folder/identity.pub" "$folder/authorized_keys"
    printf '[127.0.0.1]:%s %s\n' "$port" "$(cut -d' ' -f1,2 "$folder/host_key.pub")" >"$folder/known_hosts"
    cat >"$folder/sshd_config" <<EOF
Port $port
ListenAddress 127.0.0.1
HostKey $folder/host_key
AuthorizedKeysFile $folder/authorized_keys
PidFile $folder/sshd.pid
Subsystem sftp internal-sftp
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
PrintMotd no
EOF
    if [ $# -gt 0 ]; then printf '%s\n' "$@" >>"$folder/sshd_config"; fi
    if [ "$(id -u)" = 0 ]; then mkdir -p /run/sshd; fi
    /usr/sbin/sshd -f "$folder/sshd_config" -E "$folder/sshd.log" || die "sshd did not start: $(tail -n 3 "$folder/sshd.log")"
    local tries=0
    until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || die "sshd does not listen on port $port: $(tail -n 3 "$folder/sshd.log")"
        sleep 0.1
    done
}

# start_engine FOLDER: a Docker engine in a network namespace of its own, its socket at FOLDER/docker.sock.
start_engine() {
    local folder=$1 tries=0
    mkdir -p "$folder"
    rm -f "$folder/pid"
    as_root unshare --net env "PATH=$PATH:/usr/sbin:/sbin" sh -c 'ip link set lo up; exec dockerd "$@"' dockerd \
        --data-root="$folder/data" --exec-root="$folder/exec" --pidfile="$folder/pid" -H "unix://$folder/docker.sock" \
        --group="$(id -g)" --bridge=none --iptables=false --ip-masq=false --log-level=warn \
        </dev/null >"$folder/log" 2>&1 &
    until docker -H "unix://$folder/docker.sock" version >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || die "the engine did not come up: $(tail -n 5 "$folder/log")"
        sleep 0.2
    done
}

# stop_engine FOLDER: ends an engine started above and what is left of it.
stop_engine() {
    local folder=$1
    if [ -r "$folder/pid" ]; then end_process "$(cat "$folder/pid")" 20; fi
    sweep_folder "$folder"
}
