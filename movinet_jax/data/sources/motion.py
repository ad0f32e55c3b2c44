"""Generated videos whose class is in their motion, written where they are not yet."""

from movinet_jax.data import motion
from movinet_jax.data.source import Source, SourceError
from movinet_jax.data.sources import folder
from movinet_jax.schema import LocalPath


def open_source(
  root: LocalPath,
  split: str,
  labels: LocalPath | tuple[str, ...] | None = None,
  classes: tuple[str, ...] = motion.STRAIGHT,
  videos_per_class: int = 100,
  frames: int = 16,
  size: int = 48,
  speed: float = 2.0,
  seed: int = 0,
) -> Source:
  """Writes the videos of all splits, real files, unless they are there; lists one split.

  Args:
    root: folder of the videos.
    split: 'train' or 'val'.
    labels: see sources.folder.
    classes, videos_per_class, frames, size, speed, seed: see motion.Motion.

  Raises:
    SourceError: root holds something else, or an argument does not fit.
  """
  try:
    motion.write_motion(
      root,
      classes=classes,
      videos_per_class=videos_per_class,
      frames=frames,
      size=size,
      speed=speed,
      seed=seed,
    )
  except (FileExistsError, ValueError) as error:
    raise SourceError(str(error)) from error
  return folder.open_source(root, split, labels)
