"""`movinet cost` prints a table that adds up, with published numbers beside it."""

import dataclasses
import re

import pytest

from launch import tables
from launch.verbs import cost
from movinet_jax import models, published
from movinet_jax.models import ensemble, movinet


def test_a_table_that_adds_up(capsys):
  assert cost.main(['movinet/a0-stream', '--clip=50x172']) == 0
  printed = capsys.readouterr().out
  assert re.search(r'GMACs a clip +2\.426', printed)
  assert re.search(r'GMACs a frame +0\.051', printed)
  assert re.search(r'parameters +3,748,031', printed)
  rows = re.findall(r'^(\w+) +([\d,.]+) +[\d.]+% +([\d,]+)$', printed, re.MULTILINE)
  assert sum(int(r[2].replace(',', '')) for r in rows) == 3_748_031
  assert sum(float(r[1].replace(',', '')) for r in rows) == pytest.approx(2426, abs=1)


def test_networks_have_the_classes_they_are_published_with(capsys):
  """X3D's multiply-adds and, all arrays counted, parameters are of Kinetics-400."""
  assert cost.main(['x3d/s']) == 0
  printed = capsys.readouterr().out
  assert re.search(r'parameters +3,794,274', printed)
  assert re.search(r'GMACs a clip +1\.963', printed)


def test_published_numbers_are_beside_the_network_that_they_are_of(capsys):
  """The paper's streams are base networks made causal; the released streams are others."""
  assert cost.main(['movinet/a0-stream']) == 0
  assert 'published' not in capsys.readouterr().out
  assert cost.main(['movinet/a0', '--set', 'causal=True']) == 0
  printed = capsys.readouterr().out
  assert printed.startswith('movinet/a0 causal=True ')
  assert re.search(r'GMACs a clip +2\.647 +published: 2\.73', printed)
  assert re.search(r'parameters +3,111,799 +published: 3\.1 M', printed)
  assert cost.main(['movinet/a0']) == 0
  assert re.search(r'GMACs a clip +2\.631 +published: 2\.71', capsys.readouterr().out)


def test_members_of_an_ensemble_and_their_sum(tmp_path, capsys):
  """A member at half the frame rate costs half as much a frame."""
  pair = ensemble.Spec(
    (
      ensemble.Member(movinet.SMALL['stream-3d'], 2),
      ensemble.Member(movinet.SMALL['stream-3d'], 2, 1),
    ),
    frames=8,
    resolution=16,
  )
  models.save_spec(tmp_path / 'pair.json', 'ensemble', pair)
  models.save_spec(tmp_path / 'one.json', 'movinet', movinet.SMALL['stream-3d'])

  def count(name, clip):
    assert cost.main([str(tmp_path / name), f'--clip={clip}', '--num-classes=5']) == 0
    return capsys.readouterr().out

  pattern = r'^(member\d|sum)  .*?([\d.]+) +([\d,]+) +([\d.]+) '
  rows = re.findall(pattern, count('pair.json', '8x16'), re.MULTILINE)
  assert [row[0] for row in rows] == ['member0', 'member1', 'sum']
  clips, params, each_frame = zip(
    *((float(a), int(b.replace(',', '')), float(c)) for _, a, b, c in rows), strict=True
  )
  assert params[2] == 2 * params[0]
  assert each_frame[2] == pytest.approx(2 * each_frame[0], abs=2e-4)
  alone = count('one.json', '4x16')
  assert f'{params[0]:,}' in alone
  assert clips[0] == pytest.approx(float(re.search(r'GMACs a clip +([\d.]+)', alone)[1]), abs=1e-3)


def test_frames_of_an_ensemble_cost_what_its_members_do_in_turn():
  """Of six frames a member with stride 2 sees three, one with stride 3 two, and both see one."""
  small = movinet.SMALL['stream-3d']
  model = models.create(
    'ensemble',
    5,
    spec=ensemble.Spec((ensemble.Member(small, 2), ensemble.Member(small, 3, 1, resolution=8))),
  )
  even, third = members = cost.count_members(model, 12, 16, 24)
  assert (even.frames, third.frames, third.size) == (6, 4, (8, 12))
  assert even.frame.macs > third.frame.macs > 0
  macs = [sum(member.find_macs(i) for member in members) for i in cost.find_period(members)]
  assert sum(macs) == 3 * even.frame.macs + 2 * third.frame.macs
  assert (min(macs), max(macs)) == (0, even.frame.macs + third.frame.macs)


