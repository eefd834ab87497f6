#!/usr/bin/env bash
# PID 1 of a node's namespaces (see node.sh).
. "$(dirname "$0")/lib.sh"
n=$1; D=$RUN/node$n
mount --make-rshared /
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /mnt
mkdir -p /mnt/pv /var/lib/cni; mount --bind "$D/pv" /mnt/pv
mount --bind "$D/log" /var/log
hostname node$n
containerd --config "$D/containerd.toml" >"$D/log/containerd.log" 2>&1 &
waitfor 30 ctr version
if [ ! -e "$D/imported" ]; then
  for f in "$BUILT"/images/*.tar; do ctr -n k8s.io images import "$f"; done
  touch "$D/imported"
fi
kube proxy --config "$D/proxy.yaml" >"$D/log/proxy.log" 2>&1 &
while :; do # as systemd's Restart=always: the kubelet exits on some start-up races
  kube kubelet --config="$D/kubelet.yaml" --kubeconfig="$PKI/node$n.kubeconfig" --root-dir="$D/kubelet" \
    --hostname-override=node$n --node-ip=$LAN.$((10+n)) \
    --node-labels=topology.kubernetes.io/zone=zone$n >>"$D/log/kubelet.log" 2>&1 || true
  sleep 1
done &
wait
