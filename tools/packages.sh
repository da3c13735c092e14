# Debian packages of tools/packages.txt, installed only where they are missing. Sourced.
# shellcheck shell=bash

packages_list=$(dirname "${BASH_SOURCE[0]}")/packages.txt

# packages_of GROUP...: the names of the packages of these groups.
packages_of() {
  awk -v groups=" $* " '!/^#/ && index(groups, " " $1 " ") { print $2 }' "$packages_list"
}

# missing_packages GROUP...: those that are not installed. A package that another one provides counts as installed.
missing_packages() {
  local package installed
  installed=" $(dpkg-query -W -f '${db:Status-Status} ${Package} ${Provides}\n' |
    sed -n 's/^installed //p' | tr -d ',' | tr '\n' ' ') "
  for package in $(packages_of "$@"); do
    [[ $installed == *" $package "* ]] || echo "$package"
  done
}

# install_packages GROUP...: the package lists are fetched only when they lack a package or are out of date.
install_packages() {
  local missing
  if ! command -v dpkg-query >/dev/null; then
    echo "This needs Debian 12 (no dpkg-query here). Its packages: $(packages_of "$@" | xargs)" >&2
    return 1
  fi
  missing=$(missing_packages "$@" | xargs)
  [[ -n $missing ]] || return 0
  if ((EUID != 0)); then
    echo "Packages are missing and only root can install them: apt-get install $missing" >&2
    return 1
  fi
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086  # one word for each package
  {
    apt-cache show --no-all-versions $missing >/dev/null 2>&1 &&
      apt-get install -y --no-install-recommends $missing && return 0
    apt-get update && apt-get install -y --no-install-recommends $missing
  }
}
