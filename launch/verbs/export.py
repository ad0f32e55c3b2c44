"""Write a trained network as files that run elsewhere, and prove them.

  movinet export --checkpoint=runs/mine --to=tflite --out=mine
  movinet export --checkpoint=runs/mine --to=tflite,onnx --weights=float16 --out=mine
  movinet export --checkpoint=runs/mine --to=onnx,stablehlo --batch=any --out=mine
  movinet export --checkpoint=runs/mine --to=web --out=page
  movinet export --checkpoint=ckpt-1 --network=movinet/a0-stream --to=onnx --out=a0

A format is for

  tflite      phones, small computers and browsers, by LiteRT
  onnx        servers and desktops, by onnxruntime, OpenVINO or TensorRT; C#, Java, Rust
  stablehlo   JAX elsewhere, on CPU, GPU or TPU, without this package
  savedmodel  TensorFlow Serving
  web         a page that runs the network in the browser, on its camera or a video file

The folder holds the files, labels.txt, and model.json, which says what goes in and comes out. A
stream's file takes the next frames and its states. All states are zeros when a video begins, and
after each call every output goes to the input of its name.

Each file is run in its own runtime beside the network, with the states fed back. The table says
how far they differ, and a file that differs by too much is not written.

--weights=float16 halves a file and hardly changes its answers (in browsers it is slow); int8 makes
it a quarter, and int8-dynamic (TFLite) also computes convolutions in 8 bits. docs/export.md has
sizes, times and accuracy.

`movinet stream` and `movinet evaluate` run a file by --model=mine/model.tflite, and `movinet bench
mine/model.tflite` times it.
"""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax

from launch.arguments import add_trained, at_least_1, make_parser
from launch.errors import ExitCode
from launch.runs.trained import Trained, load_given
from launch.tables import align
from movinet_jax import export, signals
from movinet_jax.export import formats, web
from movinet_jax.export.weights import KINDS
from movinet_jax.names import check_name
from movinet_jax.train import arrays

WEB, PAGE = 'web', 'tflite'  # a page, and the format that it runs


def main(argv: Sequence[str]) -> int:
  arguments = make_arguments().parse_args(argv)
  jax.config.update('jax_platforms', 'cpu')  # a file is the same wherever it is written
  out = Path(arguments.out)
  names, page = choose_formats(arguments.to, arguments.litertjs)
  check_formats(names, arguments.weights, arguments.batch, page=WEB in arguments.to)
  export.check_free(out)
  trained = load_given(arguments)
  source = plan(trained, names, arguments.chunk, arguments.batch)
  version = {'version': trained.version, 'sha256': arrays.hash_arrays(source.variables)}
  how = {'weights': arguments.weights, 'complete': page, 'say': _tell}
  with stopping():
    manifest = export.write(out, source, trained.about, version, names, **how)
  print_table(manifest, out)
  if WEB in arguments.to:
    if arguments.weights == 'float16':
      _tell('Note: browsers run float16 several times slower than float32 and int8')
    place = shlex.quote(str(out))
    print(f'look at it: cd {place} && python3 -m http.server, then open http://localhost:8000')
  return ExitCode.DONE


def choose_formats(
  names: Sequence[str], litertjs: str | None
) -> tuple[list[str], Callable[[Path], None]]:
  """The formats to write, and what adds a page to their folder where one is asked for.

  Raises:
    ValueError: the page's runtime cannot be had; or it is given, and no page is asked for.
  """
  if WEB not in names:
    if litertjs:
      raise ValueError(f'--litertjs={litertjs} is for --to={WEB}')
    return list(names), lambda folder: None
  given = Path(litertjs) if litertjs else None
  web.find_packages(given)  # now, not after all else
  plain = [name for name in names if name != WEB]
  if PAGE not in plain:
    plain.insert(0, PAGE)
  return plain, lambda folder: web.write_web(folder, folder, given)


