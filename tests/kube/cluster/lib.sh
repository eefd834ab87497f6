# Sourced by the other scripts. Nothing here touches the machine's own network
# namespace: the cluster's LAN is a bridge in the namespace $NS, and each node
# is a namespace with one leg on it. There is no route out of it.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
NS=${NS:-k8s}                # network namespace of the LAN and control plane; the cluster's name on this machine
RUN=${TMPDIR:-/tmp}/weir-kube/$NS; PKI=$RUN/pki
BUILT=${WEIR_KUBE_BUILT:-$RUN/built}   # what `cargo xtask kube-build` made: bin/ and images/
LAN=10.100.0; SVC=10.96; POD=10.244
NODES=${NODES:-3}; PORT=${PORT:-6443}
export PATH=$BUILT/bin:/usr/sbin:/sbin:$PATH
export KUBECONFIG=$RUN/admin.kubeconfig
incp() { nsenter --net=/run/netns/$NS "$@"; }
T0=$(date +%s%N)
say() { printf '%6.1fs %s\n' "$(awk -v a="$(date +%s%N)" -v b="$T0" 'BEGIN{print (a-b)/1e9}')" "$*"; }
waitfor() { # SECONDS COMMAND...
  local end=$((SECONDS+$1)); shift
  until "$@" >/dev/null 2>&1; do ((SECONDS<end)) || { echo "timed out: $*" >&2; return 1; }; sleep 0.2; done
}
start() { # NAME COMMAND...: in the control plane's namespace
  local name=$1; shift
  printf '%q ' "$@" >"$RUN/command/$name"
  setsid nsenter --net=/run/netns/$NS "$@" >>"$RUN/log/$name.log" 2>&1 </dev/null &
  echo $! >"$RUN/pid/$name"
}
rmcgroups() { # NAME: empty cgroups are not removed with the processes, as a reboot would
  local left
  for _ in $(seq 20); do
    left=$(find /sys/fs/cgroup -mindepth 2 -maxdepth 2 -type d -name "$1")
    [ -n "$left" ] || return 0
    find $left -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
  done
}
