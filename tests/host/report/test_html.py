# SPDX-License-Identifier: MIT
"""report.html in a browser: it renders, says what is wrong, draws what was measured, and runs nobody's script."""
import re

import madeup
import pytest
from browser import DESKTOP, PHONE, Browser
from kit import LOGS, judged, plumb

TEXT = "document.body.innerText"
A4 = (688, 1000)  # pixels of a sheet without its margins


@pytest.fixture(scope="module")
def browser():
    with Browser() as one:
        yield one


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """name -> page, made by the command that a user types."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "bad.log").write_bytes(madeup.bad().bytes())
    (folder / "slow.log").write_bytes(madeup.bad(1.7).bytes())
    (folder / "modes.log").write_bytes(madeup.modes().bytes())
    (folder / "hostile.log").write_bytes(madeup.hostile().bytes())
    made = {"real": [LOGS / "q35-vtd.log"], "stale": [LOGS / "q35-vtd-stale.log"], "hang": [LOGS / "selftest-hang.log"],
            "bad": [folder / "bad.log"], "modes": [folder / "modes.log"], "hostile": [folder / "hostile.log"],
            "several": [folder / "bad.log", folder / "slow.log", LOGS / "q35-vtd.log"], "list": [LOGS / "q35-vtd-dump.log"]}
    status = {"real": 0, "stale": 1, "hang": 2, "bad": 1, "modes": 0, "hostile": 1, "several": 1, "list": 2}
    for name, logs in made.items():
        done = plumb("report", *logs, "-o", folder / f"{name}.html")
        assert done.returncode == status[name], done.stdout + done.stderr
    return {name: folder / f"{name}.html" for name in made}


def show(browser, page, size=DESKTOP, dark=False, media=""):
    browser.look(size, dark, media)
    browser.open(page)
    browser.eval("document.documentElement.style.scrollBehavior = 'auto'")


ALL = ("real", "stale", "hang", "bad", "hostile", "several", "list")


@pytest.mark.parametrize("name", ALL)
def test_renders_quietly_by_itself(browser, pages, name):
    for size in (DESKTOP, PHONE):
        for dark in (False, True):
            show(browser, pages[name], size, dark)
            assert browser.complaints() == [] and browser.requests() == []
            assert browser.eval("document.documentElement.scrollWidth") <= size[0], "it scrolls sideways"
            # Opened all the way it must fit too.
            browser.eval("document.querySelectorAll('details').forEach(d => d.open = true)")
            assert browser.eval("document.documentElement.scrollWidth") <= size[0], "opened it scrolls sideways"


def test_nothing_is_fetched_from_anywhere(pages):
    for page in pages.values():
        text = page.read_text()
        assert not re.search(r"<(script|link|img|iframe|object|embed|base)\b", text)
        assert not re.search(r"<[^>]*\s(src|srcset|data|action|on\w+)=", re.sub(r"<title>.*?</title>", "", text))
        assert {href[0] for href in re.findall(r'<a[^>]*href="([^"]*)"', text)} <= {"#"}
        assert "url(" not in text.split("</style>")[0] and "@import" not in text


@pytest.mark.parametrize("name,log", [("real", "q35-vtd"), ("stale", "q35-vtd-stale"), ("hang", "selftest-hang")])
def test_every_test_is_there(browser, pages, name, log):
    show(browser, pages[name])
    rep = judged(LOGS / f"{log}.log").report
    shown = browser.eval("[...document.querySelectorAll('.test')].map(t => [t.id.slice(5), t.querySelector('.sign').title,"
                         " t.getBoundingClientRect().height > 0])")
    assert [t[0] for t in shown] == sorted((t.name for t in rep.tests), key=[s[0] for s in shown].index)
    assert len(shown) == len(rep.tests) and all(t[2] for t in shown)
    says = {"pass": "passed", "skip": "skipped", "todo": "known bug, still there", "fail": "failed", "running": "no result"}
    assert {t[0]: t[1] for t in shown} == {t.name: says[t.outcome] for t in rep.tests}


def test_the_fault_is_on_the_first_screen(browser, pages):
    """What a stranger sees in ten seconds, at both widths, without scrolling."""
    for size in (DESKTOP, PHONE):
        show(browser, pages["bad"], size)
        for selector, text in ((".word", "FAIL"), (".sentence", "Only the first MSI of 00:10.0 arrived."),
                               (".finding h3", "PLB012"), (".finding dd:last-of-type, .finding dl", "forward NVIDIA's MSI re-arm"),
                               (".verdict", "2 of 12 tests failed: vgpu.msi_rearm, msi.storm")):
            got = browser.eval(f"(() => {{ const e = document.querySelector({selector!r}); return [e.innerText,"
                               " e.getBoundingClientRect().top] })()")
            assert text in got[0] and got[1] < size[1] - 60, (selector, got)
    show(browser, pages["bad"])
    assert "sixteen messages in a row arrive" in browser.eval("document.querySelector('.failure').innerText")
    got = browser.eval("[...document.querySelectorAll('.failure:first-of-type .checks td, .failure .checks td')].slice(0, 4).map(e => e.innerText)")
    assert got == ["00:10.0 nvidia", "1 interrupts", "16", "tests/vgpu/msi.c:88"]
    blamed = browser.eval("[...document.querySelectorAll('.fn.blamed .address')].map(e => e.innerText)")
    assert blamed == ["00:10.0", "00:11.0"]  # the vGPU by test and finding; the device whose interrupts stopped


def test_a_hang_names_its_test(browser, pages):
    show(browser, pages["hang"])
    text = browser.eval("document.querySelector('header').innerText")
    assert "DAMAGED" in text and "PASS" not in text  # a log alone: no process to ask what became of it
    assert browser.eval("document.querySelector('.failure h3').innerText").endswith("selftest.hang")


def test_what_qemu_did_stands_under_the_failure(browser, pages):
    show(browser, pages["stale"])
    rows = browser.eval("[...document.querySelectorAll('.failure .close tr')].map(r => r.innerText)")
    assert any("vtd_iotlb_page_hit" in r for r in rows) and "# expect" in rows[-1]
    assert "events" in browser.eval("document.querySelector('.failure .trace summary').innerText")
    assert "QEMU was tracing" in browser.eval("document.querySelector('#measurements').innerText")
    # A trace of another boot is no trace of this one.
    assert browser.eval("document.querySelectorAll('.trace').length") > 5


def test_topology(browser, pages):
    show(browser, pages["real"])
    rows = browser.eval("[...document.querySelectorAll('.fn')].map(r => [r.querySelector('.address').innerText.trim(),"
                        " getComputedStyle(r).getPropertyValue('--depth'), r.innerText, r.querySelector('.address').getBoundingClientRect().left])")
    depth = {r[0]: int(r[1]) for r in rows}
    assert depth["00:10.0"] == 0 and depth["01:00.0"] == 1 and depth["02:00.0"] == 2 and depth["03:00.0"] == 3 and depth["41:00.0"] == 1
    text = {r[0]: r[2] for r in rows}
    assert "IOMMU 0" in text["03:00.0"] and "MSI remapped ✓" in text["03:00.0"] and "edu" in text["03:00.0"]
    assert "MSI-X remapped ✓" in text["00:07.0"] and "MSI-X 65" in text["00:07.0"]
    assert "VT-d 1.0 at fed90000" in browser.eval("document.querySelector('.routing').innerText")
    assert len(rows) == len(judged(LOGS / "q35-vtd.log").report.env_of("pci"))


def drawn(browser):
    """Each plot: kind, points said, points in its shapes, whether it is all inside its frame."""
    return browser.eval("""[...document.querySelectorAll('svg.plot')].map(s => {
        s.closest('details')?.setAttribute('open', '');
        const kind = s.dataset.kind, lines = [...s.querySelectorAll('polyline.l')].map(p => p.points.length);
        const box = s.getBoundingClientRect();
        const outside = [...s.querySelectorAll('polyline, text, rect, circle, polygon')].filter(e => {
            const b = e.getBoundingClientRect();
            return b.left < box.left - 2 || b.right > box.right + 2 || b.top < box.top - 2 || b.bottom > box.bottom + 2 });
        return {kind, said: +s.dataset.points, lines, cells: s.querySelectorAll('rect.heat').length,
                marks: s.querySelectorAll('.m').length, ticks: s.querySelectorAll('text.tick').length,
                size: [box.width, box.height], outside: outside.map(e => e.outerHTML.slice(0, 90)),
                spread: new Set([...s.querySelectorAll('polyline.l')].flatMap(p => [...p.points].map(q => Math.round(q.y)))).size}})""")


def check_plots(plots):
    for p in plots:
        assert p["said"] > 0 and p["outside"] == [] and p["ticks"] >= 2 and min(p["size"]) > 100, p
        if p["kind"] == "heat":
            assert p["cells"] == p["said"]
        elif p["kind"] == "lines":
            assert p["marks"] == p["said"] == sum(p["lines"]) and max(p["lines"]) >= 2, p
        else:
            assert sum(p["lines"]) == 2 * p["said"] and p["spread"] > 2, p


def test_plots_have_data(browser, pages):
    show(browser, pages["real"])
    plots = drawn(browser)
    check_plots(plots)
    tests = browser.eval("[...document.querySelectorAll('.measure')].map(m => [m.id.slice(8), [...m.querySelectorAll('svg.plot')].map(s => s.dataset.kind)])")
    kinds = dict(tests)
    assert kinds["dma.latency"].count("lines") == 4 and "cdf" in kinds["dma.latency"]   # two devices, two directions
    assert kinds["dma.depth"].count("lines") == 8 and kinds["dma.bandwidth"].count("lines") == 4
    assert kinds["msi.latency"].count("cdf") == 5
    rep = judged(LOGS / "q35-vtd.log").report
    rows = browser.eval("[...document.querySelectorAll('.measure')].map(m => m.querySelectorAll('table.series tr').length - 1)")
    assert sum(rows) == sum(len(t.metrics) for t in rep.tests)
    assert browser.eval("[...document.querySelectorAll('svg.bar')].filter(b => b.querySelector('.median')).length") == sum(rows)


def test_heat_map_and_depth_curves(browser, pages):
    show(browser, pages["bad"])
    plots = drawn(browser)
    check_plots(plots)
    heat = [p for p in plots if p["kind"] == "heat"]
    assert len(heat) == 1 and heat[0]["cells"] == 12
    fills = browser.eval("[...document.querySelectorAll('rect.heat')].map(r => +r.getAttribute('fill-opacity'))")
    assert fills[0] == min(fills) and fills[2] == max(fills) and max(fills) > 3 * min(fills)   # 0 to 1, 0 to 3
    assert "from 0 to 3: 2.2" in browser.eval("document.querySelectorAll('rect.heat')[2].parentElement.querySelector('title').textContent")
    # Within a line the medians rise with the size, as the log has it; lines of a higher price lie above.
    ys = browser.eval("[...document.querySelectorAll('#measure-dma\\\\.latency svg[data-kind=lines] polyline.l')].map(p => [...p.points].map(q => q.y))")
    assert len(ys) == 4 and all(a[0] > a[-1] for a in ys) and ys[2][0] < ys[0][0]


def test_several_logs_are_columns(browser, pages):
    show(browser, pages["several"])
    check_plots(drawn(browser))
    assert browser.eval("[...document.querySelectorAll('.verdict')].map(v => v.querySelector('.word').innerText.split(/\\s+/).join(' '))") == [
        "A FAIL", "B FAIL", "C PASS"]
    signs = browser.eval("[...document.querySelectorAll('.test .signs')].map(s => s.children.length)")
    assert set(signs) == {3}
    assert browser.eval("document.querySelector('[id=\"test-vgpu.msi_rearm\"] .signs').innerText.replace(/\\s/g, '')") == "✗✗–"
    rows = browser.eval("[...document.querySelectorAll('#measure-perf\\\\.ipi table.series tr')].slice(1).map(r => [...r.querySelectorAll('td.num')].map(c => c.textContent))")
    assert len(rows) == 12 and all(re.match(r"×1\.70 \[1\.[56]\d, 1\.[78]\d\]", r[2]) for r in rows) and rows[0][3] == "–"
    assert browser.eval("document.querySelectorAll('tr.differs').length") > 3


def test_filter(browser, pages):
    show(browser, pages["bad"])
    visible = "[...document.querySelectorAll('.test')].filter(t => t.getBoundingClientRect().height > 0).length"
    assert browser.eval(visible) == 12
    browser.eval("document.querySelector('#only-bad').click()")
    assert browser.eval(visible) == 4   # two failed, one skipped, one known bug
    show(browser, pages["several"])
    browser.eval("document.querySelector('#only-different').click()")
    assert 0 < browser.eval(visible) < browser.eval("document.querySelectorAll('.test').length")


def test_a_link_into_the_log_opens_it(browser, pages):
    show(browser, pages["bad"])
    browser.eval("document.querySelector('.failure .jump a').click()")
    browser.eval("new Promise(done => setTimeout(done, 200))")
    got = browser.eval("(() => { const e = document.querySelector(location.hash); return [e.textContent, e.closest('details').open] })()")
    assert got == ["# run 8 vgpu.msi_rearm\n", True]
    assert browser.eval("document.querySelector('.raw pre').textContent").startswith("TAP version 14\n# plumb 0.1.0")


CONTRAST = """(() => {
    const parts = c => { const m = c.match(/[\\d.]+/g).map(Number); return m.length > 3 && m[3] < 1 ? null : m.slice(0, 3) };
    const light = rgb => { const [r, g, b] = rgb.map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
                           return .2126 * r + .7152 * g + .0722 * b };
    const behind = e => { for (; e; e = e.parentElement) { const c = parts(getComputedStyle(e).backgroundColor); if (c) return c } return [255, 255, 255] };
    const out = [];
    for (const e of document.querySelectorAll('p, td, th, dt, dd, h1, h2, h3, a, code, summary, .chip, .label, .sign, figcaption, li, svg.plot text')) {
        if (!e.textContent.trim() || !e.checkVisibility()) continue;
        const style = getComputedStyle(e), svg = e instanceof SVGElement;
        if (svg && e.classList.contains('cell')) continue;   // on a cell, not on the page
        const a = light(parts(svg ? style.fill : style.color)), b = light(behind(svg ? e.ownerSVGElement.parentElement : e));
        const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
        if (ratio < 4.5) out.push([e.outerHTML.slice(0, 80), ratio]);
    }
    return out })()"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_in_light_and_dark(browser, pages, dark):
    for name in ("bad", "stale"):
        show(browser, pages[name], dark=dark)
        background = browser.eval("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(20, 24, 29)") == dark
        assert browser.eval(CONTRAST) == []


