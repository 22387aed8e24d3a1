# SPDX-License-Identifier: MIT
"""The runner against a QEMU that is a script: what it makes of each way to end, and what it leaves behind."""
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

import pytest
from conftest import ROOT
from logs import Log, failing, good

PLUMB = [sys.executable, str(ROOT / "scripts" / "plumb")]
PASS = "say(); exit(33)"


@pytest.fixture
def machine(fake, monkeypatch):
    """A profile with short deadlines, in a folder of its own."""
    folder = fake.path / "machines"
    folder.mkdir()

    def make(**keys):
        # Long, so that a loaded host fails no test; those that wait for them shorten them.
        values = {**dict(description="t", machine="q35", silence=8, boot_timeout=12, timeout=25), **keys}
        text = "".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items() if not isinstance(v, dict))
        for key, table in values.items():
            if isinstance(table, dict):
                text += f"[{key}]\n" + "".join(f"{json.dumps(k)} = {json.dumps(v)}\n" for k, v in table.items())
        (folder / "t.toml").write_text(text)
    monkeypatch.setenv("PLUMB_MACHINES", str(folder))
    monkeypatch.setenv("MACHINE", "t")
    make()
    make.fake = fake
    return make


def plumb(*args, **kw):
    return subprocess.run([*PLUMB, *args], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, **kw)


def nothing_left(fake):
    left = [p.name for p in fake.build.iterdir() if p.name.startswith("run-")]
    ours = str(fake.path)
    running = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as f:
                env = f.read()
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if ours.encode() in env and b"fake_qemu" in f.read():
                    running.append(pid)
        except OSError:
            pass
    return left == [] and running == []


def run(fake, script, log=b"", *args):
    fake(script, log)
    done = plumb("run", *args)
    assert nothing_left(fake)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_pass(machine):
    data = b"\x1b[2Jfirmware\r\n" + good().bytes()
    done = run(machine.fake, PASS, data)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("PASS  2 passed, 0 failed, 1 skipped, 1 known bugs in ") and "t-pvh.log" in last
    assert "\nok 1 - boot.handoff\n" in done.stdout and "\x1b" not in done.stdout
    assert (machine.fake.build / "logs" / "t-pvh.log").read_bytes() == data


def test_nothing_is_lost_at_the_end(machine):
    """QEMU ends while much of what it wrote is still in the socket."""
    log = Log(1)
    log.test("a.b", True, "", *[f"# note {i} {'x' * 90}" for i in range(9000)])
    done = run(machine.fake, PASS, log.verdict().bytes())
    assert done.returncode == 0, done.stdout[-300:]


def test_failure(machine):
    done = run(machine.fake, "say(); exit(35)", failing().bytes())
    assert done.returncode == 1
    assert "    apic_id(cpu) == cpu->madt_id: got 0x5, expected 0x4   tests/apic/ids.c:31" in done.stdout
    assert "PLB001 CPU 4 says its APIC ID is 5\n    evidence  MADT 4, CPUID 5\n" in done.stdout


BEGUN = "say(log[:log.index(b'# took 2')])\n"
HALF = good().bytes()


