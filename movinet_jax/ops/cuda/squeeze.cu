// The first half of squeeze and excitation with a running mean: the means of a frame's channels,
// what a stream remembers of them, and the product of both with a matrix.
//
// squeeze.py writes the constants of one call in front of this text. Each block computes the means
// of all channels, and then FEATURES features of the product. Repeating the means in each block
// takes less time than a kernel of their own. All sums are float32.

constexpr int PACKS = C / VEC;
constexpr int ROWS = THREADS / PACKS > 1 ? THREADS / PACKS : 1;  // that share the pixels
constexpr int TEAMS = THREADS / FEATURES;                        // that share the channels

// z [P, C], running [C], weight [1], matrix [2 C, S], with PLACED place [2 C] and scale [1]
// -> raw [S], new [C], all but z in float32: new = running + (mean(z) - running) * weight, and
// raw = ([new, mean(z)] + scale * place) @ matrix.
extern "C" __global__ void __launch_bounds__(THREADS)
squeeze(const Element* __restrict__ z, const float* __restrict__ running,
        const float* __restrict__ weight, const float* __restrict__ matrix,
#ifdef PLACED
        const float* __restrict__ place, const float* __restrict__ scale,
#endif
        float* __restrict__ raw, float* __restrict__ updated) {
  __shared__ float parts[ROWS * C > THREADS ? ROWS * C : THREADS];
  __shared__ float both[2 * C];

  for (int at = threadIdx.x; at < ROWS * PACKS; at += THREADS) {
    const int channel = at % PACKS * VEC, row = at / PACKS;
    float sums[VEC] = {};
#pragma unroll 4
    for (int pixel = row; pixel < P; pixel += ROWS) {
      float values[VEC];
      load(z + (long long)pixel * C + channel, true, values);
#pragma unroll
      for (int v = 0; v < VEC; v++) sums[v] += values[v];
    }
#pragma unroll
    for (int v = 0; v < VEC; v++) parts[row * C + channel + v] = sums[v];
  }
  __syncthreads();
  for (int channel = threadIdx.x; channel < C; channel += THREADS) {
    float mean = 0;
    for (int row = 0; row < ROWS; row++) mean += parts[row * C + channel];
    mean *= 1.f / P;
    const float before = __ldg(running + channel);
    const float now = before + (mean - before) * __ldg(weight);
    if (blockIdx.x == 0) updated[channel] = now;
    both[channel] = now;
    both[C + channel] = mean;
#ifdef PLACED
    both[channel] += __ldg(scale) * __ldg(place + channel);
    both[C + channel] += __ldg(scale) * __ldg(place + C + channel);
#endif
  }
  __syncthreads();

  const int own = threadIdx.x % FEATURES, team = threadIdx.x / FEATURES;
  const int feature = blockIdx.x * FEATURES + own;
  float sum = 0;
  if (feature < S)
#pragma unroll 4
    for (int channel = team; channel < 2 * C; channel += TEAMS)
      sum = fmaf(both[channel], __ldg(matrix + channel * S + feature), sum);
  parts[team * FEATURES + own] = sum;
  __syncthreads();
  if (threadIdx.x >= FEATURES || feature >= S) return;
  for (int other = 1; other < TEAMS; other++) sum += parts[other * FEATURES + own];
  raw[feature] = sum;
}
