"""What a reader of a page, and a browser, make of it."""

import html
import html.parser
import json
import re
import shutil
import subprocess

import numpy as np
import pytest


class Page(html.parser.HTMLParser):
  """What a page says: its elements with their attributes, and text by decision."""

  VOID = ('meta', 'link')

  def __init__(self, text):
    super().__init__()
    self.elements, self.open, self.decisions, self.texts = [], [], {}, []
    self.feed(text)
    self.close()

  def handle_starttag(self, tag, attrs):
    attributes = dict(attrs)
    self.elements.append((tag, attributes))
    if tag not in self.VOID:
      self.open.append((tag, attributes.get('data-path')))
    if 'data-path' in attributes:
      self.decisions[attributes['data-path']] = []

  def handle_endtag(self, tag):
    assert self.open.pop()[0] == tag

  def handle_data(self, text):
    self.texts.append(text)
    for _, path in self.open:
      if path is not None:
        self.decisions[path].append(text)

  def ids(self):
    return [a['id'] for _, a in self.elements if 'id' in a]


def find_svg(text, name) -> str:
  """The drawing of that name."""
  return re.search(rf'<svg [^>]*aria-label="{name}.*?</svg>', text, re.S)[0]


def list_numbers(svg, anchor) -> list[str]:
  """What is written on the axis whose numbers are anchored there."""
  found = re.findall(r'<text ([^>]*)>([^<]*)</text>', svg)
  wanted = f'class="tick" text-anchor="{anchor}"'
  return [said for attributes, said in found if wanted in attributes]


UNITS = {'': 1, 'k': 1e3, 'M': 1e6, 'G': 1e9, ' µs': 1e3, ' ms': 1e6, ' s': 1e9}


def read_axes(svg, log: bool):
  """The places (x, y) in a drawing that its axes' numbers give to a value on each.

  Args:
    log: whether equal ratios are equally far apart on the x axis.
  """
  marks = {'middle': [], 'end': []}
  for x, y, anchor, said in re.findall(
    r'<text x="([\d.-]+)" y="([\d.-]+)" class="tick" text-anchor="(\w+)">([^<]*)<', svg
  ):
    minus, number, unit = re.fullmatch('(−?)([0-9.,]+)(.*)', said).groups()
    value = float(minus.replace('−', '-') + number.replace(',', '')) * UNITS[unit]
    place = float(x) if anchor == 'middle' else float(y) - 4
    marks[anchor].append((value, place))

  def fit(marks, scale):
    values, places = np.array(marks).T
    slope, start = np.polyfit(scale(values), places, 1)
    # Not the first and the last alone: all numbers are where they should be.
    np.testing.assert_allclose(start + slope * scale(values), places, atol=0.2)
    return lambda value: start + slope * scale(np.asarray(value, float))

  return fit(marks['middle'], np.log if log else np.array), fit(marks['end'], np.array)


def read_dots(svg, class_) -> list[tuple[str, float, float]]:
  """Title and place of every circle of a class."""
  return [
    (html.unescape(title), float(x), float(y))
    for x, y, kind, title in re.findall(
      r'<circle cx="([^"]*)" cy="([^"]*)" r="[^"]*" class="([^"]*)">'
      r'(?:<title>([^<]*)</title>)?</circle>',
      svg,
    )
    if class_ in kind.split()
  ]


def read_tables(text) -> list[tuple[tuple[str, ...], list[list[str]]]]:
  """Names of columns and rows of every table of a page, as text."""
  tables = []
  for table in re.findall('<table>.*?</table>', text, re.S):
    rows = [
      [
        html.unescape(re.sub('<[^>]*>', '', cell))
        for cell in re.findall('<t[hd][^>]*>(.*?)</t[hd]>', row, re.S)
      ]
      for row in re.findall('<tr>.*?</tr>', table, re.S)
    ]
    tables.append((tuple(rows[0]), rows[1:]))
  return tables


def list_texts_outside(text) -> list[tuple[str, str]]:
  """What is written in the charts of a page beyond their sides, and in which."""
  outside = []
  for svg in re.findall('<svg .*?</svg>', text, re.S):
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', svg)[1])
    for x, anchor, said in re.findall(
      r'<text x="([\d.-]+)"[^>]*text-anchor="(\w+)">([^<]*)</text>', svg
    ):
      long = 7.6 * len(html.unescape(said))  # digits of DejaVu Sans, 12 px
      left = float(x) - {'start': 0, 'middle': long / 2, 'end': long}[anchor]
      if left < 0 or left + long > width:
        outside.append((said, svg[:90]))
  return outside


BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')
FLAGS = (
  *('--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'),
  *('--no-first-run', '--disable-background-networking', '--disable-component-update'),
  *('--disable-sync', '--disable-quic', '--virtual-time-budget=5000'),
  *('--enable-logging=stderr', '--v=0'),
  # No name resolves, so a page that loads something cannot.
  '--host-resolver-rules=MAP * ~NOTFOUND',
)
# Opens all that is folded, then says of every drawing how large it came out.
PROBE = """<script>
document.querySelectorAll('details').forEach(d => { d.open = true; });
const boxes = [...document.querySelectorAll('svg')].map(svg => {
  const {width, height} = svg.getBoundingClientRect();
  const marks = [...svg.querySelectorAll('path, rect, line, circle, text')];
  const drawn = marks.filter(m => { const b = m.getBBox(); return b.width + b.height; });
  return [svg.getAttribute('aria-label'), width, height, drawn.length];
});
const texts = [...document.querySelectorAll('svg text')].map(text => {
  const svg = text.ownerSVGElement, inner = text.getBoundingClientRect();
  const outer = svg.getBoundingClientRect();
  const size = parseFloat(getComputedStyle(text).fontSize);
  const scale = outer.width / svg.viewBox.baseVal.width;
  const room = Math.min(inner.left - outer.left, outer.right - inner.right);
  return [svg.getAttribute('aria-label'), text.textContent, room, size * scale];
});
const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
document.body.replaceChildren();
document.body.dataset.probe = JSON.stringify({boxes, texts, wide});
</script></body>"""


def open_in_browser(path, folder, width=1200, *flags):
  """The page's DOM as Chromium leaves it, and the lines of its console.

  Args:
    flags: what to do instead of writing the DOM.
  """
  program = next((p for p in BROWSERS if shutil.which(p)), None)
  if program is None:
    pytest.skip(f'no browser: none of {", ".join(BROWSERS)} is on PATH')
  given = (f'--window-size={width},900', f'--user-data-dir={folder / "profile"}')
  run = subprocess.run(
    [program, *FLAGS, *given, *(flags or ('--dump-dom',)), path.as_uri()],
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert run.returncode == 0, run.stderr
  return run.stdout, [line for line in run.stderr.splitlines() if 'CONSOLE' in line]


def measure_charts(text, folder, width) -> dict:
  """What PROBE says of a page whose charts and texts a browser has laid out."""
  rule = "default-src 'none';"
  assert rule in text
  probed = text.replace(rule, f"{rule} script-src 'unsafe-inline';")
  path = folder / 'probed.html'
  path.write_text(probed.replace('</body>', PROBE), 'utf-8')
  dom, console = open_in_browser(path, folder, width)
  assert console == []
  return json.loads(html.unescape(re.search('data-probe="([^"]*)"', dom)[1]))