@pytest.mark.parametrize("script, word, why", [
    (BEGUN + "sleep(60)", "HANG", "in msi.latency: silent for 0.4 s"),
    ("sleep(60)", "HANG", "before the report began: no report within 0.4 s"),
    ("say(b'Shell> ' * 9); sleep(60)", "HANG", "before the report began"),
    (BEGUN + "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nsleep(60)", "HANG", "in msi.latency"),
    (BEGUN + "event('SHUTDOWN', guest=True, reason='guest-reset')\nexit(0)", "RESET", "in msi.latency: "),
    (BEGUN + "exit(0)", "RESET", "in msi.latency: the machine reset itself"),
    (BEGUN + "event('SHUTDOWN', guest=True, reason='guest-shutdown')\nexit(0)", "RESET", "switched off"),
    (BEGUN + "say()\nexit(33)", "RESET", "a second report begins: the machine was reset during msi.latency"),
    (BEGUN + "say(b'# panic #PF at 0x10\\r\\n')\nexit(37)", "CRASH", "gave up during msi.latency: #PF at 0x10"),
    (BEGUN + "say(b'# panic #PF at 0x10\\r\\n')\nos.kill(os.getpid(), 9)", "CRASH", "gave up during msi.latency"),
    (BEGUN + "os.kill(os.getpid(), 11)", "CRASH", "in msi.latency: QEMU died of signal 11"),
    (BEGUN + "import sys\nprint('qemu: x.c:1: Assertion y failed.', file=sys.stderr, flush=True)\nos.abort()",
     "CRASH", "QEMU died of signal 6: qemu: x.c:1: Assertion y failed."),
    (BEGUN + "exit(1)", "CRASH", "QEMU ended with status 1"),
    (BEGUN + "monitor({'query-status': {'status': 'internal-error'}})\nevent('STOP')\nsleep(60)",
     "CRASH", "in msi.latency: QEMU stopped the guest: internal-error"),
    ("say(); exit(0)", "DAMAGED", "status 0 means a reset or power-off (never a pass)"),
    ("say(); exit(35)", "DAMAGED", "status 35 means a failure; the log says otherwise"),
    ("say(log.replace(b'ok 1', b'ok 9')); exit(33)", "DAMAGED", "result for test 9"),
    ("exit(33)", "DAMAGED", "ended with a verdict (status 33)"),
    ("sleep(0.2); exit(0)", "RESET", "before the report began"),
    ("say(log[:log.index(b'# verdict')]); exit(33)", "DAMAGED", "ended with a verdict (status 33) that is not in the log"),
    (BEGUN + "exit(37)", "CRASH", "in msi.latency: the guest gave up"),
])
def test_no_verdict(machine, script, word, why):
    if word == "HANG":
        machine(silence=0.4, **({} if BEGUN in script else dict(boot_timeout=0.4)))
    done = run(machine.fake, script, HALF)
    last = done.stdout.splitlines()[-1]
    assert done.returncode == 2 and last.startswith(word + "  "), done.stdout
    assert why in done.stdout.replace("\n", " "), done.stdout


def test_overall_deadline(machine):
    done = run(machine.fake, BEGUN + "while True: say(b'# note alive\\r\\n'); sleep(0.05)", HALF, "--timeout", "1")
    assert done.returncode == 2 and "HANG: in msi.latency: not done after 1 s" in done.stdout


def test_a_guest_that_cannot_switch_off(machine):
    """It repeats its verdict for ever: the first is taken."""
    done = run(machine.fake, "say()\nwhile True: sleep(0.2); say(log.splitlines(True)[-1])", good().bytes())
    assert done.returncode == 0 and done.stdout.count("# verdict") < 20


def test_evidence_of_a_hang(machine):
    machine(silence=0.4)
    script = ("monitor({'query-status': {'status': 'running'}, 'info registers -a': 'RIP=ffffffff80001234'})\n"
              + BEGUN + "sleep(60)")
    done = run(machine.fake, script, HALF)
    side = machine.fake.build / "logs" / "t-pvh.log.evidence.txt"
    assert str(side) in done.stdout and "RIP=ffffffff80001234" in side.read_text()


def test_qemu_that_does_not_start(machine):
    done = run(machine.fake, "import sys\nprint('-device nonsense: no such device', file=sys.stderr)\nsys.stderr.flush()\nexit(1)")
    assert done.returncode == 3
    assert "QEMU did not start: -device nonsense: no such device" in done.stderr


@pytest.mark.parametrize("args, said", [
    (["--machine", "nowhere"], "no machine profile 'nowhere'"),
    (["--qemu", "/nonexistent"], "QEMU=/nonexistent: no such program"),
    (["--qemu", "/bin/true"], "/bin/true is no QEMU"),
    (["--accel", "hax"], "ACCEL=hax"),
    (["--plumb", "x" * 3000], "2047 are the most"),
])
def test_usage(machine, args, said):
    done = run(machine.fake, PASS, HALF, *args)
    assert done.returncode == 3 and said in done.stderr


