// Depthwise 3D convolution of clips [B, T, H, W, C], its transpose, and its correlation.
//
// cuda.py writes the constants of one call in front of this text, each as a `constexpr int`, and
// the type of an element: float, or the bits of a bfloat16. All sums are float32.
//
// A thread owns VEC channels, ROWS rows and COLS columns and walks over the frames. It loads each
// frame once and multiplies it with all KT frames of the kernel. No padded copy is needed: a thread
// does not load what lies outside. The compiler unrolls every loop over constants, so it keeps all
// arrays in registers and knows which tap meets which element.

__device__ constexpr int divide_down(int a, int b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }
__device__ constexpr int divide_up(int a, int b) { return divide_down(a + b - 1, b); }
__device__ constexpr int modulo(int a, int b) { return (a % b + b) % b; }

constexpr int PACKS = C / VEC;
constexpr int FRAME_IN = H_IN * W_IN * C, FRAME_OUT = H_OUT * W_OUT * C;

#if defined(CONVOLVE)
// Along one axis, returns the tap through which output `out` of a group reads input `in`, both
// counted from the start of the group. A transposed convolution reads the output's gradient.
__device__ constexpr int find_tap(int in, int out, int stride, int pad) {
  return TRANSPOSED ? out + pad - in * stride : in - out * stride + pad;
}
__device__ constexpr int find_first(int taps, int stride, int pad) {
  return TRANSPOSED ? divide_up(pad - taps + 1, stride) : -pad;
}
__device__ constexpr int find_last(int outs, int taps, int stride, int pad) {
  return TRANSPOSED ? divide_down(outs - 1 + pad, stride) : (outs - 1) * stride + taps - 1 - pad;
}
constexpr int ROW_STEP = TRANSPOSED ? ROWS / STRIDE_H : ROWS * STRIDE_H;
constexpr int COL_STEP = TRANSPOSED ? COLS / STRIDE_W : COLS * STRIDE_W;
constexpr int ROW_FIRST = find_first(KH, STRIDE_H, PAD_H);
constexpr int ROW_LAST = find_last(ROWS, KH, STRIDE_H, PAD_H);
constexpr int COL_FIRST = find_first(KW, STRIDE_W, PAD_W);
constexpr int COL_LAST = find_last(COLS, KW, STRIDE_W, PAD_W);
constexpr int COLS_IN = COL_LAST - COL_FIRST + 1;
constexpr int COL_GROUPS = divide_up(W_OUT, COLS), CHUNKS = divide_up(T_OUT, FRAMES);

