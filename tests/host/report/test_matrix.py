# SPDX-License-Identifier: MIT
"""`plumb matrix`: the table of tests by machines, what a page says of it, and where the two differ."""
import subprocess
import sys

from kit import LOGS, ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from plumblib import matrix  # noqa: E402
from plumblib.report import parse_report  # noqa: E402


def columns():
    return [(name, parse_report((LOGS / f"{name}.log").read_bytes())) for name in ("q35-vtd", "pc-pve")]


def test_every_cell_has_its_word_and_reason():
    found = matrix.cells(columns(), ["iommu.*"])
    assert found["iommu.translate", "q35-vtd"] == ("pass", "")
    assert found["iommu.translate", "pc-pve"] == ("skip", "no IOMMU (no DMAR, IVRS or VIOT table)")
    assert all(t.startswith("iommu.") for t, _ in found)


def test_a_page_with_the_table_says_what_the_logs_say():
    only = ["iommu.*", "msi.*"]
    text = matrix.replaced(f"# Head\n{matrix.BEGIN}\nold\n{matrix.END}\ntail\n", matrix.table(columns(), only))
    assert text.startswith("# Head\n") and text.endswith(f"{matrix.END}\ntail\n") and "old" not in text
    now = matrix.cells(columns(), only)
    assert matrix.read(text) == now and not matrix.differences(matrix.read(text), now)


def test_differences_are_told():
    now = matrix.cells(columns(), ["iommu.*"])
    page = dict(now)
    page["iommu.translate", "q35-vtd"] = ("skip", "why")
    del page["iommu.tables", "pc-pve"]
    page["iommu.gone", "pc-pve"] = ("pass", "")
    page["iommu.tables", "elsewhere"] = ("pass", "")  # a column that these logs do not have
    told = matrix.differences(page, now)
    assert len(told) == 3 and "iommu.translate on q35-vtd: the page says skip (why), the log pass" in told
    assert matrix.differences({}, now) and not matrix.read("no table")


def test_the_command(tmp_path):
    argv = [ROOT / "scripts/plumb", "matrix", "--only", "iommu.*", f"vtd={LOGS}/q35-vtd.log", f"pc={LOGS}/pc-pve.log"]
    made = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert made.startswith("| test | vtd | pc |")
    page = tmp_path / "page.md"
    page.write_text(f"{matrix.BEGIN}\n{made}{matrix.END}\n")
    assert subprocess.run([*argv, "--check", page], check=False).returncode == 0
    page.write_text(page.read_text().replace("| pass |", "| skip |", 1))
    assert subprocess.run([*argv, "--check", page], check=False, stdout=subprocess.DEVNULL).returncode == 1
