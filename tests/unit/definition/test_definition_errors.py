# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each way to be wrong: the line, the key path, and words that say what was found and what is allowed."""

from __future__ import annotations

import typing as t

import pytest
from definer import GOOD, KEY, Definer


class Case(t.NamedTuple):
    """A change of GOOD. The lines marked with `#!` are the lines that the errors must name."""

    name: str
    old: str
    new: str
    path: str
    words: tuple[str, ...]
    count: int = 1  #: errors in all: one cause, one error


NIC = "    networks: [compute]\n"
CASES = [
    # keys
    Case("unknown key", "    memory: 4 GiB\n    disk", "    memry: 4 GiB #!\n    memory: 4 GiB\n    disk",
         "partitions.workers.memry", ("unknown key 'memry'", "did you mean 'memory'?")),
    Case("unknown key, nothing like it", "cluster: demo\n", "cluster: demo\nzzz: 1 #!\n", "zzz",
         ("unknown key 'zzz'", "known: cluster, compose")),
    Case("key given twice", "cluster: demo\n", "cluster: demo\ncluster: other #!\n", "cluster",
         ("key 'cluster' is given twice, first in line 2",)),
    Case("partition given twice", "  xenhosts: {hyp", "  kvmhosts: {} #!\n  xenhosts: {hyp", "partitions.kvmhosts",
         ("given twice",)),
    Case("missing key", "    vcpus: 2\n", "", "partitions.workers", ("key 'vcpus' is missing", "Virtual CPUs")),
    Case("no value", "    vcpus: 2\n", "    vcpus: #!\n", "partitions.workers.vcpus", ("has no value",)),
    Case("later key", "    vcpus: 2\n", "    vcpus: 2\n    kernel: vmlinuz #!\n", "partitions.workers.kernel",
         ("'kernel' not yet: guests boot the kernel on their own disk",)),
    Case("a word of Xen's", "    vcpus: 2\n", "    vcpus: 2\n    xen_type: pvhvm #!\n", "partitions.workers.xen_type",
         ("'pvhvm'", "pv, pvh, hvm")),
    Case("later value", "local: {type: dir}", "local: {type: lvm} #!", "pools.local.type", ("'lvm'", "not yet",
         "allowed now: dir, nfs")),
    # kinds of values
    Case("bare size", "    memory: 4 GiB\n    disk", "    memory: 4096 #!\n    disk", "partitions.workers.memory",
         ("found '4096'", "a size needs a unit, such as '4 GiB'")),
    Case("quoted bare size", "    memory: 4 GiB\n    disk", '    memory: "4096" #!\n    disk',
         "partitions.workers.memory", ("a size needs a unit",)),
    Case("ambiguous unit", "    memory: 4 GiB\n    disk", "    memory: 4 G #!\n    disk", "partitions.workers.memory",
         ("unknown unit 'G'", "did you mean GiB or GB?")),
    Case("too little memory", "    memory: 4 GiB\n    disk", "    memory: 1 MiB #!\n    disk",
         "partitions.workers.memory", ("at least 16 MiB",)),
    Case("a truth for a text", "cluster: demo", "cluster: true #!", "cluster",
         ("found 'true'", "expected a DNS label")),
    Case("a number for a text", "cluster: demo", "cluster: 12 #!", "cluster", ("quotes",)),
    Case("a text for a truth", "    vcpus: 2\n", "    vcpus: 2\n    autostart: yes #!\n",
         "partitions.workers.autostart", ("found 'yes'", "expected true or false")),
    Case("a list for a text", "cluster: demo", "cluster: [demo] #!", "cluster", ("found 'list'",)),
    Case("a text for a mapping", "  local: {type: dir}", "  local: dir #!", "pools.local", ("expected a mapping",)),
    Case("octal", "vlan: 12,", "vlan: 012, #!\n   ", "networks.store.vlan", ("leading zero",)),
    Case("out of range", "    vcpus: 2\n", "    vcpus: 0 #!\n", "partitions.workers.vcpus", ("from 1 to 4096",)),
    Case("a word that is not one of them", "    vcpus: 2\n", "    vcpus: 2\n    state: on #!\n",
         "partitions.workers.state", ("found 'on'", "running, paused, stopped, saved, present, absent")),
    Case("a template", "cluster: demo", 'cluster: "{{ name }}" #!', "cluster", ("templates are not evaluated",)),
    Case("a tag that is not ours", "cluster: demo", "cluster: !vault demo #!", "cluster", ("tag !vault",)),
    Case("bare share", "cluster: demo\n", "cluster: demo\nmax_release: 0.1 #!\n", "max_release",
         ("percent sign, such as '10 %'",)),
    Case("bare time", "cluster: demo\n", "cluster: demo\nquarantine: 3600 #!\n", "quarantine", ("'1 h'",)),
    Case("password in the ledger", "cluster: demo\n", "cluster: demo\nledger: postgresql://me:pw@db/oscarv #!\n",
         "ledger", ("never write a password here", "OSCARV_LEDGER")),
    Case("password in the ledger's query", "cluster: demo\n",
         "cluster: demo\nledger: postgresql://me@db/oscarv?password=x #!\n", "ledger", ("never write a password",)),
    Case("another database", "cluster: demo\n", "cluster: demo\nledger: mysql://db/oscarv #!\n", "ledger",
         ("sqlite:///PATH or postgresql://",)),
    # ranges and names
    Case("widths differ", '"wn[01:20]"', '"wn[01:100]" #!', "partitions.workers.members", ("write [001:100]",)),
    Case("backwards", '"wn[01:20]"', '"wn[20:01]" #!', "partitions.workers.members", ("runs backwards",)),
    Case("half a bracket", '"wn[01:20]"', '"wn[01:20" #!', "partitions.workers.members", ("other half",)),
    Case("overlap in one list", '"wn[01:20]"', '["wn[01:20]", "wn[10:12]"] #!', "partitions.workers.members[1]",
         ("found 'wn10'", "listed twice")),
    Case("far too many", '"wn[01:20]"', '"wn[000000:999999]" #!', "partitions.workers.members", ("more than 100000",)),
    Case("not a DNS label", '"wn[01:20]"', '["wn[01:20]", Wn_21] #!', "partitions.workers.members[1]",
         ("'Wn_21'", "DNS label")),
    Case("a dot in a guest's name", '"wn[01:20]"', '["wn[01:20]", wn21.x] #!', "partitions.workers.members[1]",
         ("no dots",)),
    Case("a name of Ansible's", '"wn[01:20]"', '["wn[01:20]", localhost] #!', "partitions.workers.members",
         ("'localhost'", "Ansible")),
    Case("a host's name", '"wn[01:20]"', '["wn[01:20]", node02] #!', "partitions.workers.members",
         ("'node02'", "name of a HostOS")),
    # hosts and enclosures
    Case("host in two partitions", "members: node04}\n", 'members: "node[02:04]"} #!\n',
         "partitions.xenhosts.members", ("found 'node02, node03'", "already in host partition 'kvmhosts'", ":14")),
    Case("host in two racks", "[node03, node04]}", "[node02, node03, node04]} #!", "enclosures.rack2.members",
         ("found 'node02'", "already in 'rack1', which is a rack too")),
    Case("no such host in a rack", "[node03, node04]}", "[node03, node04, node05]} #!", "enclosures.rack2.members",
         ("found 'node05'", "in no host partition")),
    Case("enclosure loop", "room1: {level: room}", "room1: {level: room, in: rack1} #!", "enclosures.room1.in",
         ("is a loop: room1 in rack1 in room1",)),
    Case("level in itself", "  rack2: {level: rack, in: room1", "  rack2: {level: rack, in: rack1 #!\n    ",
         "enclosures.rack2.in", ("level 'rack' would stand in level 'rack'",)),
    Case("enclosure called host", "room1: {level: room}", "room1: {level: host} #!", "enclosures.room1.level",
         ("the machine itself",)),
    Case("unknown enclosure", "rack2: {level: rack, in: room1", "rack2: {level: rack, in: rom1 #!\n    ",
         "enclosures.rack2.in", ("no enclosure of this name; did you mean 'room1'?",)),
    Case("host outside every rack", "[node03, node04]}", "[node03]}", "partitions.workers.spread",
         ("no rack holds node04 of host partition 'xenhosts'",), 2),
    Case("reserve above capacity", "capacity: {vcpus: 8", "reserve: {memory: 17 GiB}, capacity: {vcpus: 8",
         "partitions.kvmhosts.reserve", ("more memory than the capacity",)),
    Case("capacity in part", ", disk: 1 TiB}}", "}} #!", "partitions.kvmhosts.capacity", ("key 'disk' is missing",)),
    # pools
    Case("nfs without source", '{type: nfs, source: "nas:/export"}', "{type: nfs} #!", "pools.san",
         ("needs 'source'",)),
    Case("dir with source", "local: {type: dir}", 'local: {type: dir, source: "nas:/x"} #!', "pools.local.source",
         ("only a pool of type nfs",)),
    Case("nfs that is not shared", '"nas:/export"}', '"nas:/export", shared: false} #!', "pools.san.shared",
         ("shared by all HostOSes",)),
    Case("two pools in one folder", '"nas:/export"}', '"nas:/export", path: /var/lib/oscarv/} #!', "pools.san.path",
         ("is the path of pool 'local' already",)),
    Case("unknown pool", "    vcpus: 2\n", "    vcpus: 2\n    pool: sann #!\n", "partitions.workers.pool",
         ("did you mean 'san'?",)),
    Case("two root pools", "{hypervisor: xen,", "{hypervisor: xen, pool: san,", "partitions.workers.on",
         ("kvmhosts has 'local', xenhosts has 'san'", "say 'pool' here")),
    Case("no default pool", "  local: {type: dir}", "  fast: {type: dir}", "partitions.kvmhosts",
         ("there is no pool 'local'; one of fast, san",), 2),
    # networks
    Case("host bits", "10.0.5.0/24}", "10.0.5.7/24} #!", "networks.store.ranges", ("write the network: 10.0.5.0/24",)),
    Case("no prefix", "10.0.5.0/24}", "10.0.5.0} #!", "networks.store.ranges", ("with its prefix",)),
    Case("gateway outside", "gateway: 10.0.4.1", "gateway: 10.0.9.1", "networks.compute.gateway",
         ("'10.0.9.1'", "outside the ranges 10.0.4.0/24, fd12:3456::/64")),
    Case("gateway is the broadcast address", "gateway: 10.0.4.1", "gateway: 10.0.4.255", "networks.compute.gateway",
         ("no address for a machine",)),
    Case("two gateways of a family", "gateway: 10.0.4.1", "gateway: [10.0.4.1, 10.0.4.254]",
         "networks.compute.gateway", ("more than one gateway of one address family",)),
    Case("reserved outside", "10.0.4.2-10.0.4.9", "10.0.4.250-10.0.5.9", "networks.compute.reserved",
         ("'10.0.4.250-10.0.5.9'", "outside")),
    Case("reserved backwards", "10.0.4.2-10.0.4.9", "10.0.4.9-10.0.4.2", "networks.compute.reserved[0]",
         ("runs backwards",)),
    Case("networks overlap", "10.0.5.0/24}", "10.0.4.128/25} #!", "networks.store.ranges",
         ("overlaps 10.0.4.0/24 of network 'compute'", "realm")),
    Case("network too small", "10.0.4.0/24,", "10.0.4.0/28,", "networks.compute",
         ("too small for its guests: they need 20 addresses of 10.0.4.0/28, 5 are free",)),
    Case("device of a VLAN too long", "store: {bridge: br0, vlan: 12,", "store: {bridge: abcdefghijklm, vlan: 12,",
         "networks.store.vlan", ("more than 15 characters",)),
    Case("one device, two MTUs", "store: {bridge: br0, vlan: 12,", "third: {bridge: br0, vlan: 12, mtu: 1500, ranges:"
         " 10.0.6.0/24}\n  store: {bridge: br0, vlan: 12,", "networks.store.mtu", ("'third'", "with mtu 1500")),
    Case("unknown network", NIC, "    networks: [comput] #!\n", "partitions.workers.networks[0]",
         ("no network of this name; did you mean 'compute'?",)),
    # guests
    Case("guest in two partitions", "rules:\n", "  more: {image: base, members: [wn20, x], on: kvmhosts, vcpus: 1,"
         " memory: 1 GiB, disk: 1 GiB} #!\nrules:\n", "partitions.more.members",
         ("found 'wn20'", "already in guest partition 'workers'")),
    Case("unknown image", "image: base", "image: bas #!", "partitions.workers.image", ("did you mean 'base'?",)),
    Case("unknown partition", "on: [kvmhosts, xenhosts]", "on: [kvmhosts, xenhost] #!", "partitions.workers.on[1]",
         ("no host partition of this name; did you mean 'xenhosts'?",)),
    Case("on a guest partition", "on: [kvmhosts, xenhosts]", "on: [kvmhosts, workers] #!",
         "partitions.workers.on[1]", ("is a partition of guests",)),
    Case("both kinds of partition", "    image: base\n", "    image: base\n    hypervisor: kvm\n",
         "partitions.workers", ("both 'hypervisor' and 'image'",)),
    Case("no kind of partition", "{hypervisor: xen, members: node04}", "{hypervizor: xen, members: node04} #!",
         "partitions.xenhosts", ("needs 'hypervisor'", "did you mean 'hypervisor'?")),
    Case("unknown level", "spread: rack", "spread: rak #!", "partitions.workers.spread",
         ("no level of this name; did you mean 'rack'?",)),
    Case("soft without spread", "    spread: rack\n", "    soft: true #!\n", "partitions.workers.soft",
         ("no 'spread'",)),
    Case("override of a stranger", "      wn01: {", "      wn21: { #!\n", "partitions.workers.override.wn21",
         ("not among the members",)),
    Case("override twice", "      wn01: {memory: 8 GiB}\n",
         '      wn01: {memory: 8 GiB}\n      "wn[01:02]": {memory: 9 GiB} #!\n',
         "partitions.workers.override.wn[01:02].memory", ("'memory' of guest wn01 is overridden twice",)),
    Case("root disk again", "    vcpus: 2\n", "    vcpus: 2\n    disks: [{name: root, size: 1 GiB}] #!\n",
         "partitions.workers.disks[0].name", ("its size is 'disk'",)),
    Case("renamed from one that is there", "wn01: {memory: 8 GiB}", "wn01: {renamed_from: wn02} #!",
         "partitions.workers.override.wn01.renamed_from", ("a former name must be free",)),
    Case("several renamed from one", "      wn01: {memory: 8 GiB}\n", '      "wn[01:02]": {renamed_from: old} #!\n',
         "partitions.workers.override.wn[01:02].renamed_from", ("one name cannot become several",)),
    # addresses of guests
    Case("address outside", "wn01: {memory: 8 GiB}", "wn01: {networks: [{name: compute, ip: 10.0.5.7}]} #!",
         "partitions.workers.override.wn01.networks[0].ip", ("'10.0.5.7'", "outside network 'compute'")),
    Case("address of the gateway", "wn01: {memory: 8 GiB}", "wn01: {networks: [{name: compute, ip: 10.0.4.1}]} #!",
         "partitions.workers.override.wn01.networks[0].ip", ("is the gateway",)),
    Case("address of the network", "wn01: {memory: 8 GiB}", "wn01: {networks: [{name: compute, ip: 10.0.4.0}]} #!",
         "partitions.workers.override.wn01.networks[0].ip", ("no address for a machine",)),
    Case("address twice", "wn01: {memory: 8 GiB}", "wn01: {networks: [{name: compute, ip: 10.0.4.77}]}\n"
         "      wn02: {networks: [{name: compute, ip: 10.0.4.77}]} #!",
         "partitions.workers.override.wn02.networks[0].ip", ("given twice, first to guest wn01", ":28")),
    Case("MAC twice", "wn01: {memory: 8 GiB}", "wn01: {networks: [{name: compute, mac: 52:54:00:00:00:07}]}\n"
         "      wn02: {networks: [{name: compute, mac: 52-54-00-00-00-07}]} #!",
         "partitions.workers.override.wn02.networks[0].mac", ("'52:54:00:00:00:07'", "first to guest wn01")),
    Case("MAC of a group", "wn01: {memory: 8 GiB}", "wn01: {networks: [{name: compute, mac: 53:54:00:00:00:07}]} #!",
         "partitions.workers.override.wn01.networks[0].mac", ("its first byte must be even",)),
    Case("address for all", NIC, "    networks: [{name: compute, ip: 10.0.4.77}] #!\n",
         "partitions.workers.networks[0].ip", ("would be the same for 20 guests", "override")),
    # what a guest is told
    Case("private key", KEY, "-----BEGIN OPENSSH PRIVATE KEY-----", "partitions.workers.authorized_keys[0]",
         ("is a private key",)),
    Case("no key", KEY, "ssh-ed25519 AAAA me", "partitions.workers.authorized_keys[0]", ("expected a public key",)),
    Case("key file that is not there", KEY, "keys/me.pub", "partitions.workers.authorized_keys",
         ("me.pub cannot be read: No such file",)),
    Case("plain password", "    vcpus: 2\n", "    vcpus: 2\n    cloud_init: {users: [{passwd: hunter2}]} #!\n",
         "partitions.workers.cloud_init.users[0].passwd", ("is a secret", "!vault")),
    Case("hostname", "    vcpus: 2\n", "    vcpus: 2\n    cloud_init: {hostname: x} #!\n",
         "partitions.workers.cloud_init.hostname", ("set by the collection",)),
    Case("template in cloud_init", "    vcpus: 2\n", '    vcpus: 2\n    cloud_init: {runcmd: ["{{ x }}"]} #!\n',
         "partitions.workers.cloud_init.runcmd[0]", ("templates are not evaluated", "!unsafe")),
    Case("date in cloud_init", "    vcpus: 2\n", "    vcpus: 2\n    cloud_init: {day: 2026-11-20} #!\n",
         "partitions.workers.cloud_init", ("date", "write it in quotes")),
    # rules and images
    Case("rule of a stranger", "apart: [wn01, wn02]", "apart: [wn01, wn99] #!\n   ", "rules[0].apart",
         ("found 'wn99'", "no guest of this cluster")),
    Case("rule of one", "apart: [wn01, wn02]", "apart: [wn01] #!\n   ", "rules[0].apart", ("needs two",)),
    Case("rule over no level", "over: rack}", "over: rak} #!", "rules[0].over", ("did you mean 'rack'?",)),
    Case("rule of no kind", "{pin: wn04,", "{pinn: wn04, #!\n    ", "rules[1]", ("'apart', 'together' and 'pin'",)),
    Case("pin to a stranger", 'to: "node[01:02]"}', "to: node09} #!", "rules[1].to", ("no HostOS of this cluster",)),
    Case("pin outside", "on: [kvmhosts, xenhosts]", "on: kvmhosts", "rules[1].to", ("found 'node04'", "may run on")),
    Case("image without builder", "{builder: debian, release: bookworm}", "{release: bookworm} #!", "images.base",
         ("key 'builder' is missing",)),
    Case("image by wishful thinking", "{builder: debian, release: bookworm}", "{builder: packer} #!",
         "images.base.builder", ("debian, import",)),
    Case("image without checksum", "{builder: debian, release: bookworm}",
         "{builder: import, url: https://x/y.qcow2} #!", "images.base", ("key 'sha256' is missing",)),
    Case("a kernel that an import has not", "{builder: debian, release: bookworm}",
         "{builder: import, url: https://x/y.qcow2, sha256: " + "a" * 64 + ", boot: kernel} #!", "images.base.boot",
         ("'kernel'", "not yet: the kernel of an imported image", "allowed now: disk")),
    Case("a disk of no kind", "    vcpus: 2\n",
         "    vcpus: 2\n    disks: [{name: a, size: 1 GiB, format: vmdk}] #!\n", "partitions.workers.disks[0].format",
         ("'vmdk'", "qcow2, raw")),
    Case("a boot of no kind", "{builder: debian, release: bookworm}",
         "{builder: debian, release: bookworm, boot: net} #!", "images.base.boot", ("'net'", "disk, kernel")),
    Case("a secret in an image", "{builder: debian, release: bookworm}",
         "{builder: debian, release: bookworm, vars: {a: [!vault x]}} #!", "images.base.vars", ("for everybody",)),
    Case("a line break in a name", "cluster: demo", 'cluster: "demo\\n" #!', "cluster", ("expected a DNS label",)),
    Case("names that make one group", "  xenhosts: {hypervisor: xen, members: node04}",
         "  xen-hosts: {hypervisor: xen, members: node04}\n  xen_hosts: {hypervisor: xen, members: node05} #!",
         "partitions.xen_hosts", ("'xen-hosts'", "oscarv_partition_xen_hosts")),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_error_names_line_key_and_remedy(case: Case, define: Definer) -> None:
    assert GOOD.count(case.old) == 1, "the case must change one place"
    text = GOOD.replace(case.old, case.new)
    if case.name == "pin outside":
        text = text.replace('to: "node[01:02]"', 'to: "node[03:04]"')
    if case.name == "names that make one group":
        text = text.replace("on: [kvmhosts, xenhosts]", "on: kvmhosts")
    marked = [number for number, line in enumerate(text.splitlines(), 1) if "#!" in line]
    errors = define.errors(text)
    fitting = [error for error in errors if error.where.path == case.path]
    assert fitting, [str(error) for error in errors]
    for word in case.words:
        assert word in str(fitting[0])
    if marked:
        assert [fitting[0].where.line] == marked
    assert fitting[0].where.file.endswith("c.oscarv.yml")
    assert len(errors) == case.count, [str(error) for error in errors]
