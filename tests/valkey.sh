#!/bin/sh
# Puts a Valkey into FOLDER and says where its server is. Debian 12 has it among its backports only:
# this downloads and unpacks it, and leaves the machine's package sources and packages alone. What
# else it needs, redis-server has brought. With a status other than 0 it says why there is none.
#
#   sh tests/valkey.sh FOLDER      FOLDER: is made; a Valkey that is there already stays
set -eu
folder=$1
server=$folder/root/usr/bin/valkey-server
if [ ! -x "$server" ]; then
  mkdir -p "$folder/sources" "$folder/lists" "$folder/root"
  cd "$folder"
  from=$(apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
    sed -n 's/^bookworm main //p' | head -n 1)
  if [ -z "$from" ]; then
    echo "no Valkey: there is no package source for Debian 12 (bookworm)"
    exit 1
  fi
  keys=/usr/share/keyrings/debian-archive-keyring.gpg
  echo "deb [signed-by=$keys] $from bookworm-backports main" >sources/backports.list
  apt() {
    apt-get -q -o APT::Sandbox::User=root -o Dir::Etc::SourceList=/dev/null \
      -o "Dir::Etc::SourceParts=$PWD/sources" -o "Dir::State::Lists=$PWD/lists" \
      -o "Dir::Cache=$PWD/cache" "$@" >>log 2>&1
  }
  if ! apt update || ! apt download valkey-server valkey-tools; then
    echo "no Valkey: the backports of Debian 12 cannot be had"
    exit 1
  fi
  for package in valkey-*.deb; do dpkg-deb -x "$package" root; done
fi
"$server" --version >/dev/null
echo "$server"
