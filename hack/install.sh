#!/bin/sh
# install.sh: puts a release of agentbox for this machine below PREFIX, after its checksum was verified.
#
#   AGENTBOX_FROM=https://…/download/v1.2.3 sh install.sh
#
#   AGENTBOX_FROM    where the release's files are: an address (https, or http on this machine) or a directory
#   AGENTBOX_SHA256  the checksum of checksums.txt, had from elsewhere; without it the files are believed as far as
#                    the place they come from is
#   PREFIX           /usr/local as root, else ~/.local
#
# It changes nothing but PREFIX, runs nothing it fetched, and leaves nothing half done. On a Debian, Fedora or Alpine
# machine the deb, rpm or apk brings Podman along; this does not.
set -eu
umask 022

say() { printf 'install.sh: %s\n' "$*" >&2; }
die() { say "$1"; [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2; exit 1; }

main() {
  from=${AGENTBOX_FROM:-}
  [ -n "$from" ] || die "AGENTBOX_FROM is not set" "AGENTBOX_FROM=URL-OR-DIRECTORY sh install.sh"
  case $from in
    https://* | http://127.0.0.1[:/]* | http://localhost[:/]* | http://\[::1\][:/]*) ;;
    *://*) die "$from is fetched over no verified connection" "use https" ;;
    *) [ -d "$from" ] || die "there is no directory $from" ;;
  esac
  if [ "$(id -u)" = 0 ]; then prefix=${PREFIX:-/usr/local}; else prefix=${PREFIX:-$HOME/.local}; fi
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  trap 'exit 1' HUP INT TERM
  fetch checksums.txt
  if [ -n "${AGENTBOX_SHA256:-}" ]; then
    [ "$(sum "$work/checksums.txt")" = "$AGENTBOX_SHA256" ] || die "checksums.txt is not the one with AGENTBOX_SHA256"
  fi
  archive=$(name)
  fetch "$archive"
  [ "$(sum "$work/$archive")" = "$(listed "$archive")" ] || die "$archive is not what checksums.txt lists: nothing was installed"
  mkdir "$work/files"
  tar -xzf "$work/$archive" -C "$work/files"
  lay
  say "installed $prefix/bin/agentbox; \`agentbox doctor\` says what this machine lacks"
  case :$PATH: in *":$prefix/bin:"*) ;; *) say "$prefix/bin is not on your PATH" ;; esac
}

# name is the archive for this machine, as checksums.txt lists it.
name() {
  system=$(uname -s | tr '[:upper:]' '[:lower:]')
  case $(uname -m) in
    x86_64 | amd64) arch=amd64 ;;
    aarch64 | arm64) arch=arm64 ;;
    *) die "there is no release for $(uname -m)" ;;
  esac
  found=$(sed -n 's/^[0-9a-f]\{64\}  \(agentbox_[A-Za-z0-9._~+-]*_'"${system}_$arch"'\.tar\.gz\)$/\1/p' "$work/checksums.txt")
  case $found in
    '') die "this release has nothing for $system on $arch" ;;
    *"
"*) die "checksums.txt lists more than one archive for $system on $arch" ;;
  esac
  printf '%s\n' "$found"
}

fetch() {
  case $from in
    *://*) get "${from%/}/$1" "$work/$1" || die "$1 could not be fetched from $from" ;;
    *) cp "$from/$1" "$work/$1" || die "there is no $1 in $from" ;;
  esac
}

get() { # no redirect leads from https to anything else
  command -v curl >/dev/null || die "curl is not installed" "fetch the files by hand, and give their directory in AGENTBOX_FROM"
  curl -fsSL --retry 3 --proto "=${1%%:*}" --proto-redir "=${1%%:*}" -o "$2" "$1"
}

sum() {
  if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1
}

listed() { awk -v f="$1" '$2 == f { print $1 }' "$work/checksums.txt"; }

# put lays one file: whole or not at all, also where an agentbox runs.
put() { # mode, source, target
  mkdir -p "$(dirname "$3")"
  cp "$2" "$3.new"
  chmod "$1" "$3.new"
  mv "$3.new" "$3"
}

lay() {
  for page in "$work"/files/man/*.1; do put 644 "$page" "$prefix/share/man/man1/${page##*/}"; done
  put 644 "$work/files/completions/agentbox.bash" "$prefix/share/bash-completion/completions/agentbox"
  put 644 "$work/files/completions/_agentbox" "$prefix/share/zsh/site-functions/_agentbox"
  put 644 "$work/files/completions/agentbox.fish" "$prefix/share/fish/vendor_completions.d/agentbox.fish"
  put 755 "$work/files/agentbox" "$prefix/bin/agentbox"
}

main # the last line: half a download does nothing
