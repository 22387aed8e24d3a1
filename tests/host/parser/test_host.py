# SPDX-License-Identifier: MIT
"""Profiles, the choice of QEMU and accelerator, the sysroot, what setup installs."""
import os
import socket
import stat
import subprocess
import sys

import pytest
from conftest import FAKE, ROOT
from logs import Log, good
from plumblib import UsageError, accel, packages, profile, qemu, symbols, sysroot
from plumblib.guest import Guest, Limits
from plumblib.qmp import Qmp

BASE = 'description = "d"\nmachine = "q35"\n'


# ---- profiles ----

def test_profiles_that_must_be_there():
    assert {"q35-vtd", "q35-plain", "q35-vtd-wide", "pc-pve", "selftest", "q35-bare", "q35-noir"} <= set(profile.names())


@pytest.mark.parametrize("name", profile.names())
def test_profile_loads(name, tmp_path):
    p = profile.load(name)
    assert p.description and len(qemu.fw_cfg("opt/plumb/cmdline", "require=" + ",".join(p.must), tmp_path)[1]) < 2047
    remap = [i for i, d in enumerate(p.devices) if "-iommu" in d]
    assert remap in ([], [0]), "the IOMMU comes first: it covers what comes after it"
    ids = [w for d in p.devices for w in d.split(",") if w.startswith(("id=", "node-name="))]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("text, said", [
    (BASE + 'tiemout = 3\n', "unknown key 'tiemout'"),
    (BASE + 'smp = 4\n', "smp must be a str"),
    (BASE + 'must = "a"\n', "must must be a list"),
    (BASE + 'must = [1]\n', "of strings"),
    (BASE + 'timeout = true\n', "timeout must be a float"),
    (BASE + 'boots = ["lilo"]\n', "lilo"),
    (BASE + 'boots = []\n', "empty"),
    (BASE + 'helpers = ["x"]\n', "'x'"),
    (BASE + '[expect]\n"a.b" = "passed"\n', "'passed' is no outcome"),
    (BASE + 'x\n', "machine profile t: "),
    ('machine = "q35"\n', "no 'description'"),
])
def test_profile_refused(text, said):
    with pytest.raises(UsageError, match=said):
        profile.parse("t", text)


def test_profile_by_path_is_refused():
    with pytest.raises(UsageError, match="no machine profile"):
        profile.load("../machines/q35-vtd")


def our_qemu():
    """A real QEMU, without fetching one."""
    for release in sysroot.RELEASES:
        if not sysroot.fault(sysroot.folder(release)):
            return qemu.from_sysroot(release)
    return None


@pytest.mark.skipif(our_qemu() is None, reason="no sysroot here yet")
@pytest.mark.parametrize("name", [n for n in profile.names() if profile.load(n).smp != "288"])
def test_profile_starts_in_qemu(name, tmp_path, monkeypatch):
    """QEMU takes the command line whole and the monitor sees the devices."""
    p, q = profile.load(name), our_qemu()
    if qemu.as_numbers(q.version) < qemu.as_numbers(p.needs_qemu):
        q = qemu.choose(None, p.needs_qemu)
    monkeypatch.setattr(qemu, "boot_options", lambda *a: ["-S"])
    opts = qemu.Options(boot="pvh", cmdline="x" * 1500)    # by file
    with Guest(lambda fds: qemu.command(q, p, opts, tmp_path, fds), q.env, p.helpers, Limits()) as g:
        said = g.qmp.monitor("info pci", 15)
        g.stderr.seek(0)
        assert "Host bridge" in said, g.stderr.read()
        for device in ("edu", "nvme", "ivshmem"):
            want = {"edu": "1234:11e8", "nvme": "1b36:0010", "ivshmem": "1af4:1110"}[device]
            assert said.count(want) <= sum(d.startswith(f"-device {device}") for d in p.devices)
        # Behind a bridge, which nobody has set up yet, the monitor sees none.
        assert ("1b36:0010" in said) == any(d.startswith("-device nvme") and "bus=pci" in d for d in p.devices)
        g.qmp.send("quit")
        assert g.proc.wait(10) == 0


