# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container that is not on this HostOS: create it with its mark, set it up, put its seed in; or bring it back.

With vzctl 7 its root gets the build's files in a step of its own (`_vz_fill`). Until then its mark names no build, and
it does not start with its HostOS: it would come up with its own name and address, and the files of the node's template.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib

from . import _seed as seeds
from . import _vz_argv as argv
from . import _vz_template
from ._difference import Difference, redacted
from ._driver import Mark, Unsupported
from ._files import remove, whole
from ._paths import build_path
from ._spec import GuestSpec
from ._vz_argv import Settings
from ._vz_conf import read_conf
from ._vz_dialect import Dialect
from ._vz_fill import carrier, fill, root_of
from ._vz_mark import describe, read_mark
from ._vz_observe import observe_one
from ._vz_power import state_of
from ._vz_settings import Shape, difference, hostname_of, wanted
from ._vz_world import Phase, Plan

_SUFFIXES = ("", ".gz", ".bz2", ".xz")
#: Where cloud-init looks for a seed without a disk.
_SEED = "var/lib/cloud/seed/nocloud"


def mark_of(spec: GuestSpec, *, build_id: str | None, host_key: str | None) -> Mark:
    nics = (
        {"name": nic.name, "network": nic.network, "mac": nic.mac, "addresses": list(nic.addresses)}
        for nic in spec.nics
    )
    return Mark(
        cluster=spec.cluster,
        guest=spec.name,
        uuid=spec.uuid,
        partition=spec.partition,
        epoch=spec.epoch,
        build_id=build_id,
        host_key=host_key,
        nics=tuple(nics),
    )


def kept_path(plan: Plan) -> pathlib.Path:
    """The configuration of a container that `absent` took away and whose private area it kept."""
    return pathlib.Path(plan.world.options.state_dir) / "openvz-kept" / f"{plan.ctid}.conf"


def plan_new(plan: Plan) -> None:
    """Decide everything for a container that is not there."""
    spec, options = plan.spec, plan.world.options
    private = options.private(plan.ctid)
    conf = options.conf_dir / f"{plan.ctid}.conf"
    if conf.exists():
        raise plan.error(
            f"{conf} is there without a container: `vzctl create` would take it as it is. Look at it, then remove it"
        )
    if private.exists():
        _plan_return(plan, private, conf)
        return
    if spec.first_contact and not spec.recreate:
        raise plan.error(
            f"it was reached before, but neither it nor its private area {private} is on this HostOS. Find it"
            " (oscarv.virt.status); if it is lost, consent to an empty one with recreate: true"
        )
    legacy = plan.world.tools.dialect.legacy
    source = _template(plan) if legacy else carrier(plan)
    _record(plan, spec.root.build_id)
    plan.add(Phase.DEFINE, "create", functools.partial(_create, plan, source))
    plan.add(Phase.DEFINE, "configure", functools.partial(configure, plan))
    if not legacy:
        plan_fill(plan)
    plan_seed(plan, spec.root.build_id)


def _plan_return(plan: Plan, private: pathlib.Path, conf: pathlib.Path) -> None:
    """It was removed, and its data were kept: it comes back as it was, with what differs set."""
    kept = kept_mark(plan)
    if kept is None:
        raise plan.error(
            f"private area {private} is there, and nothing says that it belongs to this guest (uuid {plan.spec.uuid})."
            " Look at it, then move it away or remove it"
        )
    plan.build_outdated = plan.spec.root.build_id is not None and kept.build_id != plan.spec.root.build_id
    _record(plan, kept.build_id)
    plan.add(Phase.DEFINE, "bring back", functools.partial(bring_back, plan))
    mark = mark_of(plan.spec, build_id=kept.build_id, host_key=kept.host_key)
    plan.add(Phase.DEFINE, "configure", functools.partial(configure, plan, describe(mark, plan.ctid)))
    if kept.host_key is None and not plan.spec.first_contact:  # its creation was interrupted before it was removed
        plan_seed(plan, kept.build_id)


def kept_mark(plan: Plan) -> Mark | None:
    """The mark of this guest in the configuration that `absent` kept."""
    try:
        conf = read_conf(kept_path(plan).read_text(encoding="utf-8", errors="surrogateescape"), plan.ctid)
    except FileNotFoundError:
        return None
    mark = read_mark(conf.get("DESCRIPTION"), plan.ctid)
    return mark if mark is not None and mark.uuid == plan.spec.uuid else None


def bring_back(plan: Plan) -> None:
    kept = kept_path(plan)
    conf = plan.world.options.conf_dir / kept.name
    with whole(conf, 0o644) as partial:
        partial.write_bytes(kept.read_bytes())
    remove(kept)


def _record(plan: Plan, build_id: str | None) -> None:
    spec = plan.spec
    for key, value in {"uuid": spec.uuid, "ctid": plan.ctid, "epoch": spec.epoch, "build_id": build_id}.items():
        plan.difference.compare(key, None, value)
    difference(plan.difference, None, wanted(spec, plan.world.options.tuning))


def _template(plan: Plan) -> str:
    options, build_id = plan.world.options, plan.spec.root.build_id
    if build_id is None:
        raise Unsupported(
            f"guest {plan.spec.name}: disks.root.build_id: a container is made from a build, none is given"
        )
    name = options.template(build_id)
    cache = options.template_dir
    if any((cache / f"{name}.tar{end}").exists() for end in _SUFFIXES):
        return name
    pool = plan.spec.root.pool
    if pool not in options.pools:
        raise plan.error(
            f"disks.root.pool: found {pool!r}; pools of this HostOS: {', '.join(sorted(options.pools))}: run"
            " oscarv.virt.hostos"
        )
    build = options.path(build_path(options.pools[pool], build_id))
    if build_id not in options.builds_expected and not build.exists():
        raise plan.error(
            f"template {name}.tar.gz is not in {cache}, and neither is the build at {build} that it is made from: run"
            " oscarv.virt.deploy, which brings it"
        )
    make = functools.partial(_vz_template.make, str(build), cache / f"{name}{_vz_template.SUFFIX}", plan.spec.name)
    plan.add(Phase.DEFINE, "make template", make)
    return name


