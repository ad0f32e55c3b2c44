"""A live stream through an exported file: what `Live` answers, `LiveFile` answers."""

import dataclasses

import numpy as np
import pytest

from movinet_jax import convert, data, export, models, serve, timing

SIZE, FPS = (16, 16), 5.0


def write(out, kind='stream-3d', *, multi_label=False, **options):
  model = models.create('movinet', 4, spec=models.find_family('movinet').SMALL[kind])
  variables = timing.draw_weights(model)
  source = export.plan(model, variables, SIZE, **options)
  about = convert.About(
    **convert.describe_network(model),
    labels=tuple('abcd'),
    preprocessing=dataclasses.asdict(data.EvalClip(frames=4, size=16, fps=FPS)),
    multi_label=multi_label,
  )
  export.write(out, source, about, {}, ['onnx'])
  return export.read(out), model, variables


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  return write(tmp_path_factory.mktemp('exported') / 'mine')


def draw(count):
  rng = np.random.default_rng(0)
  return [rng.integers(0, 256, (1, *SIZE, 3), np.uint8) for _ in range(count)]


@pytest.mark.parametrize('memory', [None, serve.Window(1.2, FPS)])
def test_answers_are_those_of_the_network(written, memory):
  artifact, model, variables = written
  live = serve.Live(model, variables, SIZE, memory=memory)
  file = serve.LiveFile(artifact, memory=memory)
  for turn in range(2):
    for number, frame in enumerate(draw(10)):  # of which a window of 1.2 s begins anew thrice
      wanted, found = live(frame), file(frame)
      np.testing.assert_allclose(found.probabilities, wanted.probabilities, atol=1e-5)
      assert (found.frame, file.frames) == (wanted.frame, number + 1)
    [one.forget() if turn else one.reset() for one in (live, file)]
    assert file.frames == live.frames


def test_forks_are_apart(written):
  artifact, *_ = written
  first = serve.LiveFile(artifact, memory=serve.Window(1.2, FPS))
  alone = [first(frame).probabilities for frame in draw(6)]
  first.reset()
  second = first.fork()
  for frame, wanted in zip(draw(6), alone, strict=True):
    np.testing.assert_array_equal(second(frame).probabilities, wanted)
    first(255 - frame)
  assert first.latency is second.latency


def test_several_labels_have_probabilities_of_their_own(tmp_path):
  artifact, *_ = write(tmp_path / 'many', multi_label=True)
  found = serve.LiveFile(artifact)(draw(1)[0]).probabilities
  assert not np.isclose(found.sum(), 1)
  assert ((found > 0) & (found < 1)).all()


def test_what_no_stream_is_for_is_refused(written, tmp_path):
  artifact, *_ = written
  with pytest.raises(ValueError, match='exact or window'):
    serve.LiveFile(artifact, memory=serve.Forgetting(1.0, FPS))
  clip, *_ = write(tmp_path / 'clip', 'base', frames=4)
  with pytest.raises(ValueError, match='whole clips'):
    serve.LiveFile(clip)
  two, *_ = write(tmp_path / 'two', batch=2)
  with pytest.raises(ValueError, match='2 videos at once'):
    serve.LiveFile(two)
