"""Times retort and PyTorch with transformers side by side: training, prefill and cached decoding, 32-bit floats.

    pip install "transformers==5.24.0" "torch==2.9.0" "gguf==0.19.0" "accelerate==1.15.0"
    cargo build --release --example lm-bench
    python tests/scripts/lm_bench.py target/release/examples/lm-bench MODEL.gguf [ROUNDS] [TASK...]

Both load the same GGUF file and take turns, a round each, so a busy machine slows both; the ratio of a task is the median
over the pairs of rounds. The tasks are described in `examples/lm-bench.rs`. Peak memory is that of the process, the file
being read included.
"""

import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

BATCH, LENGTH, PREFILL, PROMPT, NEW = 4, 128, 512, 32, 48
# What a round computes, in tokens.
TASKS = {"train": BATCH * LENGTH, "train-lora": BATCH * LENGTH, "prefill": PREFILL, "decode-1": NEW, "decode-16": 16 * NEW}


def tokens(count, seed):
    drawn = []
    for _ in range(count):
        seed = (seed * 1103515245 + 12345) % (1 << 31)
        drawn.append(100 + seed // 65536 % 20000)
    return drawn


def torch_worker(path, task):
    import torch
    from transformers import AutoModelForCausalLM

    class Lora(torch.nn.Module):
        """As PEFT's plain LoRA computes it, rank 16 and alpha 32."""

        def __init__(self, base):
            super().__init__()
            self.base = base
            self.a = torch.nn.Parameter((torch.rand(16, base.in_features) * 2 - 1) / base.in_features**0.5)
            self.b = torch.nn.Parameter(torch.zeros(base.out_features, 16))

        def forward(self, x):
            linear = torch.nn.functional.linear
            return self.base(x) + linear(linear(x, self.a), self.b) * 2.0

    torch.set_num_threads(os.cpu_count())
    path = pathlib.Path(path)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    model.config.use_cache = not task.startswith("train")

    if task.startswith("train"):
        if task == "train-lora":
            model.requires_grad_(False)
            for layer in model.model.layers:
                for part, names in ((layer.self_attn, "qkvo"), (layer.mlp, ("gate", "up", "down"))):
                    for name in names:
                        setattr(part, f"{name}_proj", Lora(getattr(part, f"{name}_proj")))
        model.train()
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=1e-5, weight_decay=0.0, fused=True)
        batch = torch.tensor([tokens(LENGTH, row) for row in range(BATCH)])

        def round_():
            model(batch, labels=batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad()

    elif task == "prefill":
        batch = torch.tensor([tokens(PREFILL, 0)])

        def round_():
            with torch.inference_mode():
                model(batch, logits_to_keep=1).logits.argmax(-1)

    else:
        batch = torch.tensor([tokens(PROMPT, row) for row in range(int(task.split("-")[1]))])
        mask = torch.ones_like(batch)

        def round_():
            with torch.inference_mode():
                model.generate(
                    batch, attention_mask=mask, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=2
                )

    for _ in sys.stdin:
        start = time.perf_counter()
        round_()
        print(time.perf_counter() - start, flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, flush=True)


def compare(binary, path, task, rounds):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    # What `retort` sets for itself.
    environment = {**os.environ, "MIMALLOC_PURGE_DELAY": "-1"}
    ours = subprocess.Popen([binary, path, task], **pipes, env=environment)
    theirs = subprocess.Popen([sys.executable, __file__, "--torch", path, task], **pipes, stderr=subprocess.DEVNULL)
    pairs = []
    for round_ in range(rounds + 1):
        pair = []
        for worker in (ours, theirs):
            worker.stdin.write("\n")
            worker.stdin.flush()
            pair.append(float(worker.stdout.readline()))
        # The first round warms up.
        if round_ > 0:
            pairs.append(pair)
    memory = [int(worker.communicate()[0]) for worker in (ours, theirs)]
    mine, torchs = ([TASKS[task] / statistics.median(times)] for times in zip(*pairs))
    ratio = statistics.median(theirs / ours for ours, theirs in pairs)
    print(
        f"{task:10}  {mine[0]:8.1f} tokens/s  PyTorch {torchs[0]:8.1f}  x {ratio:.2f}"
        f"  peak {memory[0]} MiB, PyTorch {memory[1]} MiB",
        flush=True,
    )


if __name__ == "__main__":
    if sys.argv[1] == "--torch":
        torch_worker(*sys.argv[2:])
    else:
        binary, path, *rest = sys.argv[1:]
        rounds = int(rest[0]) if rest else 7
        for task in rest[1:] or TASKS:
            compare(binary, path, task, rounds)
