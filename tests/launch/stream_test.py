"""`movinet stream`: the same answers as evaluation, saved pictures, constant memory."""

import json
import pathlib

import jax
import numpy as np
import pytest

from launch import parts, stream
from movinet_jax import data

FIXTURES = pathlib.Path(__file__).parents[1] / 'fixtures' / 'videos'


def read_json_lines(capsys):
  return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_last_frame_knows_what_the_clip_knows(trained, motion_videos, capsys):
  path = f'{motion_videos}/val/up/00000.mp4'
  options = [f'--checkpoint={trained}', f'--source={path}', '--json', '--top=4']
  assert stream.main(options) == 0
  lines = read_json_lines(capsys)
  assert [line['frame'] for line in lines] == list(range(8))
  run = parts.load_trained(str(trained))
  clip = data.EvalClip(frames=8, size=16, stride=1)
  video, _ = data.read_clip(path, clip.plan)
  logits, _ = jax.jit(run.model.apply)(run.variables, video[None] / np.float32(255))
  wanted = np.sort(np.asarray(jax.nn.softmax(logits[0])))[::-1]
  given = [top['probability'] for top in lines[-1]['top']]
  np.testing.assert_allclose(given, wanted, atol=2e-4)


def test_chunks_give_the_same_answer(trained, motion_videos, capsys):
  options = [f'--checkpoint={trained}', f'--source={motion_videos}/val/left/00001.mp4']
  last = []
  for chunk in (1, 4):
    assert stream.main([*options, '--json', f'--chunk={chunk}']) == 0
    last.append(read_json_lines(capsys)[-1])
  assert last[0]['frame'] == last[1]['frame'] == 7
  for one, four in zip(last[0]['top'], last[1]['top'], strict=True):
    assert one['label'] == four['label']
    assert one['probability'] == pytest.approx(four['probability'], abs=2e-4)


def test_saves_what_it_saw(trained, tmp_path):
  source, out = FIXTURES / 'h264_10bit.mp4', tmp_path / 'out.mp4'
  options = [f'--checkpoint={trained}', f'--source={source}', f'--save={out}']
  assert stream.main(options) == 0
  pairs = zip(data.read_frames(str(source)), data.read_frames(str(out)), strict=True)
  corners = []
  for (_, before), (_, after) in pairs:
    assert before.shape == after.shape
    upper, lower = slice(0, 100), slice(-20, None)
    assert np.abs(before[upper].astype(int) - after[upper]).mean() < 8
    corners.append(np.abs(before[lower].astype(int) - after[lower]).mean())
  assert len(corners) == 30
  assert np.mean(corners) > 8  # the band with the prediction
  with pytest.raises(FileExistsError):
    stream.main(options)


def test_bad_sources(trained, tmp_path):
  text = tmp_path / 'text.mp4'
  text.write_text('not a video')
  for source, error in ((text, data.DecodeError), (tmp_path / 'none.mp4', Exception)):
    with pytest.raises(error, match=source.name):
      stream.main([f'--checkpoint={trained}', f'--source={source}'])