def test_image_missing(machine):
    (machine.fake.build / "kernel.elf").unlink()
    done = run(machine.fake, PASS, HALF)
    assert done.returncode == 3 and "kernel.elf" in done.stderr and "make" in done.stderr


def test_images_from_elsewhere(machine, tmp_path):
    (machine.fake.build / "kernel.elf").rename(tmp_path / "kernel.elf")
    machine.fake("assert argv[argv.index('-kernel') + 1].startswith('" + str(tmp_path) + "/kernel'); say(); exit(33)", HALF)
    assert plumb("run", "--images", str(tmp_path)).returncode == 0
    assert plumb("run").returncode == 3


def test_old_qemu_is_named(machine, monkeypatch):
    monkeypatch.setenv("FAKE_VERSION", "7.2.22")
    done = run(machine.fake, PASS, HALF)
    assert "is QEMU 7.2.22; this machine profile needs 9.0 or newer" in done.stderr


def test_command_line(machine, monkeypatch):
    machine(devices=["-device edu,addr=04.0"], must=["boot.*"])
    monkeypatch.setenv("SMP", "3")
    monkeypatch.setenv("QEMU_ARGS", "-name 'a b'")
    machine.fake("say(); open(os.environ['FAKE_LOG'] + '.argv', 'w').write('\\n'.join(argv)); exit(33)", good().bytes())
    assert plumb("run", "--mem", "64M", "--smp", "4", "--plumb", "seed=7,8 require=x.y").returncode == 0
    argv = (machine.fake.path / "log.bin.argv").read_text().split("\n")

    def after(option):
        return argv[argv.index(option) + 1]
    assert after("-smp") == "4" and after("-m") == "64M" and after("-name") == "a b" and after("-accel") == "tcg"
    assert "name=opt/plumb/cmdline,string=seed=7,,8 require=x.y,,boot.*" in argv
    assert "name=opt/plumb/qemu,string=10.0.13" in argv
    assert "isa-debug-exit,iobase=0xf4,iosize=0x4" in argv and "edu,addr=04.0" in argv and "-no-reboot" in argv


@pytest.mark.parametrize("args, sent", [
    ([], "require=boot.*"),
    (["--plumb", "only=msi.*"], "only=msi.*"),         # the guest takes a required test it does not plan for a mistake
    (["--smp", "2"], ""),                              # fewer CPUs than the profile's: its demands do not hold
    (["--smp", "8"], "require=boot.*"),
    (["--plumb", "seed=1"], "seed=1 require=boot.*"),
])
def test_what_is_required_of_the_guest(machine, args, sent):
    machine(must=["boot.*"])
    machine.fake("say(); open(os.environ['FAKE_LOG'] + '.cmd', 'w').write(cmdline); exit(33)", good().bytes())
    assert plumb("run", *args).returncode == 0
    assert (machine.fake.path / "log.bin.cmd").read_text() == sent


def test_a_profile_with_its_own_selection_demands_all_the_same(machine):
    machine(must=["dma.integrity"], plumb="only=boot.*,dma.*")
    machine.fake("say(); open(os.environ['FAKE_LOG'] + '.cmd', 'w').write(cmdline); exit(33)",
                 good(cmdline="only=boot.*,dma.*").bytes())
    done = plumb("run")
    assert done.returncode == 1 and "must run on this machine: dma.integrity" in done.stdout
    assert (machine.fake.path / "log.bin.cmd").read_text() == "only=boot.*,dma.* require=dma.integrity"
    log = str(machine.fake.build / "logs" / "t-pvh.log")
    assert plumb("parse", "--machine", "t", log).returncode == 1 and plumb("parse", log).returncode == 0
    assert plumb("run", "--plumb", "only=boot.*").returncode == 0


def test_must(machine):
    machine(must=["ir.*"])
    done = run(machine.fake, PASS, good().bytes())
    assert done.returncode == 1 and "ir.wide: may not be skipped on this machine" in done.stdout
    machine(must=["dma.integrity"])
    assert run(machine.fake, PASS, good().bytes()).returncode == 1
    assert run(machine.fake, PASS, good().bytes(), "--plumb", "only=boot.*").returncode == 0


