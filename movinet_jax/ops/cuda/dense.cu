// The product of pixels [P, C] with a matrix [C, F], and what stands around it in a network.
//
// dense.py writes the constants of one call in front of this text. A block makes TILE pixels of
// WIDTH features. It copies its pixels to shared memory, CHUNK channels at a time. A thread owns
// PIXELS pixels and VEC features, and adds up the channels of its team. LANES threads lie along the
// features, TEAMS teams share the channels, and GROUPS groups share the pixels. All sums are
// float32.

constexpr int TILE = GROUPS * PIXELS, WIDTH = LANES * VEC, THREADS = LANES * TEAMS * GROUPS;
constexpr int QUAD = 4;  // channels that a thread reads at once
constexpr int SHARED_IN = TILE * CHUNK, SHARED_OUT = TEAMS * TILE * WIDTH;

// Unlike fminf and fmaxf, it keeps what is no number.
__device__ inline float clamp(float x, float most) { return x < 0 ? 0 : x > most ? most : x; }

template <int KIND> __device__ inline float activate(float x) {
  if (KIND == RELU) return x < 0 ? 0 : x;
  if (KIND == RELU6) return clamp(x, 6);
  if (KIND == HARD_SWISH) return x * clamp(x * (1 / 6.f) + 0.5f, 1);
  if (KIND == SILU) return x / (1 + expf(-x));
  if (KIND == LOGISTIC) return 1 / (1 + expf(-x));
  return x;
}

// x [P, C], matrix [C, F], bias [F] and then offset [C] in float32, gate [C] in float32,
// shortcut [P, F] -> y [P, F], finish((start(x + offset) * gate) @ matrix + bias + shortcut).
// There are an offset, a gate and a shortcut with OFFSET, GATED and ADDED.
extern "C" __global__ void __launch_bounds__(THREADS)
multiply(const Element* __restrict__ x, const Element* __restrict__ matrix,
         const float* __restrict__ bias,
#ifdef GATED
         const float* __restrict__ gate,
#endif
#ifdef ADDED
         const Element* __restrict__ shortcut,
#endif
         Element* __restrict__ y) {
  __shared__ __align__(16) float shared[SHARED_IN > SHARED_OUT ? SHARED_IN : SHARED_OUT];
  const int lane = threadIdx.x % LANES, team = threadIdx.x / LANES % TEAMS;
  const int group = threadIdx.x / (LANES * TEAMS);
  const int first_pixel = blockIdx.x * TILE, feature = (blockIdx.y * LANES + lane) * VEC;

  float sums[PIXELS][VEC] = {};
  for (int begin = 0; begin < C; begin += CHUNK) {
    for (int at = threadIdx.x * LOAD; at < SHARED_IN; at += THREADS * LOAD) {
      const int pixel = first_pixel + at / CHUNK, channel = begin + at % CHUNK;
      const bool there = pixel < P && channel < C;
      float values[LOAD];
      load(x + (long long)pixel * C + channel, there, values);
#pragma unroll
      for (int n = 0; n < LOAD; n++) {
#ifdef OFFSET
        if (there) values[n] += __ldg(bias + F + channel + n);
#endif
        values[n] = activate<START>(values[n]);
#ifdef GATED
        if (there) values[n] *= __ldg(gate + channel + n);
#endif
        shared[at + n] = there ? values[n] : 0;
      }
    }
    __syncthreads();
#pragma unroll 2
    for (int first = team * QUAD; first < CHUNK; first += TEAMS * QUAD) {
      float weights[QUAD][VEC];
#pragma unroll
      for (int q = 0; q < QUAD; q++) {
        const int channel = begin + first + q;
        load(matrix + channel * F + feature, channel < C && feature < F, weights[q]);
      }
#pragma unroll
      for (int p = 0; p < PIXELS; p++) {
        const float4 values = *reinterpret_cast<const float4*>(
          shared + (group * PIXELS + p) * CHUNK + first);
#pragma unroll
        for (int v = 0; v < VEC; v++) {
          sums[p][v] = fmaf(values.x, weights[0][v], sums[p][v]);
          sums[p][v] = fmaf(values.y, weights[1][v], sums[p][v]);
          sums[p][v] = fmaf(values.z, weights[2][v], sums[p][v]);
          sums[p][v] = fmaf(values.w, weights[3][v], sums[p][v]);
        }
      }
    }
    __syncthreads();
  }

#pragma unroll
  for (int p = 0; p < PIXELS; p++)
#pragma unroll
    for (int v = 0; v < VEC; v++)
      shared[(team * TILE + group * PIXELS + p) * WIDTH + lane * VEC + v] = sums[p][v];
  __syncthreads();
  for (int at = threadIdx.x * VEC; at < TILE * WIDTH; at += THREADS * VEC) {
    const int pixel = first_pixel + at / WIDTH, out = blockIdx.y * WIDTH + at % WIDTH;
    if (pixel >= P || out >= F) continue;
    float results[VEC] = {};
#ifdef ADDED
    load(shortcut + (long long)pixel * F + out, true, results);
#endif
#pragma unroll
    for (int v = 0; v < VEC; v++) {
      results[v] += __ldg(bias + out + v);
#pragma unroll
      for (int t = 0; t < TEAMS; t++) results[v] += shared[t * TILE * WIDTH + at + v];
      results[v] = activate<FINISH>(results[v]);
    }
    store(y + (long long)pixel * F + out, results);
  }
}
