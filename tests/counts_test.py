"""The costs of named networks that were counted before are still those that tracing finds."""

import dataclasses

import pytest

from movinet_jax import counts, models
from movinet_jax.models import ensemble, tsnet, tvn, x3d

NAMES = models.variants()
# Cheap to trace, all would take minutes. Other tests hold the other rows to the families' own
# counters, to the reference and to the sums of members.
COUNTED = 'movinet/t0-stream', 'x3d/x2d-stream', 'tvn/m2'


def test_the_file_has_all_networks_as_they_are():
  """Else bring it up to date: python -m movinet_jax.counts"""
  assert set(counts.read_counts()) == set(NAMES)


# What the reference implementation has: GMACs, parameters, and of a stream GMACs of a frame and
# numbers in its state, where it keeps a second frame counter beside each positional encoding.
REFERENCE = {
  'a0': (2.631, 3_111_799, 2.426, 3_748_031, 0.051, 674_208),
  'a1': (5.866, 4_690_296, 5.540, 6_447_352, 0.113, 1_220_585),
  'a2': (11.558, 5_249_562, 10.700, 7_326_962, 0.216, 2_707_115),
  'a3': (55.593, 7_397_545, 52.134, 10_986_618, 0.437, 4_568_947 - 33),
  'a4': (103.339, 11_349_463, 96.741, 18_136_182, 1.212, 12_350_175 - 47),
  'a5': (276.334, 18_650_523, 261.710, 31_495_934, 2.184, 18_773_511 - 59),
  't0': (0.871, 1_727_414, 0.835, 2_368_958, 0.034, 326_463),
}


@pytest.mark.parametrize('name', REFERENCE)
def test_released_networks(name):
  rows = counts.read_counts()
  base, stream = rows[f'movinet/{name}'], rows[f'movinet/{name}-stream']
  gmacs = [round(macs / 1e9, 3) for macs in (base.macs, stream.macs, stream.frame_macs)]
  found = gmacs[0], base.params, gmacs[1], stream.params, gmacs[2], stream.state_bytes / 4
  assert found == REFERENCE[name]


# The families' own counters, which other tests hold to what tracing finds.
@pytest.mark.parametrize('name', [name for name in NAMES if name.startswith('tsnet/')])
def test_two_stream_networks(name):
  row = counts.read_counts()[name]
  spec = tsnet.VARIANTS[name.partition('/')[2]]
  assert tuple(tsnet.count(spec)) == (row.macs, row.params, row.state_bytes)


@pytest.mark.parametrize('variant', tvn.VARIANTS)
def test_tiny_networks(variant):
  row = counts.read_counts()[f'tvn/{variant}']
  costs = tvn.count_costs(tvn.VARIANTS[variant], tvn.NUM_CLASSES)
  assert costs == {'macs': row.macs, 'params': row.params}


@pytest.mark.parametrize('variant', x3d.VARIANTS)
def test_expanded_networks(variant):
  row = counts.read_counts()[f'x3d/{variant}']
  assert x3d.count_macs(x3d.VARIANTS[variant], x3d.NUM_CLASSES) == row.macs


@pytest.mark.parametrize('name', COUNTED)
def test_what_tracing_finds(name):
  assert counts.count_network(name) == counts.read_counts()[name]


@pytest.mark.parametrize('name', [name for name in NAMES if name.startswith('ensemble/')])
def test_ensembles_are_their_members(name):
  """Which the file has, too, but for members of other pictures or of one frame fewer."""
  rows, spec = counts.read_counts(), ensemble.VARIANTS[name.partition('/')[2]]
  named = [models.find_name(models.create('movinet', 600, spec=one.spec)) for one in spec.members]
  own = [rows[one] for one in named]
  assert rows[name].params == sum(row.params for row in own)
  if rows[name].state_bytes:
    assert rows[name].state_bytes == pytest.approx(sum(row.state_bytes for row in own), rel=0.01)
    assert rows[name].frame_macs <= sum(row.frame_macs for row in own)


def test_what_has_changed_is_counted(monkeypatch):
  """Also what is new: a network that the file does not know, or as another architecture."""
  small = x3d.SMALL['base']
  monkeypatch.setitem(x3d.VARIANTS, 's', small)
  monkeypatch.setitem(x3d.VARIANTS, 'new', small)
  known = counts.read_counts()
  assert 'x3d/s' not in known
  assert 'x3d/new' not in known
  found = counts.find_counts(['x3d/s', 'x3d/m', 'x3d/new'], progress=False)
  assert found['x3d/s'] == found['x3d/new'] != found['x3d/m'] == known['x3d/m']
  assert found['x3d/new'].macs == x3d.count_macs(small, x3d.NUM_CLASSES)


def test_the_file_is_read_as_it_is_written(tmp_path, monkeypatch):
  monkeypatch.setattr(counts, 'FILE', tmp_path / 'counts.json')
  assert counts.read_counts() == {}
  row = counts.Counts(macs=5, params=3, frame_macs=2, state_bytes=0)
  counts.write_counts({'movinet/a0': row, 'x3d/s': dataclasses.replace(row, frame_macs=None)})
  assert counts.read_counts()['movinet/a0'] == row
  assert counts.read_counts()['x3d/s'].frame_macs is None
