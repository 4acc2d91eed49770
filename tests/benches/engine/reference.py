"""Another implementation, for the benchmark: one measurement for each line of standard input.

    python reference.py mlx-lm FOLDER THREADS
    python reference.py llama.cpp MODEL.gguf THREADS

A line `PROMPT ANSWER` asks to read so many tokens, and then, anew, to write so many; the answer is a
line of four numbers: the seconds that each took, of time and of processors. The first line printed is
the version.
"""

import sys
import time


def timed(work):
    start, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - processor


def mlx_lm(path, _threads):
    from pathlib import Path

    import mlx.core as mx
    import mlx_lm
    from mlx_lm.generate import generate_step
    from mlx_lm.utils import load_model

    mx.set_default_device(mx.cpu)
    model, _ = load_model(Path(path))

    def measure(prompt, answer):
        tokens = mx.array([1000 + 7 * i for i in range(prompt)])
        read = timed(lambda: next(generate_step(tokens, model, max_tokens=1)))
        steps = generate_step(mx.array([1000]), model, max_tokens=answer + 1)
        next(steps)
        return *read, *timed(lambda: list(steps))

    return f"mlx-lm {mlx_lm.__version__}, mlx {mx.__version__}", measure


def llama_cpp(path, threads):
    import llama_cpp

    model = llama_cpp.Llama(
        path, n_ctx=2048, n_threads=threads, n_threads_batch=threads, verbose=False
    )

    def evaluate(tokens):
        model.eval(tokens)
        llama_cpp.llama_synchronize(model._ctx.ctx)

    def measure(prompt, answer):
        tokens = [1000 + 7 * i for i in range(prompt)]
        model.reset()
        read = timed(lambda: evaluate(tokens))
        model.reset()
        evaluate([1000])
        return *read, *timed(lambda: [evaluate([1000 + i]) for i in range(answer)])

    return f"llama-cpp-python {llama_cpp.__version__}", measure


def main():
    kind, path, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    version, measure = {"mlx-lm": mlx_lm, "llama.cpp": llama_cpp}[kind](path, threads)
    print(version, flush=True)
    for line in sys.stdin:
        prompt, answer = map(int, line.split())
        print(*measure(prompt, answer), flush=True)


main()
