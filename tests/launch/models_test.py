"""`movinet models` lists all named networks, as a table and as JSON."""

import json
import re

import pytest

from launch.verbs import models as verb
from movinet_jax import models
from movinet_jax.models import movinet, x3d


def read_rows(text: str) -> dict[str, list[str]]:
  rows = (line.split() for line in text.splitlines() if re.match(r'  \w+/', line))
  return {name: columns for name, *columns in rows}


def test_all_networks(capsys):
  assert verb.main([]) == 0
  printed = capsys.readouterr().out
  rows = read_rows(printed)
  assert sorted(rows) == sorted(models.variants())
  assert rows['movinet/a0'][:4] == ['50x172', '5', '2.631', '3.11']
  assert rows['movinet/a0-stream'][:6] == ['50x172', '5', '2.426', '0.051', '3.75', '2.57']
  assert rows['x3d/xxl'][:3] == ['32x312', '12', '143.542']
  (source,) = re.findall(r'72\.05 +(\[\d+\])', printed)
  assert f'\n{source} MoViNet, README' in printed


def test_lines_fit_and_stand_in_columns(capsys):
  verb.main(['--family=movinet'])
  _, header, *rows = capsys.readouterr().out.split('\n\n')[0].splitlines()
  assert max(map(len, rows)) <= len(header) <= 100
  end = header.index('M params') + len('M params')
  assert all(row[:end].rpartition(' ')[2].count('.') == 1 for row in rows)


def test_streams_of_a_family(capsys):
  assert verb.main(['--family=x3d', '--stream']) == 0
  rows = read_rows(capsys.readouterr().out)
  assert list(rows) == [f'x3d/{name}' for name, spec in x3d.VARIANTS.items() if spec.causal]


def test_a_family_without_streams(capsys):
  assert verb.main(['--family=tvn', '--stream']) == 0
  assert 'tvn' in capsys.readouterr().out
  assert verb.main(['--family=tvn', '--stream', '--json']) == 0
  assert json.loads(capsys.readouterr().out) == []


def test_a_stream_stands_behind_its_network():
  names = verb.list_names('movinet')
  assert names[:4] == ['movinet/a0', 'movinet/a0-stream', 'movinet/a1', 'movinet/a1-stream']


def test_json(capsys):
  assert verb.main(['--json', '--family=movinet']) == 0
  rows = {row['network']: row for row in json.loads(capsys.readouterr().out)}
  assert rows.keys() == {f'movinet/{name}' for name in movinet.VARIANTS}
  row = rows['movinet/a2-stream']
  assert round(row['macs_clip'] / 1e6) == 10_700
  assert row['params'] == 7_326_962
  assert row['state_bytes'] == 4 * 2_707_115
  assert (row['classes'], row['dataset'], row['stream']) == (600, 'Kinetics-600', True)
  assert row['results'][0]['accuracy'] == 78.40
  assert {one['device'] for one in row['latencies']} >= {'NVIDIA V100', 'Pixel 4, one core'}
  assert rows['movinet/a2']['macs_frame'] is None


def test_a_new_network_is_counted_and_listed(monkeypatch, capsys):
  monkeypatch.setitem(x3d.VARIANTS, 'tiny', x3d.SMALL['base'])
  assert verb.main(['--family=x3d']) == 0
  captured = capsys.readouterr()
  assert 'x3d/tiny' in read_rows(captured.out)
  assert 'network' in captured.err  # the bar


def test_an_unknown_family():
  with pytest.raises(ValueError, match="did you mean 'movinet'"):
    verb.main(['--family=movinets'])
