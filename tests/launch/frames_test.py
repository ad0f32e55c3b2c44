"""Curves of earlier evaluations: what is read, refused and said of them. Nothing is evaluated."""

import copy
import json

import numpy as np
import pytest

from launch.runs import frames, panels
from movinet_jax import data
from movinet_jax.train.evaluation import FrameEvaluation

CLIP = data.EvalClip(frames=2, size=16, short_side=16, stride=1)
SUMMARY = {
  'mode': 'frames',
  'of': {
    'checkpoint': 'runs/a/s0',
    'step': 3,
    'data': {'name': 'motion', 'root': 'videos'},
    'clip': {'frames': 2, 'size': 16, 'short_side': 16, 'stride': 1, 'fps': None},
  },
  'network': 'movinet/a0',
  'frames': {'alone': {'accuracy': [0.5, 1], 'error': [0.1, 0]}},
  'evaluated': 2,
}


def read(folder, change=lambda summary: None):
  summary = copy.deepcopy(SUMMARY)
  change(summary)
  path = folder / 'other.json'
  path.write_text(json.dumps(summary))
  return frames.read_curves(str(path), CLIP)


@pytest.mark.parametrize(
  'change',
  [
    *(lambda one, key=key: one.pop(key) for key in SUMMARY),
    *(lambda one, key=key: one['of'].pop(key) for key in ('checkpoint', 'clip')),
    *(lambda one, key=key: one['of']['clip'].pop(key) for key in ('frames', 'stride', 'fps')),
    lambda one: one['of'].update(clip=None),
    lambda one: one['of'].update(data='videos'),
    lambda one: one['frames'].update(backwards=one['frames']['alone']),
    lambda one: one.update(frames=[]),
    lambda one: one.update(frames={}),
    lambda one: one.update(evaluated=None),
    lambda one: one['frames']['alone'].pop('error'),
    lambda one: one['frames']['alone'].update(accuracy=['a', 'b']),
    lambda one: one['frames']['alone'].update(accuracy=[0.5]),
    lambda one: one['frames']['alone'].update(error=0.5),
  ],
)
def test_a_damaged_file_is_named(change, tmp_path):
  with pytest.raises(ValueError, match=r'other\.json is no evaluation of frames'):
    read(tmp_path, change)


@pytest.mark.parametrize('text', ['', '[]', '3', 'null', '{"mode": "frames"}', '{"mode": "clip"}'])
def test_another_file_is_named(text, tmp_path):
  (tmp_path / 'a.json').write_text(text)
  with pytest.raises(ValueError, match=r'a\.json is no evaluation of frames'):
    frames.read_curves(str(tmp_path / 'a.json'), CLIP)


def write(folder, others, monkeypatch):
  """What is drawn: the names of the networks, and the title."""
  drawn = []
  monkeypatch.setattr(frames, 'draw_frames', lambda *given: drawn.append(given))
  values = {'alone': np.array([0.5, 0.5])}
  found = FrameEvaluation(values, values, 2, 0, 0.0)
  paths = tuple(folder / name for name in ('out.json', 'out.csv', 'out.png'))
  frames.write_files(found, {}, 'movinet/a0', SUMMARY['of'], paths, others)
  networks, _, _, title = drawn[0]
  return [curves[0].network for curves in networks], title


def test_other_data_is_said(tmp_path, monkeypatch, capsys):
  def change(summary):
    summary['of']['data']['root'] = 'others'
    summary['of']['clip']['size'] = 24

  same, other = read(tmp_path), read(tmp_path, change)
  _, title = write(tmp_path, [same], monkeypatch)
  assert (title, 'Note' in capsys.readouterr().err) == ('', False)
  _, title = write(tmp_path, [same, other], monkeypatch)
  said = capsys.readouterr().err
  assert title
  assert said.count('Note') == 1
  assert 'data.root others and not videos' in said
  assert 'clip.size 24 and not 16' in said


def test_networks_of_one_name_are_told_apart(tmp_path, monkeypatch):
  def place(text, step=3):
    return read(tmp_path, lambda one: one['of'].update(checkpoint=text, step=step))

  names, _ = write(tmp_path, [place('runs/b/s0/'), place('runs/s1')], monkeypatch)
  assert names == ['movinet/a0 (a/s0)', 'movinet/a0 (b/s0)', 'movinet/a0 (s1)']
  names, _ = write(tmp_path, [place('runs/a/s0', 4)], monkeypatch)
  assert len(set(names)) == 2
  assert all('step' in name for name in names)


def test_lines_are_told_apart_by_color_and_mark():
  styles = [tuple(panels.choose_style(number).values()) for number in range(42)]
  assert len(set(styles)) == 42
