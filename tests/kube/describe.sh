#!/usr/bin/env bash
# Prints what one would look at first in a cluster where something went wrong.
set -u
kubectl get nodes,pods,pvc -A -o wide
kubectl get weir -A -o wide 2>/dev/null
kubectl get events -A --sort-by=.lastTimestamp | tail -60
for pod in $(kubectl get pods -A -l app.kubernetes.io/part-of=weir -o jsonpath='{range .items[*]}{.metadata.namespace}/{.metadata.name} {end}'); do
  echo "---- logs of $pod"
  kubectl -n "${pod%/*}" logs --tail=60 --prefix --all-containers "${pod#*/}"
  kubectl -n "${pod%/*}" logs --tail=30 --previous --all-containers "${pod#*/}" 2>/dev/null
done
