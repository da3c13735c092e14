# How the scripts show their work: one line for each step, its time, and of a failed one its output. Sourced.
#
# Expects: scratch (a folder of the caller's).
# shellcheck shell=bash disable=SC2154

if [[ -t 1 && ${TERM-dumb} != dumb && ! ${NO_COLOR-} ]]; then
  on_terminal=1 bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m' erase=$'\r\e[K'
else
  on_terminal='' bold='' green='' red='' plain='' erase=''
fi

heading() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

good() { printf '  %sok%s    %s\n' "$green" "$plain" "$*"; }

bad() { printf '  %sFAILED%s %s\n' "$red" "$plain" "$*"; }

# fail SENTENCE...: the last thing that a script says.
fail() {
  printf '%s%s: %s%s\n' "$red" "$(basename "$0")" "$*" "$plain" >&2
  exit 1
}

# step TEXT COMMAND...: runs it in the background, so that its progress can be shown and a signal is served at once.
# Its process group is $step_group while it runs.
step() {
  local text=$1 log=$scratch/step.log started=$SECONDS shown=$SECONDS status=0
  shift
  [[ $on_terminal ]] || echo "  ...   $text"
  set -m
  "$@" >"$log" 2>&1 </dev/null &
  step_group=$!
  set +m
  while kill -0 "$step_group" 2>/dev/null; do
    if [[ $on_terminal ]]; then
      printf '%s  %3d s %s  %.60s' "$erase" $((SECONDS - started)) "$text" "$(tail -n 1 "$log" | tr -cd '[:print:]')"
    elif ((SECONDS - shown >= 15)); then
      shown=$SECONDS
      printf '  ...   %s: %d s so far; %.60s\n' "$text" $((SECONDS - started)) "$(tail -n 1 "$log")"
    fi
    sleep 0.2
  done
  wait "$step_group" || status=$?
  step_group=
  if ((status == 0)); then
    printf '%s' "$erase"
    good "$text ($((SECONDS - started)) s)"
  else
    printf '%s' "$erase"
    bad "$text. The end of its output:"
    tail -n 40 "$log" | sed 's/^/  | /'
  fi
  return "$status"
}

# Ends the step that a signal came into, and all that it started.
stop_step() {
  [[ ${step_group-} ]] || return 0
  kill -INT -- "-$step_group" 2>/dev/null
  wait "$step_group" 2>/dev/null
  kill -KILL -- "-$step_group" 2>/dev/null
  step_group=
}
