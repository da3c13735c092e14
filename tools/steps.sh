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

# A long step: begin, progress as often as one likes, and done_with when it has succeeded.
begin() {
  begun=$SECONDS shown=$SECONDS
  [[ $on_terminal ]] || echo "  ...   $1"
}

# progress TEXT [DETAIL]: on a terminal at once, elsewhere a line every 15 seconds.
progress() {
  local detail
  detail=$(tr -cd '[:print:]' <<<"${2-}" | cut -c1-60)
  if [[ $on_terminal ]]; then
    printf '%s %4d s %s  %s' "$erase" $((SECONDS - begun)) "$1" "$detail"
  elif ((SECONDS - shown >= 15)); then
    shown=$SECONDS
    printf '  ...   %s: %d s so far  %s\n' "$1" $((SECONDS - begun)) "$detail"
  fi
}

done_with() {
  printf '%s' "$erase"
  good "$1 ($((SECONDS - begun)) s)"
}

# step TEXT COMMAND...: runs it in the background, so that its progress can be shown and a signal is served at once.
# Its process group is $step_group while it runs.
step() {
  local text=$1 log=$scratch/step.log status=0
  shift
  begin "$text"
  set -m
  "$@" >"$log" 2>&1 </dev/null &
  step_group=$!
  set +m
  while kill -0 "$step_group" 2>/dev/null; do
    progress "$text" "$(tail -n 1 "$log")"
    sleep 0.1
  done
  wait "$step_group" || status=$?
  step_group=
  if ((status == 0)); then
    done_with "$text"
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
