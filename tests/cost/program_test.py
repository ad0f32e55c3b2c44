"""Exchanges are read from a program's text, and memory counts what is donated once."""

import sys

import jax
import jax.numpy as jnp
import pytest

from movinet_jax import cost
from movinet_jax.train import mesh
from tests.train import toy

# As the TPU compiler prints it, cut down to what is read.
TEXT = """HloModule jit_step, entry_computation_layout={(f32[4]{0})->f32[4]{0}}

%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[]{:T(128)} add(%x, %y)
}

%body (p: (s32[], f32[16])) -> (s32[], f32[16]) {
  %all-reduce.1 = (f32[16]{0:T(128)S(1)}, /*index=1*/bf16[3,8]{1,0:T(8,128)(2,1)}) all-reduce(%a, %b), to_apply=%add
  ROOT %t = (s32[]{:T(128)}, f32[16]{0:T(128)}) tuple(%i, %c)
}

%condition (p: (s32[], f32[16])) -> pred[] {
  %limit = s32[]{:T(128)} constant(5)
  ROOT %lt = pred[]{:T(512)} compare(%i, %limit), direction=LT
}

%outer (p: (s32[], f32[16])) -> (s32[], f32[16]) {
  ROOT %inner = (s32[], f32[16]{0}) while(%p), condition=%condition, body=%body
}

%rare (p: f32[16]) -> f32[16] {
  ROOT %permute = f32[16]{0} collective-permute(%p), source_target_pairs={{0,1},{1,0}}
}

%often (p: f32[16]) -> f32[16] {
  ROOT %p = f32[16]{0} parameter(0)
}

%asynchronous (p: f32[2]) -> f32[8] {
  ROOT %gather = f32[8]{0} all-gather(%p), dimensions={0}
}

ENTRY %main.9_spmd (p: f32[4]) -> f32[4] {
  %loop = (s32[], f32[16]{0}) while(%p), condition=%other, body=%outer, backend_config={"known_trip_count":{"n":"3"}}
  %choice = f32[16]{0} conditional(%i, %x, %x), branch_computations={%rare, %often}
  %start = ((f32[2]{0}), f32[8]{0}) async-start(%p), calls=%asynchronous
  %end = f32[8]{0} async-done(%start), calls=%asynchronous
  %gather-start = (bf16[2]{0}, bf16[8]{0}) all-gather-start(%q), dimensions={0}
  %gather-done = bf16[8]{0} all-gather-done(%gather-start)
  %move = (f32[6]{0}, f32[6]{0}, u32[], u32[]) collective-permute-start(%r), channel_id=3
  ROOT %sum = f32[4]{0} all-reduce(%s), metadata={op_name="all-gather("}, to_apply=%add
}
"""  # noqa: E501, the compiler does not wrap


def test_exchanges_are_found_where_they_are():
  found = cost.find_collectives(TEXT)
  rows = [(c.kind, c.bytes, c.times, c.loops, c.in_branch) for c in found]
  assert rows == [
    ('all-reduce', 16 * 4 + 24 * 2, 15, 2, False),
    ('collective-permute', 64, 1, 0, True),
    ('all-gather', 32, 1, 0, False),
    ('all-gather', 16, 1, 0, False),
    ('collective-permute', 24, 1, 0, False),
    ('all-reduce', 16, 1, 0, False),
  ]
  assert found[0].shapes == (('f32', (16,)), ('bf16', (3, 8)))
  assert cost.count_collective_bytes(found) == {
    'all-reduce': 15 * 112 + 16,
    'all-gather': 48,
    'collective-permute': 88,
  }


def test_loops_that_do_not_say_how_often_they_turn_are_an_error():
  with pytest.raises(ValueError, match='how often it turns'):
    cost.find_collectives(TEXT.replace('constant(5)', 'constant(five)'))
  with pytest.raises(ValueError, match='no program'):
    cost.find_collectives('ENTRY')


def test_what_is_donated_counts_once():
  shape = jax.ShapeDtypeStruct((1000,), jnp.float32)
  totals = []
  for donated in ((), (0,)):
    step = jax.jit(lambda x: x + 1, donate_argnums=donated)
    totals.append(cost.count_memory(step.lower(shape).compile()))
  assert [m.arguments for m in totals] == [4000, 4000]
  assert [m.outputs for m in totals] == [4000, 0]
  assert totals[0].total - totals[1].total == 4000


def test_a_program_of_this_machine():
  """Seven turns of a loop, each with a mean over two devices of two numbers."""
  process = toy.start('tests.cost.program_test', devices=2)
  output, _ = process.communicate(timeout=100)
  assert process.returncode == 0, output
  assert output.splitlines()[-1] == str({'all-reduce': 7 * 2 * 4})


def _main():
  place = mesh.make_mesh()

  def means(x):
    def turn(total, row):
      return total + jax.lax.pmean(jnp.sin(row + total), 'data').sum(), None

    return jax.lax.scan(turn, jnp.zeros(()), x)[0]

  spec = jax.sharding.PartitionSpec(None, 'data')
  run = jax.shard_map(means, mesh=place, in_specs=spec, out_specs=jax.P())
  rows = jax.ShapeDtypeStruct((7, 4), jnp.float32)
  text = jax.jit(run).lower(rows).compile().as_text()
  print(cost.count_collective_bytes(cost.find_collectives(text)))


if __name__ == '__main__':
  sys.exit(_main())
