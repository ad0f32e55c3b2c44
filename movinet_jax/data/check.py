"""Decode every video of a dataset once, and write down which ones fail and why.

The manifest is a CSV file `name,bytes,reason`, one row a video as it was checked; the
reason of a good one is empty. A source leaves out the bad ones with `skip=MANIFEST`.
Nothing is ever deleted. A check that was stopped goes on where it was: rows of files that
have not changed in size are kept.
"""

import dataclasses
import os

import tqdm

from movinet_jax.data import frames
from movinet_jax.data.frames import FrameFolder
from movinet_jax.data.limited import go_on, run_limited
from movinet_jax.data.manifest import append_rows, one_line, read_rows
from movinet_jax.data.reader import count_frames
from movinet_jax.data.source import Record, SourceError

_HEADER = ('name', 'bytes', 'reason')


@dataclasses.dataclass(frozen=True)
class Checked:
  """What a check found: `bad` has the reason by name; `known` were checked before."""

  videos: int
  known: int
  bad: dict[str, str]

  @property
  def good(self) -> int:
    return self.videos - len(self.bad)


def check_videos(
  records: list[Record],
  manifest: str,
  *,
  workers: int = 1,
  limit_secs: float = 60.0,
  progress: bool = True,
) -> Checked:
  """Decodes each video whole, in processes under a time limit, and writes the manifest.

  Args:
    records: of paths or folders of pictures, not bytes.
    manifest: the CSV file to write or to continue.
    workers: videos at once.
    limit_secs: a video of which no frame comes for this long is bad.
    progress: whether to draw a bar.

  Raises:
    SourceError: the manifest is something else.
  """
  reasons = read_manifest(manifest)
  sizes = {record.name: size_bytes(record.video) for record in records}
  jobs = [(r.name, r.video) for r in records if (r.name, sizes[r.name]) not in reasons]
  known = len(records) - len(jobs)
  with append_rows(manifest, _HEADER) as write_row:
    ended = run_limited(_decode, jobs, workers=workers, limit_secs=limit_secs)
    bar = tqdm.tqdm(ended, total=len(records), initial=known, unit='video', disable=not progress)
    for (name, _), reason in bar:
      reasons[name, sizes[name]] = reason
      write_row((name, sizes[name], one_line(reason)))
  found = {name: reasons[name, size] for name, size in sizes.items()}
  return Checked(len(records), known, {n: why for n, why in found.items() if why})


def read_manifest(path: str) -> dict[tuple[str, int], str]:
  """Reason by (name, size in bytes); empty if there is no such file."""
  reasons = {}
  for row in read_rows(path, _HEADER):
    try:
      reasons[row['name'], int(row['bytes'])] = row['reason']
    except ValueError:
      raise SourceError(
        f'{path}: the row of {row["name"]!r} has {row["bytes"]!r} bytes: remove it'
      ) from None
  return reasons


def size_bytes(video: str | FrameFolder) -> int:
  """Size of a file, or of all pictures in a folder; -1 where there is none."""
  try:
    if isinstance(video, FrameFolder):
      return frames.sum_bytes(video)
    return os.stat(video).st_size
  except OSError:
    return -1


def _decode(job: tuple[str, str | FrameFolder]):
  count_frames(job[1], on_frame=go_on)
