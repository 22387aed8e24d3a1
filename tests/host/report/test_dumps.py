# SPDX-License-Identifier: MIT
"""`plumb lspci` and `plumb acpi`, read by pciutils and by ACPICA themselves."""
import re
import subprocess
import zlib

import madeup
import pytest
from kit import LOGS, judged, plumb
from plumblib import UsageError, dumps

DUMP = LOGS / "q35-vtd-dump.log"


def lspci(text, *options, folder):
    path = folder / "space"
    path.write_text(text)
    done = subprocess.run(["lspci", "-F", path, *options], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_lspci_reads_every_function(tmp_path):
    done = plumb("lspci", DUMP)
    assert done.returncode == 0
    rep = judged(DUMP).report
    ours = {f.split()[0]: f.split() for f in rep.env_of("pci")}
    seen = {line.split()[0]: line for line in lspci(done.stdout, "-n", folder=tmp_path).splitlines() if line}
    assert set(seen) == set(ours) and len(seen) == 15
    for address, words in ours.items():   # the guest's own reading of the same registers
        assert words[1] in seen[address] and f" {words[2][:4]}: " in seen[address]
    tree = lspci(done.stdout, "-t", folder=tmp_path)
    assert "10.0-[01-04]----00.0-[02-04]--+-00.0-[03]----00.0" in tree and "[0000:40]---00.0-[41]----00.0" in tree


def test_lspci_decodes_capabilities(tmp_path):
    text = plumb("lspci", DUMP).stdout
    said = lspci(text, "-vvv", "-s", "00:07.0", folder=tmp_path)
    assert "Capabilities: [40] MSI-X: Enable- Count=65" in said and "Capabilities: [80] Express (v2)" in said
    # Above the first 256 bytes: a root port's extended capabilities.
    ports = lspci(text, "-vvv", "-s", "00:10.0", folder=tmp_path)
    assert "Capabilities: [100 v" in ports
    # What lspci prints of the bytes is what the guest dumped.
    space = dumps.config_space(judged(DUMP).report)
    rows = re.findall(r"(?m)^([0-9a-f]{2,3}): ((?:[0-9a-f]{2} ?){16})", lspci(text, "-xxxx", "-s", "00:07.0", folder=tmp_path))
    assert b"".join(bytes.fromhex(r[1]) for r in rows) == space["00:07.0"] and len(space["00:07.0"]) == 4096
    assert len(space["00:1f.0"]) == 256


def test_config_space_of_odd_lines():
    log = madeup.Log(1)
    log.say("# pciconf 00:01.0 000 " + "34128086" + "00" * 60, "# pciconf 00:01.0 000", "# pciconf 00:01.0 fff 0000", "# pciconf x 000 00",
            "# pciconf 00:01.0 0zz 00", "# pciconf 0001:00:02.0 100 ff", "# pciconf 00:01.0 040 abc")
    space = dumps.config_space(judged(log.test("a.b").verdict().bytes()).report)
    assert {k: len(v) for k, v in space.items()} == {"00:01.0": 256, "0001:00:02.0": 4096}
    assert space["00:01.0"][:4] == b"\x34\x12\x80\x86" and space["0001:00:02.0"][256] == 0xff


def test_a_second_segment_reaches_lspci(tmp_path):
    log = madeup.Log(1).say("# pciconf 0001:00:02.0 000 " + "8680c029" + "00" * 60)
    text = dumps.lspci_text(judged(log.test("a.b").verdict().bytes()).report)
    assert lspci(text, "-n", folder=tmp_path).startswith("0001:00:02.0 ")


def test_iasl_decodes_every_table(tmp_path):
    done = plumb("acpi", DUMP, "-o", tmp_path / "acpi")
    assert done.returncode == 0, done.stderr
    tables = sorted((tmp_path / "acpi").glob("*.dat"))
    named = judged(DUMP).report.env_of("acpi")[0].split(" ", 2)[2].split()
    assert sorted(t.stem.upper() for t in tables) == sorted(named) and len(tables) == 8
    for table in tables:
        data = table.read_bytes()
        assert sum(data) % 256 == 0 and int.from_bytes(data[4:8], "little") == len(data) and f"{len(data)} bytes" in done.stdout
        dsl = table.with_suffix(".dsl")
        said = subprocess.run(["iasl", "-d", table], capture_output=True, text=True, timeout=30)
        assert said.returncode == 0 and dsl.exists(), said.stderr
        assert table.stem.upper() in dsl.read_text()[:600]
    dmar = (tmp_path / "acpi" / "dmar.dsl").read_text()
    assert "Hardware Unit Definition" in dmar and re.search(r"Register Base Address : 00000000FED90000", dmar)
    assert 'Device (PCI0)' in (tmp_path / "acpi" / "dsdt.dsl").read_text()


def test_acpi_of_damaged_lines():
    log = madeup.Log(1).say("# acpitable SSDT 100 00000 " + "53534454" + "28000000" + "00" * 32, "# acpitable SSDT 200 00000 " + "53534454" + "24000000" + "00" * 28,
                            "# acpitable SSDT 300 00040 00", "# acpitable ../x 400 00000 00")
    tables = dumps.acpi_tables(judged(log.test("a.b").verdict().bytes()).report)
    assert [t.name for t in tables] == ["ssdt.dat", "ssdt2.dat", "ssdt3.dat"]
    assert "checksum" in tables[1].problem and "missing" in tables[2].problem and "checksum" in tables[0].problem


def test_no_dump_says_what_to_do():
    for command in ("lspci", "acpi"):
        done = plumb(command, LOGS / "pc-pve.log")
        assert done.returncode == 3 and "`dump` on the guest command line" in done.stderr
    with pytest.raises(UsageError):
        dumps.acpi_tables(judged(b"").report)


def test_a_damaged_log_is_told(tmp_path):
    """The lines count for the CRC: a dump that was altered on its way is not passed off as good."""
    raw = DUMP.read_bytes()
    bad = tmp_path / "bad.log"
    bad.write_bytes(raw.replace(b"# pciconf 00:07.0 000 36", b"# pciconf 00:07.0 000 37"))
    assert bad.read_bytes() != raw
    done = plumb("lspci", bad)
    assert done.returncode == 2 and "CRC" in done.stderr
    assert zlib.crc32(raw) != zlib.crc32(bad.read_bytes())
