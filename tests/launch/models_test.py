"""`movinet models` lists all named networks, as a table and as JSON."""

import contextlib
import io
import json
import pathlib
import re

import pytest

from launch.verbs import models as verb
from movinet_jax import models, published
from movinet_jax.models import movinet, x3d


def list_families() -> list[str]:
  return list(dict.fromkeys(name.partition('/')[0] for name in models.variants()))


def read_rows(text: str) -> dict[str, list[str]]:
  rows = (line.split() for line in text.splitlines() if re.match(r'\w+/\S+  ?', line))
  return {name: columns for name, *columns in rows}


def test_all_networks(printed):
  rows = read_rows(printed)
  assert sorted(rows) == sorted(models.variants())
  assert rows['movinet/a0'][:4] == ['50x172', '5', '2.631', '3.11']
  assert rows['movinet/a0-stream'][:6] == ['50x172', '5', '2.426', '0.051', '3.75', '2.57']
  assert rows['x3d/xxl'][:3] == ['32x312', '12', '143.542']
  (source,) = re.findall(r'72\.05 +(\[\d+\])', printed)
  assert f'\n{source} MoViNet, README' in printed


@pytest.fixture(scope='module')
def printed():
  with contextlib.redirect_stdout(io.StringIO()) as file:
    verb.main([])
  return file.getvalue()


def test_lines_fit_and_stand_in_columns(printed):
  tables = printed.split('GMACs: ')[0].rstrip().split('\n\n')
  assert [table.partition(':')[0] for table in tables] == list_families()
  for table in tables:
    _, header, *rows = table.splitlines()
    assert max(map(len, rows)) <= 100
    end = header.index('params') + len('params')
    assert all(row[:end].rpartition(' ')[2].count('.') == 1 for row in rows)


def test_the_size_of_views_is_said_where_it_is_not_the_clip(printed):
  """Of XS 30 views of 182² have that accuracy, and not one clip of 160²."""
  rows = read_rows(printed)
  assert rows['x3d/xs'][0] == '4x160'
  assert ' '.join(rows['x3d/xs'][-3:]) == '30 of 182²'
  assert ' '.join(rows['tsnet/auto-s'][-3:]) == '30 of 182²'
  assert rows['x3d/xl'][-1] == '10'
  assert rows['movinet/a0'][-1] == '1'
  assert rows['tvn/1'][-1] == '?'  # no source says it
  longer = published.Result('x', 'y', 'z', views=1, clip=(75, None))
  assert verb._say_views(longer, 50) == '1 of 75 x ?'


def test_two_names_of_one_network(printed, capsys):
  line = 'ensemble/a5-pair-stream is the same network as ensemble/a7-stream'
  assert line in printed
  assert verb.main(['--json', '--family=ensemble']) == 0
  same = {row['network']: row['same_as'] for row in json.loads(capsys.readouterr().out)}
  assert same['ensemble/a7-stream'] == ['ensemble/a5-pair-stream']
  assert same['ensemble/a6'] == []


def test_the_keys_of_json_are_documented(capsys):
  assert verb.main(['--json', '--family=tvn']) == 0
  row = json.loads(capsys.readouterr().out)[0]
  text = (pathlib.Path(verb.__file__).parents[2] / 'docs' / 'networks.md').read_text()
  for key in {*row, *row['results'][0], *row['latencies'][0]}:
    assert f'`{key}`' in text


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
