#!/bin/sh
# Stands in for nvidia-smi. What it does is told by the files beside it; see nvidia_smi.rs.
here=${0%/*}
printf '%s %s\n' "$$" "$*" >> "$here/calls"
[ -e "$here/ignore-term" ] && trap '' TERM
while [ -e "$here/hang" ]; do sleep 0.2; done
[ -s "$here/seconds" ] && sleep "$(cat "$here/seconds")"
[ -e "$here/flood" ] && exec head -c 1000000000 /dev/zero
if [ -e "$here/die" ]; then
    printf '0, GPU-'
    kill -9 $$
fi
[ -e "$here/garbage" ] && exec cat "$here/garbage"
if [ -s "$here/fail" ]; then
    tail -n +2 "$here/fail"
    exit "$(head -n 1 "$here/fail")"
fi
case "$1" in
"")
    cat "$here/table" 2>/dev/null || echo '| NVIDIA-SMI 555.10   Driver Version: 555.10   CUDA Version: 12.5 |'
    exit 0 ;;
-L) exec cat "$here/list" ;;
-q) exec cat "$here/report" ;;
--query-compute-apps=*)
    [ -e "$here/apps" ] && exec cat "$here/apps"
    exit 0 ;;
--query-gpu=*) ;;
*)
    echo "ERROR: Option $1 is not recognized. Please run 'nvidia-smi -h'."
    exit 255 ;;
esac
fields=${1#--query-gpu=}
only=
while [ $# -gt 0 ]; do
    [ "$1" = -i ] && only=$2
    shift
done
if [ -s "$here/drop-fields" ]; then
    for field in $(echo "$fields" | tr , ' '); do
        if grep -qxF -- "$field" "$here/drop-fields"; then
            printf 'Field "%s" is not a valid field to query.\n\n' "$field"
            exit 2
        fi
    done
fi
gone=
if [ -s "$here/lose-from" ]; then
    read -r from gone < "$here/lose-from"
    [ "$(grep -c -- '--query-gpu=' "$here/calls")" -ge "$from" ] || gone=
fi
printed=0
for gpu in "$here"/gpus/*; do
    [ -e "$gpu" ] || continue
    uuid=${gpu##*/}
    [ "$uuid" = "$gone" ] && continue
    [ -z "$only" ] || [ "$uuid" = "$only" ] || continue
    awk -v fields="$fields" '
        { place = index($0, "="); value[substr($0, 1, place - 1)] = substr($0, place + 1) }
        END {
            count = split(fields, name, ",")
            for (i = 1; i <= count; i++)
                printf "%s%s", (i > 1 ? ", " : ""), (name[i] in value ? value[name[i]] : "[N/A]")
            print ""
        }' "$gpu"
    printed=1
done
if [ "$printed" = 0 ]; then
    echo 'No devices were found'
    exit 6
fi
