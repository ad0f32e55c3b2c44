"""Where the input of a run stands: in each checkpoint, and compared when a run resumes.

Batches are an iterator with `identity()`, a JSON object of all that decides which clips come
(data, clip, batch size, seed), and `close()`.
"""

from collections.abc import Callable, Mapping

from movinet_jax.train.workdir import find_differences

_OTHERS = (
  ' If only this package has changed: another version may take more kinds of files, or spell names '
  'otherwise that are no plain UTF-8 in normal form NFC. Move new files out, or begin another '
  'workdir.'
)


def make_position(batches) -> Callable[[int], dict]:
  """The loop's `position`: number of batches consumed -> what a checkpoint records."""
  return lambda number: {'batches': number, **batches.identity()}


def check_same_data(position: Mapping | None, batches):
  """Checks that batches continue those that a checkpoint was trained on.

  Raises:
    ValueError: they are others; the differences are named, and the batches are closed. Or
      the checkpoint does not say where its input stands.
  """
  if position is None:
    batches.close()
    raise ValueError(
      'the checkpoint has no position of its input, so it is damaged: move it elsewhere to go on '
      'from the one before'
    )
  saved = {key: value for key, value in position.items() if key != 'batches'}
  differences = find_differences(saved, batches.identity())
  if differences:
    batches.close()
    others = any(line.startswith(('fingerprint:', 'records:')) for line in differences)
    raise ValueError(
      'the training data is not what this run was trained on so far:\n  '
      + '\n  '.join(differences)
      + '\nRestore the data, or begin another workdir.'
      + _OTHERS * others
    )
