"""The report of a search in steps, and of a two-stream network."""

import dataclasses

import numpy as np
import pytest

from movinet_jax.models import tsnet
from movinet_jax.spec import to_json
from nas import report
from nas.report import sections
from tests.nas.report.browser import Page
from tests.nas.report.examples import make_search, make_space

NAMES = ('first', 'second')


def make_steps() -> report.ProgressiveFindings:
  whole, space = make_search(), make_space()
  rows = [
    {**row, 'entropy_total': 9 - n / 100, 'entropy_bound': 9.5} for n, row in enumerate(whole.rows)
  ]
  held = np.full(len(space), -1)
  held[: len(space) // 2] = 0
  steps = {
    NAMES[0]: dataclasses.replace(whole, rows=rows),
    NAMES[1]: dataclasses.replace(whole, rows=rows, held=held),
  }
  return report.ProgressiveFindings('Both', 'train it', space, whole.found, steps)


@pytest.fixture(scope='module')
def page():
  return Page(report.make_report(make_steps()))


def test_each_step_has_its_row(page):
  findings = make_steps()
  shown = {row['Step']: list(row.values()) for row in page.table('Step')}
  assert set(shown) == set(NAMES)
  searched = [str(int((step.sizes > 1).sum())) for step in findings.steps.values()]
  assert [shown[name][1] for name in NAMES] == searched
  assert searched[0] != searched[1]
  last = findings.steps['first'].rows[-1]
  assert float(shown['first'][5]) == pytest.approx(last['entropy_total'], abs=0.01)
  assert float(shown['first'][6]) == 9.5


def test_entropies_are_drawn_below_their_bounds(page):
  for name in NAMES:
    entropy, bound = page.charts[f'Entropy of {name}, nats']
    assert set(bound['y']) == {9.5}
    assert max(entropy['y']) < 9.5
    assert entropy['x'][0] < entropy['x'][-1]


def test_decisions_that_were_held_are_not_shown():
  findings = make_steps().steps['second']
  blocks = sections.make_sections(('decisions',), findings)['Decisions']
  shown = sum(len(block[2]) for block in blocks if block[0] == 'table')
  assert shown == int((findings.sizes > 1).sum()) > 0


@pytest.mark.parametrize('name', ['auto-s', 'manual-70-attention6', 'auto-s-sparse'])
def test_two_streams_are_drawn_side_by_side(name):
  spec = tsnet.VARIANTS[name]
  findings = dataclasses.replace(make_search(), found={'spec': to_json(spec)})
  note, table = sections.make_sections(('streams',), findings)['Streams']
  rows = table[2]
  assert len(rows) == len(spec.sparse)
  for i, row in enumerate(rows):
    assert row[1][1]['features'] == spec.sparse[i].features
    assert bool(row[2]) == spec.sparse[i].attention
    if spec.dense:
      assert bool(row[3]) == (spec.fusions[i] != 'none')
      assert row[4][1]['kernel'] == spec.dense[i].kernel
      assert bool(row[5]) == spec.dense[i].attention
  attended = sum(group.attention for group in (*spec.sparse, *spec.dense))
  assert f'Attention blocks: {attended}' in note[1]


def test_no_network_has_been_found():
  findings = dataclasses.replace(make_search(), found=None)
  assert sections.make_sections(('streams',), findings)['Streams'][0][0] == 'missing'
