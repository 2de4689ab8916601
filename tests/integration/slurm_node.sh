#!/usr/bin/env bash
# A Slurm of one node on this machine, from nothing, for tests: no accounting database, no units, nothing that listens
# to other machines.
#
#   slurm_node.sh up | down | status
#
# Debian or Ubuntu, as root: slurmctld, slurmd, slurm-client and munge are installed where they are missing. Everything
# else (configuration, state, logs, key) is in $SLURM_NODE (default ${TMPDIR:-/tmp}/slurm-node). /etc/slurm/slurm.conf and
# gres.conf become links to it, unless there are files of that name: Snakemake's plugin takes SLURM_CONF out of its jobs'
# environment, and srun must find the controller without it. `down` stops the daemons and takes the links away.
#   SLURM_NODE_CPUS  cores that Slurm gives out [all]
#   SLURM_NODE_GPUS  GPUs that Slurm counts, gives out and numbers, each of them /dev/null in truth [1]
# Exit status 77: this machine cannot have one, and the last line says why.
set -euo pipefail

place=${SLURM_NODE:-${TMPDIR:-/tmp}/slurm-node}
cpus=${SLURM_NODE_CPUS:-$(getconf _NPROCESSORS_ONLN)} # nproc would heed OMP_NUM_THREADS
gpus=${SLURM_NODE_GPUS:-1}
name=$(hostname -s)

cannot() {
  echo "no Slurm here: $*" >&2
  exit 77
}

running() { # <pid file> <program>
  [ -s "$1" ] && [ "$(cat "/proc/$(cat "$1")/comm" 2>/dev/null)" = "$2" ]
}

install_packages() {
  local missing=()
  command -v slurmctld >/dev/null || missing+=(slurmctld)
  command -v slurmd >/dev/null || missing+=(slurmd)
  command -v sbatch >/dev/null || missing+=(slurm-client)
  command -v munged >/dev/null || missing+=(munge)
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || cannot "${missing[*]} missing, and no apt-get to install them with"
  local policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then # or the packages would start daemons with a configuration of their own
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
    trap "rm -f $policy" EXIT
  fi
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } \
    >/dev/null 2>&1 || cannot "apt-get could not install ${missing[*]}"
}

configure() {
  local memory
  memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
  cat >"$place/slurm.conf" <<CONF
ClusterName=node
SlurmctldHost=$name(127.0.0.1)
SlurmctldPort=${SLURM_NODE_PORT:-26817}
SlurmdPort=$((${SLURM_NODE_PORT:-26817} + 1))
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$place/munge/munge.sock
CredType=cred/munge
StateSaveLocation=$place/state
SlurmdSpoolDir=$place/spool
SlurmctldPidFile=$place/run/slurmctld.pid
SlurmdPidFile=$place/run/slurmd.pid
SlurmctldLogFile=$place/log/slurmctld.log
SlurmdLogFile=$place/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2,batch_sched_delay=0,bf_interval=2
ReturnToService=2
MinJobAge=300
GresTypes=gpu
NodeName=$name NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory Gres=gpu:$gpus State=UNKNOWN
PartitionName=main Nodes=$name Default=YES MaxTime=INFINITE State=UP DefMemPerCPU=512
CONF
  : >"$place/gres.conf"
  for ((i = 0; i < gpus; i++)); do # a count without devices leaves the node INVAL
    [ -c "$place/dev/nvidia$i" ] || mknod -m 666 "$place/dev/nvidia$i" c 1 3
    echo "NodeName=$name Name=gpu File=$place/dev/nvidia$i" >>"$place/gres.conf"
  done
  mkdir -p /etc/slurm
  for file in slurm.conf gres.conf; do
    ln -sfn "$place/$file" "/etc/slurm/$file"
  done
}

start() {
  if ! running "$place/munge/munged.pid" munged; then
    rm -f "$place"/munge/munge.sock*
    setpriv --reuid=munge --regid=munge --clear-groups munged --key-file="$place/munge/munge.key" \
      --socket="$place/munge/munge.sock" --pid-file="$place/munge/munged.pid" \
      --log-file="$place/munge/munged.log" --seed-file="$place/munge/munged.seed"
  fi
  running "$place/run/slurmctld.pid" slurmctld || slurmctld
  running "$place/run/slurmd.pid" slurmd || slurmd -N "$name"
  for _ in $(seq 60); do
    case $(sinfo -h -o %T 2>/dev/null || true) in
      idle | mixed | allocated) return 0 ;;
      down* | drain*) scontrol update nodename="$name" state=resume 2>/dev/null || true ;;
    esac
    sleep 0.5
  done
  tail -n 5 "$place"/log/*.log >&2 || true
  cannot "the daemons did not come up within 30 s; their logs are in $place/log"
}

up() {
  [ "$(id -u)" = 0 ] || cannot "root is needed to start slurmd and munged"
  for file in slurm.conf gres.conf; do # before anything is installed
    [ ! -e "/etc/slurm/$file" ] || [ "$(readlink "/etc/slurm/$file")" = "$place/$file" ] \
      || cannot "/etc/slurm/$file is there: this machine has a Slurm of its own"
  done
  [ ! -e "$place" ] || [ -O "$place" ] || cannot "$place belongs to another user"
  install_packages
  getent hosts "$name" >/dev/null || echo "127.0.0.1 $name" >>/etc/hosts || cannot "$name has no address"
  mkdir -p "$place"/{state,spool,log,run,munge,dev}
  chmod 755 "$place"
  chown munge: "$place/munge"
  chmod 711 "$place/munge"
  if [ ! -s "$place/munge/munge.key" ]; then
    dd if=/dev/urandom of="$place/munge/munge.key" bs=128 count=1 status=none
    chown munge: "$place/munge/munge.key"
    chmod 400 "$place/munge/munge.key"
  fi
  configure
  start
}

down() {
  [ -z "$(command -v scancel)" ] || timeout 10 scancel --me 2>/dev/null || true
  for pid_file in run/slurmd run/slurmctld munge/munged; do
    if running "$place/$pid_file.pid" "${pid_file#*/}"; then
      local pid
      pid=$(cat "$place/$pid_file.pid")
      kill "$pid"
      for _ in $(seq 50); do
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
      done
    fi
  done
  for file in slurm.conf gres.conf; do
    [ "$(readlink "/etc/slurm/$file" 2>/dev/null)" != "$place/$file" ] || rm "/etc/slurm/$file"
  done
}

export SLURM_CONF=$place/slurm.conf
case ${1:-} in
  up) up ;;
  down) down ;;
  status) sinfo && squeue ;;
  *)
    sed -n '2,15s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
