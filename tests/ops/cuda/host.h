// As much of CUDA as the kernels use, for a C++ compiler: each thread of a block is a thread.
#include <barrier>
#include <cmath>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };

struct Index { unsigned x, y, z; };
static thread_local Index threadIdx, blockIdx;
static Index gridDim;
static std::barrier<>* barrier;

static void __syncthreads() { barrier->arrive_and_wait(); }
template <class T> static T __ldg(const T* from) { return *from; }
template <class To, class From> static To reinterpret(From from) {
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}
static float __uint_as_float(unsigned bits) { return reinterpret<float>(bits); }
static unsigned __float_as_uint(float x) { return reinterpret<unsigned>(x); }

// Runs a function once for every thread of every block; the threads of a block wait for each other.
template <class Function> static void run_grid(Index grid, unsigned threads, Function function) {
  gridDim = grid;
  std::barrier<> all(threads);
  barrier = &all;
  std::vector<std::thread> team;
  for (unsigned n = 0; n < threads; n++)
    team.emplace_back([&, n] {
      threadIdx = {n, 0, 0};
      for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
          for (unsigned x = 0; x < grid.x; x++) {
            blockIdx = {x, y, z};
            function();
            all.arrive_and_wait();
          }
    });
  for (auto& thread : team) thread.join();
}

template <class... Pointers, std::size_t... N>
static void call(void (*kernel)(Pointers...), void** arrays, std::index_sequence<N...>) {
  kernel((Pointers)arrays[N]...);
}
template <class... Pointers> static void call(void (*kernel)(Pointers...), void** arrays) {
  call(kernel, arrays, std::index_sequence_for<Pointers...>());
}