# ---- signals ----

@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_leaves_nothing(machine, number):
    machine.fake(BEGUN + "import signal\nsignal.signal(15, signal.SIG_IGN)\nsleep(60)", HALF)
    p = subprocess.Popen([*PLUMB, "run", "--timeout", "60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while "# run 2" not in p.stdout.readline():
        pass
    p.send_signal(number)
    _, err = p.communicate(timeout=10)
    assert p.returncode == 128 + number and "Traceback" not in err
    assert nothing_left(machine.fake)


def test_kill_takes_qemu_along(machine):
    machine.fake(BEGUN + "sleep(60)", HALF)
    p = subprocess.Popen([*PLUMB, "run"], stdout=subprocess.PIPE, text=True)
    while "# run 2" not in p.stdout.readline():
        pass
    p.kill()
    p.communicate(timeout=10)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        fake = machine.fake
        if not any("fake_qemu" in open(f"/proc/{d}/cmdline").read() and str(fake.path) in open(f"/proc/{d}/environ").read()
                   for d in os.listdir("/proc") if d.isdigit() and os.path.exists(f"/proc/{d}/environ")):
            break
        time.sleep(0.05)
    assert run(machine.fake, PASS, HALF).returncode == 0   # and clears the killed run's folder away


# ---- resume ----

RESUME = """
names = ['selftest.pass', 'selftest.hang', 'selftest.reset', 'selftest.garble', 'selftest.crash', 'selftest.last']
import sys; sys.path.insert(0, HERE)
from logs import Log
skip = [g for w in cmdline.split() if w.startswith('skip=') for g in w[5:].split(',')]
todo = [n for n in names if n not in skip]
log = Log(len(todo), cmdline=cmdline, nonce='%016x' % len(todo))
sent = 0
def flush():
    global sent
    say(''.join(x + '\\r\\n' for x in log.lines[sent:]).encode()); sent = len(log.lines)
for name in todo:
    kind = name[9:]
    if kind in ('hang', 'reset', 'crash'):
        log.begin(name); flush()
        if kind == 'crash':
            say(b'# panic on purpose\\r\\n'); exit(37)
        if kind == 'reset':
            exit(0)
        sleep(60)
    if kind == 'garble':
        log.begin(name); flush(); say(b'\\x00\\xffgarbage\\r\\n')
        log.say('# took %d us=1' % log.n); log.say('ok %d - %s' % (log.n, name)); log.tally['passed'] += 1
    else:
        log.test(name)
    flush()
log.verdict(); flush()
exit(33)
"""


def test_resume(machine):
    machine(resume=True, silence=1, expect={"selftest.pass": "pass", "selftest.hang": "hang", "selftest.reset": "reset",
                                 "selftest.garble": "garbled", "selftest.crash": "crash", "selftest.last": "pass"})
    script = RESUME.replace("HERE", repr(str(ROOT / "tests" / "host" / "parser")))
    done = run(machine.fake, script, b"", "--expect", "--json", str(machine.fake.path / "o.json"))
    out = json.loads((machine.fake.path / "o.json").read_text())
    assert done.returncode == 0 and out["exit"] == 2 and out["host"]["boots"] == 5, done.stdout
    assert [(t["name"], t["outcome"]) for t in out["tests"]] == [
        ("selftest.pass", "pass"), ("selftest.hang", "hang"), ("selftest.reset", "reset"),
        ("selftest.garble", "garbled"), ("selftest.crash", "crash"), ("selftest.last", "pass")]
    assert out["counts"]["failed"] == 4 and out["verdict"] == "HANG"
    assert plumb("parse", out["host"]["log"]).returncode == 2      # the raw log holds all boots: no pass
    assert run(machine.fake, script, b"", "--no-resume").returncode == 2
    machine(expect={"selftest.pass": "fail"})
    assert run(machine.fake, "say(); exit(35)", failing().bytes(), "--expect").returncode == 1
    machine(expect={"boot.handoff": "pass", "apic.ids": "fail", "dma.latency": "timeout"})
    assert run(machine.fake, "say(); exit(35)", failing().bytes(), "--expect").returncode == 0


# ---- formats ----

def test_parse_and_report(machine, tmp_path):
    log = tmp_path / "a.log"
    log.write_bytes(failing().bytes())
    assert plumb("parse", str(log)).returncode == 1
    assert plumb("parse", "-q", "--status", "33", str(log)).returncode == 2
    assert plumb("parse", str(tmp_path / "none")).returncode == 3
    done = subprocess.run([*PLUMB, "parse", "-"], input=good().bytes(), capture_output=True)
    assert done.returncode == 0 and b"PASS  2 passed" in done.stdout
    done = plumb("report", str(log), "--json", "-", "--junit", str(tmp_path / "j.xml"))
    assert done.returncode == 1
    out = json.loads(done.stdout)
    assert out["verdict"] == "FAIL" and [t["outcome"] for t in out["tests"]] == ["pass", "fail", "timeout"]
    assert out["findings"][0]["id"] == "PLB001"
    top = ET.parse(tmp_path / "j.xml").getroot()
    assert (top.get("tests"), top.get("failures"), top.get("errors"), top.get("skipped")) == ("3", "1", "1", "0")
    assert top.find(".//testcase[@name='ids']/failure").get("message").startswith("expect tests/apic/ids.c:31")


def test_junit_of_a_broken_log_is_red(machine, tmp_path):
    log = tmp_path / "a.log"
    log.write_bytes(good().bytes()[:-40].replace(b"four CPUs", b"four\x01 <CPUs> \xff"))
    assert plumb("report", str(log), "--junit", str(tmp_path / "j.xml")).returncode == 2
    top = ET.parse(tmp_path / "j.xml").getroot()
    assert int(top.get("errors")) == 1 and "<CPUs>" in top.find(".//testcase[@name='latency']/system-out").text


def test_a_log_cannot_drive_the_terminal(machine):
    log = Log(1)
    log.test("a.b", False, "", "# note \x1b]0;owned\x07")
    done = run(machine.fake, "say(); exit(35)", log.verdict().bytes())
    assert done.returncode == 1 and "\x1b" not in done.stdout and "\\x1b]0;owned" in done.stdout


def test_list(machine):
    log = Log(0)
    log.lines[2] = "1..0 # SKIP list"
    log.say("# list apic.ids every CPU's APIC ID is the MADT's").say("# list msi.storm N raised are N received")
    machine.fake("say(); exit(35)", log.verdict().bytes())
    done = plumb("list")
    assert done.returncode == 0 and done.stdout.splitlines()[0] == "apic.ids   every CPU's APIC ID is the MADT's"
    assert plumb("list", "msi.*").stdout.startswith("msi.storm") and plumb("list", "x.*").returncode == 1


# ---- a terminal ----

def on_terminal(args, env):
    """Runs it with a pseudo-terminal for output; gives the status and all that was written."""
    import pty
    pid, fd = pty.fork()
    if pid == 0:
        os.execvpe(PLUMB[0], [*PLUMB, *args], {**os.environ, **env})
    out = b""
    while True:
        try:
            data = os.read(fd, 65536)
        except OSError:
            data = b""
        if not data:
            break
        out += data
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), out.decode()


def test_terminal(machine):
    script = "for line in log.splitlines(True): say(line); sleep(0.02)\nexit(35)"
    machine.fake(script, failing().bytes())
    code, out = on_terminal(["run"], {"TERM": "xterm"})
    assert code == 1 and "] 1/3 apic.ids" in out and "plumb 0.1.0 · t · QEMU 10.0.13 TCG · PVH · 4 CPUs" in out
    assert "\x1b[31m" in out and "1 functions, 1 buses" in out
    assert "# run 1" not in out                               # not the raw report
    code, plain = on_terminal(["run"], {"TERM": "xterm", "NO_COLOR": "1"})
    assert code == 1 and "\x1b[31m" not in plain and "] 1/3 apic.ids" in plain
    code, dumb = on_terminal(["run"], {"TERM": "dumb"})
    assert "# run 1 boot.handoff" in dumb and "\x1b" not in dumb
