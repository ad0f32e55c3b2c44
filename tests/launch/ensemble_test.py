"""An ensemble of two streams: trained from one config, killed and resumed, then used as one."""

import dataclasses
import json
import re
import shutil
import signal

import jax
import numpy as np
import pytest

from launch.config import load_config
from launch.runs import members, training
from launch.runs.trained import load_trained
from launch.verbs import evaluate, stream, train
from movinet_jax.data import EvalClip, read_clip
from movinet_jax.models import ensemble as family
from movinet_jax.models import movinet, save_spec
from movinet_jax.train.saved_steps import count_steps
from movinet_jax.train.workdir import ConfigMismatch

PAIR = 'configs/movinet/quickstart.py:pair'
SMALL = {'clip.train.frames': 2, 'clip.eval.frames': 2}  # of each member


@pytest.fixture(scope='module')
def pair_command(train_command, tmp_path_factory):
  """Makes the command line that trains a small ensemble."""
  # Two layers, because each process compiles each member, and each mode the ensemble.
  layers = movinet.Layer((3, 1, 1), 4, se=False), movinet.Layer((1, 3, 3), 4)
  blocks = tuple(movinet.Block(4, 2, (layer,)) for layer in layers)
  tiny = dataclasses.replace(movinet.SMALL['stream-3d'], blocks=blocks)
  spec = tmp_path_factory.mktemp('spec') / 'tiny.json'
  save_spec(spec, 'movinet', tiny)

  def make(workdir, **changed):
    sizes = {
      f'members.member{n}.config.{key}': value for n in (0, 1) for key, value in SMALL.items()
    }
    verb, _, *rest = train_command(workdir, **{**sizes, **changed})
    # Each member has its own, and one for all is refused.
    rest = [word for word in rest if not word.startswith('--config.clip.train.frames=')]
    return [verb, f'--config={PAIR}', f'--spec={spec}', *rest]

  return make


@pytest.fixture(scope='module')
def pair(tmp_path_factory, pair_command):
  """The workdir of an ensemble that was killed in its first member and resumed, and its output."""
  from tests.launch.conftest import start

  folder = tmp_path_factory.mktemp('pair')
  process = start(pair_command(folder))
  while not count_steps(folder / 'member0' / 'checkpoints'):
    assert process.poll() is None, process.communicate()[0]
  process.send_signal(signal.SIGKILL)
  process.communicate()
  process = start(pair_command(folder))
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 0, output
  return folder, output


def test_members_differ_and_their_accuracies_are_printed(pair):
  folder, output = pair
  run = load_trained(str(folder))
  assert (run.model.spec.causal, len(run.members)) == (True, 2)
  assert [(m.stride, m.offset) for m in run.model.spec.members] == [(2, 0), (2, 1)]
  a, b = (jax.tree.leaves(member.variables['params']) for member in run.members.values())
  assert not any(np.array_equal(x, y) for x, y in zip(a, b, strict=True) if x.std() > 0)
  rows = dict(re.findall(r'^(member0|member1|ensemble) +([\d.]+)', output, re.MULTILINE))
  assert list(rows) == ['member0', 'member1', 'ensemble']


@pytest.mark.slow
def test_a_member_trained_alone_is_the_same(pair, pair_command, tmp_path, capsys):
  """Also after a kill: the bits of a member do not depend on how it was come by."""
  whole = load_trained(str(pair[0])).members['member0']
  assert train.main([*pair_command(tmp_path)[1:], '--member=0']) == 0
  assert 'member1 of' in capsys.readouterr().err
  alone = load_trained(str(tmp_path / 'member0'))
  jax.tree.map(np.testing.assert_array_equal, alone.variables, whole.variables)
  with pytest.raises(FileNotFoundError, match=r'member1 of the ensemble.*--member=1'):
    load_trained(str(tmp_path))


