#!/usr/bin/env bash
# Unpacks Python for arm64, with its headers and the C++ library that numpy's modules ask for, from the packages of the
# Debian or Ubuntu that this is; installs nothing. Needs the architecture: dpkg --add-architecture arm64 && apt-get update.
#
# Usage: bash packaging/arm64_root.sh FOLDER
set -euo pipefail
folder=$(realpath -m "${1:?give a folder}")
mkdir -p "$folder"
packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
python=$(apt-cache depends --important python3 | sed -n 's/.*Depends: \(python3\.[0-9]*\)$/\1/p' | head -1)
cd "$packages"
apt-cache depends --recurse --important "$python:arm64" "lib$python-dev:arm64" libstdc++6:arm64 |
  sed -n 's/^\(\w.*:arm64\)$/\1/p' | sort -u | xargs apt-get download --quiet
for package in *.deb; do dpkg -x "$package" "$folder"; done
"$(command -v qemu-aarch64-static)" -L "$folder" "$folder/usr/bin/$python" --version
