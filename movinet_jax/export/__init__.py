"""Trained networks as files that run elsewhere: phones, browsers, servers, other JAX programs.

A network's traced program is walked once (`walk`, `rules`) into a graph of four-dimensional
operations (`graph`), and each format writes its own file from that (`formats`). So no layer is
written twice, and no file can drift from the model.

    source = export.plan(model, variables, (172, 172))
    export.write(out, source, about, checkpoint, ['tflite', 'onnx'])
    session = export.read('out/model.tflite').make_session()
    logits = session(frames)
"""

from movinet_jax.export.artifact import (
  Artifact,
  Manifest,
  check_free,
  check_installed,
  is_artifact,
  read,
  write,
)
from movinet_jax.export.formats import list_formats
from movinet_jax.export.graph import IMAGE, LOGITS
from movinet_jax.export.network import Network
from movinet_jax.export.program import ExportError
from movinet_jax.export.session import Session
from movinet_jax.export.source import Part, Source, plan, plan_part

__all__ = [
  'IMAGE',
  'LOGITS',
  'Artifact',
  'ExportError',
  'Manifest',
  'Network',
  'Part',
  'Session',
  'Source',
  'check_free',
  'check_installed',
  'is_artifact',
  'list_formats',
  'plan',
  'plan_part',
  'read',
  'write',
]