def test_phone_text_is_not_tiny(browser, pages):
    show(browser, pages["bad"], PHONE)
    small = browser.eval("[...document.querySelectorAll('svg.plot text.tick, p, td, code')].filter(e => e.checkVisibility() && e.textContent.trim()"
                         " && (e.ownerSVGElement ? 12 * e.ownerSVGElement.getBoundingClientRect().width / e.ownerSVGElement.viewBox.baseVal.width"
                         " : parseFloat(getComputedStyle(e).fontSize)) < 10).map(e => e.outerHTML)")
    assert small == []


def test_print_opens_what_is_folded(browser, pages):
    show(browser, pages["bad"], (800, 1100), dark=False, media="print")
    assert browser.eval("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert browser.eval("document.querySelector('.quiet dl').checkVisibility({contentVisibilityAuto: true}) &&"
                        " document.querySelector('.quiet dl').getBoundingClientRect().height > 0")
    assert browser.eval("getComputedStyle(document.querySelector('.raw')).display") == "none"
    assert browser.pdf().startswith(b"%PDF")


def test_print_cuts_nothing_off(browser, pages):
    """On paper nobody scrolls: what is wider than the sheet is lost."""
    for name in ("real", "stale", "bad", "several", "modes"):
        show(browser, pages[name], A4, dark=False, media="print")
        browser.eval("document.querySelectorAll('.figures').forEach(d => d.open = true)")
        assert browser.eval("document.documentElement.scrollWidth") <= A4[0], name
        assert browser.eval("[...document.querySelectorAll('*')].filter(e => !e.ownerSVGElement && e.scrollWidth > e.clientWidth + 1 &&"
                            " getComputedStyle(e).overflowX != 'visible').map(e => e.outerHTML.slice(0, 80))") == [], name


