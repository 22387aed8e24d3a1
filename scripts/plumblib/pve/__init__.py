# SPDX-License-Identifier: MIT
"""`plumb pve`: Proxmox VE from one command. Standard library only, Python 3.9 and newer (docs/pve.md).

It drives qm, pvesm and pvesh and never touches their files. What it makes for a run it takes away again.
"""
from __future__ import annotations


def register(add) -> None:
    """add: as scripts/plumb's, which makes a subcommand."""
    from . import check, run
    top = add("pve", None, "Proxmox VE: check a host, install the medium, make a VM, run in it",
              epilog="Everything here takes --dry-run. docs/pve.md goes from a bare host to the verdict.")
    sub = top.add_subparsers(metavar="WHAT", required=True)

    def command(name, handler, text):
        p = sub.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        p.set_defaults(handler=handler)
        p.add_argument("-n", "--dry-run", action="store_true", help="say what would be done, change nothing")
        p.add_argument("-v", "--verbose", action="store_true", help="show the commands")
        if name != "create":
            p.add_argument("--nodes", default="", metavar="all|A,B", help="on these nodes of the cluster, by pvesh")
        return p

    def medium(p):
        p.add_argument("--storage", default="local", metavar="NAME", help="storage for the ISO (local)")
        p.add_argument("--image", default="", metavar="FILE", help="the ISO (build/plumb.iso)")

    def machine(p):
        p.add_argument("--like", default="", metavar="VMID", help="the machine, CPU and host devices of this VM")
        p.add_argument("--hostpci", action="append", default=[], metavar="DEV",
                       help="a host device as in `qm config`: 0000:01:00.0,mdev=nvidia-55 or mapping=gpu,mdev=…; again for more")
        p.add_argument("--q35", action="store_true", help="q35 (i440fx)")
        p.add_argument("--ovmf", action="store_true", help="OVMF without enrolled keys (SeaBIOS)")
        p.add_argument("--viommu", default="", metavar="intel|virtio", help="a virtual IOMMU")
        p.add_argument("--cores", type=int, default=4, metavar="N")
        p.add_argument("--memory", type=int, default=1024, metavar="MiB")
        p.add_argument("--cpu", default="", metavar="TYPE", help="CPU type (Proxmox VE's default)")
        p.add_argument("--net", default="", metavar="NET", help="net0, as virtio,bridge=vmbr0 (none)")
        p.add_argument("--efi-storage", default="local-lvm", metavar="NAME",
                       help="storage for the EFI variables (local-lvm)")
        p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any option of `qm set`")
        p.add_argument("--plumb", default="", metavar="CMDLINE",
                       help="guest command line, as 'device=00:10.0 only=vgpu.*'")

    p = command("check", check.cmd_check, "what this host lacks for PCI passthrough and vGPUs, and what to do")
    p.add_argument("--from", dest="source", default="", metavar="DIR",
                   help="read recorded files instead of this host")
    p.add_argument("--record", default="", metavar="DIR", help="write what was read, for --from elsewhere")
    p.add_argument("--device", default="", metavar="ID", help="the device meant, as 0000:01:00.0")
    p.add_argument("--mdev", default="", metavar="TYPE", help="the mdev type meant, as nvidia-55")

    p = command("install", run.cmd_install, "put the boot medium into a storage")
    medium(p)

    p = command("create", run.cmd_create, "make a VM for plumb that stays")
    p.add_argument("vmid", nargs="?", default="", metavar="VMID", help="its number (the next free one)")
    p.add_argument("--disk", default="", metavar="FILE", help="boot from this raw or qcow2 disk instead of the ISO")
    p.add_argument("--disk-storage", default="local-lvm", metavar="NAME", help="storage for it (local-lvm)")
    medium(p)
    machine(p)

    p = command("run", run.cmd_run, "run plumb in a VM and give its verdict; without VMID in one made for the run")
    p.add_argument("vmid", nargs="?", default="", metavar="VMID",
                   help="a VM that boots plumb and has serial0: socket")
    p.add_argument("--freeze", action="store_true", help="freeze: 1 for this run, so that not a byte is lost")
    p.add_argument("--timeout", type=float, default=900, metavar="S", help="deadline of the whole run (900)")
    p.add_argument("--boot-timeout", type=float, default=180, metavar="S", help="to the report's first line (180)")
    p.add_argument("--silence", type=float, default=60, metavar="S", help="without a byte (60)")
    p.add_argument("--log", default="", metavar="FILE", help="raw serial log (build/logs/pve-….log)")
    p.add_argument("--json", metavar="FILE", help="write the result as JSON")
    p.add_argument("--junit", metavar="FILE", help="write the result as JUnit XML")
    medium(p)
    machine(p)
