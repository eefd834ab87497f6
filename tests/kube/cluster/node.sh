#!/usr/bin/env bash
# node.sh prepare N... | up N | kill N | wipe N | cut N | mend N | exec N COMMAND... | load IMAGE.tar...
# A node is one network, mount, PID, UTS and IPC namespace set whose PID 1 is
# node-init.sh: killing it is a power failure, and "up" again is a reboot.
. "$(dirname "$0")/lib.sh"
outer() { cat "$RUN/pid/node$1"; }
inner() { pgrep -P "$(outer "$1")"; }
# Each node sees all of the machine's memory: a quarter of it is what each may promise to pods.
RESERVED=$(awk '/^MemTotal:/{print int($2 * 3 / 4)}' /proc/meminfo)
cmd=$1; shift
case $cmd in
prepare)
  for n; do
    D=$RUN/node$n
    mkdir -p "$D"/{cni,cni-state,containerd,kubelet,log,pv,plugins}; : >"$D/resolv.conf"
    ip netns add $NS-node$n
    ip link add eth0 netns $NS-node$n type veth peer name node$n netns $NS
    incp ip link set node$n master lan0 up
    i() { nsenter --net=/run/netns/$NS-node$n "$@"; }
    i ip link set lo up
    i ip addr add $LAN.$((10+n))/24 dev eth0
    i ip link set eth0 up
    i sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1
    # No default route: a Service address that kube-proxy does not know goes nowhere.
    i ip route add $SVC.0.0/16 dev eth0 src $LAN.$((10+n))
    incp ip route add $POD.$n.0/24 via $LAN.$((10+n))
    for m in $(seq 1 $((NODES+2))); do [ "$m" = "$n" ] || i ip route add $POD.$m.0/24 via $LAN.$((10+m)); done
    cat >"$D/cni/10-bridge.conflist" <<CNI
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$D/cni-state", "routes": [{"dst": "0.0.0.0/0"}],
            "ranges": [[{"subnet": "$POD.$n.0/24"}]]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
CNI
    cat >"$D/containerd.toml" <<TOML
version = 2
root = "$D/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "k8s.local/pause:1"
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = true   # root here lacks CAP_SYS_RESOURCE: a score below ours cannot be set
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$D/cni"
TOML
    cat >"$D/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$NS-node$n          # one per node: kubelets remove pod cgroups they do not know
clusterDNS: [$SVC.0.10]
clusterDomain: cluster.local
resolvConf: $D/resolv.conf
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $PKI/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $PKI/node$n.crt
tlsPrivateKeyFile: $PKI/node$n.key
volumePluginDir: $D/plugins
nodeStatusUpdateFrequency: 4s
syncFrequency: 10s               # as often Secrets that changed come to the pods that mount them
nodeLeaseDurationSeconds: 8
systemReserved: {memory: ${RESERVED}Ki}
maxPods: 50
imageGCHighThresholdPercent: 100  # images come from files: nothing could pull them again
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 200Mi, nodefs.available: 1Gi, imagefs.available: 1Gi}
serializeImagePulls: false
oomScoreAdj: 0                    # as restrict_oom_score_adj
YAML
    cat >"$D/proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
hostnameOverride: node$n
oomScoreAdj: 0
clientConnection: {kubeconfig: $PKI/proxy.kubeconfig}
clusterCIDR: $POD.0.0/16
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}  # not settable in a namespace
iptables: {minSyncPeriod: 100ms, syncPeriod: 30s}
YAML
  done ;;
up)
  n=$1; D=$RUN/node$n
  # A reboot leaves no cgroups: cAdvisor would wait 3s for each dead container it finds.
  rmcgroups "$NS-node$n"
  for c in /sys/fs/cgroup/*/; do [ ! -e "$c/cgroup.procs" ] || mkdir -p "$c/$NS-node$n"; done
  setsid nsenter --net=/run/netns/$NS-node$n unshare --mount --pid --uts --ipc --fork --kill-child --mount-proc \
    bash "$HERE/node-init.sh" "$n" >"$D/log/init.log" 2>&1 </dev/null &
  echo $! >"$RUN/pid/node$n" ;;
kill)
  p=$(outer "$1"); kill -9 "$p"; rm -f "$RUN/pid/node$1"
  while kill -0 "$p" 2>/dev/null; do sleep 0.05; done ;;
wipe) rm -rf "$RUN/node$1/pv"; mkdir "$RUN/node$1/pv" ;; # its disk is lost: of one that was killed
cut) incp ip link set node$1 down ;;
mend) incp ip link set node$1 up ;;
exec) n=$1; shift; exec nsenter -t "$(inner "$n")" -a "$@" ;;
load) for n in $(seq 1 "$(cat "$RUN/nodes")"); do for f; do nsenter -t "$(inner "$n")" -a ctr -n k8s.io images import "$f" >/dev/null; done; done ;;
*) sed -n 2p "$0" >&2; exit 2 ;;
esac