def test_an_ensembles_stream_equals_its_clip(pair, tmp_path, capsys):
  found = {}
  for mode, options in (('clip', []), ('stream', ['--chunk=1']), ('multiclip', ['--clips=2'])):
    out = tmp_path / mode
    words = [f'--checkpoint={pair[0]}', f'--mode={mode}', f'--out={out}', *options]
    assert evaluate.main([*words, f'--predictions={out}.jsonl']) == 0
    rows = map(json.loads, out.with_suffix('.jsonl').read_text().splitlines())
    found[mode] = [[label['score'] for label in sorted(row['top'], key=str)] for row in rows]
  np.testing.assert_allclose(found['stream'], found['clip'], atol=1e-4)
  assert [len(row) for row in found['multiclip']] == [len(row) for row in found['clip']]
  summary = json.loads((tmp_path / 'clip.json').read_text())
  assert list(summary['members']) == ['member0', 'member1']
  assert summary['evaluated'] == 8
  assert re.search(r'^ensemble +[\d.]+', capsys.readouterr().out, re.MULTILINE)


def test_a_video_is_streamed_through_an_ensemble(pair, motion_videos, capsys):
  """Chunk by chunk; the last answer is that of the clip of all frames."""
  path = f'{motion_videos}/val/up/00000.mp4'
  words = [f'--checkpoint={pair[0]}', f'--source={path}', '--chunk=4', '--top=4', '--json']
  assert stream.main(words) == 0
  *_, last = map(json.loads, capsys.readouterr().out.splitlines())
  whole = load_trained(str(pair[0]))
  video, _ = read_clip(path, EvalClip(frames=8, size=16, stride=1).plan)
  logits, _ = jax.jit(whole.model.apply)(whole.variables, video[None] / np.float32(255))
  given = [top['probability'] for top in last['top']]
  np.testing.assert_allclose(given, np.sort(np.asarray(jax.nn.softmax(logits[0])))[::-1], atol=2e-4)


def test_members_at_other_steps_are_told(pair, tmp_path, capsys):
  """Of one that has not ended there is a note, and evaluations of other steps are others."""
  folder = tmp_path / 'pair'
  shutil.copytree(pair[0], folder)
  whole = load_trained(str(folder))
  assert capsys.readouterr().err == ''
  (steps,) = set(whole.version.values())
  assert evaluate.name_files(whole, 'clip') == str(folder / f'evaluation-clip-{steps}')
  with pytest.raises(FileNotFoundError, match=r'No checkpoint 999') as error:
    load_trained(str(folder), '999')
  assert 'is not trained yet' not in str(error.value)
  config = json.loads((folder / 'member1' / 'config.json').read_text())
  config['loop']['total_steps'] = 1000 * steps
  (folder / 'member1' / 'config.json').write_text(json.dumps(config))
  load_trained(str(folder))
  assert f'member1 of {folder} is at step {steps} of {1000 * steps:,}' in capsys.readouterr().err


def test_another_config_is_refused(pair, pair_command):
  changed = {'members.member1.config.seed': 7}
  with pytest.raises(ConfigMismatch, match=r'members\.member1\.config\.seed: was 1, now 7'):
    train.main(pair_command(pair[0], **changed)[1:])


def test_an_ensemble_is_nothing_to_begin_with(pair):
  with pytest.raises(ValueError, match=r'ensemble: name a member, .*member0'):
    training.check_initial(str(pair[0]))


