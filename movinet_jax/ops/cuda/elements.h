// How kernels load and store elements: floats, or the bits of bfloat16s.
//
// kernel.py writes this text in front of each kernel's own, after `Element` and the constants.

// A thread loads and stores a few elements as one word.
template <int BYTES> struct Bits;
template <> struct Bits<2> { using Type = unsigned short; };
template <> struct Bits<4> { using Type = unsigned int; };
template <> struct Bits<8> { using Type = unsigned long long; };
template <> struct Bits<16> { using Type = uint4; };

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(unsigned short bits) { return __uint_as_float((unsigned)bits << 16); }

__device__ inline void narrow(float x, float& to) { to = x; }
__device__ inline void narrow(float x, unsigned short& to) {  // to the nearest, ties to even
  unsigned bits = __float_as_uint(x);
  to = x == x ? (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16 : 0x7fc0u;
}

template <int N> union Pack {
  typename Bits<N * sizeof(Element)>::Type word;
  Element each[N];
};

template <int N> __device__ inline void load(const Element* from, bool there, float (&to)[N]) {
  using Word = typename Bits<N * sizeof(Element)>::Type;
  Pack<N> pack;
  pack.word = there ? __ldg(reinterpret_cast<const Word*>(from)) : Word{};
#pragma unroll
  for (int n = 0; n < N; n++) to[n] = widen(pack.each[n]);
}

template <int N> __device__ inline void store(Element* to, const float (&from)[N]) {
  using Word = typename Bits<N * sizeof(Element)>::Type;
  Pack<N> pack;
#pragma unroll
  for (int n = 0; n < N; n++) narrow(from[n], pack.each[n]);
  *reinterpret_cast<Word*>(to) = pack.word;
}
