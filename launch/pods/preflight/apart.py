"""Steps for devices that are not here, each compiled in a process that the compiler may abort.

XLA ends its process where one of its own checks fails. A preflight reports that like any other
reason why a command will not run.
"""

import ast
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from jax.errors import JaxRuntimeError

from launch.pods.preflight.machine import find_machine
from launch.pods.preflight.program import Compiled, Program, compile_step, make_program
from launch.runs.kinds import RUNS
from movinet_jax import cost
from movinet_jax.names import show

_ROOT = Path(__file__).resolve().parents[3]
_CODE = (
  f'import sys; sys.path.insert(0, {str(_ROOT)!r}); '
  'from launch.pods.preflight import apart; apart.main()'
)
_SHOWN = 200  # letters of an error: XLA prints whole operations
# The line of an abort that names the check.
_CHECK = re.compile(r'^F\d{4} [\d:.]+ +\d+ (?P<said>.+)$', re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Step:
  """A step to compile, by what makes it: this crosses to another process, a program cannot.

  Attributes:
    verb: of `RUNS`.
    config: all of it.
    classes: of the data.
    topology: a name for `find_machine`; '' for the devices here.
    count: devices of it to use, the first.
  """

  verb: str
  config: Mapping
  classes: int
  topology: str
  count: int

  def resize(self, clips: int) -> 'Step':
    """The same with so many clips a step."""
    return dataclasses.replace(self, config=RUNS[self.verb].resize(self.config, clips))

  def make_program(self, devices: Sequence) -> Program:
    """The program on these devices.

    Raises:
      ValueError: the config does not fit them.
    """
    devices = devices[: self.count]
    run = RUNS[self.verb].resolve(self.config, num_classes=self.classes, devices=devices)
    return make_program(run)


def compile_apart(step: Step, clips: int) -> Compiled:
  """Compiles a step of so many clips in a process of its own.

  Raises:
    ChildProcessError: the process ends with a Python error, which is no compiler's.
  """
  began = time.perf_counter()
  done = subprocess.run(
    [sys.executable, '-P', '-c', _CODE],
    input=repr(vars(step)).encode(),
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
  )
  if done.returncode == 0:
    return _read_answer(done.stdout)
  said = done.stderr.decode(errors='replace')
  if done.returncode > 0:
    raise ChildProcessError((said.strip().splitlines() or ['no word'])[-1])
  secs = time.perf_counter() - began
  return Compiled(clips, secs, failure=_find_abort(-done.returncode, said))


def main():
  """Compiles the step that comes in, and gives out what is known of its program."""
  step = Step(**ast.literal_eval(sys.stdin.read()))  # which reads tuples, unlike JSON
  answer = os.fdopen(os.dup(1), 'wb')
  os.dup2(2, 1)  # what compilers print is no part of the answer
  whole = step.make_program(find_machine(step.topology).devices)
  began = time.perf_counter()
  try:
    found, _ = compile_step(whole)
  except JaxRuntimeError as error:
    said = show(str(error).strip().partition('\n')[0], _SHOWN)
    found = Compiled(whole.clips, time.perf_counter() - began, failure=said)
  with answer:
    answer.write(json.dumps(dataclasses.asdict(found)).encode())


def _read_answer(text: bytes) -> Compiled:
  found = json.loads(text)
  memory = found.pop('memory')
  return Compiled(**found, memory=memory and cost.Memory(**memory))


def _find_abort(number: int, said: str) -> str:
  """Why a process ended by a signal."""
  name = signal.Signals(number).name
  checks = _CHECK.findall(said)
  if checks:
    return f'{name}: {checks[-1].strip()}'
  if number == signal.SIGKILL:
    return f'{name}: it was killed, as is done where memory of this host runs out'
  return f'{name}, without a word'
