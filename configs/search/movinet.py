"""MoViNet's architecture search on Kinetics-600, one target for each of A0 to A5.

Paper:     MoViNets, https://arxiv.org/abs/2103.11511, section 3.1 and supplement A; the
           search is TuNAS, https://arxiv.org/abs/2008.06120, and its published code.
Command:   movinet build-data kinetics --version 600 …      (see docs/data.md)
           movinet search --config=configs/search/movinet.py:a2 --workdir=runs/search-a2
Pictures:  --short-side 256 up to a3, 320 for a4 and a5; training what was found wants those
           of configs/movinet/kinetics600.py, at most 368.
Variants:  a0 … a5, each also as -stream: causal (2+1)D networks, searched in sub-clips
           through stream buffers (supplement A.3).
Hardware:  128 accelerators, one architecture each a step; fewer take several each. a2 was
           compiled for TPUs (docs/scaling.md), the others were not.
Result:    not yet reproduced here.

From the supplement: 90 epochs, multiply-adds as the cost, the absolute reward, a held-out
part of the training split, φ = 0 for A2. The target is what the released network of the same
form costs, counted as the search counts. The paper prints other numbers, see TARGETS.
Inferred: whole φ for the others (their heads' widths grow like that), the share held out,
batch sizes, 16 frames a clip (A.3 searches A0 so), and TuNAS's defaults for all that the
supplement does not say, its rates scaled from batches of 4,096. Of the released networks few
layers lie in the spaces of whole φ but A2's: see docs/search.md.
"""

import ml_collections

# φ and the native clip: frames, resolution, stride.
TABLE = {
  'a0': (-2.0, (50, 172, 5)),
  'a1': (-1.0, (50, 172, 5)),
  'a2': (0.0, (50, 224, 5)),
  'a3': (1.0, (120, 256, 2)),
  'a4': (2.0, (80, 290, 3)),
  'a5': (3.0, (120, 320, 2)),
}
# Multiply-adds of the released networks on that clip, with 600 classes: `movinet cost
# movinet/a2`. Behind each, the GFLOPs of supplement Table 5. They include elementwise work,
# which the search does not count; A2's are 11 % below the released A2; those of streams are
# of causal 3D networks.
TARGETS = {
  'a0': 2_630_733_808,  # 2.71
  'a0-stream': 2_426_445_040,  # 2.73
  'a1': 5_865_612_704,  # 6.02
  'a1-stream': 5_540_325_200,  # 6.06
  'a2': 11_558_071_168,  # 10.3
  'a2-stream': 10_700_453_120,  # 10.4
  'a3': 55_593_197_440,  # 56.9
  'a3-stream': 52_133_563_392,  # not printed
  'a4': 103_338_794_368,  # 105
  'a4-stream': 96_741_128_448,  # not printed
  'a5': 276_334_081_024,  # 281
  'a5-stream': 261_710_004_736,  # not printed
}
CLIPS, EPOCHS, BATCH = 366_000, 90, 1024  # of the training split, about


def get_config(variant: str = 'a2') -> ml_collections.ConfigDict:
  name, _, stream = variant.partition('-')
  if variant not in TARGETS:
    raise ValueError(f'no variant {variant!r}; there are {", ".join(TARGETS)}')
  phi, clip = TABLE[name]
  cfg = ml_collections.ConfigDict()
  cfg.seed = 0
  cfg.candidates = 128  # architectures a step; batches are dealt out to them
  cfg.batch_size = BATCH
  cfg.policy_batch_size = 4 * BATCH  # TuNAS: four clips for each one of training
  cfg.policy_share = 0.1  # of the training split, held out for the policy
  cfg.train_with = f'configs/movinet/kinetics600.py:{variant}'
  # Widths that round to one at φ = -2 are one choice.
  cfg.space = {'phi': phi, 'clip': clip, 'merge_equal': phi < 0, 'se': True}
  if stream:
    cfg.space.update(
      conv='2plus1d',
      se_kind='2plus3d',
      causal=True,
      positions=name in ('a3', 'a4', 'a5'),
      activation='hard_swish',
      gate='hard_sigmoid',
      head_activation='hard_swish' if name in ('a1', 'a4') else 'swish',
    )
  cfg.supernet = {'dtype': 'bfloat16', 'remat': True}
  directory = 'data/k600/kinetics/600/1.0.0'  # what `movinet build-data` wrote
  cfg.data = {'train': {'name': 'tfds', 'directory': directory, 'split': 'train'}}
  cfg.clip = {
    'frames': 16,
    'stride': clip[2],
    'size': clip[1],
    'area': (0.08, 1.0),
    'aspect': (0.5, 2.0),
    'flip': True,
  }
  cfg.loader = {'workers': 16, 'threads': 1, 'max_failed_share': 0.05}
  cfg.loss = {'name': 'softmax', 'label_smoothing': 0.1}
  cfg.search = {
    'target': float(TARGETS[variant]),
    'beta': -0.1,
    'reward': 'absolute',
    'learning_rate': 0.165 * BATCH / 256,
    'warmup': 0.025,
    'weight_decay': 3e-5,
    'policy_rate': 3e-4 * BATCH / 256,
    'policy_delay': 0.25,
    'subclips': 2 if stream else 1,
    'boundary': 'truncated',
  }
  cfg.optimizer = {
    'name': 'rmsprop',
    'decay': 0.9,
    'momentum': 0.9,
    'epsilon': 1.0,
    'clip_norm': None,
  }
  cfg.loop = {
    'total_steps': round(EPOCHS * CLIPS * (1 - cfg.policy_share) / BATCH),
    'log_every': 100,
    'save_every': 1000,
  }
  cfg.checkpoints = {'keep': 3}
  cfg.finalists = {'neighbours': 32, 'control': 32, 'band': 0.05, 'batches': 64}
  return cfg
