# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every key of a definition, once. The loader reads by this table; JSON Schema and the reference page are made of it.

A key whose machinery comes later stands here with `later`: it is refused with that reason, never ignored.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ..module_utils._spec import DISK_FORMATS, FIRMWARES, HYPERVISORS, STATES, XEN_TYPES
from . import _definition_units as units
from . import _definition_values as values
from ._definition_errors import meant
from ._definition_kinds import (
    BAD,
    Choice,
    Converted,
    Flag,
    Free,
    Integer,
    Key,
    Kind,
    ListOf,
    Mapping,
    Named,
    Names,
    Number,
    Opaque,
    Quantity,
    Ref,
    Size,
    Text,
)
from ._definition_yaml import Context, Node, join, kind_of, pairs
from ._model import Resources

DEFAULT_LEDGER = "sqlite:///.oscarv/ledger.sqlite"
#: Keys that hold Jinja expressions, for the inventory plugin.
CONSTRUCTED = ("compose", "groups", "keyed_groups")
DEFAULT_POOL_PATH = "/var/lib/oscarv"

_NAME_WORDS = "letters, digits, '-' and '_', starting with a letter, at most 63"
_HOST_WORDS = "letters, digits, '.', '-' and '_', starting and ending with a letter or digit"
_GUEST_WORDS = "a DNS label: lower-case letters, digits and '-', at most 63, no dots"
_VCPUS = Integer(1, 4096)
_ADDRESSES = ListOf(Converted(values.ip_address, "an IP address such as 10.0.4.77"), lone=True)

HOSTS = Names("HostOS", values.HOST_PATTERN, _HOST_WORDS, "node[01:20]")
GUESTS = Names("guest", values.GUEST_PATTERN, _GUEST_WORDS, "wn[001:164]")
LEVEL = Text(values.NAME_PATTERN, "the name of a level such as rack; 'host' is the machine itself")

NETWORK = Mapping(
    {
        "bridge": Key(Text(values.BRIDGE_PATTERN, "a network device name, at most 15 characters"),
                      "Bridge on the HostOSes that the guests attach to.", required=True),
        "ranges": Key(ListOf(Converted(values.ip_network, "a network with its prefix"), lone=True, least=1),
                      "The subnets, IPv4 and IPv6. A NIC gets one address of each family.", required=True),
        "vlan": Key(Integer(1, 4094), "VLAN tag; the HostOS gets a bridge BRIDGEvVLAN for it."),
        "mtu": Key(Integer(576, 65535), "MTU of the bridge and of the guests' NICs."),
        "gateway": Key(_ADDRESSES, "Default gateway, at most one per address family. The first network of a guest"
                                   " that has one gives the default route."),
        "reserved": Key(ListOf(Converted(values.ip_span, "FIRST-LAST, one address, or a network"), lone=True),
                        "Addresses that are never given out by themselves. A guest may still ask for one by `ip`.",
                        default=()),
        "nameservers": Key(_ADDRESSES, "Name servers for the guests of this network.", default=()),
        "realm": Key(Text(values.NAME_PATTERN, _NAME_WORDS), "An address is unique within its realm; networks that"
                     " use the same addresses without seeing each other get realms of their own.", default="default"),
    },
    name="network",
)  # fmt: skip

POOL = Mapping(
    {
        "type": Key(Choice("dir", "nfs", later={
            "lvm": "disks are qcow2 files, which need a folder",
            "zfs": "disks are qcow2 files, which need a folder",
            "ceph": "disks are qcow2 files, which need a folder",
            "rbd": "disks are qcow2 files, which need a folder",
            "iscsi": "disks are qcow2 files, which need a folder",
        }), "dir: a folder of each HostOS. nfs: an export that every HostOS mounts.", required=True),
        "path": Key(Text(values.PATH_PATTERN, "an absolute path without blanks, commas or quotes"),
                    "Folder on the HostOSes.", shown="`/var/lib/oscarv` for `local`, else `/var/lib/oscarv-POOL`"),
        "source": Key(Text(r"^[A-Za-z0-9_.:\[\]-]+:/[^\s,'\"]*$", "SERVER:/EXPORT"),
                      "NFS export; required with `type: nfs`, not allowed otherwise."),
        "shared": Key(Flag(), "Whether every HostOS sees the same files, so that a move copies no disk.",
                      shown="`true` for nfs, `false` for dir"),
    },
    name="pool",
)  # fmt: skip

