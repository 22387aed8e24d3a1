# SPDX-License-Identifier: MIT
"""`plumb lab`: a real KVM + VFIO + IOMMU host inside QEMU, and plumb as its guest (docs/lab.md)."""
from __future__ import annotations


def register(add) -> None:
    """add: as scripts/plumb's, which makes a subcommand."""
    p = add("lab", _cmd_lab, "run plumb as the guest of a Linux host with KVM, VFIO and an IOMMU, all inside QEMU",
            epilog="exit status: 0 every scenario as it should be, 1 not, 3 usage. build/lab/report.md tells all.")
    p.add_argument("-k", dest="glob", default="*", metavar="GLOB,…", help="only these scenarios")
    p.add_argument("--list", action="store_true", help="name the scenarios")
    p.add_argument("-j", dest="jobs", type=int, default=2, metavar="N", help="hosts at a time (2)")
    p.add_argument("-n", dest="times", type=int, default=1, metavar="N", help="each of them N times, in the same boots of their hosts")
    p.add_argument("--images", metavar="DIR", help="where kernel.elf, plumb.iso and models/ are (build, or BUILD)")
    p.add_argument("--write", action="store_true", help="all of them ran: put the table into docs/lab.md")
    p.add_argument("--image-only", action="store_true", help="make the host's image, run nothing")


def _cmd_lab(args) -> int:
    from .run import cmd_lab  # only where it is asked for: it needs a newer Python than `plumb parse`
    return cmd_lab(args)
