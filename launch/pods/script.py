"""What the shell scripts of several targets have in common."""

import shlex
from collections.abc import Sequence

from launch.errors import ExitCode

# Of a process: whether the same command may go on, as `errors.is_retriable` says.
RETRIES = f'((code == {ExitCode.RETRY:d} || code > 128))'
# Bash takes a signal to itself while it waits; this passes it on, and waits again.
RUN = """\
run() {
  "$@" &
  local pid=$!
  trap 'kill -TERM "$pid" 2>/dev/null' TERM
  wait "$pid"
  local code=$?
  while kill -0 "$pid" 2>/dev/null; do
    wait "$pid"
    code=$?
  done
  return "$code"
}
"""


def make_array(name: str, words: Sequence[str]) -> str:
  """name=(WORD WORD …), a line each; bash reads exactly these words from it."""
  lines = ''.join(f'  {shlex.quote(word)}\n' for word in words)
  return f'{name}=(\n{lines})\n'


def make_exports(env: Sequence[tuple[str, str]]) -> str:
  return ''.join(f'export {key}={shlex.quote(value)}\n' for key, value in env)