ENCLOSURE = Mapping(
    {
        "level": Key(LEVEL, "What it is: rack, room, chassis, PDU, ... A name of your own.", required=True),
        "in": Key(Ref("enclosure"), "The enclosure that this one stands in."),
        "members": Key(HOSTS, "HostOSes that stand directly in it.", default=()),
    },
    name="enclosure",
)  # fmt: skip


def _amounts(*, required: bool, what: str) -> Mapping:
    zero = None if required else 0
    return Mapping(
        {
            "vcpus": Key(Number(0, 65536), f"vCPUs {what}.", required=required, default=zero),
            "memory": Key(Size(), f"Memory {what}.", required=required, default=zero),
            "disk": Key(Size(), f"Room in local pools {what}.", required=required, default=zero),
        }
    )


HOST_PARTITION = Mapping(
    {
        "hypervisor": Key(Choice(*HYPERVISORS), "Makes it a host partition: what runs on its members.", required=True),
        "members": Key(HOSTS, "Its HostOSes. A HostOS is in one host partition.", required=True),
        "overcommit": Key(Mapping({
            "vcpus": Key(Number(0.1, 64), "vCPUs that are given out per physical one.", default=1.0),
            "memory": Key(Number(1, 1), "", later="memory is never given out twice"),
        }), "How much more is given out than there is."),
        "reserve": Key(_amounts(required=False, what="kept for the HostOS itself"), "What guests never get."),
        "capacity": Key(_amounts(required=True, what="of each member"), "What each member has.",
                        shown="what `hostos` measured and recorded"),
        "pool": Key(Ref("pool"), "Where root disks live unless the guest says otherwise.",
                    shown="`local`, or the only pool there is"),
    },
    name="host partition",
)  # fmt: skip

DISK = Mapping(
    {
        "name": Key(Text(values.GUEST_PATTERN, _GUEST_WORDS), "Name of the disk; `root` is taken.", required=True),
        "size": Key(Size(), "Size.", required=True),
        "pool": Key(Ref("pool"), "Pool it lives in.", shown="the pool of the root disk"),
        "format": Key(Choice(*DISK_FORMATS), "How it lies in its file. A disk that is there keeps its format.",
                      default="qcow2"),
    },
    name="disk",
)  # fmt: skip

NIC = Mapping(
    {
        "name": Key(Ref("network"), "Network that the NIC is in.", required=True),
        "ip": Key(_ADDRESSES, "Fixed address, at most one per family.", shown="given by `assign`"),
        "mac": Key(Converted(values.mac, "a MAC such as 52:54:00:00:00:77", values.MAC_PATTERN), "Fixed MAC.",
                   shown="given by `assign`"),
    },
    short="name",
    name="NIC",
)  # fmt: skip