def test_a_hostile_log_stays_text(browser, pages):
    browser.look()
    browser.open(pages["hostile"])
    browser.eval("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert not [e for e in browser.events if e.get("method") == "Page.javascriptDialogOpening"]
    assert browser.complaints() == []
    own = {"html", "head", "meta", "title", "style", "body", "header", "section", "p", "span", "div", "h1", "h2", "h3", "b", "nav", "a",
           "main", "article", "dl", "dt", "dd", "code", "table", "thead", "tbody", "tr", "th", "td", "pre", "ul", "li", "ol", "details",
           "summary", "form", "label", "input", "i", "footer", "figure", "figcaption", "svg", "line", "rect", "circle", "polygon",
           "polyline", "text", "g"}
    used = set(browser.eval("[...new Set([...document.querySelectorAll('*')].map(e => e.tagName.toLowerCase()))]"))
    assert used <= own, used - own
    assert browser.eval("[...document.querySelectorAll('*')].flatMap(e => [...e.attributes]).filter(a => /^on|^src$|javascript:/i.test(a.name + a.value)"
                        " && !['title', 'id', 'class'].includes(a.name)).length") == 0
    assert browser.eval("document.querySelectorAll('h1').length") == 1
    text = browser.eval(TEXT)
    for said in madeup.HOSTILE[:6]:
        assert said in text, said
    raw = pages["hostile"].read_text()
    for sign in "\u202e\u2066\x1b\x07":
        assert sign not in raw.replace(raw[raw.index('<section id="log">'):], "") and sign not in raw


def test_the_policy_forbids_script_even_if_one_came_through(browser, pages, tmp_path):
    page = tmp_path / "worse.html"
    page.write_text(pages["bad"].read_text().replace("<main>", "<main><script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"))
    browser.look()
    browser.open(page)
    assert "owned" not in browser.eval("document.title")
    assert browser.complaints() != []   # … and this is how a complaint would look


def test_the_same_log_gives_the_same_page(pages, tmp_path):
    again = tmp_path / "again.html"
    plumb("report", LOGS / "q35-vtd.log", "-o", again)
    assert again.read_bytes() == pages["real"].read_bytes()
    assert len(again.read_bytes()) < 1 << 20


def test_a_flood_gives_a_page_that_a_browser_can_bear(browser, tmp_path):
    log = madeup.Log(2)
    log.test("a.b", *[f"# note {'<b>' * 100}{i}" for i in range(20000)], *[f"# expect f.c:1 {i}: got 1, expected 2" for i in range(9000)], ok=False)
    log.test("a.c", *[f"# finding PLB001 {i}" for i in range(5000)], *[
        f"# metric a.c from={i % 100} to={i // 100} unit=ns n=9 min=1 p50={i} p90=99999 p99=99999 max=99999" for i in range(9000)], ok=False)
    (tmp_path / "flood.log").write_bytes(log.verdict().bytes())
    assert plumb("report", tmp_path / "flood.log", "-o", tmp_path / "flood.html").returncode == 1
    assert (tmp_path / "flood.html").stat().st_size < 20 << 20
    show(browser, tmp_path / "flood.html")
    assert browser.eval("document.querySelectorAll('tr').length") < 5000 and browser.complaints() == []
    assert browser.eval("document.querySelectorAll('rect.heat').length") <= 64 * 64