@pytest.mark.parametrize('given', ['--num-classes=10', '--set=head=1024', '--set=conv=2plus1d'])
def test_other_networks_have_nothing_published(given):
  arguments = cost.make_arguments().parse_args(['movinet/a0', given])
  model = models.create('movinet/a0', arguments.num_classes, **dict(arguments.set))
  assert published.find_cost(model) is None


@pytest.mark.parametrize(
  ('given', 'named'),
  [('casual=True', "did you mean 'causal'"), ('causal=perhaps', 'causal')],
)
def test_fields_that_a_network_does_not_have(given, named):
  with pytest.raises(ValueError, match=named):
    cost.main(['movinet/a0', f'--set={given}'])


@pytest.mark.parametrize('given', ['causal', 'num_classes=4', 'spec=found.json'])
def test_settings_that_are_none(given, capsys):
  with pytest.raises(SystemExit) as stop:
    cost.main(['movinet/a0', f'--set={given}'])
  assert stop.value.code == 2
  assert given.partition('=')[0] in capsys.readouterr().err


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


def count(capsys, *words):
  assert cost.main(list(words)) == 0
  return capsys.readouterr().out


def test_a_member_that_sees_nothing_costs_nothing(tmp_path, capsys):
  parts = (ensemble.Member(movinet.SMALL['stream-3d'], 2, offset) for offset in (0, 1))
  pair = ensemble.Spec(tuple(parts), frames=8, resolution=16)
  models.save_spec(tmp_path / 'pair.json', 'ensemble', pair)
  printed = count(capsys, str(tmp_path / 'pair.json'), '--clip=1x16', '--num-classes=5')
  pattern = r'^(?:member\d|sum) .*?([\d.]+) +[\d,]+ +[\d.]+ +[\d.]+ MiB$'
  first, second, total = re.findall(pattern, printed, re.MULTILINE)
  assert first == total == re.search(r'GMACs a clip +([\d.]+)', printed)[1]
  assert (float(second), ' 0 of 16 x 16' in printed) == (0, True)
  assert len(first.lstrip('0.')) == 3  # digits, though it is small


def test_small_numbers_have_digits_too():
  values = [0, 999, 1_234_567, 9_994_000, 10_000_000, 2_631_000_000, 123_456_000_000_000]
  wanted = ['0.000', '0.000000999', '0.00123', '0.00999', '0.010', '2.631', '123,456.000']
  assert [tables.say_billions(value) for value in values] == wanted


def test_the_clips_of_a_trained_network_have_nothing_published(capsys, monkeypatch):
  """Its input is what it was evaluated on: papers count the native clip."""
  read = cost.read_network

  def read_trained(*given, **more):
    return dataclasses.replace(read(*given, **more), input=(2, 64, 64))

  monkeypatch.setattr(cost, 'read_network', read_trained)
  assert 'published' not in count(capsys, 'tvn/1')
  printed = count(capsys, 'tvn/1', '--clip=2x224')
  assert 'published: TVN, Table 1; parameters: MoViNet, supplement, Table 7\n' in printed


@pytest.mark.parametrize(
  ('name', 'classes', 'source'),
  [
    ('tvn/4', None, 'TVN, Table 1; parameters: MoViNet, supplement, Table 7'),
    ('tvn/m1', None, 'TVN, Table 5'),
    ('tsnet/auto-s-plain', None, 'Auto-TSNet, Table 5; parameters: Auto-TSNet, Table 3'),
    ('tsnet/manual-70', None, 'Auto-TSNet, Table 8'),
    ('movinet/a0', None, 'MoViNet, supplement, Table 5'),
    ('ensemble/a6', 400, 'MoViNet, supplement, Table 4'),
  ],
)
def test_each_number_has_its_source(name, classes, source):
  assert published.find_cost(models.create(name, classes)).costs_source == source


def test_numbers_that_do_not_agree_are_said(capsys):
  row = published.find_cost(models.create('ensemble/a6', 400))
  assert (row.gmacs, 'A5' in row.note, '386' in row.note) == (289, True, True)
  tables_of = {row.source for row in published.RESULTS if row.note}
  assert tables_of == {'MoViNet, supplement, Table 4'}


def test_columns_line_up():
  rows = [('name', 'n', ''), ('a', '1,000'), ('longer', '5', 'x')]
  assert tables.align(rows, '<><') == ['name        n', 'a       1,000', 'longer      5  x']
  assert tables.align(rows, '>>>', gap='|') == ['  name|    n|', '     a|1,000', 'longer|    5|x']