# ---- which QEMU ----

@pytest.fixture
def path(tmp_path, monkeypatch):
    """An empty PATH, and a way to put programs on it."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()

    def put(name, text):
        file = tmp_path / "bin" / name
        file.write_text(text)
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
        return file
    return put


def test_system_qemu_if_new_enough(path, monkeypatch):
    asked, said = [], []
    monkeypatch.setattr(qemu, "from_sysroot", lambda release: asked.append(release) or "ours")
    assert qemu.choose(None) == "ours" and asked == ["10.0"]
    path("qemu-system-x86_64", "#!/bin/sh\necho 'QEMU emulator version 7.2.22 (Debian)'\n")
    assert qemu.choose(None, say=said.append) == "ours"
    assert said == ["the system's QEMU is 7.2.22, 9.0 or newer is needed: using the project's own"]
    path("qemu-system-x86_64", "#!/bin/sh\necho 'QEMU emulator version 10.0.2 (Debian)'\n")
    found = qemu.choose(None)
    assert found.version == "10.0.2" and found.argv[0].endswith("/bin/qemu-system-x86_64")
    assert qemu.choose(None, "11.1", said.append) == "ours" and asked[-1] == "11.1"
    assert qemu.choose("11") == "ours" and asked[-1] == "11.1"
    assert qemu.choose(str(FAKE)).version == "10.0.13"
    with pytest.raises(UsageError, match="not to be had"):
        qemu.choose("12")


def test_irqchip_and_cpu_under_kvm(tmp_path):
    (tmp_path / "kernel.elf").write_bytes(b"")
    q = qemu.Qemu(["q"], "10.0.13")

    def line(prof, use):
        return " ".join(qemu.command(q, prof, qemu.Options("pvh", use, images=tmp_path), tmp_path, {"serial": 3, "qmp": 4, "ivshmem": 5}))
    vtd, plain = profile.load("q35-vtd"), profile.load("q35-plain")
    assert "kernel-irqchip=split" in line(vtd, "kvm") and "max,+x2apic,-arch-capabilities" in line(vtd, "kvm")
    assert "kernel-irqchip" not in line(vtd, "tcg") + line(plain, "kvm") + line(profile.load("q35-noir"), "kvm")
    assert "arch-capabilities" not in line(vtd, "tcg")


def test_ovmf_variables_are_a_copy(tmp_path):
    (tmp_path / "plumb.iso").write_bytes(b"")
    (tmp_path / "OVMF_CODE.fd").write_bytes(b"code")
    (tmp_path / "OVMF_VARS.fd").write_bytes(b"vars")
    (tmp_path / "t").mkdir()
    q = qemu.Qemu(["q"], "10.0.13", firmware=(str(tmp_path),))
    line = " ".join(qemu.boot_options(q, "uefi", tmp_path, tmp_path / "t"))
    assert f"unit=0,readonly=on,file={tmp_path}/OVMF_CODE.fd" in line and f"unit=1,file={tmp_path}/t/vars.fd" in line
    assert (tmp_path / "t" / "vars.fd").read_bytes() == b"vars"
    assert "pflash" not in " ".join(qemu.boot_options(q, "bios", tmp_path, tmp_path / "t"))


# ---- the sysroot ----

MMDEBSTRAP = f"""#!{sys.executable}
import os, sys, tarfile, io
if os.path.exists({{flag!r}}):
    print('E: no network'); sys.exit(1)
with tarfile.open(sys.argv[sys.argv.index('trixie') + 1], 'w') as tar:
    for name in {list(sysroot.NEEDED)!r}:
        text = b'#!/bin/sh\\nexit 0\\n'
        info = tarfile.TarInfo('./' + name); info.size = len(text); info.mode = 0o755
        tar.addfile(info, io.BytesIO(text))
