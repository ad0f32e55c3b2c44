"""`movinet cost` prints a table that adds up, with published numbers beside it."""

import re

import pytest

from launch.verbs import cost
from movinet_jax import models


def test_table_and_published_numbers(capsys):
  assert cost.main(['movinet/a0-stream', '--clip=50x172']) == 0
  printed = capsys.readouterr().out
  assert 'published: 2.73' in printed
  assert re.search(r'GMACs a clip +2\.426', printed)
  assert re.search(r'GMACs a frame +0\.051', printed)
  assert re.search(r'parameters +3,748,031 +published: 3\.1 M', printed)
  rows = re.findall(r'^(\w+) +([\d,.]+) +[\d.]+% +([\d,]+)$', printed, re.MULTILINE)
  assert sum(int(r[2].replace(',', '')) for r in rows) == 3_748_031
  assert sum(float(r[1].replace(',', '')) for r in rows) == pytest.approx(2426, abs=1)


def test_other_clips_have_nothing_published(capsys):
  assert cost.main(['movinet/a0', '--clip=8x64x48', '--layers']) == 0
  printed = capsys.readouterr().out
  assert 'published' not in printed
  assert 'block1_layer0/depthwise/conv' in printed


def test_spec_files(tmp_path, capsys):
  from movinet_jax.models import movinet

  path = tmp_path / 'found.json'
  models.save_spec(path, 'movinet', movinet.VARIANTS['t0'])
  assert cost.main(['movinet', f'--spec={path}', '--clip=2x32']) == 0
  assert '1,727,414' in capsys.readouterr().out


@pytest.mark.parametrize('content', [b'stem: 8', b'\xff\xfe\x00', b'[]', b''])
def test_a_spec_that_is_none_is_named(tmp_path, content):
  path = tmp_path / 'found.json'
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r'found\.json is not an architecture file'):
    cost.main(['movinet', f'--spec={path}'])


@pytest.mark.parametrize('clip', ['50', '50x', 'axb', '1x2x3x4', '0x32'])
def test_bad_clips(clip, capsys):
  with pytest.raises(SystemExit) as stop:
    cost.main(['movinet/a0', f'--clip={clip}'])
  assert stop.value.code == 2
  assert clip in capsys.readouterr().err


def test_unknown_networks():
  with pytest.raises(ValueError, match='did you mean'):
    cost.main(['movinet/a0-strem'])
