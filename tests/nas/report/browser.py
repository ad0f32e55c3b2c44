"""What a reader of a page, and a browser, make of it."""

import base64
import contextlib
import hashlib
import html
import html.parser
import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request

import pytest


class Page(html.parser.HTMLParser):
  """What a page says: its elements with their attributes, texts, tables and charts.

  Attributes:
    tables: names of columns and rows.
    charts: layers by title; a layer's columns are those of Vega-Lite's channels.
  """

  def __init__(self, text):
    super().__init__()
    self.text = text
    self.elements, self.open, self.texts = [], [], []
    self.tables, self.charts, self.blobs = [], {}, []
    self.feed(text)
    self.close()
    shared = json.loads(self.blobs.pop())
    titles = [a['aria-label'] for _, a in self.elements if a.get('class') == 'chart']
    for title, blob in zip(titles, map(json.loads, self.blobs), strict=True):
      self.charts[title] = [Layer(layer, shared) for layer in blob['layer']]

  def handle_starttag(self, tag, attrs):
    attributes = dict(attrs)
    self.elements.append((tag, attributes))
    if tag not in ('meta', 'link'):
      self.open.append((tag, attributes))
    if tag == 'table':
      self.tables.append([])
    elif tag == 'tr':
      self.tables[-1].append([])
    elif tag in ('td', 'th'):
      self.tables[-1][-1].append('')

  def handle_endtag(self, tag):
    assert self.open.pop()[0] == tag

  def handle_data(self, text):
    tags = [tag for tag, _ in self.open]
    if tags[-1:] == ['script']:
      if self.open[-1][1].get('type') == 'application/json':
        self.blobs.append(text)
      return
    self.texts.append(text)
    if 'td' in tags or 'th' in tags:
      self.tables[-1][-1][-1] += text

  @property
  def said(self) -> str:
    """All its text, with single spaces."""
    return ' '.join(' '.join(self.texts).split())

  def find(self, **attributes) -> list[dict]:
    """Attributes of the elements that have these."""
    wanted = {key.rstrip('_'): value for key, value in attributes.items()}
    return [a for _, a in self.elements if wanted.items() <= a.items()]

  def ids(self) -> list[str]:
    return [a['id'] for _, a in self.elements if 'id' in a]

  def table(self, *names) -> list[dict]:
    """Rows, by name of column, of the table whose first columns have these names."""
    table = next(t for t in self.tables if tuple(t[0][: len(names)]) == names)
    return [dict(zip(table[0], row, strict=False)) for row in table[1:]]

  def tiles(self) -> dict[str, tuple[str, str]]:
    lists = re.findall('<li><small>(.*?)</small><b>(.*?)</b><small>(.*?)</small>', self.text)
    return {html.unescape(name): (value, more) for name, value, more in lists}


class Layer(dict):
  """A layer's columns by channel; `mark` is the rest of what Vega-Lite is told."""

  def __init__(self, layer, shared):
    columns = layer['data'].get('values') or shared[layer['data']['name']]
    fields = {k: v['field'] for k, v in layer['encoding'].items() if 'field' in v}
    super().__init__({name: columns[field] for name, field in fields.items() if field in columns})
    self.mark, self.encoding = layer['mark'], layer['encoding']
    self.computed = {one['as']: one['calculate'] for one in layer['transform'] if 'as' in one}


def find_layer(layers, mark, **options) -> Layer:
  """The only layer with such a mark."""
  (found,) = [
    one
    for one in layers
    if one.mark['type'] == mark and options.items() <= {**one.mark, **dict.fromkeys(one)}.items()
  ]
  return found


BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')
FLAGS = (
  *('--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'),
  *('--no-first-run', '--disable-background-networking', '--disable-component-update'),
  *('--disable-sync', '--disable-quic', '--hide-scrollbars'),
  *('--enable-logging=stderr', '--v=0'),
  # No name resolves, so a page that loads something cannot.
  '--host-resolver-rules=MAP * ~NOTFOUND',
)
# When the charts of the first window, and the first of all, are drawn, says when that was; then
# opens all that is folded, and says of every chart how large it came out and how many marks it
# has, and what is said where the pointer is over a dot. It says so in the page's address.
PROBE = """
const charts = [...document.querySelectorAll('.chart')];
const wait = (some, then) => some.every(chart => chart.view)
  ? then() : setTimeout(() => wait(some, then), 5);
const list = item => [item, ...(item.items ?? []).flatMap(one => one ? list(one) : [])];
const measure = chart => {
  const {width, height} = chart.querySelector('.marks').getBoundingClientRect();
  return [chart.getAttribute('aria-label'), chart.clientWidth - width, height,
    list(chart.view.scenegraph().root).filter(one => one.role === 'mark' && one.items.length)
      .map(one => [one.marktype, one.items.length])];
};
const isSeen = chart => chart.getBoundingClientRect().top < innerHeight;
wait(charts.filter(chart => chart === charts[0] || isSeen(chart)), () => {
  const millis = performance.now();
  document.querySelectorAll('details').forEach(each => { each.open = true; });
  wait(charts, () => {
    const root = document.documentElement;
    const dot = document.querySelector('.chart .mark-symbol path');
    for (const kind of ['pointerover', 'pointermove']) {
      dot.dispatchEvent(new PointerEvent(kind, {bubbles: true}));
    }
    const hover = document.getElementById('vg-tooltip-element').textContent;
    const requests = performance.getEntriesByType('resource').map(one => one.name);
    location.hash = encodeURIComponent(JSON.stringify({millis, hover, requests,
      charts: charts.map(measure), wide: root.scrollWidth - root.clientWidth}));
  });
});
"""


def open_in_browser(path, folder, *flags, width=1200) -> tuple[str, list[str]]:
  """Has Chromium do what flags say with a page: its output, and the lines of its console."""
  run = _start(path, folder, *flags, '--virtual-time-budget=20000', width=width)
  try:
    out, err = run.communicate(timeout=120)
  finally:
    run.kill()
  return out, [line for line in err.splitlines() if 'CONSOLE' in line]


def _start(path, folder, *flags, width):
  program = next((p for p in BROWSERS if shutil.which(p)), None)
  if program is None:
    pytest.skip(f'no browser: none of {", ".join(BROWSERS)} is on PATH')
  given = (f'--window-size={width},900', f'--user-data-dir={folder / "profile"}', *flags)
  command = [program, *FLAGS, *given, path.as_uri()]
  pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE}
  return subprocess.Popen(command, text=True, **pipes)


def end_with(text, markup) -> str:
  """A page with more at its end; its scripts have a '</body>' of their own."""
  return f'{markup}</body>'.join(text.rsplit('</body>', 1))


def probe(text, folder, width=1200, secs=60) -> dict:
  """What PROBE says of a page, whose policy is told to let it run; and the console's lines."""
  digest = base64.b64encode(hashlib.sha256(PROBE.encode()).digest()).decode()
  assert text.count('script-src ') == 1
  text = text.replace('script-src ', f"script-src 'sha256-{digest}' ")
  path = folder / 'probed.html'
  path.write_text(end_with(text, f'<script>{PROBE}</script>'), 'utf-8')
  (folder / 'profile' / 'DevToolsActivePort').unlink(missing_ok=True)
  run, found = _start(path, folder, '--remote-debugging-port=0', width=width), None
  try:
    end = time.monotonic() + secs
    while found is None and time.monotonic() < end and run.poll() is None:
      time.sleep(0.1)
      with contextlib.suppress(OSError):  # not listening yet
        port = (folder / 'profile' / 'DevToolsActivePort').read_text().split()[0]
        with urllib.request.urlopen(f'http://127.0.0.1:{port}/json/list', timeout=5) as answer:
          hashes = [page['url'].partition('#')[2] for page in json.load(answer)]
        found = next((json.loads(urllib.parse.unquote(one)) for one in hashes if one), None)
  finally:
    run.terminate()
    _, err = run.communicate()
  console = [line for line in err.splitlines() if 'CONSOLE' in line]
  assert found is not None, console
  return {**found, 'console': console}
