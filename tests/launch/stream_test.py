"""`movinet stream`: the same answers as evaluation, saved pictures, constant memory."""

import io
import json
import pathlib
import signal

import av
import jax
import numpy as np
import pytest
from PIL import Image

from launch import parts, stream
from movinet_jax import data, serve
from movinet_jax.data import motion

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


def test_bad_places_fail_before_anything_is_loaded(tmp_path):
  options = ['--checkpoint=none', '--source=none.mp4']
  with pytest.raises(FileNotFoundError, match='its folder is not there'):
    stream.main([*options, f'--save={tmp_path / "none" / "out.mp4"}'])
  with pytest.raises(SystemExit):
    stream.main([*options, '--fps=nan'])


@pytest.mark.parametrize('fps', [None, 60])
def test_saves_in_the_time_of_the_source(fps, trained, tmp_path):
  source, out = FIXTURES / 'h264_10bit.mp4', tmp_path / 'out.mp4'
  options = [f'--checkpoint={trained}', f'--source={source}', f'--save={out}']
  assert stream.main([*options, *([f'--fps={fps}'] if fps else [])]) == 0
  before, after = (
    [seconds for seconds, _ in data.read_frames(str(path))] for path in (source, out)
  )
  np.testing.assert_allclose(after, np.array(before) - before[0], atol=1e-3)


def test_what_came_before_an_error_is_kept(trained, tmp_path, capsys):
  source, cut = FIXTURES / 'h264_10bit.mp4', tmp_path / 'cut.mkv'
  cut.write_bytes(remux(source)[:-20_000])
  out = tmp_path / 'out.mp4'
  options = [f'--checkpoint={trained}', f'--source={cut}', f'--save={out}']
  with pytest.raises(data.DecodeError, match='truncated'):
    stream.main(options)
  assert 2 < len(list(data.read_frames(str(out)))) < 30
  text = tmp_path / 'text.mp4'
  text.write_text('not a video')
  with pytest.raises(data.DecodeError, match=text.name):
    stream.main([options[0], f'--source={text}', f'--save={tmp_path / "b.mp4"}'])
  assert not list(tmp_path.glob('b*'))


def remux(path):
  """The video in a container that is written from beginning to end."""
  out = io.BytesIO()
  with av.open(str(path)) as given, av.open(out, 'w', format='matroska') as taken:
    stream = taken.add_stream_from_template(given.streams.video[0])
    for packet in given.demux(given.streams.video[0]):
      if packet.dts is not None:
        packet.stream = stream
        taken.mux(packet)
  return out.getvalue()


def test_a_signal_ends_the_stream_and_keeps_the_recording(
  trained, start_movinet, tmp_path
):
  long, out = tmp_path / 'long.mp4', tmp_path / 'out.mp4'
  motion.write_video(str(long), np.zeros((3000, 32, 32, 3), np.uint8), fps=10)
  options = [f'--checkpoint={trained}', f'--source={long}', f'--save={out}']
  process = start_movinet(['stream', *options])
  for _ in range(5):
    process.stdout.readline()
  process.send_signal(signal.SIGINT)
  output, _ = process.communicate(timeout=60)
  assert process.returncode == 0, output
  assert 'a second with decoding' in output
  assert f'saved {out}' in output
  assert 5 <= len(list(data.read_frames(str(out)))) < 3000


def test_several_labels_are_judged_one_by_one(trained, motion_videos):
  run = parts.load_trained(str(trained))
  frames = np.zeros((1, 16, 16, 3), np.uint8)
  one, several = (
    serve.Live(run.model, run.variables, (16, 16), multi_label=m)(frames).probabilities
    for m in (False, True)
  )
  assert one.sum() == pytest.approx(1)
  odds = several / (1 - several)
  np.testing.assert_allclose(odds / odds.sum(), one, atol=1e-4)


def test_letters_of_other_alphabets_are_drawn():
  def draw(text):
    picture = Image.new('RGB', (96, 64))
    serve.recorder.draw_lines(picture, [text])
    return np.asarray(picture)

  assert (draw('é') != draw('ü')).any()  # and not twice the box for what is missing