open({{count!r}}, 'a').write('x')
"""


@pytest.fixture
def tree(tmp_path, monkeypatch, path):
    """A repository of its own, with an mmdebstrap that packs scripts."""
    flag, count = tmp_path / "broken", tmp_path / "count"
    path("mmdebstrap", MMDEBSTRAP.format(flag=str(flag), count=str(count)))
    path("apt-get", "#!/bin/sh\nprintf 'Debian\\tbookworm\\thttp://mirror.test/debian/\\n'\n")
    for tool in ("tar", "sh"):
        os.symlink(f"/bin/{tool}", tmp_path / "bin" / tool)
    monkeypatch.setattr(sysroot, "ROOT", tmp_path)
    tree = tmp_path / "build"
    return tree, flag, lambda: len(count.read_text()) if count.exists() else 0


def test_sysroot_is_made_once_and_whole(tree):
    build, flag, made = tree
    root = sysroot.provision("10.0")
    assert sysroot.fault(root) is None and made() == 1
    sysroot.provision("10.0")
    assert made() == 1
    assert [p.name for p in build.iterdir() if p.is_dir()] == ["sysroot-10.0"]


@pytest.mark.parametrize("name", sysroot.NEEDED)
def test_half_made_sysroot_is_remade(tree, name):
    _, _, made = tree
    root = sysroot.provision("10.0")
    (root / name).write_bytes(b"")
    assert "lacks" in sysroot.fault(root)
    assert sysroot.fault(sysroot.provision("10.0")) is None and made() == 2


def test_failed_sysroot_leaves_nothing(tree):
    build, flag, _ = tree
    flag.touch()
    with pytest.raises(UsageError, match="could not fetch the packages: E: no network"):
        sysroot.provision("10.0")
    assert [p.name for p in build.iterdir()] == [".sysroot-10.0.lock"]


def test_no_mmdebstrap_names_the_package(tree, tmp_path):
    (tmp_path / "bin" / "mmdebstrap").unlink()
    with pytest.raises(UsageError, match="apt-get install mmdebstrap"):
        sysroot.provision("10.0")


@pytest.mark.parametrize("text, mirror", [
    ("Debian\tbookworm\thttp://a.test/debian/\n", "http://a.test/debian"),
    ("Debian-Security\tbookworm-security\thttp://b.test/debian-security/\nDebian\tx\thttps://a.test/d/\n", "https://a.test/d"),
    ("Debian\tbookworm-updates\thttp://u.test/debian/\n\t\thttp://n.test/debian\n", "http://n.test/debian"),
    ("\t\thttp://n.test/nodesource\n", None),
    ("", None),
])
def test_mirror_is_the_hosts_own(path, text, mirror):
    path("apt-get", f"#!/bin/sh\nprintf '{text}'\n".replace("\t", "\\t").replace("\n\\t", "\\n\\t"))
    assert sysroot.host_mirror() == mirror


# ---- setup ----

def test_nothing_missing_is_silent_and_quick():
    assert packages.missing("run", lambda sign: True) == []
    packages.install([])


def test_missing_by_tool_and_file():
    assert packages.missing("run", lambda sign: sign != "nasm") == ["nasm"]
    assert packages.missing("test", lambda sign: "fuzzer" not in sign) == ["libclang-rt-{clang}-dev"]
    assert set(packages.RUN) < set(packages.TEST)
    assert packages.present("/bin/sh") and packages.present("/bin/s?") and not packages.present("/nonexistent/*")


@pytest.fixture
def apt(path, monkeypatch, tmp_path):
    """An apt-get that writes down what it is asked for; `sudo` as asked."""
    for tool in ("env", "cat"):
        os.symlink(f"/usr/bin/{tool}", tmp_path / "bin" / tool)
    path("apt-get", f'#!/bin/sh\necho "$DEBIAN_FRONTEND $*" >> {tmp_path}/asked\ntest ! -e {tmp_path}/fails\n')
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return tmp_path


def test_install_by_root(apt, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    packages.install(["nasm", "git"])
    (line,) = (apt / "asked").read_text().splitlines()
    assert line.startswith("noninteractive -qq") and line.endswith("install -y --no-install-recommends nasm git")


def test_install_by_sudo(apt, path):
    path("sudo", '#!/bin/sh\nshift\nexec "$@"\n')
    os.symlink("/bin/true", apt / "bin" / "true")
    packages.install(["nasm"])
    assert "install -y --no-install-recommends nasm" in (apt / "asked").read_text()


def test_no_root_names_the_packages(apt, path):
    with pytest.raises(UsageError, match="only root can install it: apt-get install nasm libclang-rt-[0-9]+-dev$"):
        packages.install(["nasm", "libclang-rt-{clang}-dev"])
    path("sudo", "#!/bin/sh\nexit 1\n")    # asks for a password
    with pytest.raises(UsageError, match="apt-get install nasm"):
        packages.install(["nasm"])
    assert not (apt / "asked").exists() or "install" not in (apt / "asked").read_text()


def test_lists_are_fetched_where_the_first_try_fails(apt, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (apt / "fails").touch()
    with pytest.raises(UsageError, match="apt-get install nasm"):
        packages.install(["nasm"])
    assert [line.split()[3 if " -o " not in line else 4] for line in (apt / "asked").read_text().splitlines()] == [
        "install", "update", "install"]


def test_no_debian(path):
    with pytest.raises(UsageError, match="this is no Debian: nasm"):
        packages.install(["nasm"])


# ---- the accelerator ----

def probes(monkeypatch, tmp_path, **seconds):
    """Each accelerator takes so many seconds to boot, or cannot."""
    ran = []

    def probe(q, boot, use, deadline, images):
        ran.append(use)
        value = seconds[use]
        return (None, value) if isinstance(value, str) else (value, "")
    monkeypatch.setattr(accel, "_probe", probe)
    monkeypatch.setattr(accel, "build_dir", lambda: tmp_path)
    monkeypatch.setattr(os, "open", lambda *a, _open=os.open: _open("/dev/null", os.O_RDWR) if a[0] == "/dev/kvm" else _open(*a))
    return ran


@pytest.mark.parametrize("kvm, tcg, want, can", [
    (0.1, 0.1, "kvm", True), (0.6, 0.1, "kvm", True), (3.0, 0.1, "tcg", True), (2.5, 3.0, "kvm", True),
    ("QEMU stopped the guest: internal-error", 3.0, "tcg", False), (0.2, "no", "kvm", True),
])
def test_kvm_only_where_it_is_prompt(monkeypatch, tmp_path, kvm, tcg, want, can):
    ran = probes(monkeypatch, tmp_path, kvm=kvm, tcg=tcg)
    q = qemu.Qemu(["q"], "10.0.13")
    choice = accel.choose(q, "pvh")
    assert (choice.accel, choice.can_kvm) == (want, can) and choice.why and "\n" not in choice.why
    assert accel.choose(q, "pvh") == choice and len(ran) == 2          # the second from the cache
    accel.choose(q, "uefi")
    accel.choose(qemu.Qemu(["q"], "11.1.3"), "pvh")
    assert len(ran) == 6                                               # each boot and QEMU by itself


def test_an_image_that_cannot_boot_is_not_remembered(monkeypatch, tmp_path):
    ran = probes(monkeypatch, tmp_path, kvm="no report", tcg="no report")
    assert accel.choose(qemu.Qemu(["q"], "10.0.13"), "pvh").accel == "tcg"
    accel.choose(qemu.Qemu(["q"], "10.0.13"), "pvh")
    assert len(ran) == 4
    (tmp_path / "accel.json").write_text("[garbage")
    assert accel.choose(qemu.Qemu(["q"], "10.0.13"), "pvh").accel == "tcg"


def test_slow_kvm_can_still(monkeypatch, tmp_path):
    """A loaded host: too slow to choose, not too broken to test with."""
    q = qemu.Qemu(["q"], "10.0.13")
    probes(monkeypatch, tmp_path, kvm="before the report began: no report within 10 s, QEMU was alive", tcg=0.1)
    assert not accel.choose(q, "pvh").can_kvm
    probes(monkeypatch, tmp_path, kvm=14.0, tcg=0.1)
    assert accel.can_kvm(q, "pvh").can_kvm and accel.choose(q, "pvh").can_kvm and accel.choose(q, "pvh").accel == "tcg"


def test_no_kvm_at_all(monkeypatch):
    def refuse(*a, _open=os.open):
        if a[0] == "/dev/kvm":
            raise PermissionError(13, "Permission denied")
        return _open(*a)
    monkeypatch.setattr(os, "open", refuse)
    choice = accel.choose(qemu.Qemu(["q"], "10.0.13"), "pvh")
    assert (choice.accel, choice.why, choice.can_kvm) == ("tcg", "no KVM: /dev/kvm: Permission denied", False)


def test_probe_reads_the_list(fake):
    """The probe itself, against the script that stands in for QEMU."""
    log = Log(0)
    log.say("# list a.b c")
    fake("assert 'list exit=debug' in cmdline; say(); exit(35)", log.verdict().bytes())
    q = qemu.choose(str(FAKE))
    seconds, _ = accel._probe(q, "pvh", "tcg", 5, fake.build)
    assert seconds is not None and seconds < 5
    fake("monitor({'query-status': {'status': 'internal-error'}})\nevent('STOP')\nsleep(60)")
    assert accel._probe(q, "pvh", "kvm", 5, fake.build) == (None, "before the report began: QEMU stopped the guest: internal-error")
    fake("sleep(60)")
    assert "no report within 0.3 s" in accel._probe(q, "pvh", "kvm", 0.3, fake.build)[1]


# ---- where a hanging guest stands ----

def test_where_cpus_stand(tmp_path):
    (tmp_path / "a.c").write_text("int spin(void) { return 1; }\nint main(void) { return spin(); }\n")
    subprocess.run(["gcc", "-static", "-nostdlib", "-Wl,-e,main", "-o", "a.elf", "a.c"], cwd=tmp_path, check=True, timeout=60)
    names = {name: at for at, name in symbols.functions(tmp_path / "a.elf")}
    dump = (f"\nCPU#0\nRAX=0\nRIP={names['spin'] + 2:016x} RFL=2 [---] CPL=0 HLT=0\nES =0\nCPU#1\nRIP=00000000deadbeef HLT=1\n"
            f"CPU#2\nRIP=00000000deadbeef HLT=1\n")
    assert symbols.where(dump, tmp_path / "a.elf") == "CPU 0 spin+0x2; CPUs 1 2 0xdeadbeef (halted)"
    assert symbols.where(dump, tmp_path / "none").startswith("CPU 0 0x")
    assert symbols.where("", tmp_path / "a.elf") == "" and symbols.functions(FAKE) == []
    data = (tmp_path / "a.elf").read_bytes()
    for cut in range(0, len(data), 97):
        (tmp_path / "cut").write_bytes(data[:cut])
        symbols.functions(tmp_path / "cut")


# ---- an old Python reads logs too ----

def test_parse_needs_no_new_python(tmp_path):
    """A Proxmox host may have 3.9: `parse` may not import what came later."""
    (tmp_path / "a.log").write_bytes(good().bytes())
    code = ("import sys; sys.modules['tomllib'] = None; sys.argv = ['plumb', 'parse', 'a.log'];"
            f"import runpy; runpy.run_path({str(ROOT / 'scripts' / 'plumb')!r}, run_name='__main__')")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0 and done.stdout.endswith("PASS  2 passed, 0 failed, 1 skipped, 1 known bugs in 0.1 s\n")


def test_last_words_of_a_qemu_that_is_gone():
    """It says why it ends and is gone before our greeting reaches it: what it said still counts."""
    ours, theirs = socket.socketpair()
    qmp = Qmp(ours)
    theirs.sendall(b'{"QMP": {}}\r\n')
    send, qmp.send = qmp.send, lambda command: (theirs.sendall(b'{"event": "SHUTDOWN", "data": {}}\r\n'),
                                                theirs.close(), send(command))
    while qmp.open:
        qmp.feed()
    ours.close()
    assert qmp.events == [("SHUTDOWN", {})]