// x [B, T_IN, H_IN, W_IN, C], kernel [KT, KH, KW, C] in float32 -> y [B, T_OUT, H_OUT, W_OUT, C]
extern "C" __global__ void __launch_bounds__(THREADS)
convolve(const Element* __restrict__ x, const float* __restrict__ kernel, Element* __restrict__ y) {
  const int position = blockIdx.x * THREADS + threadIdx.x;
  if (position >= COL_GROUPS * PACKS) return;
  const int channel = position % PACKS * VEC, col_group = position / PACKS;
  const int row_in = blockIdx.y * ROW_STEP, row_out = blockIdx.y * ROWS;
  const int col_in = col_group * COL_STEP, col_out = col_group * COLS;
  const int begin = blockIdx.z % CHUNKS * FRAMES;
  const int count = begin + FRAMES < T_OUT ? FRAMES : T_OUT - begin;
  const long long clip = blockIdx.z / CHUNKS;
  x += clip * T_IN * FRAME_IN + channel;
  y += clip * T_OUT * FRAME_OUT + channel;

  bool there[COLS_IN];
#pragma unroll
  for (int n = 0; n < COLS_IN; n++) {
    const int col = col_in + COL_FIRST + n;
    there[n] = col >= 0 && col < W_IN;
  }
  float taps[KEEP ? KT * KH * KW : 1][VEC];
#pragma unroll
  for (int tap = 0; tap < (KEEP ? KT * KH * KW : 0); tap++)
#pragma unroll
    for (int v = 0; v < VEC; v++) taps[tap][v] = __ldg(kernel + tap * C + channel + v);

  // Adds the products of an input frame with the HELD kernel frames from `first` on. The product
  // with the t-th of them belongs to sums[(phase - t) % HELD].
  float sums[HELD][ROWS][COLS][VEC] = {};
  auto add_frame = [&](const int frame, const int first,
                       const int phase) __attribute__((always_inline)) {
    if (frame < 0 || frame >= T_IN) return;
    const Element* image = x + (long long)frame * FRAME_IN;
#pragma unroll
    for (int m = ROW_FIRST; m <= ROW_LAST; m++) {
      const int row = row_in + m;
      if (row < 0 || row >= H_IN) continue;
      float values[COLS_IN][VEC];
#pragma unroll
      for (int n = 0; n < COLS_IN; n++)
        load(image + (row * W_IN + col_in + COL_FIRST + n) * C, there[n], values[n]);
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        const int i = find_tap(m, r, STRIDE_H, PAD_H);
        if (i < 0 || i >= KH) continue;
#pragma unroll
        for (int c = 0; c < COLS; c++)
#pragma unroll
          for (int n = 0; n < COLS_IN; n++) {
            const int j = find_tap(n + COL_FIRST, c, STRIDE_W, PAD_W);
            if (j < 0 || j >= KW) continue;
#pragma unroll
            for (int t = 0; t < HELD; t++) {
              const int time = TRANSPOSED ? KT - 1 - (first + t) : first + t;
              const int tap = (time * KH + i) * KW + j;
#pragma unroll
              for (int v = 0; v < VEC; v++) {
                const float weight = KEEP ? taps[KEEP ? tap : 0][v]
                                          : __ldg(kernel + tap * C + channel + v);
                float& sum = sums[modulo(phase - t, HELD)][r][c][v];
                sum = fmaf(values[n][v], weight, sum);
              }
            }
          }
      }
    }
  };
  // Stores an output of this chunk, if the chunk has so many, and clears its sums for the next.
  auto finish = [&](const int output, const int slot) __attribute__((always_inline)) {
    Element* image = y + (long long)(begin + output) * FRAME_OUT;
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
      for (int c = 0; c < COLS; c++) {
        const int row = row_out + r, col = col_out + c;
        if (output >= 0 && output < count && row < H_OUT && col < W_OUT)
          store(image + (row * W_OUT + col) * C, sums[slot][r][c]);
#pragma unroll
        for (int v = 0; v < VEC; v++) sums[slot][r][c][v] = 0;
      }
  };

  const int frame = begin - PAD_T;
  if (HELD == KT) {  // each frame is loaded once, for all outputs that read it
    for (int step = 0; step < count + KT - 1; step += KT)
#pragma unroll
      for (int phase = 0; phase < KT; phase++) {
        if (step + phase < count + KT - 1) add_frame(frame + step + phase, 0, phase);
        finish(step + phase - (KT - 1), modulo(phase + 1, KT));
      }
  } else {  // unrolled over KT, the program would be too long: each output loads its frames
    for (int output = 0; output < count; output++) {
#pragma unroll 1
      for (int t = 0; t < KT; t++) add_frame(frame + output + t, t, 0);
      finish(output, 0);
    }
  }
}
#endif

#if defined(CORRELATE)
constexpr int ROWS_IN = (ROWS - 1) * STRIDE_H + KH, COLS_IN = (COLS - 1) * STRIDE_W + KW;
constexpr int ROW_GROUPS = divide_up(H_OUT, ROWS), COL_GROUPS = divide_up(W_OUT, COLS);
constexpr int CHUNKS = divide_up(T_IN, FRAMES), THREADS = LANES * TEAMS;
constexpr int LANE_BLOCKS = divide_up(PACKS, LANES);

