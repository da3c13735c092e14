# A guest for the throwaway pod of pod.sh: a real one in QEMU, or one made of a namespace. Sourced after pod.sh.
#
# Expects: scratch (a folder of the caller's), podnic (the command), guest_tools (the folder of traffic and
# namespace_guest). Every function returns nonzero after one sentence on stderr when it fails.
# shellcheck shell=bash disable=SC2154

guest_folder=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")/guest
guest_port=7000

# The kernel's arguments: a quiet and quick start; panic=-1 ends a broken guest at once.
guest_append="console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable no_timer_check random.trust_cpu=on \
cryptomgr.notests rcupdate.rcu_expedited=1 8250.nr_uarts=1 i8042.noaux i8042.nokbd pci=lastbus=0"

# qemu_command ACCELERATOR CPUS INITRD: the command in ${guest_command[@]}. q35, as microvm hangs with a stock kernel.
qemu_command() {
  local cpu=qemu64
  [[ $1 != kvm ]] || cpu=host
  guest_command=(qemu-system-x86_64 -accel "$1" -M q35 -cpu "$cpu" -smp "$2" -m 128 -nodefaults -no-user-config
    -display none -no-reboot -serial stdio -device "isa-debug-exit,iobase=0xf4,iosize=0x04"
    -kernel "$guest_image/vmlinux" -initrd "$3" -append "$guest_append")
}

# kvm where it really starts this kernel, else tcg. A /dev/kvm may be there and not be able to: then it burns a processor for as
# long as it is waited for, which is longer than tcg takes. So one looks, once in a machine's life, and others wait for that.
choose_accelerator() {
  accelerator=tcg
  [[ -r /dev/kvm && -w /dev/kvm ]] || return 0
  local known=$guest_image/accelerator boot lock of_boot found
  boot=$(</proc/sys/kernel/random/boot_id)
  exec {lock}<"$guest_image"
  flock "$lock"
  if read -r of_boot found 2>/dev/null <"$known" && [[ $of_boot == "$boot" ]]; then
    accelerator=$found
  else
    qemu_command kvm 1 "$guest_image/base.cpio"
    if timeout 6 "${guest_command[@]}" </dev/null 2>/dev/null | grep -q '@guest booted'; then accelerator=kvm; fi
    echo "$boot $accelerator" >"$known"
  fi
  exec {lock}<&-
}

# prepare_guest vm|namespace CPUS: image, scripts and settings; the command in ${guest_command[@]}.
prepare_guest() {
  local kind=$1 cpus=$2 files=$scratch/initramfs/guest option=
  [[ $kind == vm ]] || option=--busybox
  guest_image=$("$guest_folder/build-image" ${option:+"$option"} 2>"$scratch/build-image.log") || {
    cat "$scratch/build-image.log" >&2
    return 1
  }
  mkdir -p "$files"
  cp "$guest_folder/files/main" "$guest_folder/files/on-lease" "$guest_tools/traffic" "$files"
  printf '%s=%s\n' port $guest_port peer4 "$world_ipv4" peer6 "$world_ipv6" quit_after 300 >"$files/settings"
  if [[ $kind == vm ]]; then
    (cd "$scratch/initramfs" && find guest | "$guest_image/busybox" cpio -o -H newc 2>/dev/null) >"$scratch/more.cpio"
    cat "$guest_image/base.cpio" "$scratch/more.cpio" >"$scratch/initrd.cpio"
    choose_accelerator
    qemu_command "$accelerator" "$cpus" "$scratch/initrd.cpio"
  else
    guest_command=("$guest_tools/namespace_guest" --init "exec '$guest_image/busybox' sh '$files/main' '$files'")
  fi
}

# start_guest PODNIC_RUN_FLAG...: `podnic run` in the pod, in the background; its process is $run_pid.
start_guest() {
  console=$scratch/console
  mkfifo "$scratch/orders"
  exec {orders}<>"$scratch/orders"
  : >"$console"
  nsenter --net="/run/netns/$pod" -- "$podnic" run "$@" -- "${guest_command[@]}" \
    <&"$orders" >>"$console" 2>>"$scratch/podnic.err" {orders}>&- &
  run_pid=$!
}

# The peer's server, which the guest will ask.
start_peer_server() {
  nsenter --net="/run/netns/$peer" -- "$guest_tools/traffic" serve $guest_port "$world_ipv4" "$world_ipv6" \
    >"$scratch/peer-server" &
  disown # it ends with the pod, and that is no news
  wait_until 10 "the peer's server" grep -q serving "$scratch/peer-server"
}

# wait_until SECONDS WHAT COMMAND...: until COMMAND succeeds.
wait_until() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" 2>/dev/null; do
    if ((SECONDS >= deadline)); then
      echo "$what: not there in time" >&2
      return 1
    fi
    sleep 0.05
  done
}

guest_ended() { ! kill -0 "$run_pid" 2>/dev/null; }

# said PATTERN: what the guest has said on its console after @guest, of the lines that match.
said() { tr -d '\r' <"$console" | sed -n 's/^.*@guest //p' | grep -E "$1"; }

said_or_ended() { said "$1" >/dev/null || guest_ended; }

# wait_said PATTERN SECONDS: until the guest says it.
wait_said() {
  if wait_until "$2" "the guest's '$1'" said_or_ended "$1" && said "$1" >/dev/null; then return 0; fi
  echo "The guest never said '$1'. The last of its console:" >&2
  tail -n 15 "$console" >&2
  echo "The last of podnic's errors:" >&2
  tail -n 5 "$scratch/podnic.err" >&2
  return 1
}

# The value of a key in a line that the guest said: key=value or key='value'.
value_of() { sed -nE "s/^(.* )?$1=('([^']*)'|([^ ]*)).*/\3\4/p" <<<"$2"; }

# ask_guest tcp|udp 4|6 BYTES: from the peer, at the pod's address; prints the address that the guest saw.
ask_guest() {
  local pod_address=pod_ipv$2
  in_peer "$guest_tools/traffic" ask "$1" "${!pod_address}" $guest_port "$3" 10
}

# end_guest STATUS SECONDS: the guest ends by itself; the exit status of `podnic run` is returned.
end_guest() {
  echo "end $1" >&"$orders"
  wait_until "$2" "the end of the guest" guest_ended || return 1
  wait "$run_pid"
}

# Whatever is left of it, in any state: podnic cleans up after SIGTERM, so it has the time to.
stop_guest() {
  [[ ${run_pid-} ]] && ! guest_ended || return 0
  kill -TERM "$run_pid"
  wait_until 10 "the end of podnic run" guest_ended || kill -KILL "$run_pid"
  wait "$run_pid" || true
}
