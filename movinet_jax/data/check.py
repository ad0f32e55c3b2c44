"""Decode every video of a dataset once, and write down which ones fail and why.

The manifest is a CSV file `name,bytes,reason`, one row a video as it was checked; the
reason of a good one is empty. A source leaves out the bad ones with `skip=MANIFEST`.
Nothing is ever deleted. A check that was stopped goes on where it was: rows of files that
have not changed in size are kept.
"""

import dataclasses
import os

import tqdm

from movinet_jax.data.limited import run_limited
from movinet_jax.data.manifest import append_rows, one_line, read_rows
from movinet_jax.data.reader import count_frames
from movinet_jax.data.source import Record

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
  """Decodes each file whole, in processes under a time limit, and writes the manifest.

  Args:
    records: of paths, not bytes.
    manifest: the CSV file to write or to continue.
    workers: files at once.
    limit_secs: for one file; a file that takes longer is bad.
    progress: whether to draw a bar.

  Raises:
    SourceError: the manifest is something else.
  """
  reasons = read_manifest(manifest)
  todo = {}
  for record in records:
    if (record.name, size_bytes(record.video)) not in reasons:
      todo[record.name] = record.video
  known = len(records) - len(todo)
  jobs = list(todo.items())
  with append_rows(manifest, _HEADER) as write_row:
    ended = run_limited(_decode, jobs, workers=workers, limit_secs=limit_secs)
    bar = tqdm.tqdm(ended, total=len(records), initial=known, unit='video', disable=not progress)
    for (name, path), reason in bar:
      reasons[name, size_bytes(path)] = reason
      write_row((name, size_bytes(path), one_line(reason)))
  found = {r.name: reasons[r.name, size_bytes(r.video)] for r in records}
  return Checked(len(records), known, {n: why for n, why in found.items() if why})


def read_manifest(path: str) -> dict[tuple[str, int], str]:
  """Reason by (name, size in bytes); empty if there is no such file."""
  return {(r['name'], int(r['bytes'])): r['reason'] for r in read_rows(path, _HEADER)}


def size_bytes(path: str) -> int:
  """Size of a file; -1 where there is none."""
  try:
    return os.stat(path).st_size
  except OSError:
    return -1


def _decode(job: tuple[str, str]):
  count_frames(job[1])