// x [B, T_IN, H_IN, W_IN, C], g [B, T_OUT, H_OUT, W_OUT, C]
// -> parts [B * CHUNKS, gridDim.y, KT, KH, KW, C] in float32, whose sum is the kernel's gradient.
// A team has LANES threads, one for each pack of channels. TEAMS teams share the positions of
// GROUPS row groups and add their sums at the end. A block computes the gradient of KTS frames of
// the kernel.
extern "C" __global__ void __launch_bounds__(THREADS)
correlate(const Element* __restrict__ x, const Element* __restrict__ g, float* __restrict__ parts) {
  const int lane = threadIdx.x % LANES, team = threadIdx.x / LANES;
  const int pack = blockIdx.x % LANE_BLOCKS * LANES + lane;
  const int first_tap = blockIdx.x / LANE_BLOCKS * KTS;
  const bool useful = pack < PACKS;
  const int begin = blockIdx.z % CHUNKS * FRAMES;
  const int count = begin + FRAMES < T_IN ? FRAMES : T_IN - begin;
  const long long clip = blockIdx.z / CHUNKS;
  x += clip * T_IN * FRAME_IN + pack * VEC;
  g += clip * T_OUT * FRAME_OUT + pack * VEC;

  float sums[KTS][KH][KW][VEC] = {};
  const int row_groups = ROW_GROUPS - blockIdx.y * GROUPS < GROUPS
                           ? ROW_GROUPS - blockIdx.y * GROUPS : GROUPS;
  const int items = useful ? row_groups * COL_GROUPS : 0;
  for (int item = team; item < items; item += TEAMS) {
    const int row_out = (blockIdx.y * GROUPS + item / COL_GROUPS) * ROWS;
    const int col_out = item % COL_GROUPS * COLS;
    const int row_in = row_out * STRIDE_H - PAD_H, col_in = col_out * STRIDE_W - PAD_W;
    bool there[COLS_IN];
#pragma unroll
    for (int n = 0; n < COLS_IN; n++) there[n] = col_in + n >= 0 && col_in + n < W_IN;

    // Through tap t, frame s of x meets frame s + PAD_T - t of g, which lies in
    // window[(s - t) % KTS]. The first steps only fill the window.
    float window[KTS][ROWS][COLS][VEC];
    for (int step = 0; step < count + KTS - 1; step += KTS) {
#pragma unroll
      for (int phase = 0; phase < KTS; phase++) {
        const int frame = begin - (KTS - 1) + step + phase;  // of x
        const int meets = frame + PAD_T - first_tap;  // of g
        const bool given = meets >= 0 && meets < T_OUT;
        const Element* image = g + (long long)meets * FRAME_OUT;
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
          for (int c = 0; c < COLS; c++) {
            const int row = row_out + r, col = col_out + c;
            load(image + (row * W_OUT + col) * C, given && row < H_OUT && col < W_OUT,
                 window[phase][r][c]);
          }
        if (frame < begin || frame >= begin + count) continue;
        image = x + (long long)frame * FRAME_IN;
#pragma unroll
        for (int m = 0; m < ROWS_IN; m++) {
          const int row = row_in + m;
          if (row < 0 || row >= H_IN) continue;
          float values[COLS_IN][VEC];
#pragma unroll
          for (int n = 0; n < COLS_IN; n++)
            load(image + (row * W_IN + col_in + n) * C, there[n], values[n]);
#pragma unroll
          for (int r = 0; r < ROWS; r++) {
            const int i = m - r * STRIDE_H;
            if (i < 0 || i >= KH) continue;
#pragma unroll
            for (int c = 0; c < COLS; c++)
#pragma unroll
              for (int j = 0; j < KW; j++)
#pragma unroll
                for (int t = 0; t < KTS; t++)
#pragma unroll
                  for (int v = 0; v < VEC; v++) {
                    float& sum = sums[t][i][j][v];
                    sum = fmaf(values[c * STRIDE_W + j][v],
                               window[modulo(phase - t, KTS)][r][c][v], sum);
                  }
          }
        }
      }
    }
  }

  __shared__ float shared[KTS * KH * KW][TEAMS][LANES * VEC];
#pragma unroll
  for (int tap = 0; tap < KTS * KH * KW; tap++)
#pragma unroll
    for (int v = 0; v < VEC; v++)
      shared[tap][team][lane * VEC + v] = sums[tap / (KH * KW)][tap / KW % KH][tap % KW][v];
  __syncthreads();
  const int block = blockIdx.x % LANE_BLOCKS * LANES * VEC;
  const int channels = C - block < LANES * VEC ? C - block : LANES * VEC;
  const int taps = (KT - first_tap < KTS ? KT - first_tap : KTS) * KH * KW;
  parts += ((long long)blockIdx.z * gridDim.y + blockIdx.y) * (KT * KH * KW * C);
  parts += first_tap * KH * KW * C + block;
#pragma unroll 1
  for (int at = threadIdx.x; at < taps * channels; at += THREADS) {
    const int tap = at / channels, channel = at % channels;
    float sum = 0;
    for (int other = 0; other < TEAMS; other++) sum += shared[tap][other][channel];
    parts[tap * C + channel] = sum;
  }
}
#endif