@pytest.mark.parametrize(
  ('changes', 'reason'),
  [
    ({'members.member2.stride': 0}, r'members\.member2\.stride is 0'),
    ({'members.first.stride': 1}, r"the name 'first'; wanted member0"),
    ({'members.member5.stride': 1}, r'member0, member1, member5; wanted member0, member1, member2'),
    (
      {'members.member1.config.clip.eval.stride': 3},
      r'member1 takes one frame in 2.*stride=2; got stride=3',
    ),
    ({'members.member1.config.modle.dropout': 1}, r"no section 'modle'; did you mean 'model'"),
    ({'members.member1.stirde': 1}, r"'stirde'.*'stride'"),
    ({'members.member0.offset': 1}, r'one of them with offset 0.*\[1, 1\]'),
    (
      {
        'members.member1.config.model.spec.causal': False,
        'members.member1.config.model.spec.se': '3d',
      },
      r'causal=\[True, False\]',
    ),
    ({'members.member1.config.eval_batch_size': 0}, r'members\.member1: .*eval_batch_size'),
    ({'clip.train.stride': 3}, r'clip\.train\.stride does not reach.*2 of member0, 2 of member1'),
    (
      {'members.member1.config.train.freeze': None, 'train.freeze': 'backbone'},
      r'train\.freeze does not reach.*None of member1',
    ),
    ({'seed': 3}, r'seed does not reach.*--config\.members\.member0\.config\.seed'),
  ],
)
def test_members_are_checked_before_the_first_begins(pair_command, tmp_path, changes, reason):
  words = pair_command(tmp_path / 'new', **changes)[1:]
  with pytest.raises(ValueError, match=reason):
    train.main([word for word in words if not word.startswith('--spec=')])
  assert not (tmp_path / 'new').exists()


def test_a_config_of_all_members_is_theirs(tmp_path):
  """What the command line changes is changed in every member, or refused."""
  words = ('model.dropout=0.9', 'model.remat=True', 'eval_batch_size=8', 'clip.train.size=128')
  config = load_config(f'{KINETICS}:a2-pair-stream', [f'--config.{word}' for word in words])
  for one in training.list_configs(config.to_dict()).values():
    assert (one['model']['dropout'], one['model']['remat']) == (0.9, True)
    assert (one['eval_batch_size'], one['clip']['train']['size']) == (8, 128)
  spec = tmp_path / 'found.json'
  save_spec(spec, 'movinet', movinet.SMALL['stream-3d'])
  found = training.replace_network(config.to_dict(), str(spec))
  for one in training.list_configs(found).values():
    assert training.make_model(one['model'], 600).spec == movinet.SMALL['stream-3d']
  with pytest.raises(ValueError, match=r"--spec=.*member0 has its own \({'name': 'movinet/a4"):
    training.replace_network(load_config(f'{KINETICS}:a6').to_dict(), str(spec))


def test_a_member_must_be_there(pair_command, tmp_path):
  with pytest.raises(ValueError, match=r"'member3'.*choices: member0, member1"):
    train.main([*pair_command(tmp_path)[1:], '--member=3'])


def test_only_ensembles_have_members(train_command, tmp_path):
  with pytest.raises(ValueError, match=r'--member=1, but .* has no members'):
    train.main([*train_command(tmp_path)[1:], '--member=1'])


KINETICS = 'configs/movinet/kinetics600.py'


@pytest.mark.parametrize(
  'name', ['a6', 'a6-stream', 'a7-stream', *(f'{n}-pair-stream' for n in ('t0', 'a0', 'a2', 'a5'))]
)
def test_the_papers_ensembles_have_configs(name):
  """Each is the named ensemble, and its members see what they are trained to see."""
  config = load_config(f'{KINETICS}:{name}').to_dict()
  parts, own = members.list_members(config['members']), []
  whole = EvalClip(**config['clip']['eval'])
  for number, (member, one) in enumerate(training.list_configs(config).items()):
    cfg = training.read(one)
    assert cfg.seed == number
    members.check_rate(member, parts[member], cfg.clip.eval, whole)
    # A clip of training lasts as long as that of the member's own variant, but for a frame.
    published = load_config(f'{KINETICS}:{cfg.model["name"].partition("/")[2]}').clip.train
    train_clip = cfg.clip.train
    lengths = [one.frames * one.stride for one in (train_clip, published)]
    assert 0 <= lengths[1] - lengths[0] < train_clip.stride
    own.append((training.make_model(cfg.model, 600), cfg.clip.eval))
  networks, clips = zip(*own, strict=True)
  model = members.make_model(networks, list(parts.values()), clips, whole)
  assert model.spec == family.VARIANTS[name]
