"""NVIDIA GPUs: what a name such as 'h100:8' stands for, and how a compiler is told of them."""

import dataclasses

from movinet_jax.names import check_name

PER_HOST = 8  # of every machine of several: NVIDIA's DGX and HGX boards, and clouds' copies of them


@dataclasses.dataclass(frozen=True)
class Kind:
  """One kind of GPU.

  Attributes:
    name: as its driver gives it.
    capability: the architecture, as CUDA counts it.
    cores: streaming multiprocessors.
    units_per_core: for float32.
    clock_ghz: the highest.
    memory_bytes: that programs see, which is less than what is sold.
    bandwidth_bytes: a second, of that memory.
    cache_bytes: of the second level.
    shared_bytes: of a core.
    feature_extension: of the instructions that only this architecture has.
  """

  name: str
  capability: tuple[int, int]
  cores: int
  units_per_core: int
  clock_ghz: float
  memory_bytes: int
  bandwidth_bytes: int
  cache_bytes: int
  shared_bytes: int
  feature_extension: str = 'ACCELERATED_FEATURES'


# All numbers are what drivers report, as XLA publishes them: the files a100_sxm_80, h100_sxm, h200
# and b200 of github.com/openxla/xla, xla/backends/gpu/target_config/specs.
KINDS = {
  'a100': Kind(
    name='NVIDIA A100-SXM4-80GB',
    capability=(8, 0),
    cores=108,
    units_per_core=64,
    clock_ghz=1.41,
    memory_bytes=85_100_068_864,
    bandwidth_bytes=2_039_040_000_000,
    cache_bytes=40 << 20,
    shared_bytes=164 << 10,
    feature_extension='NONE',
  ),
  'h100': Kind(
    name='NVIDIA H100 80GB HBM3',
    capability=(9, 0),
    cores=132,
    units_per_core=128,
    clock_ghz=1.98,
    memory_bytes=84_942_979_072,
    bandwidth_bytes=3_352_320_000_000,
    cache_bytes=50 << 20,
    shared_bytes=228 << 10,
  ),
  'h200': Kind(
    name='NVIDIA H200 141GB HBM3e',
    capability=(9, 0),
    cores=132,
    units_per_core=128,
    clock_ghz=1.98,
    memory_bytes=151_397_597_184,
    bandwidth_bytes=4_800_000_000_000,
    cache_bytes=50 << 20,
    shared_bytes=228 << 10,
  ),
  'b200': Kind(
    name='NVIDIA B200',
    capability=(10, 0),
    cores=148,
    units_per_core=128,
    clock_ghz=1.965,
    memory_bytes=191_514_411_008,
    bandwidth_bytes=7_672_320_000_000,
    cache_bytes=132_644_864,
    shared_bytes=228 << 10,
  ),
}


@dataclasses.dataclass(frozen=True)
class Gpus:
  """GPUs of one kind, on one host or on hosts of eight.

  Attributes:
    kind: a key of `KINDS`.
    chips: of all hosts; JAX shows each as one device.
    hosts: machines, each of which runs one process.
  """

  kind: str
  chips: int
  hosts: int

  @property
  def name(self) -> str:
    """'h100:16'."""
    return f'{self.kind}:{self.chips}'

  @property
  def memory_bytes(self) -> int:
    """Of one GPU, before JAX and CUDA take their part."""
    return KINDS[self.kind].memory_bytes

  @property
  def shape(self) -> str:
    """Hosts, and GPUs of a host, as XLA wants them."""
    return f'{self.hosts}x1x{self.chips // self.hosts}'

  def describe(self) -> str:
    """The GPU for a compiler that cannot ask it: XLA's GpuTargetConfigProto, as text."""
    kind = KINDS[self.kind]
    major, minor = kind.capability
    return _TARGET.format(
      **vars(kind),
      major=major,
      minor=minor,
      block_bytes=kind.shared_bytes - 1024,  # CUDA keeps 1 KiB of a core's for each block
    )


# The limits that these kinds share are those of "Technical specifications per compute capability"
# (8.0, 9.0 and 10.0) in NVIDIA's CUDA programming guide. cuDNN is the oldest that JAX takes.
_TARGET = """gpu_device_info {{
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: {block_bytes}
  shared_memory_per_core: {shared_bytes}
  core_count: {cores}
  fpus_per_core: {units_per_core}
  clock_rate_ghz: {clock_ghz}
  memory_bandwidth: {bandwidth_bytes}
  l2_cache_size: {cache_bytes}
  device_memory_size: {memory_bytes}
  cuda_compute_capability {{
    major: {major}
    minor: {minor}
    feature_extension: {feature_extension}
  }}
}}
platform_name: "CUDA"
dnn_version_info {{
  major: 9
  minor: 12
  patch: 0
}}
device_description_str: "{name}"
"""


def find_gpus(name: str) -> Gpus:
  """The GPUs of a name: KIND:COUNT, 'h100:8'.

  Raises:
    ValueError: there is no such kind, or the count is not that of whole hosts.
  """
  kind, _, count = name.strip().lower().partition(':')
  check_name(kind, KINDS, 'GPU')
  chips = int(count) if count.isdecimal() else 0
  if not chips:
    raise ValueError(f'GPUs {name!r} have no count; wanted {kind}:COUNT, such as {kind}:{PER_HOST}')
  hosts = max(1, chips // PER_HOST)
  if chips > PER_HOST and chips % PER_HOST:
    near = f'{kind}:{PER_HOST * hosts} or {kind}:{PER_HOST * (hosts + 1)}'
    raise ValueError(f'GPUs {name!r} are not whole hosts of {PER_HOST}; the nearest are {near}')
  return Gpus(kind, chips, hosts)
