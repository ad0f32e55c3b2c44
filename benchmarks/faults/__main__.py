"""What happens to a run when something breaks: each fault is made, and what came of it told.

python -m benchmarks.faults                      all, with the table of docs/reliability.md
python -m benchmarks.faults --only NAME          one of them; repeat for more
python -m benchmarks.faults --list               their names

Runs real commands on this machine: half an hour on two cores. A fault that does more harm
than it may ends with an error. Those of a full disk want to be root, those of the database a
PostgreSQL server (Debian's package, or the wheel pgserver).
"""

import argparse
import os
import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path

import jax

from benchmarks.faults import scenarios
from benchmarks.faults.report import HEAD, make_row
from benchmarks.faults.run import Place
from movinet_jax.names import find


def main() -> int:
  parser = argparse.ArgumentParser(
    prog='python -m benchmarks.faults',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('--only', action='append', metavar='NAME')
  parser.add_argument('--list', action='store_true')
  arguments = parser.parse_args()
  known = scenarios.list_scenarios()
  if arguments.list:
    print('\n'.join(known))
    return 0
  jax.config.update('jax_platforms', 'cpu')  # of this process, which reads checkpoints
  chosen = {name: find(known, name, 'fault') for name in arguments.only or known}
  print(f'{time.strftime("%Y-%m-%d")}, {describe_machine()}\n\n{HEAD}', flush=True)
  with tempfile.TemporaryDirectory(prefix='faults-') as folder:
    place, failed = Place(Path(folder)), []
    for name, scenario in chosen.items():
      try:
        row = make_row(name, scenario.__doc__, scenario(place))
        print(row.replace(folder, '…'), flush=True)
      except Exception:
        traceback.print_exc()
        failed.append(name)
  print(f'failed: {", ".join(failed)}' if failed else '', file=sys.stderr)
  return bool(failed)


def describe_machine() -> str:
  return f'{os.cpu_count()} cores, {platform.system()} {platform.machine()}, CPU'


if __name__ == '__main__':
  sys.exit(main())