def check_formats(names: Sequence[str], weights: str, batch: int | None, *, page: bool = False):
  """Refuses what a format cannot say, and what is not installed, before anything is loaded."""
  for name in names:
    form = formats.load(name)
    if weights not in form.WEIGHTS:
      raise ValueError(
        f'--weights={weights} is not for {name}, which takes {", ".join(form.WEIGHTS)}'
      )
    if batch != 1 and page:
      raise ValueError(f'--batch={batch or "any"} is not for --to={WEB}: a page has one video')
    if batch is None and not form.FREE:
      raise ValueError(f'--batch=any is not for {name}, whose files take one number of videos')
    export.check_installed((*form.NEEDS, *form.RUNS))


def plan(
  trained: Trained, names: Sequence[str], chunk: int | None, batch: int | None
) -> export.Source:
  """What a call sees: the next frames of a stream, or the clip of evaluations."""
  causal = trained.model.spec.causal
  if chunk and not causal:
    raise ValueError(
      f'--chunk={chunk} is for streams: {trained.name} sees whole clips of {trained.clip.frames} '
      'frames'
    )
  size = (trained.clip.size, trained.clip.size)
  frames = chunk if causal else trained.clip.frames
  how = {'frames': frames, 'batch': batch, 'graph': any(formats.load(n).GRAPH for n in names)}
  return export.plan(trained.model, trained.complete(), size, **how)


def print_table(manifest: export.Manifest, out: Path):
  """Prints what was written and how far it is from the network."""
  rows = [('file', 'MB', 'weights', 'logits', 'states', 'bound', 'measured in')]
  for name, file in manifest.files.items():
    found = file.parity
    size, errors = f'{file.bytes / 1e6:.2f}', (f'{found.logits:.1e}', f'{found.states:.1e}')
    rows.append((name, size, file.weights, *errors, f'{found.bound:.0e}', file.runtime))
  print('\n'.join(align(rows, '<><>>><')))
  calls = next(iter(manifest.files.values())).parity.calls
  many = f'{say(calls, "call")} of {say(manifest.frames, "frame")}'
  print(f'\nlogits, states: the largest difference from the network, relative, over {many}.')
  print(f'wrote {out}')


def say(count: int, noun: str) -> str:
  return f'{count} {noun}{"s" * (count != 1)}'


@contextlib.contextmanager
def stopping() -> Iterator[None]:
  """Within, SIGTERM ends the command as Ctrl-C does, which removes what is half written."""
  asked = []

  def stop(number: int):
    asked.append(number)
    raise KeyboardInterrupt

  try:
    with signals.listening(stop):
      yield
  except Exception as error:  # a module that is interrupted while it loads raises another
    if asked:
      raise KeyboardInterrupt from error
    raise


def _tell(line: str):
  print(line, file=sys.stderr, flush=True)


def _formats(text: str) -> tuple[str, ...]:
  names = tuple(dict.fromkeys(text.split(',')))
  for name in names:
    try:
      check_name(name, [*formats.list_formats(), WEB], 'format')
    except ValueError as error:  # whose message argparse would not show
      raise argparse.ArgumentTypeError(str(error)) from error
  return names


def _batch(text: str) -> int | None:
  return None if text == 'any' else at_least_1(text)


def make_arguments() -> argparse.ArgumentParser:
  parser = make_parser('export', __doc__)
  add = parser.add_argument
  add_trained(parser)
  add('--to', type=_formats, required=True, metavar='FORMAT,…', help='formats, as above')
  add('--out', type='path', required=True, help='folder to write')
  add('--litertjs', type='path', help='of --to=web: folder with the tarballs of LiteRT.js')
  add('--weights', choices=KINDS, default='float32', help='how they are stored')
  add('--batch', type=_batch, default=1, help='videos a call, or any')
  add('--chunk', type=at_least_1, help='frames per call of a stream; default: as few as it can')
  return parser
