// As much of CUDA as the kernels use, for a C++ compiler: each thread of a block is a thread.
#include <barrier>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)

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

template <class A, class B, class C>
static void call(void (*kernel)(A, B, C), void* a, void* b, void* c) {
  kernel((A)a, (B)b, (C)c);
}
