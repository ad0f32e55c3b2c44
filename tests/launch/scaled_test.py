"""What is printed of the spaces that a search for scaling coefficients has found."""

from launch.verbs.sweep import describe_scaled
from movinet_jax import models
from nas.spaces import scaling
from tests.nas.spaces.scaling_test import PUBLISHED, SMALL, make_space


def test_a_scaled_space_is_printed_with_networks_that_train(tmp_path):
  space = make_space(baselines=())
  coefficients = {**PUBLISHED, 'width': 1.234567}
  lines = describe_scaled(space, coefficients, 2.0)
  zero, row = scaling.list_scaled(coefficients, (0, 2), SMALL, num_classes=5)
  text = '\n'.join(lines[:-3])
  assert 'width 1.23457' in text
  assert f'{row.frames} frames of 88 x 88, one in {row.frame_stride:g} of the video' in text
  assert f'{row.least} to {row.depth} in each block' in text
  assert f'block 1   {row.widths[1][0]}, {row.widths[1][1]}' in text
  assert f'{row.mean_macs / 1e9:.3f} billion' in text
  secs = row.frames * row.frame_stride / (zero.frames * zero.frame_stride)
  assert f'costs {row.mean_macs / zero.mean_macs / secs:.2f} times' in text
  scaled = space.scale(coefficients, 2)
  for number, line in enumerate(lines[-3:]):
    path = tmp_path / 'spec.json'
    path.write_text(line)
    family, spec = models.read_spec(path)
    assert (family, spec) == ('movinet', space.sample(coefficients, 2, number))
    scaled.encode(spec)
  assert '1.00 times' in '\n'.join(describe_scaled(space, coefficients, 0.0))
