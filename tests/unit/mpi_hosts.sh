#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Runs a program on two hosts, two ranks on each, connected only by TCP: two network namespaces and a pair of virtual
# Ethernet devices, which needs root, Linux and Open MPI. If they cannot be made, over TCP on one host.
#
#   mpi_hosts.sh MPIRUN PROGRAM [ARGUMENT...]
set -eu
mpirun=$1
shift

tcp="--mca pml ob1 --mca btl tcp,self"
one=gpt2-$$-a
two=gpt2-$$-b
if ! { ip netns add "$one" && ip netns add "$two"; } 2>/dev/null; then
  ip netns del "$one" 2>/dev/null || true
  echo "no network namespaces: over TCP on one host"
  # shellcheck disable=SC2086
  exec "$mpirun" $tcp -np 4 "$@"
fi
folder=$(mktemp -d)
clean() {
  ip netns del "$one" || true
  ip netns del "$two" || true
  rm -rf "$folder"
}
trap clean EXIT
trap 'exit 1' INT TERM

ip link add veth0 netns "$one" type veth peer name veth0 netns "$two"
ip -n "$one" addr add 10.77.0.1/24 dev veth0
ip -n "$two" addr add 10.77.0.2/24 dev veth0
for space in "$one" "$two"; do
  ip -n "$space" link set lo up
  ip -n "$space" link set veth0 up
done

# Called by Open MPI in place of ssh: agent HOST COMMAND…. Hosts of one name must not share a folder.
cat > "$folder/agent" <<END
#!/bin/sh
shift
exec ip netns exec $two env TMPDIR=$folder/two sh -c "\$*"
END
chmod +x "$folder/agent"
mkdir "$folder/one" "$folder/two"
# shellcheck disable=SC2086
ip netns exec "$one" env TMPDIR="$folder/one" "$mpirun" $tcp --mca plm_rsh_agent "$folder/agent" \
  --mca oob_tcp_if_include veth0 --mca btl_tcp_if_include veth0 --host 10.77.0.1:2,10.77.0.2:2 -np 4 "$@"
echo "on two hosts"
