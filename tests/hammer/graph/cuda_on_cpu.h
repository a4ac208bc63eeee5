// CUDA's language on a CPU, for tests of generated kernels: blocks run one after another, and the threads of a block are contexts
// that give way to each other at barriers and shuffles; in rising order, or in falling. A launch returns 0, or what went wrong.
#include <cmath>
#include <cstring>
#include <ucontext.h>
#include <utility>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(n)

struct Place { unsigned x, y; };
static Place threadIdx, blockIdx, gridDim;

enum { MOST = 1024, STACK = 65536 };
enum Fault { NONE, DIVERGED, BAD_MASK, BAD_BLOCK };
struct Barrier { int arrived, generation; };
static ucontext_t scheduler, fibers[MOST];
static char stacks[MOST][STACK];
static bool ended[MOST];
static int running, threads, alive, moved, fault, backwards;
static Barrier of_block, of_warp[MOST / 32];
static char exchanged[MOST][8];

static void wait(Barrier& b, int all) {
    const int before = b.generation;
    ++moved;
    if (++b.arrived == all) { b.arrived = 0; ++b.generation; return; }
    while (b.generation == before) swapcontext(&fibers[running], &scheduler);
    ++moved;
}
static void __syncthreads() { wait(of_block, threads); }
template <class T> T from_lane(unsigned mask, T x, int lane) {
    if (mask != 0xffffffffu) fault = BAD_MASK;
    Barrier& warp = of_warp[running / 32];
    std::memcpy(exchanged[running], &x, sizeof x);
    wait(warp, 32);
    std::memcpy(&x, exchanged[running / 32 * 32 + lane], sizeof x);
    wait(warp, 32);
    return x;
}
template <class T> T __shfl_xor_sync(unsigned mask, T x, int d) { return from_lane(mask, x, (running % 32) ^ d); }
template <class T> T __shfl_sync(unsigned mask, T x, int lane) { return from_lane(mask, x, lane); }
static double __longlong_as_double(long long bits) { double x; std::memcpy(&x, &bits, 8); return x; }

static void (*body)();
static void thread() { body(); ended[running] = true; --alive; ++moved; }

static void block() {
    of_block = {};
    alive = threads;
    for (int t = 0; t < threads; ++t) {
        ended[t] = false;
        of_warp[t / 32] = {};
        getcontext(&fibers[t]);
        fibers[t].uc_stack.ss_sp = stacks[t];
        fibers[t].uc_stack.ss_size = STACK;
        fibers[t].uc_link = &scheduler;
        makecontext(&fibers[t], thread, 0);
    }
    while (alive) {  // each warp goes on as far as it can before the next one does
        bool some = false;
        for (int w = 0; w < threads / 32; ++w) {
            const int warp = backwards ? threads / 32 - 1 - w : w;
            do {
                moved = 0;
                for (int i = 0; i < 32; ++i) {
                    const int t = warp * 32 + (backwards ? 31 - i : i);
                    if (!ended[t]) { running = t; threadIdx = {unsigned(t), 0}; swapcontext(&scheduler, &fibers[t]); }
                }
                some |= moved > 0;
            } while (moved);
        }
        if (!some) { fault = DIVERGED; return; }  // some wait for others that never come
    }
}

template <class... A> struct Launch {
    static void (*kernel)(A...);
    static void** arguments;
    template <std::size_t... I> static void call(std::index_sequence<I...>) { kernel((A)arguments[I]...); }
    static void run() { call(std::index_sequence_for<A...>()); }
};
template <class... A> void (*Launch<A...>::kernel)(A...);
template <class... A> void** Launch<A...>::arguments;

template <class... A> int launch(void (*kernel)(A...), void** arguments, unsigned x, unsigned y, unsigned size, int order) {
    if (size % 32 || size > MOST) return BAD_BLOCK;
    Launch<A...>::kernel = kernel;
    Launch<A...>::arguments = arguments;
    body = Launch<A...>::run;
    threads = size;
    fault = NONE;
    gridDim = {x, y};
    backwards = order;
    for (unsigned j = 0; j < y; ++j)
        for (unsigned i = 0; i < x && !fault; ++i) {
            blockIdx = {order ? x - 1 - i : i, order ? y - 1 - j : j};
            block();
        }
    return fault;
}
