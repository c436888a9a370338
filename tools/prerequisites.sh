# shellcheck shell=bash disable=SC2034
# Sourced by tests/run, tools/demo and tools/lab: the Debian packages we need, how to install them, how to build.

BUILD_PACKAGES=(
    g++ cmake ninja-build pkg-config
    liblmdb-dev libmsgpack-cxx-dev libspdlog-dev libfmt-dev libexpected-dev
    spin libbenchmark-dev libcli11-dev libinih-dev libcurl4-openssl-dev nlohmann-json3-dev libsodium-dev libtdb-dev libgtest-dev
    libgmock-dev libzmq3-dev  # ZeroMQ itself only for tests: it must understand our mesh
)
# Real Samba and its tools; ctdb for its command (its daemon is only run by tests that compare with it).
RUNTIME_PACKAGES=(samba samba-common-bin smbclient winbind ctdb tdb-tools python3 python3-etcd etcd-server iproute2 util-linux procps
    apache2-bin vsftpd curl nfs-ganesha nfs-ganesha-vfs libnfs-utils tgt libiscsi7)

# For the test of a cluster in a domain: what the domain's controller needs, and nodes that know the domain's users.
DOMAIN_PACKAGES=(samba-ad-provision samba-dsdb-modules libnss-winbind)

# For tools/lab and its test.
GLUSTER_PACKAGES=(glusterfs-server glusterfs-client samba-vfs-modules)
# For tools/lab --with, beside those above.
SERVICE_PACKAGES=(nfs-ganesha-gluster dbus apache2 libiscsi-bin)

package_missing() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" != installed ]
}

# install_packages NAME...: those that are missing, without starting any service.
install_packages() {
    local missing=() name policy=/usr/sbin/policy-rc.d status
    for name in "$@"; do
        if package_missing "$name"; then missing+=("$name"); fi
    done
    if [ ${#missing[@]} -eq 0 ]; then
        echo "all packages are there"
        return 0
    fi
    if [ "$(id -u)" != 0 ]; then
        echo "missing packages: ${missing[*]}; install them, or run this as root" >&2
        return 1
    fi
    echo "installing: ${missing[*]}"
    # Samba's and CTDB's daemons are not to start on this machine because we install them
    if [ -e "$policy" ]; then
        policy=
    else
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    export DEBIAN_FRONTEND=noninteractive
    { apt-get -q update && apt-get -q install -y --no-install-recommends "${missing[@]}"; } </dev/null
    status=$?
    if [ -n "$policy" ]; then
        rm -f "$policy"
        trap - EXIT
    fi
    [ $status -eq 0 ] || echo "apt-get failed; the packages above are needed" >&2
    return $status
}

# build_release JOBS [TARGET]: build/release/bin, build/release/lib, and all tests unless TARGET is `programs`. ccache
# speeds it up where it is installed.
build_release() {
    local launcher=()
    if command -v ccache >/dev/null; then
        launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
        export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=true   # a second checkout may use what the first compiled
    fi
    cmake --preset release "${launcher[@]}" && cmake --build --preset release -j "$1" --target "${2-all}"
}

# build_programs NAME: what tools/demo and tools/lab run; its output only if it fails.
build_programs() {
    local log
    log=$(mktemp) || return 1
    echo "== build (some minutes the first time)"
    if build_release "$(nproc)" programs >"$log" 2>&1; then
        tail -n 1 "$log"
        rm -f "$log"
    else
        tail -n 30 "$log" >&2
        echo "$1: the build failed; all of its output is in $log" >&2
        return 1
    fi
}
