"""Planted faults in the project's own code that some perturbation must reveal.

Each is a small patch: in a file, a text is replaced by another. `line` is a part of the line that
must be named. Where a fault was seen in the wild, `seen` says where.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Planted:
    name: str
    claim: str
    file: str
    old: str
    new: str
    line: str
    seen: str = ""
    overrides: tuple[str, ...] = ()


DATA = "src/project/data.py"
PREPARE = "src/project/prepare.py"
TASK = "src/project/task.py"
MLP = "src/project/models/mlp.py"

FIT = '        pixels = train.columns["pixels"]\n'
GET = "        return {name: array[indices] for name, array in self.arrays.items()}\n"
LOSS = "        total = functional.cross_entropy(\n"
FORWARD = "        scores: torch.Tensor = self.layers(inputs)\n"

PLANTED = (
    Planted(
        "unordered os.listdir", "listing", PREPARE, FIT,
        FIT + "        import os\n"
        "        names = [n for n in os.listdir('data') if n[0] != '.']\n"
        "        pixels = pixels[len(names[0]) :]\n",
        "names = [n for n in os.listdir", "Gundersen et al. 2022, unordered file systems",
    ),
    Planted(
        "glob decides which file is first", "listing", PREPARE, FIT,
        FIT + "        import glob\n"
        "        first = glob.glob('data/*')[0]\n"
        "        pixels = pixels[len(Path(first).name) :]\n",
        "first = glob.glob",
    ),
    Planted(
        "newest file by its time", "listing", PREPARE, FIT,
        FIT + "        newest = max(Path('data').iterdir(), key=lambda p: p.stat().st_mtime)\n"
        "        pixels = pixels[len(newest.name) :]\n",
        "newest = max",
    ),
    Planted(
        "set iteration", "hash-seed", TASK, LOSS,
        "        order = 0.0\n"
        "        for n, word in enumerate({'a', 'bc', 'def', 'gh', 'ij', 'k', 'lm'}):\n"
        "            order += (n + 1) * len(word) * 0.001\n"
        "        outputs = outputs * (1 + order)\n" + LOSS,
        "for n, word in enumerate(",
    ),
    Planted(
        "hash() of a string", "hash-seed", PREPARE, FIT,
        FIT + "        keep = hash(train.ids[0]) % 7\n        pixels = pixels[keep:]\n",
        "keep = hash(", "PEP 456; allennlp #2022",
    ),
    Planted(
        "time-based seed", "rerun", MLP, FORWARD,
        "        import time\n"
        "        seed = time.time_ns()\n"
        "        torch.manual_seed(seed)\n" + FORWARD,
        "seed = time.time_ns()",
    ),
    Planted(
        "entropy from the system", "rerun", DATA, GET,
        "        noise = np.random.default_rng().normal(size=len(indices))\n"
        "        batch = {name: array[indices] for name, array in self.arrays.items()}\n"
        "        batch['inputs'] = batch['inputs'] + noise[:, None].astype(np.float32)\n"
        "        return batch\n",
        "noise = np.random.default_rng()",
    ),
    Planted(
        "random numbers drawn when a file is imported", "draws", DATA,
        "    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:\n"
        "        self.arrays = arrays\n",
        "    drawn = np.random.normal()\n\n"
        "    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:\n"
        "        self.arrays = {n: a * np.float32(1 + 0.01 * self.drawn) if a.ndim == 2 else a "
        "for n, a in arrays.items()}\n",
        "drawn = np.random.normal()",
    ),
    Planted(
        "draws in prepare", "rerun", PREPARE, FIT,
        "        pixels = train.columns[\"pixels\"]\n"
        "        chosen = np.random.permutation(len(pixels))[: len(pixels) // 2]\n"
        "        pixels = pixels[chosen]\n",
        "chosen = np.random.permutation",
    ),
    Planted(
        "uninitialised memory", "memory", MLP, FORWARD,
        "        bias = torch.empty(4099)\n"
        "        inputs = inputs + bias[:1].nan_to_num(0, 0, 0).clamp(-1, 1)\n" + FORWARD,
        "bias = torch.empty(4099)", "pytorch: fill_uninitialized_memory exists for this",
    ),
    Planted(
        "a seed taken from the process id", "rerun", MLP, FORWARD,
        "        import os\n"
        "        torch.manual_seed(os.getpid())\n" + FORWARD,
        "self.layers(inputs)",
    ),
    Planted(
        "the worker's id in a sample", "workers", DATA, GET,
        "        import torch\n"
        "        info = torch.utils.data.get_worker_info()\n"
        "        batch = {name: array[indices] for name, array in self.arrays.items()}\n"
        "        batch['inputs'] = batch['inputs'] + (info.id + 1 if info else 0)\n"
        "        return batch\n",
        "info = torch.utils.data.get_worker_info()", "Lightning #20679",
    ),
    Planted(
        "a counter in the data set", "workers", DATA, GET,
        "        self.seen = getattr(self, 'seen', 0) + 1\n"
        "        batch = {name: array[indices] for name, array in self.arrays.items()}\n"
        "        batch['inputs'] = batch['inputs'] * (1 + 0.001 * self.seen)\n"
        "        return batch\n",
        "self.seen = getattr",
    ),
    Planted(
        "a curriculum that forgets on resume", "kill", TASK, LOSS,
        "        self.calls = getattr(self, 'calls', 0) + 1\n"
        "        outputs = outputs * (1 + 0.001 * self.calls)\n" + LOSS,
        "self.calls = getattr", "Lightning #17543; transformers #46628",
    ),
    Planted(
        "a moving average that no checkpoint holds", "kill", MLP, FORWARD,
        "        last = getattr(self, 'average', torch.zeros(()))\n"
        "        self.average = 0.9 * last + 0.1 * inputs.detach().mean()\n"
        "        inputs = inputs - self.average\n" + FORWARD,
        "self.average = 0.9", "BatchNorm buffers not restored",
    ),
    Planted(
        "mutable default argument", "kill", TASK,
        "    def loss(self, outputs: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, int]:\n",
        "    def loss(self, outputs: torch.Tensor, batch: Batch, seen: list = []) "
        "-> tuple[torch.Tensor, int]:\n"
        "        seen.append(len(outputs))\n"
        "        outputs = outputs * (1 + 0.001 * len(seen))\n",
        "seen.append(", "pylint W0102",
    ),
    Planted(
        "a cache shared between runs", "rerun", PREPARE, FIT,
        "        import tempfile\n"
        "        cache = Path(tempfile.gettempdir()) / 'saigen-planted-cache.txt'\n"
        "        times = int(cache.read_text()) if cache.exists() else 0\n"
        "        cache.write_text(str(times + 1))\n"
        "        pixels = train.columns[\"pixels\"][times % 50 :]\n",
        "times = int(cache.read_text())",
    ),
    Planted(
        "the folder's name decides", "path", PREPARE, FIT,
        FIT + "        import zlib\n        place = str(Path.cwd())\n"
        "        pixels = pixels * (1 + zlib.crc32(place.encode()) % 99991)\n",
        "pixels = pixels * (1 + zlib.crc32(place",
    ),
    Planted(
        "the home decides", "path", PREPARE, FIT,
        FIT + "        import zlib\n        home = str(Path.home())\n"
        "        pixels = pixels * (1 + zlib.crc32(home.encode()) % 99991)\n",
        "home = str(Path.home())",
    ),
    Planted(
        "the time zone decides", "locale", PREPARE, FIT,
        FIT + "        import time\n        hours = time.timezone // 3600\n"
        "        pixels = pixels[: len(pixels) + min(hours, -1)]\n",
        "hours = time.timezone",
    ),
    Planted(
        "the preferred encoding decides", "locale", PREPARE, FIT,
        FIT + "        import locale\n        word = locale.getpreferredencoding()\n"
        "        pixels = pixels[len(word) :]\n",
        "word = locale.getpreferredencoding()", "PEP 597",
    ),
    Planted(
        "the machine's name decides", "host", MLP, "        super().__init__()\n",
        "        super().__init__()\n        import socket\n"
        "        name = socket.gethostname()\n"
        "        hidden = hidden + len(name) % 3 + (name == 'another-machine')\n",
        "name = socket.gethostname()",
    ),
    Planted(
        "a time budget", "rerun", PREPARE, FIT,
        FIT + "        import time\n"
        "        until, count = time.monotonic() + 0.02, 0\n"
        "        while time.monotonic() < until:\n"
        "            count += 1\n"
        "        pixels = pixels * count\n",
        "until, count = time.monotonic()",
    ),
    Planted(
        "seed taken from the rank", "processes", MLP, "        super().__init__()\n",
        "        super().__init__()\n        import os\n"
        "        rank = int(os.environ.get('RANK', '0'))\n"
        "        torch.manual_seed(rank)\n",
        "rank = int(", "pytorch: DDP examples with seed + rank",
    ),
    Planted(
        "data shifted by the rank", "processes", DATA, GET,
        "        import os\n"
        "        rank = int(os.environ.get('RANK', '0'))\n"
        "        batch = {name: array[indices] for name, array in self.arrays.items()}\n"
        "        batch['inputs'] = batch['inputs'] * np.float32(1 + 0.01 * rank)\n"
        "        return batch\n",
        "rank = int(",
    ),
    Planted(
        "statistics that state_dict leaves out", "kill", MLP, FORWARD,
        "        if not hasattr(self, 'mean'):\n"
        "            self.seen = {'mean': torch.zeros(inputs.shape[1])}\n"
        "            self.mean = True\n"
        "        if self.training:\n"
        "            self.seen['mean'] = 0.9 * self.seen['mean'] + 0.1 * inputs.detach().mean(0)\n"
        "        inputs = inputs - self.seen['mean']\n" + FORWARD,
        "self.seen['mean'] = 0.9", "BatchNorm buffers not restored",
    ),
    Planted(
        "a gradient hook that counts", "kill", MLP, FORWARD,
        "        if not hasattr(self, 'calls'):\n"
        "            self.calls = 0\n"
        "            def scaled(gradient):\n"
        "                self.calls += 1\n"
        "                return gradient * (1 + 0.01 * self.calls)\n"
        "            self.layers[0].weight.register_hook(scaled)\n" + FORWARD,
        "self.calls += 1",
    ),
    Planted(
        "a module hook that counts in a closure", "kill", MLP, FORWARD,
        "        if not hasattr(self, 'hooked'):\n"
        "            self.hooked, count = True, 0\n"
        "            def hook(module, given, output):\n"
        "                nonlocal count\n"
        "                count += 1\n"
        "                return output * (1 + 0.001 * count)\n"
        "            self.layers.register_forward_hook(hook)\n" + FORWARD,
        "count += 1",
    ),
    Planted(
        "weights shrunk in the forward pass", "processes", MLP, FORWARD,
        "        with torch.no_grad():\n"
        "            self.layers[0].weight.mul_(0.999)\n" + FORWARD,
        "weight.mul_(0.999)",
    ),
    Planted(
        "a flag flipped at the first evaluation", "kill", MLP, FORWARD,
        "        if not self.training:\n"
        "            self.measured = True\n"
        "        if getattr(self, 'measured', False):\n"
        "            inputs = inputs * 0.9\n" + FORWARD,
        "self.measured = True",
    ),
    Planted(
        "a counter of the file", "kill", TASK, LOSS,
        "        global CALLS\n"
        "        if 'CALLS' not in globals():\n"
        "            CALLS = 0\n"
        "        CALLS += 1\n"
        "        outputs = outputs * (1 + 0.001 * CALLS)\n" + LOSS,
        "CALLS",
    ),
    Planted(
        "a tensor that is drawn once and kept", "kill", MLP, FORWARD,
        "        if getattr(self, 'noise', None) is None:\n"
        "            self.noise = torch.rand(inputs.shape[1])\n"
        "        inputs = inputs + self.noise\n" + FORWARD,
        "self.noise = torch.rand",
    ),
    Planted(
        "draws kept by lru_cache", "kill", TASK, LOSS,
        "        import functools\n"
        "        global draw\n"
        "        if 'draw' not in globals():\n"
        "            draw = functools.lru_cache(lambda n: torch.rand(n))\n"
        "        outputs = outputs + 0.1 * draw(outputs.shape[1])\n" + LOSS,
        "lambda n: torch.rand(n)",
    ),
    Planted(
        "a model that samples in evaluation from its class's generator", "evaluation", MLP, FORWARD,
        "        if not hasattr(MLP, 'own'):\n"
        "            MLP.own = torch.Generator().manual_seed(0)\n"
        "        if not self.training:\n"
        "            inputs = inputs + torch.randn(inputs.shape, generator=MLP.own)\n" + FORWARD,
        "generator=MLP.own",
    ),
    Planted(
        "a float sum over a dict's order", "hash-seed", TASK, LOSS,
        "        words = {f'term {n}' for n in range(300)}\n"
        "        share = {n: np.float32(1 / int(n[5:] + '1')) for n in words}\n"
        "        total_share = float(sum(share.values()))\n"
        "        outputs = outputs * (1 + total_share)\n" + LOSS,
        "share = {n:",
    ),
    Planted(
        "a sum in the order of completion", "rerun", TASK, LOSS,
        "        from concurrent.futures import ThreadPoolExecutor, as_completed\n"
        "        with ThreadPoolExecutor(4) as pool:\n"
        "            jobs = [pool.submit(np.exp, np.float32(-0.2 * n)) for n in range(12)]\n"
        "            share = float(sum(job.result() for job in as_completed(jobs)))\n"
        "        outputs = outputs * share\n" + LOSS,
        "share = float(sum(", "as_completed yields what is done already in the order of a set",
    ),
    Planted(
        "a nondeterministic scatter", "rerun", TASK, LOSS,
        "        torch.use_deterministic_algorithms(False)\n"
        "        values, where = torch.linspace(0, 1, 400_000), torch.zeros(400_000, dtype=int)\n"
        "        share = torch.zeros(1).index_put_((where,), values, accumulate=True)\n"
        "        outputs = outputs * (share / 200_000)\n" + LOSS,
        "share = torch.zeros(1)", "pytorch: index_put_ with accumulate=True on several threads",
        ("hardware.intra_op_threads=2",),
    ),
    Planted(
        "what the machine is busy with decides", "load", PREPARE, FIT,
        FIT + "        import os\n        busy = os.getloadavg()[0]\n"
        "        pixels = pixels * (1 + int(busy * 100))\n",
        "busy = os.getloadavg()",
    ),
)  # fmt: skip
