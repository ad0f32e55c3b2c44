"""In place of `movinet`, where a test is about what starts it: does what it is told.

  stand_in.py FOLDER [words]

writes FOLDER/PROCESS.START.json with the words and environment that it got, and does
what FOLDER/plan.json says for that process and start: end with a code, {"code": 75}, after
"secs"; wait for SIGTERM, {"save": 0.2}, and end with 75; or ignore it, {"deaf": true}.
"""

import json
import os
import pathlib
import signal
import sys
import time

INDICES = ('MOVINET_PROCESS', 'SLURM_PROCID')


def install(environment: pathlib.Path, folder: pathlib.Path, plan: dict) -> str:
  """A virtual environment whose `movinet` is this; plan: process -> its starts."""
  programs = environment / 'bin'
  programs.mkdir(parents=True, exist_ok=True)
  lines = {'movinet': f'{os.path.abspath(__file__)} {folder}', 'python': ''}
  for name, words in lines.items():
    (programs / name).write_text(f'#!/bin/bash\nexec {sys.executable} {words} "$@"\n')
    (programs / name).chmod(0o755)
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'plan.json').write_text(json.dumps(plan))
  return str(environment)


def read_starts(folder: pathlib.Path) -> dict[str, dict]:
  """'PROCESS.START' -> the words and environment that it got."""
  found = {}
  for path in sorted(folder.glob('*.*.json')):
    found[path.name.removesuffix('.json')] = json.loads(path.read_text())
  return found


def wait_for(condition, secs=20):
  deadline = time.monotonic() + secs
  while not condition():
    assert time.monotonic() < deadline, 'it did not happen'
    time.sleep(0.05)


def main(folder: pathlib.Path, words) -> int:
  process = next((os.environ[name] for name in INDICES if name in os.environ), '0')
  start = len(list(folder.glob(f'{process}.*.json'))) + 1
  plan = json.loads((folder / 'plan.json').read_text())[process]
  todo = plan[min(start, len(plan)) - 1]
  signal.signal(signal.SIGTERM, signal.SIG_IGN if todo.get('deaf') else _save(todo))
  part = folder / f'{process}.part'
  part.write_text(json.dumps({'words': words, 'env': dict(os.environ), 'pid': os.getpid()}))
  part.rename(folder / f'{process}.{start}.json')
  print(f'process {process} start {start}', flush=True)
  while todo.get('deaf') or 'save' in todo:
    time.sleep(0.05)
  time.sleep(todo.get('secs', 0))
  if 'signal' in todo:
    os.kill(os.getpid(), todo['signal'])
  return todo['code']


def _save(todo):
  def handler(number, frame):
    time.sleep(todo.get('save', 0))
    print('saved', flush=True)
    sys.exit(75)

  return handler


if __name__ == '__main__':
  sys.exit(main(pathlib.Path(sys.argv[1]), sys.argv[2:]))
