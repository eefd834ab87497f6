#!/usr/bin/env bash
# Starts a cluster: a control plane and $NODES nodes. Needs root and `cargo xtask kube-build`.
. "$(dirname "$0")/lib.sh"
[ ! -e /run/netns/$NS ] || { echo "already up: run \`cargo xtask kube-down\` first" >&2; exit 1; }
[ -x "$BUILT/bin/kube" ] || { echo "no Kubernetes in $BUILT: run \`cargo xtask kube-up\`, which builds it" >&2; exit 1; }
mkdir -p "$RUN"/{command,log,pid}
[ "$BUILT" = "$RUN/built" ] || ln -sfn "$BUILT" "$RUN/built"
echo "$NODES" >"$RUN/nodes"

# The LAN.
ip netns add $NS
incp ip link set lo up
incp ip link add lan0 type bridge
incp ip addr add $LAN.1/24 dev lan0
incp ip link set lan0 up
incp sysctl -qw net.ipv4.ip_forward=1

# Identities.
kube pki "$PKI" https://$LAN.1:6443 \
  kubernetes,kubernetes.default,kubernetes.default.svc,kubernetes.default.svc.cluster.local,localhost,127.0.0.1,$LAN.1,${SVC}.0.1 \
  "$(seq -s, -f 'node%g' 1 $((NODES+2)))"
# The machine's own view of the API server: a forwarder on its loopback.
sed "s|https://$LAN.1:6443|https://127.0.0.1:$PORT|" "$PKI/admin.kubeconfig" > "$RUN/admin.kubeconfig"

start etcd kube etcd --data-dir="$RUN/etcd" --unsafe-no-fsync --name=default --log-level=warn \
  --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 \
  --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 \
  --initial-cluster=default=http://127.0.0.1:2380
start apiserver kube apiserver --etcd-servers=http://127.0.0.1:2379 \
  --bind-address=0.0.0.0 --secure-port=6443 --advertise-address=$LAN.1 \
  --service-cluster-ip-range=$SVC.0.0/16 --allow-privileged=true \
  --client-ca-file="$PKI/ca.crt" --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" \
  --kubelet-client-certificate="$PKI/apiserver-kubelet-client.crt" --kubelet-client-key="$PKI/apiserver-kubelet-client.key" \
  --kubelet-preferred-address-types=InternalIP \
  --service-account-issuer=https://kubernetes.default.svc.cluster.local \
  --service-account-key-file="$PKI/sa.pub" --service-account-signing-key-file="$PKI/sa.key" \
  --requestheader-client-ca-file="$PKI/front-proxy-ca.crt" --requestheader-allowed-names=front-proxy-client \
  --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
  --requestheader-extra-headers-prefix=X-Remote-Extra- \
  --proxy-client-cert-file="$PKI/front-proxy-client.crt" --proxy-client-key-file="$PKI/front-proxy-client.key" \
  --enable-aggregator-routing=true `# webhooks go to pod addresses: no kube-proxy beside the API server` \
  --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
  --default-not-ready-toleration-seconds=${TOLERATION:-10} --default-unreachable-toleration-seconds=${TOLERATION:-10}
setsid kube forward 127.0.0.1:$PORT /run/netns/$NS 127.0.0.1:6443 >"$RUN/log/forward.log" 2>&1 </dev/null &
echo $! >"$RUN/pid/forward"

"$HERE/node.sh" prepare $(seq 1 "$NODES")   # while the API server comes up
waitfor 60 kubectl get --raw=/readyz; say "API server ready"
# Not before: without their bootstrapped RBAC roles they exit.
start controller-manager kube controller-manager --kubeconfig="$PKI/controller-manager.kubeconfig" \
  --authentication-kubeconfig="$PKI/controller-manager.kubeconfig" --authorization-kubeconfig="$PKI/controller-manager.kubeconfig" \
  --service-account-private-key-file="$PKI/sa.key" --root-ca-file="$PKI/ca.crt" --use-service-account-credentials \
  --cluster-signing-cert-file="$PKI/ca.crt" --cluster-signing-key-file="$PKI/ca.key" \
  --leader-elect=false --node-monitor-period=2s --node-monitor-grace-period=12s
start scheduler kube scheduler --kubeconfig="$PKI/scheduler.kubeconfig" \
  --authentication-kubeconfig="$PKI/scheduler.kubeconfig" --authorization-kubeconfig="$PKI/scheduler.kubeconfig" --leader-elect=false
for n in $(seq 1 "$NODES"); do "$HERE/node.sh" up "$n"; done
start provisioner kube provisioner --kubeconfig="$PKI/admin.kubeconfig" --host-root="$RUN" --node-path=/mnt/pv
kubectl apply -f "$HERE/base.yaml" >/dev/null
waitfor 90 kubectl wait --for=condition=Ready node $(seq -f 'node%g' 1 "$NODES") --timeout=60s; say "$NODES node(s) Ready"
kubectl -n kube-system rollout status deploy/coredns --timeout=90s >/dev/null; say "CoreDNS available"
