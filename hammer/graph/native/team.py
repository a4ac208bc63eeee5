"""The threads that work on one program together.

All run the same function on their part of every step, and wait for each other at a barrier between steps, spinning: a barrier costs
less than a microsecond, where waking a thread takes fifty. A helper that has had nothing to do for some milliseconds goes to
sleep; a program then starts with those that are awake and wakes the others for the next one. What is computed does not
depend on how many there are. BLAS is told to use one thread meanwhile, so there is one pool of threads at a time.

The state of a helper is a word in memory: 0 waiting, 1 asleep, 2 at work. ``launch`` may take it from 0 to 2 and nothing else; from 0
to 1 it goes by itself.
"""

import ctypes
import os
import threading

import numpy as np

from .jit import Library

HELPERS = 15
"""The most helpers; beyond, the barriers would cost more than they gain."""

# words of the shared block, 64 bytes apart: 0 barrier's count, 1 barrier's generation, 2 function, 3 its argument, 4 threads at work,
# 5 BLAS's threads; 8 + t: state of helper t
SOURCE = """
define void @barrier(ptr %s, i64 %n) {
entry:
  %alone = icmp slt i64 %n, 2
  br i1 %alone, label %end, label %meet
meet:
  %g = getelementptr i8, ptr %s, i64 64
  %before = load atomic i64, ptr %g acquire, align 8
  %c = atomicrmw add ptr %s, i64 1 acq_rel
  %c1 = add i64 %c, 1
  %last = icmp eq i64 %c1, %n
  br i1 %last, label %open, label %wait
open:
  store atomic i64 0, ptr %s monotonic, align 8
  %next = add i64 %before, 1
  store atomic i64 %next, ptr %g release, align 8
  br label %end
wait:
  %i = phi i64 [0, %meet], [%i1, %again]
  %now = load atomic i64, ptr %g acquire, align 8
  %same = icmp eq i64 %now, %before
  br i1 %same, label %spin, label %end
spin:
  %i1 = add i64 %i, 1
  %long = icmp ugt i64 %i1, 20000
  br i1 %long, label %yield, label %pause
yield:
  call i32 @sched_yield()
  br label %again
pause:
  call void asm sideeffect "PAUSE", ""()
  br label %again
again:
  br label %wait
end:
  ret void
}

define void @helper(ptr %s, i64 %t, i64 %patience) {
entry:
  %o = mul i64 %t, 64
  %o8 = add i64 %o, 512
  %state = getelementptr i8, ptr %s, i64 %o8
  br label %wait
wait:
  %i = phi i64 [0, %entry], [%i1, %pause], [0, %done], [0, %rest]
  %now = load atomic i64, ptr %state acquire, align 8
  %work = icmp eq i64 %now, 2
  br i1 %work, label %run, label %idle
idle:
  %i1 = add i64 %i, 1
  %long = icmp ugt i64 %i1, %patience
  br i1 %long, label %rest, label %pause
pause:
  call void asm sideeffect "PAUSE", ""()
  br label %wait
rest:
  %x = cmpxchg ptr %state, i64 0, i64 1 seq_cst seq_cst
  %ok = extractvalue {i64, i1} %x, 1
  br i1 %ok, label %end, label %wait
run:
  %fp = getelementptr i8, ptr %s, i64 128
  %f = load ptr, ptr %fp
  %ap = getelementptr i8, ptr %s, i64 192
  %a = load ptr, ptr %ap
  %np = getelementptr i8, ptr %s, i64 256
  %n = load i64, ptr %np
  %mp = getelementptr i8, ptr %state, i64 8
  %me = load i64, ptr %mp
  call void %f(ptr %a, i64 %me, i64 %n, ptr %s)
  store atomic i64 0, ptr %state release, align 8
  br label %done
done:
  br label %wait
end:
  ret void
}

define i64 @launch(ptr %s, ptr %f, ptr %a, i64 %wanted, ptr %get, ptr %set) {
entry:
  %threads = call i32 %get()
  %many = icmp sgt i32 %threads, 1
  br i1 %many, label %quiet, label %prepare
quiet:
  call void %set(i32 1)
  br label %prepare
prepare:
  %fp = getelementptr i8, ptr %s, i64 128
  store ptr %f, ptr %fp
  %ap = getelementptr i8, ptr %s, i64 192
  store ptr %a, ptr %ap
  br label %take
take:
  %t = phi i64 [0, %prepare], [%t1, %more]
  %n = phi i64 [1, %prepare], [%n1, %more]
  %t1 = add i64 %t, 1
  %all = icmp sge i64 %t1, %wanted
  br i1 %all, label %count, label %ask
ask:
  %o = mul i64 %t, 64
  %o8 = add i64 %o, 512
  %state = getelementptr i8, ptr %s, i64 %o8
  %was = load atomic i64, ptr %state acquire, align 8
  %awake = icmp eq i64 %was, 0
  br i1 %awake, label %hire, label %more
hire:
  %x = cmpxchg ptr %state, i64 0, i64 3 seq_cst seq_cst
  %ok = extractvalue {i64, i1} %x, 1
  %mp = getelementptr i8, ptr %state, i64 8
  store i64 %n, ptr %mp
  br label %more
more:
  %got = phi i1 [false, %ask], [%ok, %hire]
  %plus = zext i1 %got to i64
  %n1 = add i64 %n, %plus
  br label %take
count:
  %np = getelementptr i8, ptr %s, i64 256
  store i64 %n, ptr %np
  br label %go
go:
  %u = phi i64 [0, %count], [%u1, %gone]
  %u1 = add i64 %u, 1
  %over = icmp sge i64 %u1, %wanted
  br i1 %over, label %run, label %start
start:
  %uo = mul i64 %u, 64
  %uo8 = add i64 %uo, 512
  %ustate = getelementptr i8, ptr %s, i64 %uo8
  %y = cmpxchg ptr %ustate, i64 3, i64 2 seq_cst seq_cst
  br label %gone
gone:
  br label %go
run:
  call void %f(ptr %a, i64 0, i64 %n, ptr %s)
  br i1 %many, label %restore, label %end
restore:
  call void %set(i32 %threads)
  br label %end
end:
  ret i64 %n
}

declare i32 @sched_yield()
"""
PAUSES = {"x86_64": "pause", "AMD64": "pause", "aarch64": "yield", "arm64": "yield"}
PATIENCE = 20_000
"""How many times a helper looks for work before it goes to sleep: about half a millisecond."""
WORTH_WAKING = 3e6
"""The work from which a program waits for helpers that sleep, which takes a tenth of a millisecond; else they are there next time."""


