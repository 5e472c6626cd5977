#!/bin/bash
# Installs the Debian packages that building and the lab need, those that are missing and no others.
#
# Debian starts a service when its package is installed. Nobody asked for a BGP daemon or a container runtime on this
# machine, so while bird2 or containerd is being installed a policy forbids that, and afterwards its service is disabled;
# one that was there before is left as it is.
set -euo pipefail

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
policy=/usr/sbin/policy-rc.d

# Program, and the package that has it.
needed=(
    cc gcc
    ip iproute2
    ping iputils-ping
    bird bird2
    birdc bird2
    containerd containerd
    runc runc
    tcpdump tcpdump
)
# Packages of these that bring a service.
services=(bird2:bird containerd:containerd)

missing=()
for ((i = 0; i < ${#needed[@]}; i += 2)); do
    package=${needed[i + 1]}
    if ! command -v "${needed[i]}" >/dev/null && [[ " ${missing[*]} " != *" $package "* ]]; then
        missing+=("$package")
    fi
done
# The C library to link with; its headers tell that it is there.
if [[ ! -e /usr/include/stdio.h ]]; then
    missing+=(libc6-dev)
fi

if [[ ${#missing[@]} == 0 ]]; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "Missing: ${missing[*]} (names of Debian packages): install them with this system's package manager" >&2
    exit 1
fi
if [[ $(id -u) != 0 ]]; then
    echo "Missing packages: run this as root, or \`sudo apt-get install ${missing[*]}\`" >&2
    exit 1
fi

forbid_services() {
    if [[ ! -e $policy ]]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
}

echo "Installing Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
for service in "${services[@]}"; do
    if [[ " ${missing[*]} " == *" ${service%%:*} "* ]]; then
        forbid_services
    fi
done
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
for service in "${services[@]}"; do
    if [[ " ${missing[*]} " == *" ${service%%:*} "* ]] && command -v systemctl >/dev/null; then
        systemctl disable --quiet "${service#*:}.service" 2>/dev/null || true
    fi
done
