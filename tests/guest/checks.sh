# What the guest tests check with. Sourced; expects here, bin and scratch.
# shellcheck shell=bash disable=SC2154,SC2034

podnic=$bin/podnic guest_tools=$bin
# shellcheck source=tests/support/pod.sh
source "$here/../support/pod.sh"
# shellcheck source=tests/support/guest.sh
source "$here/../support/guest.sh"

failures=0

# same WHAT EXPECTED FOUND: goes on when they differ, so that one run shows all that is wrong.
same() {
  if [[ $2 == "$3" ]]; then
    if [[ $2 && $2 != *$'\n'* ]]; then echo "ok: $1: $2"; else echo "ok: $1"; fi
  else
    echo "FAILED: $1"
    diff <(echo "$2") <(echo "$3") | sed 's/^</  expected:/; s/^>/  found:   /' || true
    failures=$((failures + 1))
  fi
}

finish() {
  ((failures == 0)) || echo "$failures checks failed"
  exit $((failures > 0))
}

clean_up() {
  local status=$?
  trap '' INT TERM
  set +e
  stop_guest
  remove_pod
  rm -rf "$scratch"
  exit "$status"
}

# The process that `podnic run` started in the place of the machine.
machine_process() {
  local process
  for process in $(cat "/proc/$run_pid/task/"*/children | xargs); do
    [[ $(readlink "/proc/$process/exe") != *"/$(basename "${guest_command[0]}")" ]] || echo "$process"
  done
}

# descriptors_of PROCESS: "number target" of each.
descriptors_of() { find "/proc/$1/fd" -type l -printf '%f %l\n' | sort -n; }
