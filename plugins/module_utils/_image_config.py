# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Debian image holds beside Debian: packages and configuration, with the reasons.

Everything here is there before the recipe's packages and roles act, so that they have the last word.
"""

from __future__ import annotations

#: Every guest has these: to boot, to be configured by its seed, to be reached, to be managed by Ansible.
BASE_PACKAGES = (
    "ca-certificates",
    "cloud-init",
    "dbus",
    "e2fsprogs",
    "fdisk",  # sfdisk, which cuts the disk
    "iproute2",
    "iputils-ping",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",  # Ansible's apt module
    "qemu-guest-agent",
    "systemd-resolved",  # without it nothing makes /etc/resolv.conf of what networkd is told
    "systemd-sysv",
    "udev",
)

#: What a release has in a package of its own.
RELEASE_PACKAGES: dict[str, tuple[str, ...]] = {
    "bookworm": (),
    # Without the latter ping works for root only: its file has no capability there any more.
    "trixie": ("systemd-repart", "linux-sysctl-defaults"),
}

#: The second layer, which a container does without.
BOOT_PACKAGES = {
    "amd64": ("linux-image-cloud-amd64", "initramfs-tools", "zstd", "grub-cloud-amd64"),
}

#: Units that are masked: a guest changes when its owner says so, not by a timer, and boots without extras.
MASKED_UNITS = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "systemd-pstore.service",
    "systemd-binfmt.service",
    "proc-sys-fs-binfmt_misc.automount",
    "grub-common.service",  # remembers failed boots for a menu that is never shown
    "grub-initrd-fallback.service",
)

#: Modules of the initramfs: what a root disk can hang on under KVM, Xen and VMware. A list instead of "most" makes it
#: a third of the size, which is seconds of boot under TCG.
INITRAMFS_MODULES = (
    "virtio_pci",
    "virtio_blk",
    "virtio_scsi",
    "sd_mod",
    "ahci",
    "nvme",
    "xen-blkfront",
    "ext4",
)

#: Names of interfaces as the guest's spec has them (eth0, eth1, ...); messages on the screen, on the console of Xen's
#: PV and PVH guests, and on the serial port. The last is /dev/console; KVM guests have no hvc0, which hinders nothing.
#: no_timer_check: a kernel panics at boot if the timer does not tick while it looks, and an emulated guest of a busy
#: host may not tick then ("IO-APIC + timer doesn't work": 1 of 8 guests that booted at once on two cores under TCG).
#: Under KVM Linux leaves that check out by itself.
COMMAND_LINE = "net.ifnames=0 no_timer_check console=tty0 console=hvc0 console=ttyS0,115200"

HOSTS = """\
127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters
"""

#: The seed is a disk labelled cidata; without one the guest boots unconfigured instead of asking the network. root
#: logs in by key: the guests belong to the cluster's administrator. Only ed25519 host keys: making an RSA key takes
#: seconds, and the ledger knows ed25519. Of cloud-init's modules those that a seed may reasonably ask for: each one
#: costs an import at every boot, which is long under TCG.
CLOUD_CONFIG = """\
datasource_list: [NoCloud, None]
disable_root: false
users: []
ssh_genkeytypes: [ed25519]
locale: false
manage_etc_hosts: localhost
apt: {preserve_sources_list: true}
growpart: {mode: "off"}
resize_rootfs: false
system_info:
  network: {renderers: [networkd]}
cloud_init_modules:
- bootcmd
- write_files
- disk_setup
- mounts
- set_hostname
- update_hostname
- update_etc_hosts
- ca_certs
- users_groups
- ssh
cloud_config_modules:
- locale
- set_passwords
- apt_configure
- ntp
- timezone
- runcmd
cloud_final_modules:
- package_update_upgrade_install
- write_files_deferred
- scripts_per_once
- scripts_per_boot
- scripts_per_instance
- scripts_user
- phone_home
- final_message
- power_state_change
"""

#: A guest's addresses come from the ledger, by its seed. Waiting for a router's advertisement costs 13 s of boot where
#: no router sends any, and cloud-init 22 cannot say so by itself; an address that the ledger gave is nobody else's,
#: so its use need not be probed for.
NETWORK_EXTRA = "[Network]\nIPv6AcceptRA=no\nIPv6DuplicateAddressDetection=0\n"

#: Path in the image -> content.
FILES: dict[str, str] = {
    "etc/hosts": HOSTS,
    "etc/cloud/cloud.cfg.d/50-oscarv.cfg": CLOUD_CONFIG,
    # The root partition grows to the disk at every boot, by systemd (and the file system by x-systemd.growfs in
    # fstab): a tenth of a second, where cloud-init's growpart takes eight under TCG.
    "etc/repart.d/50-root.conf": "[Partition]\nType=root\n",
    # Named as cloud-init would: a seed that says `ssh_pwauth: false` finds it said, and sshd is not restarted.
    "etc/ssh/sshd_config.d/50-cloud-init.conf": "PasswordAuthentication no\n",
    **{f"etc/systemd/network/10-cloud-init-eth{n}.network.d/50-oscarv.conf": NETWORK_EXTRA for n in range(8)},
    "etc/initramfs-tools/conf.d/oscarv": "MODULES=list\nCOMPRESS=zstd\n",
    "etc/initramfs-tools/modules": "\n".join(INITRAMFS_MODULES) + "\n",
    "etc/default/grub.d/50-oscarv.cfg": f"""\
GRUB_TIMEOUT=0
GRUB_DISABLE_OS_PROBER=true
GRUB_TERMINAL=console
GRUB_CMDLINE_LINUX_DEFAULT=
GRUB_CMDLINE_LINUX="{COMMAND_LINE}"
""",
}

#: Units that Debian leaves off.
ENABLED_UNITS = ("systemd-networkd.service",)

#: What a build leaves in the tree and no image may have: glob patterns.
LEFTOVERS = (
    "etc/.resolv.conf.systemd-resolved.bak",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "etc/hostname",
    "etc/group-",
    "etc/gshadow-",
    "etc/passwd-",
    "etc/shadow-",
    "etc/subgid-",
    "etc/subuid-",
    "etc/ssh/ssh_host_*",
    "root/.ansible",
    "root/.bash_history",
    "root/.cache",
    "root/.ssh/known_hosts",
    "usr/sbin/policy-rc.d",
    "var/cache/debconf/*-old",
    "var/cache/ldconfig/aux-cache",
    "var/lib/cloud/*",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/*-old",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "var/log/alternatives.log",
    "var/log/apt/*",
    "var/log/bootstrap.log",
    "var/log/dpkg.log",
)
