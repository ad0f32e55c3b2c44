"""Numbers are written with the digits and in the unit that fit."""

import ast
import pathlib
import re

from nas import report
from nas.history import Conclusion, State, Trial
from nas.report import html
from nas.report.html import BYTES, NANOSECS, format_amount, format_percent, tag
from nas.space import OneOf, Space


def test_amounts_have_three_digits_and_the_unit_that_fits():
  amounts = [format_amount(v) for v in (0, 7, 12_345, 999_400, 999_900, 1.25e9)]
  assert amounts == ['0', '7', '12.3k', '999k', '1M', '1.25G']
  sizes = [format_amount(v, BYTES) for v in (1000, 124_240, 2**20 - 1)]
  assert sizes == ['1000 B', '121 KiB', '1 MiB']
  times = [format_amount(v, NANOSECS) for v in (920, 48_300_000, 1.2e9)]
  assert times == ['0.92 µs', '48.3 ms', '1.2 s']


def test_only_what_is_certain_is_a_hundred_percent():
  shares = (0, 0.004, 0.5, 0.994, 0.9999, 1 - 2**-23, 1, 1 + 2**-23)
  said = ['0 %', '<1 %', '50 %', '99 %', '99 %', '100 %', '100 %', '100 %']
  assert list(map(format_percent, shares)) == said


MARKUP = '"><script>alert(1)</script>\'<img src=x onerror=alert(2)>&amp;'


def test_what_is_no_html_is_written_as_text():
  for element in (tag('b', MARKUP), tag('b', title=MARKUP)):
    assert '<script' not in element
    assert '<img' not in element
    assert '&quot;&gt;&lt;script&gt;' in element


def test_only_these_functions_make_html_of_text():
  """Everything else goes through them, or is written as text."""
  makers = {
    (path.name, function.name)
    for path in pathlib.Path(html.__file__).parent.glob('*.py')
    for function in ast.walk(ast.parse(path.read_text()))
    if isinstance(function, ast.FunctionDef)
    for node in ast.walk(function)
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ('Html', 'html.Html')
  }
  assert makers == {('html.py', 'tag'), ('html.py', 'join')}


def test_a_page_of_hostile_names_has_none_of_their_markup():
  name = MARKUP.replace('/', '')  # which separates the keys of a space
  space = Space({name: OneOf((MARKUP, {name: OneOf((1, 2))})), 'frames': OneOf((1, 2))})
  metrics = {'macs': 10, 'params': 3, 'top1': 0.5, 'latency_ns': 7, MARKUP: MARKUP}
  choices = ((0, 0, 0), (1, 1, 0), (1, 0, 1))
  trials = [
    Trial(0, space.check(choices[0]), {}, {MARKUP: MARKUP}, State.DONE, 0.5, metrics),
    Trial(1, space.check(choices[1]), {}, {}, State.FAILED, None, {}, MARKUP),
    Trial(2, space.check(choices[2]), {}, {}, State.DISCARDED, None, metrics, MARKUP),
  ]
  network = {'family': MARKUP, 'spec': {name: [MARKUP]}, 'train': MARKUP}
  page = report.make_sweep_report(
    report.SweepFindings(
      title=MARKUP,
      algorithm='uniform',
      space=space,
      trials=trials,
      conclusion=Conclusion(best=(0,), facts={MARKUP: MARKUP}),
      measure=MARKUP,
      networks={0: network},
      dashboard=MARKUP,
    )
  )
  assert page.count('&lt;script&gt;') > 5
  assert not re.search('<script|<img', page)