class Team:
    """This thread, and helpers for it."""

    def __init__(self, threads: int, get_threads: int, set_threads: int):
        self.threads = min(threads, HELPERS + 1)
        self.library = Library(
            SOURCE.replace("PAUSE", PAUSES.get(os.uname().machine if hasattr(os, "uname") else "AMD64", ""))
        )
        self._block = np.zeros(64 * (9 + HELPERS), np.uint8)
        start = -self._block.ctypes.data % 64
        self.words = self._block[start : start + 64 * (8 + HELPERS)].view(np.int64)
        self.address = self.words.ctypes.data
        self.states = self.words[64::8]
        self.states[: self.threads - 1] = 1
        self._launch = ctypes.CFUNCTYPE(
            ctypes.c_int64, *[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p
        )(self.library.address("launch"))
        self._helper = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(
            self.library.address("helper")
        )
        self._blas = get_threads, set_threads
        self._bells = [threading.Semaphore(0) for _ in range(self.threads - 1)]
        self._started = False
        self._lock = threading.Lock()
        self.barrier = self.library.address("barrier")
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def run(self, function: int, argument: int, wanted: int, work: float) -> int:
        """Have a function run by this thread and helpers; returns how many took part."""
        with self._lock:
            if work > WORTH_WAKING and 1 in self.states[: wanted - 1]:
                self._wake()
            n = self._launch(self.address, function, argument, min(wanted, self.threads), *self._blas)
            if n < wanted <= self.threads:
                self._wake()
        return n  # type: ignore[no-any-return]

    def _wake(self) -> None:
        if not self._started:
            self._started = True
            for t in range(self.threads - 1):
                threading.Thread(target=self._stay, args=(t,), daemon=True, name=f"hammer-{t + 1}").start()
        for t, bell in enumerate(self._bells):
            if self.states[t] == 1:
                self.states[t] = 0
                bell.release()

    def _forget(self) -> None:
        """In a forked process there are no helpers yet."""
        self.words[:] = 0
        self.states[: self.threads - 1] = 1
        self._started = False
        self._lock = threading.Lock()
        self._bells = [threading.Semaphore(0) for _ in self._bells]

    def _stay(self, t: int) -> None:
        while True:
            self._bells[t].acquire()
            self._helper(self.address, t, PATIENCE)
