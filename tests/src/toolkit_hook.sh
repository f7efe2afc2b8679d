#!/bin/sh
# Stands in for the hook of NVIDIA's container toolkit. It is told of a container before the container's program starts
# (its state comes on standard input), and puts a device into it for each GPU that the engine named.
state=$(cat)
pid=$(printf '%s' "$state" | sed -n 's/.*"pid":\([0-9]*\).*/\1/p')
bundle=$(printf '%s' "$state" | sed -n 's/.*"bundle":"\([^"]*\)".*/\1/p')
root=$(sed -n 's/.*"root":{"path":"\([^"]*\)".*/\1/p' "$bundle/config.json")
gpus=$(sed -n 's/.*"NVIDIA_VISIBLE_DEVICES=\([^"]*\)".*/\1/p' "$bundle/config.json")
number=0
set -- "$root/dev/nvidiactl"
for _ in $(echo "$gpus" | tr , ' '); do
    set -- "$@" "$root/dev/nvidia$number"
    number=$((number + 1))
done
[ "$number" -eq 0 ] || exec nsenter --target "$pid" --mount touch "$@"
