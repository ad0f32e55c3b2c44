"""`movinet export`, and the verbs that take what it wrote in the place of a checkpoint."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest

from launch import main
from launch.runs.trained import load_exported, load_trained
from movinet_jax import convert, data, export, models, timing
from movinet_jax.data import motion
from movinet_jax.export import formats


@pytest.fixture(scope='module')
def archive(tmp_path_factory):
  """A stream of the motion task, in a file that says what it is."""
  path = tmp_path_factory.mktemp('weights') / 'stream.npz'
  spec = models.find_family('movinet').SMALL['stream-3d']
  model = models.create('movinet', len(motion.CLASSES), spec=spec)
  about = convert.About(
    **convert.describe_network(model),
    labels=tuple(motion.CLASSES),
    preprocessing=dataclasses.asdict(data.EvalClip(frames=4, size=16, stride=1)),
  )
  convert.write_archive(path, timing.draw_weights(model), about)
  return str(path)


@pytest.fixture(scope='module')
def exported(archive, tmp_path_factory):
  out = tmp_path_factory.mktemp('exported') / 'mine'
  assert main.main(['export', f'--checkpoint={archive}', '--to=onnx,tflite', f'--out={out}']) == 0
  return out


def test_the_table_says_how_far_each_file_is(archive, tmp_path, capsys):
  out = tmp_path / 'mine'
  words = ['export', f'--checkpoint={archive}', '--to=onnx', f'--out={out}', '--weights=float16']
  assert main.main(words) == 0
  printed = capsys.readouterr().out
  manifest = json.loads((out / 'model.json').read_text())
  found = manifest['files']['model.onnx']['parity']
  for word in ('model.onnx', 'float16', f'{found["logits"]:.1e}', '8 calls of 1 frame.', str(out)):
    assert word in printed
  wanted = load_trained(archive)
  assert manifest['checkpoint']['version'] == wanted.version
  loaded = load_exported(str(out))
  assert (loaded.labels, loaded.clip) == (wanted.labels, wanted.clip)
  assert loaded.version == manifest['files']['model.onnx']['sha256']


def evaluate(place, motion_videos, out, *words):
  where = ['--set=name=folder', f'--set=root={motion_videos}', '--set=split=val']
  assert main.main(['evaluate', place, *where, f'--out={out}', *words]) == 0
  found = json.loads(out.with_name(f'{out.name}.json').read_text())
  return {key: found[key] for key in ('top1', 'loss', 'evaluated')}


def test_an_exported_file_is_evaluated_as_its_checkpoint(
  archive, exported, motion_videos, tmp_path
):
  wanted = evaluate(f'--checkpoint={archive}', motion_videos, tmp_path / 'own')
  for name in ('model.onnx', 'model.tflite'):
    place = f'--model={exported / name}'
    for mode in ('clip', 'stream'):
      out = tmp_path / f'{name}-{mode}'
      found = evaluate(place, motion_videos, out, f'--mode={mode}', '--threads=1')
      assert found == pytest.approx(wanted, rel=1e-4), (name, mode)


def stream(place, video, capsys, *words):
  assert main.main(['stream', place, f'--source={video}', '--json', *words]) == 0
  return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_an_exported_file_streams_as_its_checkpoint(archive, exported, motion_videos, capsys):
  video = next(pathlib.Path(motion_videos).rglob('*.mp4'))
  for words in ([], ['--memory=window:0.4']):
    wanted = stream(f'--checkpoint={archive}', video, capsys, *words)
    for name in ('model.onnx', 'model.tflite'):
      found = stream(f'--model={exported / name}', video, capsys, *words)
      assert len(found) == len(wanted) == 8
      for one, own in zip(found, wanted, strict=True):
        assert (one['frame'], one['secs']) == (own['frame'], own['secs'])
        for a, b in zip(one['top'], own['top'], strict=True):
          assert a['label'] == b['label']
          assert a['probability'] == pytest.approx(b['probability'], abs=2e-5)
  place = f'--model={exported / "model.onnx"}'
  for words, said in ((['--memory=forget'], 'exact or window'), (['--chunk=2'], '--chunk=2')):
    assert main.main(['stream', place, f'--source={video}', *words]) != 0
    assert said in capsys.readouterr().err


def test_bench_times_it(exported, tmp_path):
  out = tmp_path / 'rows.jsonl'
  names = [str(exported / 'model.onnx'), str(exported / 'model.tflite')]
  assert main.main(['bench', *names, '--secs=0.01', f'--out={out}', '--cores=1']) == 0
  rows = [json.loads(line) for line in out.read_text().splitlines()]
  assert [row['network'] for row in rows] == names
  for row in rows:
    assert (row['kind'], row['frames'], row['error'], row['peak_bytes']) == (
      'stream',
      1,
      None,
      None,
    )
    assert row['call_ms'] > 0
  again = ['bench', names[0], '--secs=0.01', '--chunk=2', '--json']
  assert main.main(again) != 0  # a call of it sees one frame


@pytest.mark.parametrize(
  ('words', 'said'),
  [
    (['--to=tflight'], 'tflite'),
    (['--to=onnx', '--weights=int8-dynamic'], 'float32, float16, int8'),
    (['--to=tflite', '--batch=any'], '--batch=any is not for tflite'),
    (['--to=onnx', '--chunk=0'], '1 or more'),
    (['--to=onnx', '--batch=none'], "'none'"),
    (['--to=onnx', '--checkpoint=no-such.npz'], 'no-such.npz'),
  ],
)
def test_what_cannot_be_is_refused_early(archive, tmp_path, capsys, words, said):
  own = [] if any('--checkpoint' in word for word in words) else [f'--checkpoint={archive}']
  out = tmp_path / 'mine'
  try:
    code = main.main(['export', *own, *words, f'--out={out}'])
  except SystemExit as error:
    code = error.code
  assert code != 0
  assert said in capsys.readouterr().err
  assert not out.exists()


def test_nothing_is_replaced(archive, exported, capsys):
  before = {path: path.stat().st_mtime_ns for path in exported.iterdir()}
  assert main.main(['export', f'--checkpoint={archive}', '--to=onnx', f'--out={exported}']) != 0
  assert 'exists already' in capsys.readouterr().err
  assert before == {path: path.stat().st_mtime_ns for path in exported.iterdir()}


def test_a_missing_package_is_said_with_its_line(archive, exported, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(formats, 'find_missing', list)
  assert (
    main.main(['export', f'--checkpoint={archive}', '--to=onnx', f'--out={tmp_path / "a"}']) != 0
  )
  said = capsys.readouterr().err
  assert "pip install 'movinet-jax[export]'" in said
  assert 'onnxruntime' in said
  with pytest.raises(export.ExportError, match='onnxruntime'):
    export.read(exported / 'model.onnx').make_session()


@pytest.mark.parametrize(
  ('words', 'said'),
  [
    (['--which=best'], '--which=best'),
    (['--labels=kinetics600'], '--labels=kinetics600'),
    (['--network=movinet/a0'], '--network=movinet/a0'),
    (['--skip-members'], 'one network'),
  ],
)
def test_options_of_checkpoints_are_refused(exported, capsys, words, said):
  try:
    code = main.main(['evaluate', f'--model={exported / "model.onnx"}', *words])
  except SystemExit as error:
    code = error.code
  assert code != 0
  assert said in capsys.readouterr().err


def test_a_checkpoint_and_a_file_are_one_too_many(archive, exported, capsys):
  with pytest.raises(SystemExit):
    main.main(['evaluate', f'--model={exported}', f'--checkpoint={archive}'])
  assert '--checkpoint' in capsys.readouterr().err
  with pytest.raises(SystemExit):
    main.main(['evaluate'])
  assert main.main(['evaluate', f'--checkpoint={archive}', '--threads=2']) != 0
  assert '--threads=2 is for --model' in capsys.readouterr().err


def test_a_clip_is_exported_as_it_is_evaluated(tmp_path):
  spec = dataclasses.replace(models.find_family('movinet').SMALL['base'], frames=4)
  model = models.create('movinet', 3, spec=spec)
  about = convert.About(
    **convert.describe_network(model),
    labels=('a', 'b', 'c'),
    preprocessing=dataclasses.asdict(data.EvalClip(frames=6, size=16, stride=1)),
    multi_label=True,
  )
  convert.write_archive(tmp_path / 'clip.npz', timing.draw_weights(model), about)
  words = ['export', f'--checkpoint={tmp_path / "clip.npz"}', '--to=onnx']
  assert main.main([*words, f'--out={tmp_path / "clip"}']) == 0
  manifest = export.read(tmp_path / 'clip').manifest
  assert (manifest.frames, manifest.probabilities) == (6, 'sigmoid')
  session = export.read(tmp_path / 'clip').make_session()
  assert session(np.zeros((1, 6, 16, 16, 3), np.float32)).shape == (1, 3)
  assert main.main([*words, '--chunk=2', f'--out={tmp_path / "two"}']) != 0
  shutil.rmtree(tmp_path / 'clip')
