# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`vzctl create` and `vzctl destroy`."""

from __future__ import annotations

import shutil
import subprocess

from . import conf, faults, paths
from .backend import remove_tree
from .container import Container, drop_names, give_name, owner_of
from .params import Params
from .say import Failure, Say

#: The suffixes that are looked for, in this order.
_SUFFIXES = ("", ".gz", ".bz2", ".xz")


def create(ct: Container, params: Params, say: Say) -> None:
    try:
        _create(ct, params, say)
    except Failure:
        say.err("Creation of container private area failed")
        raise


def _create(ct: Container, params: Params, say: Say) -> None:
    sample_name, sample = _sample(ct, params, say)
    name = params.conf.get("NAME")
    if name is not None and owner_of(name) not in (None, ct.ctid):
        raise say.fail(131, f"Conflict: name {name} already used by container {owner_of(name)}")
    private_shown = conf.expand(params.conf.get("VE_PRIVATE", ct.conf["VE_PRIVATE"]), ct.ctid)
    private = paths.real(private_shown)
    if private.exists():
        raise say.fail(44, f"Private area already exists in {private_shown}")
    layout = params.words.get("layout", ct.conf["VE_LAYOUT"])
    if layout.startswith("ploop"):
        raise say.fail(99, "ploop is not supported by the running kernel")
    template = params.conf.get("OSTEMPLATE") or ct.conf.get("OSTEMPLATE") or ct.conf.get("DEF_OSTEMPLATE", "")
    tarball = _tarball(ct, template, say)
    if name is not None:
        give_name(ct.ctid, name)
        say.out(f"Name {name} assigned")
    say.out(f"Creating container private area ({template})")
    try:
        faults.strike("create", say)
        private.mkdir(parents=True)
        _unpack(tarball, private, say)
    except Failure:
        remove_tree(private)
        drop_names(ct.ctid)
        raise
    say.out("Performing postcreate actions")
    _save(ct, params, template, layout, (sample_name, sample))
    paths.real(conf.expand(ct.conf["VE_ROOT"], ct.ctid)).mkdir(parents=True, exist_ok=True)
    say.out(f"CT configuration saved to {ct.conf_path}")
    say.out("Container private area was created")


def _sample(ct: Container, params: Params, say: Say) -> tuple[str, str]:
    """Name and text of the sample; nothing where a configuration is there already."""
    if ct.own is not None:
        say.out("Warning: CT config file already exists, not applying a default config sample.")
        say.out("It might lead to incomplete CT configuration, you can use --applyconfig to fix.")
        return "", ""
    name = params.words.get("config", conf.global_conf()["CONFIGFILE"])
    shown = f"{paths.CONF_DIR}/ve-{name}.conf-sample"
    try:
        return name, paths.real(shown).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise say.fail(82, f"Sample config {shown} not found: No such file or directory") from None


def _tarball(ct: Container, template: str, say: Say) -> str:
    shown = f"{ct.conf['TEMPLATE']}/cache/{template}.tar"
    for suffix in _SUFFIXES:
        path = paths.real(shown + suffix)
        if path.exists():
            return str(path)
    raise say.fail(
        91,
        f"vztmpl-dl ERROR: template {template} not found!",
        f"Cached OS template {shown}[.gz|.bz2|.xz] not found",
    )


def _unpack(tarball: str, private: object, say: Say) -> None:
    done = subprocess.run(["tar", "-C", str(private), "--numeric-owner", "-xpf", tarball], check=False)
    if done.returncode:
        raise say.fail(48, f"tar exited with code {done.returncode}")


def _save(ct: Container, params: Params, template: str, layout: str, sample: tuple[str, str]) -> None:
    changes = dict(params.conf)
    if params.ip_add:
        changes["IP_ADDRESS"] = " ".join(params.ip_add)
    defaults = conf.global_conf()
    changes.setdefault("VE_ROOT", defaults["VE_ROOT"])
    changes.setdefault("VE_PRIVATE", defaults["VE_PRIVATE"])
    changes["VE_LAYOUT"] = layout.partition(":")[0]
    changes["OSTEMPLATE"] = template
    if sample[0]:
        changes["ORIGIN_SAMPLE"] = sample[0]
    name = changes.pop("NAME", None)
    conf.write(ct.conf_path, changes, sample[1])
    if name is not None:
        conf.write(ct.conf_path, {"NAME": name})
    ct.forget()


def destroy(ct: Container, say: Say) -> None:
    if ct.running:
        say.out("Container is currently running. Stop it first.")
        raise Failure(32)
    if ct.mounted:
        say.out("Container is currently mounted (umount first)")
        raise Failure(41)
    say.out(f"Destroying container private area: {ct.conf['VE_PRIVATE']}")
    faults.strike("destroy", say)
    shutil.rmtree(ct.private, ignore_errors=True)
    remove_tree(ct.root)
    remove_tree(ct.dump)
    directory = paths.real(paths.CONF_DIR)
    for suffix in ("conf", "mount", "umount"):
        path = directory / f"{ct.ctid}.{suffix}"
        if path.exists():
            path.rename(directory / f"{ct.ctid}.{suffix}.destroyed")
    drop_names(ct.ctid)
    say.out("Container private area was destroyed")
