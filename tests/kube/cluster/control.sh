#!/usr/bin/env bash
# control.sh away | back
# API server, controller manager and scheduler are killed, and begin anew. What they know lies in etcd, which stays; nodes, and what runs on them, go on.
. "$(dirname "$0")/lib.sh"
again() { eval "start $1 $(cat "$RUN/command/$1")"; }
case ${1:-} in
away)
  for name in scheduler controller-manager apiserver; do
    p=$(cat "$RUN/pid/$name"); kill -9 "$p"
    while kill -0 "$p" 2>/dev/null; do sleep 0.05; done
  done ;;
back)
  again apiserver
  waitfor 60 kubectl get --raw=/readyz
  again controller-manager
  again scheduler ;;
*) sed -n 2p "$0" >&2; exit 2 ;;
esac