_CPU_MODEL = Text(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", "default, baseline, host-model, host-passthrough or a model")
_KERNEL = "guests boot the kernel on their own disk or, if the image says `boot: kernel`, that of its build"
_CONTAINERS = "containers come with the drivers `openvz` and `lxc`"

#: What a guest partition says of its guests and `override` may say of one of them.
GUEST_KEYS: dict[str, Key] = {
    "vcpus": Key(_VCPUS, "Virtual CPUs.", required=True),
    "memory": Key(Size(16 * 2**20), "Memory.", required=True),
    "disk": Key(Size(), "Size of the root disk.", required=True),
    "pool": Key(Ref("pool"), "Pool of the root disk.", shown="the `pool` of the host partitions in `on`"),
    "disks": Key(ListOf(DISK), "Further disks, empty at first.", default=()),
    "networks": Key(ListOf(NIC), "A NIC for each, in this order: eth0, eth1, ...", default=()),
    "state": Key(Choice(*STATES), "`saved`: the memory lies in a file on the HostOS, and a start goes on from there;"
                 " `present` has no opinion on power; `absent` removes the guest and keeps its addresses and,"
                 " unless told otherwise, its disks.", default="running"),
    "cpu_model": Key(_CPU_MODEL, "CPU that the guests see. `default`: the driver's choice; `baseline`: what all"
                     " HostOSes of the partitions in `on` can; `host-model`; `host-passthrough`; or a name.",
                     default="default"),
    "firmware": Key(Choice(*FIRMWARES), "Firmware.", default="bios"),
    "autostart": Key(Flag(), "Start with the HostOS.", default=True),
    "authorized_keys": Key(ListOf(Converted(values.authorized_key, "a public key, or the path of a .pub file")),
                           "Public keys that may log in as root. A path ends with `.pub` and is relative to the file"
                           " that names it.", default=()),
    "cloud_init": Key(Free("a mapping, merged into cloud-init's user-data"),
                      "Merged into cloud-init's user-data. Secrets as `!vault` values only; read as YAML 1.1, as"
                      " cloud-init does.", shown="nothing"),
    "xen_type": Key(Choice(*XEN_TYPES), "How Xen runs the guests; other hypervisors do not look. `pv` needs nothing of"
                    " the CPU, `pvh` and `hvm` its virtualisation.", shown="`pvh` where the HostOS has HAP, else `pv`"),
    "kernel": Key(Text(), "", later=_KERNEL),
    "template": Key(Text(), "", later=_CONTAINERS),
    "swap": Key(Size(), "", later=_CONTAINERS),
    "cpu_limit": Key(Number(0, 100), "", later=_CONTAINERS),
    "cpu_share": Key(Number(0, 100), "", later=_CONTAINERS),
    "devices": Key(Free(), "", later="guests get no devices of the HostOS"),
    "hugepages": Key(Flag(), "", later="memory is ordinary memory"),
}  # fmt: skip


def _optional(rows: t.Mapping[str, Key]) -> dict[str, Key]:
    return {name: Key(row.kind, row.help, later=row.later) for name, row in rows.items()}


_ON = Key(
    ListOf(Ref("host partition"), lone=True, least=1), "Host partitions that the guests may run on.", required=True
)
_IMAGE = Key(Ref("image"), "Makes it a guest partition: what the root disks start from.", required=True)

OVERRIDE = Mapping(
    {
        **_optional({"image": dataclasses.replace(_IMAGE, help="Another image."), "on": _ON, **GUEST_KEYS}),
        "renamed_from": Key(Text(values.GUEST_PATTERN, _GUEST_WORDS),
                            "Former name of this guest: it is renamed in place and keeps everything it has."),
    },
    name="override",
)  # fmt: skip

TOLERATE = Mapping(
    {
        "lose": Key(Integer(1, 1000), "How many may fail at once.", required=True),
        "of": Key(Ref("level"), "`host`, or a level of enclosures.", required=True),
    },
    name="tolerate",
)  # fmt: skip

GUEST_PARTITION = Mapping(
    {
        "image": _IMAGE,
        "members": Key(GUESTS, "Its guests. A guest is in one partition.", required=True),
        "on": _ON,
        **GUEST_KEYS,
        "spread": Key(Ref("level"), "Keep the guests as even as possible over `host` or this level."),
        "soft": Key(Flag(), "The spread is a wish: it gives way where there is no room.", default=False),
        "tolerate": Key(ListOf(TOLERATE), "Losses after which every guest still finds a place.", default=()),
        "roles": Key(ListOf(Text(r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$", "the name of a role such as site.hpc_node")),
                     "Roles that `deploy` applies inside the guests.", default=()),
        "override": Key(Named("guest", OVERRIDE, r"^[a-z0-9][a-z0-9,:\[\] -]*$", "a guest or a range of guests"),
                        "Other values for some of the guests: a name or a range, and the keys that differ. A value"
                        " replaces the partition's whole value.", shown="nothing"),
    },
    name="guest partition",
)  # fmt: skip


class Partition(Kind):
    """A host partition or a guest partition: `hypervisor` and `image` tell them apart."""

    words = "a mapping with `hypervisor` (a host partition) or `image` (a guest partition)"

    def read(self, node: Node, path: str, context: Context) -> t.Any:
        if kind_of(node) != "mapping":
            return self.wrong(node, path, context)
        keys = pairs(node, path, Context())
        if "hypervisor" in keys and "image" in keys:
            message = "has both 'hypervisor' and 'image': a partition is of HostOSes or of guests, not of both"
            context.error(node, path, None, message)
            return BAD
        if "hypervisor" in keys:
            return HOST_PARTITION.read(node, path, context)
        if "image" not in keys and not {"on", "vcpus", "networks", "override"} & set(keys):
            wanted = meant(next(iter(keys), ""), ("hypervisor", "image"))
            context.error(node, path, None, f"needs 'hypervisor' (HostOSes) or 'image' (guests); {wanted}")
            return BAD
        return GUEST_PARTITION.read(node, path, context)

    def schema(self) -> dict[str, t.Any]:
        return {
            "if": {"type": "object", "required": ["hypervisor"]},
            "then": HOST_PARTITION.schema(),
            "else": GUEST_PARTITION.schema(),
        }


class Image(Kind):
    """A recipe: `builder` says which keys it has."""

    words = "a mapping with `builder`"

    def read(self, node: Node, path: str, context: Context) -> t.Any:
        if kind_of(node) != "mapping":
            return self.wrong(node, path, context)
        builder = pairs(node, path, Context()).get("builder")
        if builder is None:
            context.error(node, path, None, f"key 'builder' is missing: {_BUILDER.help}")
            return BAD
        known = _BUILDER.kind.read(builder[1], join(path, "builder"), context)
        return BAD if known is BAD else BUILDERS[known].read(node, path, context)

    def schema(self) -> dict[str, t.Any]:
        return {
            "type": "object",
            "required": ["builder"],
            "properties": {"builder": _BUILDER.kind.schema()},
            "allOf": [
                {"if": {"properties": {"builder": {"const": name}}}, "then": kind.schema()}
                for name, kind in BUILDERS.items()
            ],
        }


_BUILDER = Key(Choice("debian", "import"), "How the image is made.", required=True)
_PACKAGE = Text(r"^[a-z0-9][a-z0-9.+:-]*(=[A-Za-z0-9.+:~-]+)?(/[a-z0-9-]+)?$", "the name of a Debian package")

BUILDERS: dict[str, Mapping] = {
    "debian": Mapping(
        {
            "builder": Key(Choice("debian"), "Built here, from Debian's packages.", required=True),
            "release": Key(Text(r"^[a-z][a-z0-9-]*$", "a suite such as bookworm"), "Debian suite.", required=True),
            "packages": Key(ListOf(_PACKAGE), "Packages beside the base system.", default=()),
            "roles": Key(ListOf(Text(r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$", "the name of a role")),
                         "Ansible roles that run inside the image while it is built, in this order.", default=()),
            "vars": Key(Free("a mapping of variables for the roles"), "Variables for the roles; no secrets: they"
                        " become part of the image.", shown="nothing"),
            "mirror": Key(Converted(values.image_url, "a URL"), "Package archive.",
                          shown="what the build host itself uses"),
            "components": Key(ListOf(Text(r"^[a-z][a-z-]*$", "a component such as main")), "Archive components.",
                              shown="main"),
            "architecture": Key(Choice("amd64", later={"arm64": "only amd64 images are built"}), "CPU architecture.",
                                default="amd64"),
            "size": Key(Size(256 * 2**20), "Size of the disk in the image; a guest's disk grows to its own size.",
                        shown="what its contents need"),
            "compression": Key(Choice("zstd", "zlib"), "How the image's disk is compressed. The QEMU of Debian's Xen"
                               " cannot read zstd; zlib takes longer to build.", default="zstd"),
            "boot": Key(Choice("disk", "kernel"), "`disk`: guests boot the kernel on their own disk, by its boot loader"
                        " (under Xen by pvgrub). `kernel`: the hypervisor starts the kernel and initramfs of the build"
                        " from outside the disk; for `pv`, `pvh` and kvm.", default="disk"),
        }
    ),
    "import": Mapping(
        {
            "builder": Key(Choice("import"), "A cloud image that somebody else built.", required=True),
            "url": Key(Converted(values.image_url, "a URL"), "Where it is: https, http or file.", required=True),
            "sha256": Key(Text(values.SHA256_PATTERN, "64 hexadecimal digits in lower case"), "Its checksum.",
                          required=True),
            "boot": Key(Choice("disk", later={"kernel": "the kernel of an imported image is known on its disk only"}),
                        "Guests boot the kernel on their own disk.", default="disk"),
        }
    ),
}  # fmt: skip

_SOFT = Key(Flag(), "A wish: it gives way where there is no room.", default=False)
_OVER = Key(Ref("level"), "`host`, or a level of enclosures.", default="host")

RULES: dict[str, Mapping] = {
    "apart": Mapping({"apart": Key(GUESTS, "Guests that never share a host or enclosure.", required=True),
                      "over": _OVER, "soft": _SOFT}),
    "together": Mapping({"together": Key(GUESTS, "Guests that always share a host or enclosure.", required=True),
                         "over": _OVER, "soft": _SOFT}),
    "pin": Mapping({"pin": Key(GUESTS, "Guests that run only on certain HostOSes.", required=True),
                    "to": Key(HOSTS, "These HostOSes.", required=True), "soft": _SOFT}),
}  # fmt: skip


class Rule(Kind):
    """A rule: its first word says which keys it has. The record gets the word as `kind`."""

    words = "a mapping with one of `apart`, `together` and `pin`"

    def read(self, node: Node, path: str, context: Context) -> t.Any:
        if kind_of(node) != "mapping":
            return self.wrong(node, path, context)
        keys = pairs(node, path, Context())
        kinds = [kind for kind in RULES if kind in keys]
        if len(kinds) != 1:
            what = "is none of the rules 'apart', 'together' and 'pin'" if not kinds else "is more than one rule"
            context.error(node, path, list(keys), f"{what}; each rule is an entry of its own")
            return BAD
        record = RULES[kinds[0]].read(node, path, context)
        record["kind"] = kinds[0]
        return record

    def schema(self) -> dict[str, t.Any]:
        return {
            "type": "object",
            "oneOf": [{"required": [name]} for name in RULES],
            "allOf": [{"if": {"required": [name]}, "then": kind.schema()} for name, kind in RULES.items()],
        }


def _named(what: str, kind: Kind) -> Named:
    return Named(what, kind, values.NAME_PATTERN, _NAME_WORDS)


_PLUGIN = Choice("oscarv.virt.cluster")
_FILE = Text(None, "a path, relative to this file")

#: What the root file and its parts may hold.
SECTIONS: dict[str, Key] = {
    "networks": Key(_named("network", NETWORK), "Networks of the guests.", shown="none"),
    "pools": Key(_named("pool", POOL), "Storage pools on the HostOSes.",
                 shown="`local: {type: dir, path: /var/lib/oscarv}`"),
    "enclosures": Key(_named("enclosure", ENCLOSURE), "What fails as one: racks, chassis, PDUs, rooms.", shown="none"),
    "partitions": Key(_named("partition", Partition()), "Host partitions and guest partitions.", shown="none"),
    "rules": Key(ListOf(Rule()), "Rules of placement.", shown="none"),
    "images": Key(_named("image", Image()), "Recipes of images.", shown="none"),
}  # fmt: skip

PART = Mapping(
    {
        "plugin": Key(_PLUGIN, "With it Ansible leaves the part alone when a whole folder is the inventory."),
        **SECTIONS,
    }
)

ROOT = Mapping(
    {
        "plugin": Key(_PLUGIN, "Tells Ansible whose file this is.", required=True),
        "cluster": Key(Text(values.GUEST_PATTERN, _GUEST_WORDS), "Name of the cluster.", required=True),
        "ledger": Key(Converted(values.ledger_url, "a URL"), "Database of the ledger; a relative path is relative to"
                      " this file. The environment variable OSCARV_LEDGER overrides it. Never a password here.",
                      default=DEFAULT_LEDGER),
        "include": Key(ListOf(_FILE, lone=True), "Parts of this definition, each named `*.oscarv-part.yml`.",
                       shown="none"),
        "uses": Key(ListOf(_FILE, lone=True), "Root files of other clusters whose host partitions, pools and enclosures"
                    " this one may use, read-only.", shown="none"),
        **SECTIONS,
        "max_release": Key(Quantity(units.percent, "a share such as '10 %'", units.PERCENT_PATTERN),
                           "Share of the guests that may leave at once without `oscarv_confirm`.", default=0.10,
                           shown="10 %"),
        "quarantine": Key(Quantity(units.seconds, "a time such as '1 h'", units.TIME_PATTERN),
                          "How long the addresses of a released guest rest.", default=3600, shown="1 h"),
        **{name: Key(Opaque(), help_) for name, help_ in {
            "compose": "Variables from Jinja expressions; each costs seconds at ten thousand guests.",
            "groups": "Groups from Jinja conditions.",
            "keyed_groups": "Groups from the values of variables.",
            "strict": "Whether an expression that fails is an error.",
            "use_extra_vars": "Whether the expressions see extra variables.",
            "leading_separator": "Whether a keyed group without prefix starts with its separator.",
        }.items()},
    },
    name="definition",
)  # fmt: skip


def resources(record: t.Mapping[str, t.Any] | None) -> Resources:
    """Resources of a mapping of vcpus, memory and disk; what is missing is zero."""
    found = record or {}
    return Resources(found.get("vcpus", 0), found.get("memory", 0), found.get("disk", 0))