def _create(plan: Plan, template: str) -> None:
    spec = plan.spec
    dialect = plan.world.tools.dialect
    mark = mark_of(spec, build_id=spec.root.build_id if dialect.legacy else None, host_key=None)
    words = argv.create(
        dialect,
        plan.ctid,
        template,
        name=spec.name,
        hostname=hostname_of(spec),
        description=describe(mark, plan.ctid),
        layout="simfs",
    )
    plan.run(words)


def configure(plan: Plan, description: str | None = None) -> None:
    """`set` everything that was decided. Never on a container that is not there: it would make an orphan of it."""
    seen = observe_one(plan.world.tools, plan.world.options.conf_dir, plan.world.paused, plan.ctid)
    if seen is None:
        raise plan.error(f"container {plan.ctid} went away meanwhile: read the HostOS again")
    want = difference(Difference(plan.spec.name), seen.native.shape, shape_of(plan, seen.mark))
    # The name is given even where the configuration has it: it is a link beside it, too.
    want = dataclasses.replace(want, name=plan.spec.name, description=description)
    configure_with(plan, want, running=state_of(plan) == "running")


def configure_with(plan: Plan, want: Settings, *, running: bool) -> None:
    """`set`, and with vzctl 7 once more for the network of each NIC."""
    dialect = plan.world.tools.dialect
    words = argv.settings(dialect, plan.ctid, want, running=running)
    if words is not None:
        plan.run(words)
    if not dialect.legacy:
        for nic in want.nics_add:
            plan.run(argv.network(plan.ctid, nic))


def not_filled(dialect: Dialect, mark: Mark | None) -> bool:
    """Whether it was made by vzctl 7, and its build's files have not come yet."""
    return mark is not None and not dialect.legacy and mark.build_id is None and mark.host_key is None


def shape_of(plan: Plan, mark: Mark | None) -> Shape:
    """What it shall be now: before its files have come it does not start with its HostOS."""
    shape = wanted(plan.spec, plan.world.options.tuning)
    return dataclasses.replace(shape, autostart=False) if not_filled(plan.world.tools.dialect, mark) else shape


def plan_fill(plan: Plan) -> None:
    """vzctl 7: the build's files into a container that never ran, and only then the build's id into its mark."""
    name, cache = _template(plan), plan.world.options.template_dir
    files = [cache / f"{name}.tar{end}" for end in _SUFFIXES]
    template = next((file for file in files if file.exists()), cache / f"{name}{_vz_template.SUFFIX}")
    plan.add(Phase.PREPARE, "fill its root", functools.partial(_fill, plan, template))


def _fill(plan: Plan, template: pathlib.Path) -> None:
    fill(plan, template)
    mark = mark_of(plan.spec, build_id=plan.spec.root.build_id, host_key=None)
    distribution, starts = plan.world.options.template_prefix, plan.spec.starts_with_host
    plan.run(argv.filled(plan.ctid, distribution, describe(mark, plan.ctid), autostart=starts))


def plan_seed(plan: Plan, build_id: str | None) -> None:
    """Before the first start. The host key enters the mark only when the seed with its private half lies there.

    `build_id`: what the container was made of.
    """
    spec = plan.spec
    if spec.seed is None:
        return
    content = {"hostname": spec.seed.hostname, "cloud_init": redacted(dict(spec.seed.cloud_init))}
    plan.difference.compare("seed", None, content)
    plan.add(Phase.PREPARE, "write seed", functools.partial(_write_seed, plan, build_id))


def _write_seed(plan: Plan, build_id: str | None) -> None:
    spec, options = plan.spec, plan.world.options
    place = options.seed_work / spec.uuid
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in place.iterdir():
        left.unlink()
    key = seeds.make_key(place, spec.name, options.host_keys_private.get(spec.name))
    for left in place.iterdir():
        left.unlink()
    place.rmdir()
    if spec.seed is None:  # plan_seed looks for it
        return
    with root_of(plan) as root:
        directory = _inside(plan, root, _SEED)
        for name, text in seeds.documents(spec, spec.seed, key).items():
            path = directory / name
            path.unlink(missing_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
    mark = mark_of(spec, build_id=build_id, host_key=key.public)
    plan.run(["vzctl", "set", plan.ctid, "--description", describe(mark, plan.ctid), "--save"])


def _inside(plan: Plan, root: pathlib.Path, relative: str) -> pathlib.Path:
    """A directory in a container that never ran; a symbolic link on the way would lead out of it."""
    path = root
    for part in relative.split("/"):
        path = path / part
        if path.is_symlink():
            raise plan.error(f"{path} is a symbolic link: its seed would be written outside of the container")
        path.mkdir(mode=0o755, exist_ok=True)
    return path


def seed_of(root: pathlib.Path) -> pathlib.Path | None:
    """The seed in a container's root, if there is one."""
    path = root / _SEED
    return path if (path / "user-data").is_file() and not path.is_symlink() else None


def delete_seed(path: pathlib.Path) -> None:
    for name in ("user-data", "meta-data", "network-config"):
        remove(path / name)
